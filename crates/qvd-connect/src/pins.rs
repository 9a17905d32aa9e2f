//! Exceptions that the user made: this host and port may use this key in spite of this doubt.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{CertificateProblem, Doubt};

/// The file of exceptions: one line `host port doubt key` for each.
#[derive(Debug, Clone)]
pub struct Pins {
    path: PathBuf,
    lines: Vec<String>,
}

impl Pins {
    /// Reads the file; one that does not exist holds none.
    pub fn load(path: &Path) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), lines: text.lines().map(str::to_owned).collect() })
    }

    /// Whether the user accepted this before.
    pub fn accept(&self, host: &str, port: u16, doubt: Doubt, key: &str) -> bool {
        self.lines.contains(&line(host, port, doubt, key))
    }

    /// Accepts it until the program ends; `false` if nobody should accept it.
    pub fn accept_once(&mut self, problem: &CertificateProblem) -> bool {
        let Some(doubt) = problem.doubt else { return false };
        self.lines.push(line(&problem.host, problem.port, doubt, &problem.key));
        true
    }

    /// Accepts it from now on.
    pub fn remember(&mut self, problem: &CertificateProblem) -> io::Result<bool> {
        let Some(doubt) = problem.doubt else { return Ok(false) };
        let line = line(&problem.host, problem.port, doubt, &problem.key);
        if let Some(directory) = self.path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        self.lines.push(line);
        Ok(true)
    }
}

fn line(host: &str, port: u16, doubt: Doubt, key: &str) -> String {
    format!("{} {port} {} {key}", host.to_ascii_lowercase(), doubt.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_for_one_host_one_key_and_one_doubt() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/pins");
        let problem = CertificateProblem {
            host: "QVD.example".into(),
            port: 8443,
            doubt: Some(Doubt::Untrusted),
            detail: String::new(),
            fingerprint: "AB".into(),
            key: "k1".into(),
        };
        assert!(Pins::load(&path).unwrap().remember(&problem).unwrap());
        let pins = Pins::load(&path).unwrap();
        assert!(pins.accept("qvd.example", 8443, Doubt::Untrusted, "k1"));
        assert!(!pins.accept("qvd.example", 8443, Doubt::Expired, "k1"));
        assert!(!pins.accept("qvd.example", 8444, Doubt::Untrusted, "k1"));
        assert!(!pins.accept("other.example", 8443, Doubt::Untrusted, "k1"));
        assert!(!pins.accept("qvd.example", 8443, Doubt::Untrusted, "k2"));
        let broken = CertificateProblem { doubt: None, ..problem };
        assert!(!Pins::load(&path).unwrap().accept_once(&broken));
    }
}
