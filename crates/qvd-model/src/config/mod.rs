//! The registry of configuration keys: what may be set, where, and what it means.
//!
//! One table in code ([`KEYS`]); documentation, validation, completion and forms are made from it.
//! Facts: `spec/config-keys.md`.

mod keys;
mod mask;
mod unheeded;

use std::sync::LazyLock;

use keys::HEEDED;
pub use mask::{MASK, masked};
use unheeded::UNHEEDED;

use crate::words::nearest;

/// Every registered key, sorted by name.
pub static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let unheeded = UNHEEDED.iter().map(|key| Key { heeded: false, ..*key });
    let mut all: Vec<Key> = HEEDED.iter().copied().chain(unheeded).collect();
    all.sort_by_key(|key| key.name);
    all
});

/// What a value must look like. A value is always text; the kind says how it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Empty and `0` are false, everything else is true (as existing files expect).
    Bool,
    /// A whole number in this range.
    Int {
        /// Smallest accepted value.
        min: i64,
        /// Largest accepted value.
        max: i64,
    },
    /// A number that may have decimals.
    Number,
    /// Seconds; decimals allowed.
    Seconds,
    /// An absolute path.
    Path,
    /// An absolute path of a program, without arguments.
    Program,
    /// An IPv4 address.
    Address,
    /// An IPv4 netmask, dotted or as prefix length.
    Netmask,
    /// Comma-separated words.
    List,
    /// One of these words.
    Word(&'static [&'static str]),
    /// PEM text.
    Pem,
}

/// Where a key may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only in the configuration file: needed before the database, or names programs and host paths.
    File,
    /// In the file, or as a global row of the database.
    Global,
    /// In the file, as a global row, or as a row of a tenant.
    Tenant,
}

/// One key of the registry.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The dotted name; a `*` stands for any part of it.
    pub name: &'static str,
    /// The built-in value, unexpanded; `None` if the key has none and must be set to be read.
    pub default: Option<&'static str>,
    /// How the value is read.
    pub kind: Kind,
    /// Where it may be set.
    pub scope: Scope,
    /// Whether the value is masked wherever it is shown.
    pub secret: bool,
    /// Whether anything reads it; documented keys that wait for their feature are accepted and reported.
    pub heeded: bool,
    /// One sentence for people.
    pub help: &'static str,
}

/// Why a value does not fit its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct InvalidValue {
    /// The key.
    pub key: String,
    /// What is wrong, without the value where the key is secret.
    pub problem: String,
}

/// The registered key of this name, or the family that it belongs to.
pub fn key(name: &str) -> Option<&'static Key> {
    own(name).or_else(|| KEYS.iter().find(|family| family.has_member(name)))
}

fn own(name: &str) -> Option<&'static Key> {
    KEYS.binary_search_by(|k| k.name.cmp(name)).ok().and_then(|i| KEYS.get(i))
}

/// Whether the value of a key is a secret: by the registry, or by the name of a key that it does not know.
pub fn is_secret(name: &str) -> bool {
    own(name).map_or_else(|| sounds_secret(name), |known| known.secret)
}

/// Parts of names of what is secret although nobody registered it.
pub const SECRET_PARTS: [&str; 6] = ["password", "passwd", "secret", "salt", "token", "bindpass"];

/// Whether the name of a custom property, or of a setting that is not registered, is that of a secret.
pub fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| name.contains(part))
}

/// The secret that a value would show to whoever may read it: the first key in `${…}` that is one.
pub fn secret_reference(value: &str) -> Option<&str> {
    let references = value.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    references.map(|(name, _)| name).find(|name| is_secret(name))
}

impl Key {
    /// Whether it is one for many names.
    pub fn is_family(&self) -> bool {
        self.name.contains('*')
    }

    fn has_member(&self, name: &str) -> bool {
        self.name.split_once('*').is_some_and(|(head, tail)| {
            name.len() > head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        })
    }

    /// Checks an expanded value.
    pub fn check(&self, value: &str) -> Result<(), InvalidValue> {
        let fits = match self.kind {
            // What the database sets ends up as lines of other programs' files; a line break would begin a new one.
            Kind::Text | Kind::List if self.scope != Scope::File => !value.contains(char::is_control),
            Kind::Text | Kind::Bool | Kind::List => true,
            Kind::Int { min, max } => value.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n)),
            Kind::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
            Kind::Seconds => value.parse::<f64>().is_ok_and(|n| n.is_finite() && n >= 0.0),
            Kind::Path => value.starts_with('/'),
            Kind::Program => value.starts_with('/') && !value.contains(char::is_whitespace),
            Kind::Address => value.parse::<std::net::Ipv4Addr>().is_ok(),
            Kind::Netmask => crate::network::prefix_length(value).is_ok(),
            Kind::Word(words) => words.contains(&value),
            Kind::Pem => value.contains("-----BEGIN "),
        };
        if fits {
            return Ok(());
        }
        let found = if self.secret { "the value".to_owned() } else { format!("`{}`", value.escape_debug()) };
        Err(InvalidValue {
            key: self.name.to_owned(),
            problem: format!("{found} is not {}", self.kind.describe()),
        })
    }
}

impl Kind {
    /// The kind in words, with its article: `a whole number from 1 to 65535`.
    pub fn describe(self) -> String {
        match self {
            Self::Text => "text in one line".to_owned(),
            Self::Bool => "a switch (empty or 0 is off, anything else is on)".to_owned(),
            Self::Int { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number => "a number".to_owned(),
            Self::Seconds => "a number of seconds".to_owned(),
            Self::Path => "an absolute path".to_owned(),
            Self::Program => "the absolute path of a program, without arguments".to_owned(),
            Self::Address => "an IPv4 address".to_owned(),
            Self::Netmask => "a netmask such as 255.255.0.0 or 16".to_owned(),
            Self::List => "a comma-separated list".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Pem => "PEM text".to_owned(),
        }
    }
}

/// The registered key that somebody probably meant by an unknown one: at most two edits away.
pub fn suggestion(unknown: &str) -> Option<&'static str> {
    nearest(unknown, KEYS.iter().filter(|k| !k.is_family()).map(|k| k.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_sorted_so_that_it_can_be_searched() {
        assert!(UNHEEDED.iter().all(|k| key(k.name).is_some_and(|found| !found.heeded)));
        for pair in HEEDED.windows(2).chain(UNHEEDED.windows(2)).chain(KEYS.windows(2)) {
            assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
        }
        assert!(KEYS.iter().all(|k| key(k.name).is_some_and(|found| found.name == k.name)));
    }

    #[test]
    fn literal_defaults_fit_their_own_kind() {
        for k in KEYS.iter() {
            if let Some(default) = k.default.filter(|d| !d.contains("${") && !d.is_empty()) {
                k.check(default).unwrap();
            }
            assert!(k.help.ends_with('.'), "{} has no sentence", k.name);
        }
    }

    #[test]
    fn references_in_defaults_name_registered_keys() {
        for k in KEYS.iter() {
            let mut rest = k.default.unwrap_or_default();
            while let Some((_, tail)) = rest.split_once("${") {
                let (name, tail) = tail.split_once('}').unwrap();
                assert!(key(name).is_some(), "{} refers to {name}", k.name);
                rest = tail;
            }
        }
    }

    #[test]
    fn the_database_sets_no_second_line() {
        let domain = key("vm.network.domain").unwrap();
        assert!(domain.check("desk.example").is_ok());
        let refused = domain.check("x\ndhcp-script=/tmp/x").unwrap_err();
        assert_eq!(refused.problem, "`x\\ndhcp-script=/tmp/x` is not text in one line");
        assert!(key("internal.vm.lxc.conf.extra").unwrap().check("a = 1\nb = 2").is_ok());
    }

    #[test]
    fn references_to_secrets_are_found() {
        assert_eq!(secret_reference("a ${path.run} ${database.password}"), Some("database.password"));
        assert_eq!(secret_reference("${custom.bindpass}x"), Some("custom.bindpass"));
        assert_eq!(secret_reference("${path.run} database.password} ${"), None);
        assert!(!is_secret("l7r.port") && is_secret("l7r.ssl.key"));
    }

    #[test]
    fn a_family_stands_for_its_members() {
        assert_eq!(key("client.share.7").unwrap().name, "client.share.*");
        assert_eq!(key("command.nxagent.args.extra").unwrap().name, "command.nxagent.args.extra");
        assert_eq!(key("command.cat.args.extra").unwrap().name, "command.*.args.extra");
        assert!(key("api.public.footer.link.1.src.en").unwrap().heeded);
        assert!(key("api.public.").is_none() && key("client.share").is_none());
        assert!(is_secret("api.public.token"), "it is not registered by this name");
        for family in KEYS.iter().filter(|k| k.is_family()) {
            assert_eq!(family.name.matches('*').count(), 1, "{}", family.name);
            assert_eq!(family.default, None, "{}", family.name);
        }
    }

    #[test]
    fn near_misses_get_a_suggestion() {
        assert_eq!(suggestion("l7r.prot"), Some("l7r.port"));
        assert_eq!(suggestion("my.own.property"), None);
    }

    #[test]
    fn a_refusal_names_key_and_expectation_and_hides_secrets() {
        let error = key("l7r.port").unwrap().check("many").unwrap_err();
        assert_eq!(error.to_string(), "l7r.port: `many` is not a whole number from 1 to 65535");
    }
}
