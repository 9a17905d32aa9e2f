//! Certificates that were taken on trust when they were first seen: `--pin`.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use crate::error::Error;

/// The file of such certificates, a line `HOST:PORT FINGERPRINT` for each API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    file: PathBuf,
}

impl Pins {
    /// Those of a file, which need not be there yet.
    pub const fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// The fingerprint of the certificate that an API had at first.
    pub(crate) fn known(&self, api: &str) -> Result<Option<String>, Error> {
        let text = match std::fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::Usage(format!("--pin: {}: {error}", self.file.display()))),
        };
        let mut pins = text.lines().filter_map(|line| line.split_once(' '));
        Ok(pins.rfind(|(of, _)| *of == api).map(|(_, fingerprint)| fingerprint.trim().to_owned()))
    }

    /// Keeps the fingerprint of a certificate that is seen for the first time.
    pub(crate) fn remember(&self, api: &str, fingerprint: &str) -> io::Result<()> {
        if let Some(directory) = self.file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.file)?;
        file.write_all(format!("{api} {fingerprint}\n").as_bytes())
    }

    /// What to say when the certificate is another one.
    pub(crate) fn changed(&self, api: &str) -> String {
        format!(
            "the certificate is not the one that {api} had at first; if it was replaced, remove its line from {}",
            self.file.display()
        )
    }
}

/// SHA-256 of a certificate, as openssl shows it.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_an_api_counts() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::at(dir.path().join("new/qa.pins"));
        assert_eq!(pins.known("a:443").unwrap(), None);
        pins.remember("a:443", "AB:CD").unwrap();
        pins.remember("a:4430", "00").unwrap();
        pins.remember("a:443", "EF").unwrap();
        assert_eq!(pins.known("a:443").unwrap().as_deref(), Some("EF"));
        assert_eq!(pins.known("b:443").unwrap(), None);
    }
}
