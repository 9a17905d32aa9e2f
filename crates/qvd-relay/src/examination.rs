//! What TLS material of a server is like, before it is put to use: whether the key is the certificate's, each certificate
//! of the chain was issued by the next, dates and strength are right, and for which names it is.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::certificate::fingerprint;
use crate::{ServerTls, TlsError, TlsMaterial};

/// The end of a certificate is worth a remark this long before.
const SOON: Duration = Duration::days(30);
/// RSA keys have at least so many bits.
const RSA_BITS: usize = 2048;
/// Points of elliptic curves have at least so many bits.
const CURVE_BITS: usize = 256;
/// Signatures that can be forged.
const FORGEABLE: [(&str, &str); 6] = [
    ("1.2.840.113549.1.1.2", "MD2"),
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
    ("1.2.840.10040.4.3", "SHA-1"),
    ("1.3.14.3.2.29", "SHA-1"),
];

/// Why material must not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {problem}")]
pub struct Flaw {
    /// The text that it is in: `cert`, `key`, `ca` or `crl`.
    pub part: &'static str,
    /// What is wrong and what to do; never a secret.
    pub problem: String,
}

/// What was found in material that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The names that the certificate is for.
    pub names: Vec<String>,
    /// When it ends.
    pub not_after: OffsetDateTime,
    /// Its SHA-256, as users compare it.
    pub fingerprint: String,
    /// What somebody should know, or do soon.
    pub warnings: Vec<String>,
}

impl Examined {
    /// Whether the certificate is for a name or address.
    pub fn is_for(&self, wanted: &str) -> bool {
        let address = wanted.parse::<IpAddr>().ok();
        self.names.iter().any(|name| match address {
            Some(address) => name.parse::<IpAddr>().is_ok_and(|name| name == address),
            None => covers(name, wanted),
        })
    }
}

/// Whether a name of a certificate, perhaps with an asterisk for its first label, is that of a host.
fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
        None => name.eq_ignore_ascii_case(host),
    }
}

/// Examines the material of a server as it would be used at a moment.
pub fn examine(material: &TlsMaterial, now: OffsetDateTime) -> Result<Examined, Flaw> {
    if labels(&material.cert).any(|label| label.contains("PRIVATE KEY")) {
        return Err(flaw("cert", "it holds a private key, which belongs into key alone"));
    }
    let chain: Vec<CertificateDer<'_>> = entries("cert", "certificate", &material.cert)?;
    let parsed =
        chain.iter().enumerate().map(|(at, der)| parsed("cert", at, der)).collect::<Result<Vec<_>, _>>()?;
    let Some(own) = parsed.first() else { return Err(flaw("cert", "it holds no certificate")) };
    for (at, certificate) in parsed.iter().enumerate() {
        if let Some(weakness) = weakness(certificate) {
            return Err(flaw("cert", format!("{} {weakness}", called(at, certificate))));
        }
    }
    check_key(material, &chain, &parsed)?;
    let mut warnings = Vec::new();
    check_order(&parsed, &mut warnings)?;
    for (at, certificate) in parsed.iter().enumerate() {
        check_dates(at, certificate, now, &mut warnings)?;
    }
    if let Ok(Some(usage)) = own.extended_key_usage()
        && !usage.value.server_auth
        && !usage.value.any
    {
        return Err(flaw(
            "cert",
            "it is not for servers: its extended key usage lacks TLS web server authentication",
        ));
    }
    let names = names(own, &mut warnings);
    check_clients(material, now, &mut warnings)?;
    // What is left to be refused, since those who use it would.
    ServerTls::new(material).map_err(|error| {
        let part = if matches!(error, TlsError::Clients(_)) { "ca" } else { "cert" };
        flaw(part, error.to_string())
    })?;
    Ok(Examined {
        names,
        not_after: own.validity().not_after.to_datetime(),
        fingerprint: chain.first().map(fingerprint).unwrap_or_default(),
        warnings,
    })
}

fn flaw(part: &'static str, problem: impl Into<String>) -> Flaw {
    Flaw { part, problem: problem.into() }
}

/// What the entries of a PEM text say to be.
fn labels(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
}

fn entries<T: PemObject>(part: &'static str, what: &str, text: &str) -> Result<Vec<T>, Flaw> {
    let found = T::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| flaw(part, format!("it is not valid PEM: {error}")))?;
    if found.is_empty() {
        let others = labels(text).next().map(|label| format!(", but begins with {label}"));
        return Err(flaw(part, format!("it holds no {what}{}", others.unwrap_or_default())));
    }
    Ok(found)
}

fn parsed<'d>(
    part: &'static str,
    at: usize,
    der: &'d CertificateDer<'_>,
) -> Result<X509Certificate<'d>, Flaw> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(flaw(part, format!("certificate {} has something behind it", at + 1))),
        Err(error) => Err(flaw(part, format!("certificate {} cannot be read: {error}", at + 1))),
    }
}

/// A certificate by its place and its subject.
fn called(at: usize, certificate: &X509Certificate<'_>) -> String {
    format!("certificate {} ({})", at + 1, certificate.subject())
}

fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject() == certificate.issuer()
}

/// Why a certificate is too weak, if it is.
fn weakness(certificate: &X509Certificate<'_>) -> Option<String> {
    let key = match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < RSA_BITS => Some(format!(
            "has an RSA key of {} bits, which is too weak: it takes {RSA_BITS}, or an ECDSA key",
            key.key_size()
        )),
        Ok(PublicKey::EC(point)) if point.key_size() < CURVE_BITS => Some(format!(
            "has a key on a curve of {} bits, which is too weak: it takes {CURVE_BITS}",
            point.key_size()
        )),
        Ok(PublicKey::DSA(_)) => Some("has a DSA key: it takes an RSA, ECDSA or Ed25519 key".to_owned()),
        _ => None,
    };
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    let forgeable = FORGEABLE.iter().find(|(id, _)| *id == algorithm);
    // Nobody relies on the signature that a certificate makes of itself.
    key.or_else(|| {
        let (_, name) = forgeable.filter(|_| !is_self_signed(certificate))?;
        Some(format!("is signed with {name}, which can be forged: have it issued again"))
    })
}

/// Whether the key can be used, and is that of the first certificate.
fn check_key(
    material: &TlsMaterial,
    chain: &[CertificateDer<'_>],
    parsed: &[X509Certificate<'_>],
) -> Result<(), Flaw> {
    let keys: Vec<&str> = labels(&material.key).filter(|label| label.ends_with("PRIVATE KEY")).collect();
    let encrypted =
        keys.contains(&"ENCRYPTED PRIVATE KEY") || material.key.contains("Proc-Type: 4,ENCRYPTED");
    if encrypted {
        return Err(flaw(
            "key",
            "it is protected by a passphrase, which nobody could type when a router starts: take it off \
             (openssl pkey -in KEY -out PLAIN); it is kept sealed",
        ));
    }
    if keys.len() > 1 {
        return Err(flaw("key", format!("it holds {} private keys; leave the right one", keys.len())));
    }
    let mut found = entries::<PrivateKeyDer<'static>>("key", "private key", &material.key)?;
    let key = found.pop().ok_or_else(|| flaw("key", "it holds no private key"))?;
    let loaded = aws_lc_rs::default_provider().key_provider.load_private_key(key);
    let key = loaded.map_err(|error| flaw("key", format!("it cannot be used: {error}")))?;
    let belongs = |der: &CertificateDer<'_>| {
        let pair = CertifiedKey::new(vec![der.clone().into_owned()], Arc::clone(&key));
        pair.keys_match().is_ok()
    };
    match chain.iter().position(belongs) {
        Some(0) => Ok(()),
        Some(at) => {
            let named = parsed.get(at).map_or_else(String::new, |certificate| called(at, certificate));
            Err(flaw("cert", format!("the key is that of {named}; put this one first")))
        }
        None => {
            let first = parsed.first().map_or_else(String::new, |first| called(0, first));
            Err(flaw("key", format!("it does not belong to {first}")))
        }
    }
}

fn issued(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    issuer.subject() == certificate.issuer()
        && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

/// Whether each certificate was issued by the next one.
fn check_order(chain: &[X509Certificate<'_>], warnings: &mut Vec<String>) -> Result<(), Flaw> {
    for (at, pair) in chain.windows(2).enumerate() {
        let [certificate, next] = pair else { continue };
        if issued(next, certificate) {
            continue;
        }
        let (this, other) = (called(at, certificate), called(at + 1, next));
        if is_self_signed(certificate) {
            return Err(flaw(
                "cert",
                format!("{other} does not belong to it: {this} was issued by nobody else"),
            ));
        }
        let elsewhere = chain.iter().enumerate().find(|(_, candidate)| issued(candidate, certificate));
        return Err(flaw(
            "cert",
            match elsewhere {
                Some((place, issuer)) => {
                    format!("{this} was issued by {}; put that one behind it", called(place, issuer))
                }
                None if next.subject() == certificate.issuer() => format!(
                    "{other} has the name of the issuer of {this}, but did not sign it: it is another or an \
                     older one of this name"
                ),
                None => format!(
                    "{other} did not issue {this}: put the certificate of its issuer, {}, between them, or leave \
                     {other} out",
                    certificate.issuer()
                ),
            },
        ));
    }
    if let [only] = chain
        && !is_self_signed(only)
    {
        warnings.push(format!(
            "the certificate of its issuer ({}) is not there: clients that lack it refuse the connection; put it \
             behind the own one unless it is a root",
            only.issuer()
        ));
    }
    Ok(())
}

fn check_dates(
    at: usize,
    certificate: &X509Certificate<'_>,
    now: OffsetDateTime,
    warnings: &mut Vec<String>,
) -> Result<(), Flaw> {
    let begin = certificate.validity().not_before.to_datetime();
    let end = certificate.validity().not_after.to_datetime();
    let called = called(at, certificate);
    if now < begin {
        return Err(flaw(
            "cert",
            format!("{called} is not valid before {} (now it is {})", date(begin), date(now)),
        ));
    }
    if now > end {
        return Err(flaw("cert", format!("{called} expired on {}; have it issued again", date(end))));
    }
    if end - now < SOON {
        warnings.push(format!("{called} expires on {}, in {} days", date(end), (end - now).whole_days()));
    }
    Ok(())
}

/// A moment, to a minute, in UTC.
fn date(moment: OffsetDateTime) -> String {
    let (hour, minute, _) = moment.to_hms();
    format!("{} {hour:02}:{minute:02} UTC", moment.date())
}

/// The names of a certificate; those of its subject only where it has no others.
fn names(certificate: &X509Certificate<'_>, warnings: &mut Vec<String>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let mut names = Vec::new();
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => names.extend(address(bytes).map(|address| address.to_string())),
            _ => {}
        }
    }
    if names.is_empty() {
        warnings.push(
            "it has no subject alternative names: clients that look at names accept it for none".to_owned(),
        );
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(str::to_owned));
    }
    names
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// The authorities of client certificates and what they revoked.
fn check_clients(
    material: &TlsMaterial,
    now: OffsetDateTime,
    warnings: &mut Vec<String>,
) -> Result<(), Flaw> {
    let Some(authorities) = &material.client_ca else {
        return match &material.client_crl {
            Some(_) => Err(flaw(
                "crl",
                "it revokes certificates of authorities, and there are none: give ca as well, or take crl away",
            )),
            None => Ok(()),
        };
    };
    let ders: Vec<CertificateDer<'_>> = entries("ca", "certificate", authorities)?;
    let authorities =
        ders.iter().enumerate().map(|(at, der)| parsed("ca", at, der)).collect::<Result<Vec<_>, _>>()?;
    for (at, authority) in authorities.iter().enumerate() {
        let called = called(at, authority);
        if !authority.is_ca() {
            warnings.push(format!("ca: {called} is not the certificate of an authority"));
        }
        let end = authority.validity().not_after.to_datetime();
        if end < now {
            warnings.push(format!("ca: {called} expired on {}; no client gets in with it", date(end)));
        }
    }
    let Some(lists) = &material.client_crl else { return Ok(()) };
    let ders: Vec<CertificateRevocationListDer<'_>> = entries("crl", "revocation list", lists)?;
    for (at, der) in ders.iter().enumerate() {
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|error| flaw("crl", format!("list {} cannot be read: {error}", at + 1)))?;
        let called = format!("list {} ({})", at + 1, list.issuer());
        let mut issuers =
            authorities.iter().filter(|authority| authority.subject() == list.issuer()).peekable();
        if issuers.peek().is_none() {
            return Err(flaw("crl", format!("{called} is of none of the authorities in ca")));
        }
        if !issuers.any(|issuer| list.verify_signature(issuer.public_key()).is_ok()) {
            return Err(flaw("crl", format!("{called} is not signed by the authority of this name in ca")));
        }
        if let Some(next) = list.next_update().map(|next| next.to_datetime())
            && next < now
        {
            warnings.push(format!("crl: {called} is out of date since {}; fetch a new one", date(next)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
