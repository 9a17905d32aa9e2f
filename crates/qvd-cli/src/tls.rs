//! Which certificates of the API are trusted.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::Error;

/// Where distributions keep the authorities of the system.
const SYSTEM: &[&str] = &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// A configuration that trusts the authorities of `ca`, those of the system without it, or anybody.
pub(crate) fn client_config(ca: Option<&Path>, insecure: bool) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Usage(e.to_string()))?;
    if insecure {
        let anybody = Arc::new(Anybody(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth());
    }
    Ok(builder.with_root_certificates(authorities(ca)?).with_no_client_auth())
}

/// Whether a handshake failed because the certificate is not trusted.
pub(crate) fn is_trust_problem(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

fn authorities(ca: Option<&Path>) -> Result<RootCertStore, Error> {
    let file = match ca {
        Some(file) => file,
        None => SYSTEM.iter().map(Path::new).find(|f| f.exists()).ok_or_else(|| {
            Error::Usage("this machine has no certificate authorities; give one with --ca".to_owned())
        })?,
    };
    let unusable = |e: &dyn std::fmt::Display| {
        Error::Usage(format!("cannot use the certificate authorities of {}: {e}", file.display()))
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unusable(&e))? {
        let certificate = certificate.map_err(|e| unusable(&e))?;
        let added = store.add(certificate);
        if ca.is_some() {
            added.map_err(|e| unusable(&e))?;
        }
    }
    if store.is_empty() {
        return Err(unusable(&"it holds none"));
    }
    Ok(store)
}

/// Checks that a certificate and a key are PEM and belong together.
pub(crate) fn check_pair(certificate: &str, key: &str) -> Result<(), Error> {
    let wrong = |part: &str, e: &dyn std::fmt::Display| Error::Usage(format!("{part}: {e}"));
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| wrong("cert", &e))?;
    if chain.is_empty() {
        return Err(wrong("cert", &"the file holds no certificate in PEM"));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| wrong("key", &e))?;
    let key =
        aws_lc_rs::default_provider().key_provider.load_private_key(key).map_err(|e| wrong("key", &e))?;
    CertifiedKey::new(chain, key).keys_match().map_err(|e| wrong("cert and key do not belong together", &e))
}

/// Accepts every certificate: `--insecure`.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
