//! Whether the way to the database is encrypted, and whether the server must prove who it is.
//!
//! Unix sockets are never encrypted: what goes through them stays on the machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::Error;

/// Key `database.tls` with `database.tls.ca`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Off,
    /// If the server can. Whoever sits in between may forbid it.
    #[default]
    Prefer,
    /// Always, with whatever certificate the server shows.
    Require,
    /// Always, and the certificate must be for the server's name and signed by one of the authorities in this file.
    Verify(PathBuf),
}

impl Tls {
    /// Out of the values of the two keys.
    pub fn from_words(mode: &str, authorities: Option<&str>) -> Result<Self, Error> {
        match (mode, authorities) {
            ("off", _) => Ok(Self::Off),
            ("prefer", _) => Ok(Self::Prefer),
            ("require", _) => Ok(Self::Require),
            ("verify", Some(file)) => Ok(Self::Verify(PathBuf::from(file))),
            ("verify", None) => Err(Error::Settings(
                "database.tls is verify, but database.tls.ca names no file with authorities".to_owned(),
            )),
            (other, _) => Err(Error::Settings(format!(
                "database.tls is `{other}`; it must be off, prefer, require or verify"
            ))),
        }
    }

    /// The same in the words of PostgreSQL's own programs: `PGSSLMODE`, and `PGSSLROOTCERT` if there is one.
    pub fn environment(&self) -> (&'static str, Option<&Path>) {
        match self {
            Self::Off => ("disable", None),
            Self::Prefer => ("prefer", None),
            Self::Require => ("require", None),
            Self::Verify(file) => ("verify-full", Some(file)),
        }
    }

    pub(crate) const fn mode(&self) -> SslMode {
        match self {
            Self::Off => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::Verify(_) => SslMode::Require,
        }
    }

    /// What connections are made with.
    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| Error::Settings(format!("TLS cannot be set up: {error}")))?;
        let config = match self {
            Self::Off | Self::Prefer | Self::Require => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
            }
            Self::Verify(file) => builder.with_root_certificates(authorities(file)?),
        };
        Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
    }
}

fn authorities(file: &Path) -> Result<RootCertStore, Error> {
    let wrong = |problem: String| Error::Settings(format!("database.tls.ca: {}: {problem}", file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("no certificate in it".to_owned())) } else { Ok(roots) }
}

/// Takes any certificate, but its key must be the server's.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_checked() {
        assert_eq!(Tls::from_words("prefer", None).unwrap(), Tls::Prefer);
        assert_eq!(Tls::from_words("verify", Some("/ca")).unwrap(), Tls::Verify(PathBuf::from("/ca")));
        for (mode, said) in [("verify", "database.tls.ca"), ("yes", "`yes`")] {
            let error = Tls::from_words(mode, None).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_file_without_authorities_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Tls::Verify(file.path().to_owned()).connector().err().unwrap().to_string();
        assert!(error.contains("no certificate in it"), "{error}");
    }
}
