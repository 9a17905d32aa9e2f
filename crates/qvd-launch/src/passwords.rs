//! The passwords of an installation: administrators and database roles.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rand::Rng;

use crate::installation::write;
use crate::layout::Layout;

/// Passwords by name.
#[derive(Debug, Clone)]
pub struct Passwords(Vec<(String, String)>);

/// Under this name stand the keys that seal the secrets in the database: nodes that join need them too.
pub const SECRETS: &str = "secrets";

impl Passwords {
    /// The passwords of the installation, generated the first time.
    pub fn keep(layout: &Layout) -> Result<Self> {
        let Self(mut known) = Self::known(layout)?;
        for name in ["superadmin", "admin", "qvd_node", "qvd_l7r", "qvd_api"] {
            if !known.iter().any(|(known, _)| known == name) {
                known.push((name.to_owned(), generate()));
            }
        }
        let passwords = Self(known);
        passwords.write(layout)?;
        Ok(passwords)
    }

    /// The passwords that are kept here, if any.
    pub fn known(layout: &Layout) -> Result<Self> {
        if layout.passwords().exists() { Self::read(&layout.passwords()) } else { Ok(Self(Vec::new())) }
    }

    /// The passwords of a file: lines with a name, ` = ` and a password.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once(" = "));
        Ok(Self(pairs.map(|(name, password)| (name.to_owned(), password.to_owned())).collect()))
    }

    /// Only those of these names: a node has no use for the others.
    pub fn only(self, names: &[&str]) -> Self {
        Self(self.0.into_iter().filter(|(name, _)| names.contains(&name.as_str())).collect())
    }

    /// Puts something under a name.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// The password of this name.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, password)| password.as_str())
    }

    /// The password of this name; empty if there is none.
    pub fn of(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }

    /// Keeps them.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        let mut text = String::from(
            "# Administrators (superadmin of tenant *, admin of tenant default) and database roles\n",
        );
        for (name, password) in &self.0 {
            text.push_str(&format!("{name} = {password}\n"));
        }
        write(&layout.passwords(), text.as_bytes(), 0o600, None)
    }
}

/// 20 characters that are easy to tell apart: 110 bits.
pub fn generate() -> String {
    const ALPHABET: &[u8] = b"abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut rng = rand::rng();
    (0..20)
        .filter_map(|_| ALPHABET.get(rng.random_range(0..ALPHABET.len())))
        .map(|b| char::from(*b))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn passwords_are_kept_and_for_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let first = Passwords::keep(&layout).unwrap();
        let second = Passwords::keep(&layout).unwrap();
        assert_eq!(first.of("superadmin"), second.of("superadmin"));
        assert_eq!(first.of("superadmin").len(), 20);
        let mode = fs::metadata(layout.passwords()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_node_takes_only_what_it_uses() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        Passwords::keep(&layout).unwrap();
        let taken = Passwords::read(&layout.passwords()).unwrap().only(&["qvd_node", "qvd_l7r"]);
        assert!(taken.find("qvd_node").is_some() && taken.find("superadmin").is_none());
        assert!(Passwords::read(&dir.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
