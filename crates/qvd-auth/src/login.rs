//! `login@tenant` (`spec/protocol.md` 3.2).

/// A login as typed, cut into its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's part.
    pub name: String,
    /// The tenant's part, or the default tenant.
    pub tenant: String,
}

impl Login {
    /// Cuts at the first character that is one of `separators`; without one the tenant is `default_tenant`.
    pub fn split(typed: &str, separators: &str, default_tenant: &str) -> Self {
        match typed.split_once(|c| separators.contains(c)) {
            Some((name, tenant)) => Self { name: name.to_owned(), tenant: tenant.to_owned() },
            None => Self { name: typed.to_owned(), tenant: default_tenant.to_owned() },
        }
    }
}

/// Trims, and lower-cases unless logins are case-sensitive (`model.user.login.case-sensitive`).
pub fn normalize(part: &str, case_sensitive: bool) -> String {
    let part = part.trim();
    if case_sensitive { part.to_owned() } else { part.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_examples_hold() {
        let cases = [
            ("joe@acme", "joe", "acme"),
            ("joe#acme", "joe", "acme"),
            ("joe@mail.example@acme", "joe", "mail.example@acme"),
            ("joe@", "joe", ""),
            ("joe", "joe", "default"),
        ];
        for (typed, name, tenant) in cases {
            let login = Login::split(typed, "@#", "default");
            assert_eq!((login.name.as_str(), login.tenant.as_str()), (name, tenant));
        }
        assert_eq!(Login::split("joe@mail.example", "", "default").name, "joe@mail.example");
    }

    #[test]
    fn case_counts_only_when_asked() {
        assert_eq!(normalize(" Joe ", false), "joe");
        assert_eq!(normalize(" Joe ", true), "Joe");
    }
}
