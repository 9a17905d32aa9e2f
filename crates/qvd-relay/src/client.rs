//! TLS towards servers of others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::TlsError;

/// Where distributions keep the authorities that everybody trusts.
const SYSTEM: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Trusts the authorities of a file, without one those of the system.
#[derive(Clone)]
pub struct ClientTls(TlsConnector);

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Reads the authorities.
    ///
    /// # Errors
    /// [`TlsError::Pem`] when the file cannot be read, [`TlsError::Empty`] when there are none.
    pub fn new(authorities: Option<&Path>) -> Result<Self, TlsError> {
        let what = "the file of authorities";
        let system = || SYSTEM.iter().map(PathBuf::from).find(|file| file.exists());
        let file = authorities.map(Path::to_owned).or_else(system).ok_or(TlsError::Empty(what))?;
        let unread = |error: rustls_pki_types::pem::Error| TlsError::Pem {
            what,
            problem: format!("{}: {error}", file.display()),
        };
        let certificates = CertificateDer::pem_file_iter(&file).map_err(unread)?;
        let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(unread)?;
        let mut roots = RootCertStore::empty();
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(TlsError::Empty(what));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Speaks TLS with a server of this name, which its certificate has to have.
    ///
    /// # Errors
    /// Whatever makes the handshake fail, and a name that cannot be in a certificate.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        name: &str,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        let name = ServerName::try_from(name.to_owned());
        let name = name.map_err(|error: InvalidDnsNameError| std::io::Error::other(error.to_string()))?;
        self.0.connect(name, stream).await
    }
}
