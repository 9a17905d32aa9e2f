//! Crates that stay out, and crates that may come in two versions.

use std::collections::BTreeMap;

use crate::Finding;
use crate::source::Built;

/// What stays out, and why.
const BANNED: [(&str, &str); 10] = [
    ("async-std", "tokio is the one runtime"),
    ("smol", "tokio is the one runtime"),
    ("async-io", "tokio is the one runtime"),
    ("openssl", "rustls is the one TLS stack"),
    ("openssl-sys", "rustls is the one TLS stack"),
    ("native-tls", "rustls is the one TLS stack"),
    ("ring", "aws-lc-rs is the one provider of cryptography"),
    ("h2", "HTTP/2 is never offered: its floods are not worth its gains here"),
    ("chrono", "time is the one calendar"),
    ("log4rs", "tracing is the one way to log"),
];

/// Crates that may be there twice until the ones that bring the older version move on.
const TWICE: [(&str, &str); 18] = [
    ("bit-set", "0.8 by jsonschema, in tests"),
    ("base64", "0.23 by rcgen's pem"),
    ("bit-vec", "0.9 by proptest"),
    ("block-buffer", "the older hash traits by argon2 and sha2 0.10"),
    ("const-oid", "0.9 by tokio-postgres-rustls"),
    ("cpufeatures", "the older hash traits by argon2 and sha2 0.10"),
    ("crypto-common", "the older hash traits by argon2 and sha2 0.10"),
    ("digest", "the older hash traits by argon2 and sha2 0.10"),
    ("getrandom", "0.2 by password-hash, 0.4 by tokio-postgres"),
    ("rand", "0.10 by tokio-postgres"),
    ("rand_core", "0.6 by password-hash, 0.10 by tokio-postgres"),
    ("sha1", "0.10 by tungstenite"),
    ("sha2", "0.11 by tokio-postgres"),
    ("syn", "3 by the newest macros, 2 by the others"),
    ("synstructure", "0.13 by x509-parser, when it is built"),
    ("thiserror", "1 by rtnetlink"),
    ("thiserror-impl", "1 by rtnetlink"),
    ("untrusted", "0.7 by aws-lc-rs, where it stands for ring as x509-parser wants it"),
];

/// Banned crates, and new duplicates.
pub fn findings(built: &[Built]) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for krate in built {
        versions.entry(&krate.name).or_default().push(&krate.version);
    }
    let banned = BANNED
        .iter()
        .filter(|(name, _)| versions.contains_key(name))
        .map(|(name, why)| format!("{name} stays out: {why}; see who brings it with cargo tree -i {name}"));
    let twice = versions
        .iter()
        .filter(|(name, found)| found.len() > 1 && !TWICE.iter().any(|(known, _)| known == *name))
        .map(|(name, found)| {
            format!("{name} is compiled in versions {}; see cargo tree -d", found.join(" and "))
        });
    banned.chain(twice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(crates: &[(&str, &str)]) -> Vec<Built> {
        let krate = |(name, version): &(&str, &str)| Built {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            license: "MIT".to_owned(),
        };
        crates.iter().map(krate).collect()
    }

    #[test]
    fn a_second_tls_stack_is_found_with_its_reason() {
        let found = findings(&built(&[("rustls", "0.23.0"), ("openssl", "0.10.0")]));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("openssl stays out: rustls is the one TLS stack"));
    }

    #[test]
    fn a_new_duplicate_is_found_and_a_known_one_is_not() {
        let found =
            findings(&built(&[("nix", "0.29.0"), ("nix", "0.30.0"), ("rand", "0.9.0"), ("rand", "0.10.0")]));
        assert_eq!(found, ["nix is compiled in versions 0.29.0 and 0.30.0; see cargo tree -d"]);
    }
}
