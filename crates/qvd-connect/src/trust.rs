//! Whom to believe.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use qvd_relay::certificate::fingerprint;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::error::{CertificateProblem, Doubt};
use crate::pins::Pins;

/// Where systems keep the authorities that they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why trust cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file with certificates or a key cannot be used.
    #[error("cannot use {}: {detail}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// TLS itself cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// What a client believes, and what it shows of itself.
#[derive(Debug)]
pub struct Trust {
    /// Believe every certificate (`-n`).
    pub anybody: bool,
    /// Exceptions that the user made.
    pub pins: Pins,
    roots: Arc<RootCertStore>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Trust {
    /// Trusts the authorities of the system and those in the user's directory (`~/.qvd/certs`, PEM files),
    /// with the exceptions of `pins`.
    pub fn new(own: &Path, pins: Pins) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        let system = SYSTEM.iter().find_map(|path| CertificateDer::pem_file_iter(path).ok());
        match system {
            Some(certificates) => drop(roots.add_parsable_certificates(certificates.flatten())),
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let mut files: Vec<PathBuf> = std::fs::read_dir(own)
            .map(|entries| entries.flatten().map(|entry| entry.path()).filter(|p| p.is_file()).collect())
            .unwrap_or_default();
        files.sort();
        for path in files {
            for certificate in pem(&path)? {
                roots
                    .add(certificate)
                    .map_err(|error| TrustError::File { path: path.clone(), detail: error.to_string() })?;
            }
        }
        Ok(Self { anybody: false, pins, roots: Arc::new(roots), identity: None })
    }

    /// Shows this certificate to routers that ask for one (`-c`, `-k`).
    pub fn identify(&mut self, certificate: &Path, key: &Path) -> Result<(), TrustError> {
        let chain = pem(certificate)?;
        let secret = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| TrustError::File { path: key.to_owned(), detail: error.to_string() })?;
        self.identity = Some((chain, secret));
        Ok(())
    }

    /// TLS with one router, and where the verdict on its certificate will be.
    pub(crate) fn config(&self, host: &str, port: u16) -> Result<(ClientConfig, Verdict), TrustError> {
        let failed = |error: String| TrustError::Tls(error);
        let provider = Arc::new(aws_lc_rs::default_provider());
        // Without any authority every certificate is a question to the user.
        let inner = (!self.roots.is_empty())
            .then(|| {
                WebPkiServerVerifier::builder_with_provider(self.roots.clone(), provider.clone()).build()
            })
            .transpose()
            .map_err(|error| failed(error.to_string()))?;
        let verdict = Verdict::default();
        let judge = Judge {
            anybody: self.anybody,
            host: host.to_owned(),
            port,
            pins: self.pins.clone(),
            inner,
            provider: provider.clone(),
            verdict: verdict.clone(),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge));
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| failed(error.to_string()))?,
        };
        Ok((config, verdict))
    }
}

fn pem(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let failed = |detail: String| TrustError::File { path: path.to_owned(), detail };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error: rustls_pki_types::pem::Error| failed(error.to_string()))?;
    if found.is_empty() { Err(failed("it holds no certificate".to_owned())) } else { Ok(found) }
}

/// What the check of a certificate found; empty as long as nothing is wrong.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict(Arc<Mutex<Option<CertificateProblem>>>);

impl Verdict {
    pub(crate) fn take(&self) -> Option<CertificateProblem> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Debug)]
struct Judge {
    anybody: bool,
    host: String,
    port: u16,
    pins: Pins,
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    verdict: Verdict,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result = match &self.inner {
            Some(inner) => {
                inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        let error = match result {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        if self.anybody {
            return Ok(ServerCertVerified::assertion());
        }
        let doubt = doubt(&error);
        let key = ParsedCertificate::try_from(end_entity)
            .map(|parsed| hex(&Sha256::digest(parsed.subject_public_key_info())))
            .unwrap_or_default();
        if doubt.is_some_and(|doubt| self.pins.accept(&self.host, self.port, doubt, &key)) {
            return Ok(ServerCertVerified::assertion());
        }
        let problem = CertificateProblem {
            host: self.host.clone(),
            port: self.port,
            doubt,
            detail: doubt.map_or_else(|| error.to_string(), |doubt| doubt.to_string()),
            fingerprint: fingerprint(end_entity),
            key,
        };
        *self.verdict.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
        Err(error)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a user may overlook. Everything else is a fault that no decision heals.
fn doubt(error: &rustls::Error) -> Option<Doubt> {
    use CertificateError as Fault;
    let rustls::Error::InvalidCertificate(fault) = error else { return None };
    match fault {
        Fault::UnknownIssuer => Some(Doubt::Untrusted),
        // A certificate that signed itself as an authority, which is how many routers get theirs.
        Fault::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Some(Doubt::Untrusted),
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => Some(Doubt::WrongHost),
        Fault::Expired | Fault::ExpiredContext { .. } => Some(Doubt::Expired),
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => Some(Doubt::NotYetValid),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
