//! The chain of plug-ins that decides about a login (`spec/protocol.md` 3.3).

use crate::password::{Hasher, PasswordError, Verdict};

/// A configured plug-in that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: there is no authentication plug-in `{name}`; there is: default")]
pub struct UnknownPlugin {
    /// The configuration key that names it.
    pub key: &'static str,
    /// The name.
    pub name: String,
}

/// One way to authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plugin {
    /// Compares with the password in the user's row.
    Default,
}

/// The plug-ins of one tenant in the order in which they are asked; the first that accepts decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain(Vec<Plugin>);

/// What a chain says about a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Let in.
    Accepted {
        /// What to store as the user's password from now on.
        replacement: Option<String>,
    },
    /// Keep out.
    Rejected,
}

impl Chain {
    /// The chain of `l7r.auth.plugins.head`, the tenant's `l7r.auth.plugins` and `l7r.auth.plugins.tail`. A
    /// plug-in that is named twice is asked once.
    pub fn new(head: &[String], tenant: &[String], tail: &[String]) -> Result<Self, UnknownPlugin> {
        let parts =
            [("l7r.auth.plugins.head", head), ("l7r.auth.plugins", tenant), ("l7r.auth.plugins.tail", tail)];
        let mut chain = Vec::new();
        for (key, names) in parts {
            for name in names {
                let plugin = match name.as_str() {
                    "default" => Plugin::Default,
                    _ => return Err(UnknownPlugin { key, name: name.clone() }),
                };
                if !chain.contains(&plugin) {
                    chain.push(plugin);
                }
            }
        }
        Ok(Self(chain))
    }

    /// Asks the plug-ins about a password. `stored` is what the user's row holds, if there is such a user;
    /// `salt` that of old hashes. Whoever is not accepted costs the same time, known or not.
    pub async fn decide(
        &self,
        hasher: &Hasher,
        password: &[u8],
        stored: Option<String>,
        salt: &str,
    ) -> Result<Decision, PasswordError> {
        for plugin in &self.0 {
            let verdict = match plugin {
                Plugin::Default => hasher.verify(password, stored.clone(), salt).await?,
            };
            if let Verdict::Accepted { replacement } = verdict {
                return Ok(Decision::Accepted { replacement });
            }
        }
        Ok(Decision::Rejected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn an_unknown_plugin_is_named_with_its_key() {
        let error = Chain::new(&[], &words(&["ldpa"]), &words(&["default"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "l7r.auth.plugins: there is no authentication plug-in `ldpa`; there is: default"
        );
    }

    #[tokio::test]
    async fn an_empty_chain_lets_nobody_in() {
        let hasher = Hasher::new(1);
        let stored = hasher.hash(b"secret").await.unwrap();
        let none = Chain::new(&[], &[], &[]).unwrap();
        let decision = none.decide(&hasher, b"secret", Some(stored.clone()), "").await.unwrap();
        assert_eq!(decision, Decision::Rejected);
        let one = Chain::new(&words(&["default"]), &[], &words(&["default"])).unwrap();
        let decision = one.decide(&hasher, b"secret", Some(stored), "").await.unwrap();
        assert_eq!(decision, Decision::Accepted { replacement: None });
    }
}
