//! Which certificates of the API are trusted.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::Error;
use crate::pins::fingerprint;

/// Where distributions keep the authorities of the system.
const SYSTEM: &[&str] = &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Whom to believe that it is the API.
pub(crate) enum Trust<'a> {
    /// Whom the authorities of a file vouch for, without one those of the system.
    Authorities(Option<&'a Path>),
    /// The certificate of this fingerprint; the first one that comes if there is none yet.
    Pinned(Option<String>),
    /// Anybody: `--insecure`.
    Anybody,
}

/// A configuration that trusts like this.
pub(crate) fn client_config(trust: Trust<'_>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Usage(e.to_string()))?;
    let pinned = match trust {
        Trust::Authorities(ca) => {
            return Ok(builder.with_root_certificates(authorities(ca)?).with_no_client_auth());
        }
        Trust::Pinned(fingerprint) => fingerprint,
        Trust::Anybody => None,
    };
    let verifier = Arc::new(ByItself { provider, pinned });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
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

/// Checks that a certificate and a key are PEM and belong together, and that the certificate is one of today.
pub(crate) fn check_pair(certificate: &str, key: &str) -> Result<(), Error> {
    let wrong = |part: &str, e: &dyn std::fmt::Display| Error::Usage(format!("{part}: {e}"));
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| wrong("cert", &e))?;
    let first = chain.first().ok_or_else(|| wrong("cert", &"the file holds no certificate in PEM"))?;
    is_of_today(first).map_err(|e| wrong("cert", &e))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| wrong("key", &e))?;
    let key =
        aws_lc_rs::default_provider().key_provider.load_private_key(key).map_err(|e| wrong("key", &e))?;
    CertifiedKey::new(chain, key).keys_match().map_err(|e| wrong("cert and key do not belong together", &e))
}

/// Whether a certificate is valid at the moment, whoever made it.
fn is_of_today(certificate: &CertificateDer<'_>) -> Result<(), CertificateError> {
    let parsed = ParsedCertificate::try_from(certificate);
    let nobody = RootCertStore::empty();
    let all = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let checked = parsed.and_then(|parsed| {
        verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], UnixTime::now(), all)
    });
    match checked {
        // Its dates are looked at before its maker.
        Ok(()) | Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => Ok(()),
        Err(rustls::Error::InvalidCertificate(why)) => Err(why),
        Err(_) => Err(CertificateError::BadEncoding),
    }
}

/// Asks no authority about a certificate: it is the one that is pinned, or any.
#[derive(Debug)]
struct ByItself {
    provider: Arc<CryptoProvider>,
    pinned: Option<String>,
}

impl ServerCertVerifier for ByItself {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.pinned {
            Some(pinned) if *pinned != fingerprint(certificate) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_certificate_must_be_one_of_today() {
        let made = |from: i32, to: i32| {
            let mut parameters = CertificateParams::new(["qvd.example".to_owned()]).unwrap();
            parameters.not_before = date_time_ymd(from, 1, 1);
            parameters.not_after = date_time_ymd(to, 1, 1);
            let key = KeyPair::generate().unwrap();
            check_pair(&parameters.self_signed(&key).unwrap().pem(), &key.serialize_pem())
        };
        made(2020, 2999).unwrap();
        for (from, to, said) in [(2010, 2011, "expired"), (2998, 2999, "not valid yet")] {
            let error = made(from, to).unwrap_err().to_string();
            assert!(error.starts_with("cert: ") && error.contains(said), "{error}");
        }
    }
}
