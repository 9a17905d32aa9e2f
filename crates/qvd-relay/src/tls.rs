//! The server's TLS: made from PEM texts, replaced while connections go on.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The PEM texts of a server. `Debug` hides the key.
#[derive(Clone, Default)]
pub struct TlsMaterial {
    /// Certificate chain, own certificate first.
    pub cert: String,
    /// Private key.
    pub key: String,
    /// With authorities a client must show a certificate that one of them signed; without, none is asked for.
    pub client_ca: Option<String>,
    /// Revoked client certificates.
    pub client_crl: Option<String>,
}

impl std::fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsMaterial").field("client_ca", &self.client_ca.is_some()).finish_non_exhaustive()
    }
}

/// Why material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A text is not PEM of the right kind.
    #[error("{what} is not valid PEM: {problem}")]
    Pem {
        /// Which text.
        what: &'static str,
        /// What is wrong; never the text itself.
        problem: String,
    },
    /// A text has no entry.
    #[error("{0} holds no PEM entry of its kind")]
    Empty(&'static str),
    /// Certificate and key do not fit each other, or are of a kind that is not supported.
    #[error("certificate and key cannot be used: {0}")]
    Pair(rustls::Error),
    /// The authorities or the revocation list for client certificates cannot be used.
    #[error("client certificates cannot be checked: {0}")]
    Clients(String),
    /// The library lacks something.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// A server's TLS: TLS 1.2 and 1.3, no ALPN, so that HTTP/2 is never negotiated (rule R1).
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
    fingerprint: String,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServerTls({})", self.fingerprint)
    }
}

impl ServerTls {
    /// Checks the material and makes it ready. To reload, make a new one and use it for new connections.
    pub fn new(material: &TlsMaterial) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain: Vec<CertificateDer<'static>> = entries("the certificate", &material.cert)?;
        let key = PrivateKeyDer::from_pem_slice(material.key.as_bytes())
            .map_err(|error| malformed("the private key", &error))?;
        let fingerprint = chain.first().map(crate::certificate::fingerprint).unwrap_or_default();

        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?;
        let builder = match &material.client_ca {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let mut roots = RootCertStore::empty();
                for authority in entries("the client authority", authorities)? {
                    roots.add(authority).map_err(|e| TlsError::Clients(e.to_string()))?;
                }
                let revoked: Vec<CertificateRevocationListDer<'static>> = match &material.client_crl {
                    Some(list) => entries("the revocation list", list)?,
                    None => Vec::new(),
                };
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .with_crls(revoked)
                    .build()
                    .map_err(|e| TlsError::Clients(e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Setup)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), fingerprint })
    }

    /// Performs the server's handshake.
    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// SHA-256 of the own certificate.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn entries<T: PemObject>(what: &'static str, text: &str) -> Result<Vec<T>, TlsError> {
    let found = T::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(what, &error))?;
    if found.is_empty() { Err(TlsError::Empty(what)) } else { Ok(found) }
}

fn malformed(what: &'static str, error: &PemError) -> TlsError {
    match error {
        PemError::NoItemsFound => TlsError::Empty(what),
        other => TlsError::Pem { what, problem: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::self_signed;

    fn material() -> TlsMaterial {
        let made = self_signed(&["localhost".to_owned()]).unwrap();
        TlsMaterial { cert: made.cert, key: made.key, ..TlsMaterial::default() }
    }

    #[test]
    fn wrong_material_is_told_apart() {
        let good = material();
        ServerTls::new(&good).unwrap();
        let other_key = TlsMaterial { key: material().key, ..good.clone() };
        assert!(matches!(ServerTls::new(&other_key), Err(TlsError::Pair(_))));
        let no_cert = TlsMaterial { cert: good.key.clone(), ..good.clone() };
        let error = ServerTls::new(&no_cert).unwrap_err().to_string();
        assert_eq!(error, "the certificate holds no PEM entry of its kind");
        let no_key = TlsMaterial { key: "nonsense".to_owned(), ..good.clone() };
        assert!(matches!(ServerTls::new(&no_key), Err(TlsError::Empty("the private key"))));
        let no_ca = TlsMaterial { client_ca: Some(String::new()), ..good };
        assert!(matches!(ServerTls::new(&no_ca), Err(TlsError::Empty("the client authority"))));
    }

    #[test]
    fn debug_shows_no_key() {
        assert!(!format!("{:?}", material()).contains("PRIVATE"));
    }
}
