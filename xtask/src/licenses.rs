//! Licenses of everything that is compiled.

use crate::Finding;
use crate::source::Built;

/// Licenses that go with Apache-2.0 and ask for no more than a notice.
const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates whose license has a name of its own, read by a person.
const READ: [(&str, &str, &str); 1] = [("libbz2-rs-sys", "bzip2-1.0.6", "a BSD license in all but its name")];

/// Every crate without a license that we may choose.
pub fn findings(built: &[Built]) -> Vec<Finding> {
    built
        .iter()
        .filter(|krate| {
            !READ.iter().any(|(name, license, _)| (*name, *license) == (&krate.name, &krate.license))
        })
        .filter(|krate| !is_allowed(&krate.license))
        .map(|krate| match krate.license.as_str() {
            "" => format!("{} {} names no license", krate.name, krate.version),
            license => format!("{} {} is under {license}", krate.name, krate.version),
        })
        .collect()
}

/// Whether an SPDX expression leaves a choice of allowed licenses. `/` is an old spelling of `OR`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any(&mut rest) == Some(true) && rest.is_empty()
}

fn any(words: &mut &[&str]) -> Option<bool> {
    let mut allowed = all(words)?;
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        allowed |= all(words)?;
    }
    Some(allowed)
}

fn all(words: &mut &[&str]) -> Option<bool> {
    let mut allowed = one(words)?;
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        allowed &= one(words)?;
    }
    Some(allowed)
}

fn one(words: &mut &[&str]) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    if *first == "(" {
        let allowed = any(words)?;
        let [")", rest @ ..] = *words else { return None };
        *words = rest;
        return Some(allowed);
    }
    // An exception only adds permissions.
    if let ["WITH", _, rest @ ..] = *words {
        *words = rest;
    }
    Some(ALLOWED.contains(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_needs_one_allowed_side_and_a_sum_both() {
        assert!(is_allowed("MIT"));
        assert!(is_allowed("MIT/Apache-2.0"));
        assert!(is_allowed("GPL-3.0 OR MIT"));
        assert!(!is_allowed("GPL-3.0 AND MIT"));
        assert!(is_allowed("(GPL-3.0 OR MIT) AND Unicode-3.0"));
        assert!(is_allowed("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
    }

    #[test]
    fn what_cannot_be_read_is_not_allowed() {
        for expression in ["", "(MIT", "MIT MIT", "MIT OR", "WITH", ")"] {
            assert!(!is_allowed(expression), "{expression}");
        }
    }

    #[test]
    fn a_finding_names_crate_and_license() {
        let krate = |name: &str, license: &str| Built {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.to_owned(),
        };
        let found = findings(&[krate("good", "MIT"), krate("bad", "AGPL-3.0"), krate("mute", "")]);
        assert_eq!(found, ["bad 1.0.0 is under AGPL-3.0", "mute 1.0.0 names no license"]);
    }
}
