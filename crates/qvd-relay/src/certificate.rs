//! Certificates: a self-signed one for a new installation, and fingerprints to compare.

use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// How long a self-signed certificate is valid.
const VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks of clients may be late.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

/// A certificate with its key, as PEM texts. `Debug` hides the key.
#[derive(Clone)]
pub struct SelfSigned {
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
    /// SHA-256 of the certificate, as users compare it; see [`fingerprint`].
    pub fingerprint: String,
}

impl std::fmt::Debug for SelfSigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SelfSigned({})", self.fingerprint)
    }
}

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate for {names}: {source}")]
pub struct CertificateError {
    names: String,
    source: rcgen::Error,
}

/// Makes an ECDSA P-256 certificate for these names; words that are addresses become address entries.
pub fn self_signed(names: &[String]) -> Result<SelfSigned, CertificateError> {
    let fault = |source| CertificateError { names: names.join(", "), source };
    let mut params = CertificateParams::new(names).map_err(fault)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, names.first().map_or("qvd", String::as_str));
    subject.push(DnType::OrganizationName, "QVD");
    params.distinguished_name = subject;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATED;
    params.not_after = now + VALIDITY;
    let key = KeyPair::generate().map_err(fault)?;
    let certificate = params.self_signed(&key).map_err(fault)?;
    Ok(SelfSigned {
        cert: certificate.pem(),
        key: key.serialize_pem(),
        fingerprint: fingerprint(certificate.der()),
    })
}

/// SHA-256 of a certificate as `AB:CD:…`, the form that browsers and openssl show.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = Sha256::digest(certificate);
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::pem::PemObject;

    #[test]
    fn a_certificate_has_the_fingerprint_that_is_shown() {
        let made = self_signed(&["qvd.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let der = CertificateDer::from_pem_slice(made.cert.as_bytes()).unwrap();
        assert_eq!(made.fingerprint, fingerprint(&der));
        assert_eq!(made.fingerprint.len(), 32 * 3 - 1);
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }
}
