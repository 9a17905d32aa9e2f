//! Chains that are made for it, with one mistake each.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber,
};

use super::*;

/// RSA with 1024 bits, until 2126.
const WEAK: &str = "-----BEGIN CERTIFICATE-----\n\
    MIICJTCCAY6gAwIBAgIUPHizNDBI0GNKXFIyrT0YpriCH+8wDQYJKoZIhvcNAQEL\n\
    BQAwFzEVMBMGA1UEAwwMd2Vhay5leGFtcGxlMCAXDTI2MTEyNzEyMTEwOVoYDzIx\n\
    MjYxMTAzMTIxMTA5WjAXMRUwEwYDVQQDDAx3ZWFrLmV4YW1wbGUwgZ8wDQYJKoZI\n\
    hvcNAQEBBQADgY0AMIGJAoGBAOghnuPg/xu0AE1ekZ43CxpD9/79gQly/yJveEqO\n\
    S0HaXdjZXtzHscg43+FGv7Gqy7sXZjuINE/hvkSGRABIoaAcDol6j6xmRuQ7LtoV\n\
    M9siwLNm30RznrbMWE8NC+k9r+y4DPQ2T/giK/PfRubQnraE3HX7SHj8DlSzEbcC\n\
    uFaZAgMBAAGjbDBqMB0GA1UdDgQWBBQKanPmXWGh7zxs+kGnu9jJ35P5ITAfBgNV\n\
    HSMEGDAWgBQKanPmXWGh7zxs+kGnu9jJ35P5ITAPBgNVHRMBAf8EBTADAQH/MBcG\n\
    A1UdEQQQMA6CDHdlYWsuZXhhbXBsZTANBgkqhkiG9w0BAQsFAAOBgQCyIzxy6lof\n\
    wS/7uqC6RJnizV4g2zinxZcEk/MJGlT6w3USTIMz4bs0PNzApc1J9a3ssCwQMO2P\n\
    cjBADcoKrRbVzGSOXnn/hCUIo3ItEHSDZ/E8anEWS64lzHE0nCZHYzbOF/uLhMl+\n\
    m3Cn+jfmR95PI0FxnT6JXRZRSOXKCYSgwA==\n\
    -----END CERTIFICATE-----\n";

/// ECDSA, signed with SHA-1 by somebody else, until 2126.
const FORGEABLE: &str = "-----BEGIN CERTIFICATE-----\n\
    MIIBHzCBxwIUfGS1ER9B8gXXcz11iF68P5bqJeMwCQYHKoZIzj0EATAPMQ0wCwYD\n\
    VQQDDARyb290MCAXDTI2MTEyNzEyMTEwOVoYDzIxMjYxMTAzMTIxMTA5WjAWMRQw\n\
    EgYDVQQDDAtvbGQuZXhhbXBsZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAZf\n\
    TJi1Lx+cRuuIihPA/i5Rz2zSZXwN1DGmJy/DlZbpiMLAh4jvu/AmEVpe18uTRwuo\n\
    d2Wxl47fAEd8iYlKrmMwCQYHKoZIzj0EAQNIADBFAiEAr/+7WMCaxwg+7vdK6F9v\n\
    YE+a7acw+GZYg2OLe4t3lFICIGAHoeU727xzvhTRi+SE64UMYysQ46ExYCV0iQ9t\n\
    NLkL\n\
    -----END CERTIFICATE-----\n";

fn params(name: &str, sans: &[&str]) -> CertificateParams {
    let sans: Vec<String> = sans.iter().map(|san| (*san).to_owned()).collect();
    let mut params = CertificateParams::new(sans).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(365);
    params
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str, above: Option<&Authority>) -> Authority {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    match above {
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
        Some(above) => CertifiedIssuer::signed_by(params, key, above).unwrap(),
    }
}

/// A root, an authority below it, and a server below that one.
struct Chain {
    root: Authority,
    middle: Authority,
    own: Certificate,
    key: KeyPair,
}

impl Chain {
    fn new() -> Self {
        Self::with(params("desktops.example", &["desktops.example", "*.vdi.example", "10.1.2.3"]))
    }

    fn with(params: CertificateParams) -> Self {
        let root = authority("root", None);
        let middle = authority("middle", Some(&root));
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &middle as &Issuer<'_, KeyPair>).unwrap();
        Self { root, middle, own, key }
    }

    fn material(&self, certificates: &[String]) -> TlsMaterial {
        TlsMaterial { cert: certificates.concat(), key: self.key.serialize_pem(), ..TlsMaterial::default() }
    }

    fn complete(&self) -> TlsMaterial {
        self.material(&[self.own.pem(), self.middle.pem()])
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// That it is refused, for this text and with these words.
#[track_caller]
fn refused(material: &TlsMaterial, part: &str, words: &[&str]) {
    let flaw = examine(material, now()).unwrap_err();
    assert_eq!(flaw.part, part, "{flaw}");
    assert!(words.iter().all(|word| flaw.problem.contains(word)), "{flaw}");
    assert!(!flaw.problem.contains("-----BEGIN"), "{flaw}");
}

#[test]
fn a_complete_chain_is_good_and_its_names_are_told() {
    let chain = Chain::new();
    let found = examine(&chain.complete(), now()).unwrap();
    assert_eq!(found.names, ["desktops.example", "*.vdi.example", "10.1.2.3"]);
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    assert_eq!(found.fingerprint.len(), 95);
    for (name, is) in [
        ("Desktops.Example", true),
        ("one.vdi.example", true),
        ("one.two.vdi.example", false),
        ("vdi.example", false),
        ("10.1.2.3", true),
        ("10.1.2.4", false),
        ("other.example", false),
    ] {
        assert_eq!(found.is_for(name), is, "{name}");
    }
    let with_root = chain.material(&[chain.own.pem(), chain.middle.pem(), chain.root.pem()]);
    assert_eq!(examine(&with_root, now()).unwrap().warnings, [""; 0]);
    let own = crate::certificate::self_signed(&["qvd".to_owned()]).unwrap();
    let own = TlsMaterial { cert: own.cert, key: own.key, ..TlsMaterial::default() };
    assert_eq!(examine(&own, now()).unwrap().names, ["qvd"]);
}

#[test]
fn a_chain_that_is_not_in_order_is_refused_and_says_what_belongs_where() {
    let chain = Chain::new();
    let other = Chain::new();
    let [own, middle, root] = [chain.own.pem(), chain.middle.pem(), chain.root.pem()];
    let ask = |certificates: &[&String]| {
        chain.material(&certificates.iter().map(|pem| (*pem).clone()).collect::<Vec<_>>())
    };
    refused(&ask(&[&middle, &own]), "cert", &["the key is that of certificate 2", "put this one first"]);
    refused(
        &ask(&[&own, &root, &middle]),
        "cert",
        &["certificate 1", "was issued by certificate 3 (CN=middle)"],
    );
    refused(
        &ask(&[&own, &root]),
        "cert",
        &["certificate 2 (CN=root) did not issue", "CN=middle, between them"],
    );
    refused(&ask(&[&own, &middle, &root, &other.root.pem()]), "cert", &["certificate 4 (CN=root)"]);
    refused(&ask(&[&own, &other.middle.pem()]), "cert", &["has the name of the issuer", "did not sign it"]);
    let alone = examine(&ask(&[&own]), now()).unwrap();
    assert!(alone.warnings[0].contains("CN=middle"), "{:?}", alone.warnings);
}

#[test]
fn a_key_that_cannot_be_used_says_why() {
    let chain = Chain::new();
    let with = |key: &str| TlsMaterial { key: key.to_owned(), ..chain.complete() };
    let other = KeyPair::generate().unwrap().serialize_pem();
    refused(&with(&other), "key", &["does not belong to certificate 1 (CN=desktops.example)"]);
    for head in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    ] {
        refused(&with(head), "key", &["passphrase"]);
    }
    refused(&with(&format!("{other}{other}")), "key", &["2 private keys"]);
    refused(&with(&chain.own.pem()), "key", &["no private key", "begins with CERTIFICATE"]);
    refused(
        &with("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        "key",
        &["cannot be used"],
    );
    let both = format!("{}{}", chain.own.pem(), chain.key.serialize_pem());
    refused(&TlsMaterial { cert: both, ..chain.complete() }, "cert", &["holds a private key"]);
    for (cert, word) in [
        ("", "no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
    ] {
        refused(&TlsMaterial { cert: cert.to_owned(), ..chain.complete() }, "cert", &[word]);
    }
}

#[test]
fn weak_keys_and_signatures_are_refused() {
    let chain = Chain::new();
    let with = |cert: &str| TlsMaterial { cert: cert.to_owned(), ..chain.complete() };
    refused(&with(WEAK), "cert", &["certificate 1 (CN=weak.example)", "1024 bits", "2048"]);
    refused(&with(FORGEABLE), "cert", &["certificate 1 (CN=old.example)", "SHA-1"]);
    refused(&with(&format!("{}{WEAK}", chain.own.pem())), "cert", &["certificate 2", "1024 bits"]);
}

#[test]
fn dates_purpose_and_names_are_looked_at() {
    let chain = Chain::new();
    let at = |days: i64| examine(&chain.complete(), now() + Duration::days(days));
    let early = at(-2).unwrap_err().to_string();
    assert!(early.starts_with("cert: certificate 1 (CN=desktops.example) is not valid before"), "{early}");
    let late = at(366).unwrap_err().to_string();
    assert!(late.contains("certificate 1") && late.contains("expired on"), "{late}");
    let soon = at(350).unwrap().warnings;
    assert!(soon.len() == 2 && soon[0].contains("in 14 days") && soon[1].contains("CN=middle"), "{soon:?}");

    let mut client = params("desktops.example", &["desktops.example"]);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    refused(&Chain::with(client).complete(), "cert", &["not for servers"]);
    let nameless = examine(&Chain::with(params("desktops.example", &[])).complete(), now()).unwrap();
    assert_eq!(nameless.names, ["desktops.example"]);
    assert!(nameless.warnings[0].contains("no subject alternative names"), "{:?}", nameless.warnings);
}

#[test]
fn authorities_and_lists_of_clients_belong_together() {
    let chain = Chain::new();
    let list = |authority: &Authority, next: OffsetDateTime| {
        let params = CertificateRevocationListParams {
            this_update: now() - Duration::days(9),
            next_update: next,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(authority as &Issuer<'_, KeyPair>).unwrap().pem().unwrap()
    };
    let clients = |ca: Option<String>, crl: Option<String>| TlsMaterial {
        client_ca: ca,
        client_crl: crl,
        ..chain.complete()
    };
    let (ca, tomorrow) = (Some(chain.root.pem()), now() + Duration::days(1));
    let good = examine(&clients(ca.clone(), Some(list(&chain.root, tomorrow))), now()).unwrap();
    assert!(good.warnings.is_empty(), "{:?}", good.warnings);
    let stale =
        examine(&clients(ca.clone(), Some(list(&chain.root, now() - Duration::days(2)))), now()).unwrap();
    assert!(stale.warnings[0].contains("out of date"), "{:?}", stale.warnings);
    let server = examine(&clients(Some(chain.own.pem()), None), now()).unwrap();
    assert!(server.warnings[0].contains("not the certificate of an authority"), "{:?}", server.warnings);

    refused(&clients(Some("nothing".to_owned()), None), "ca", &["no certificate"]);
    refused(&clients(None, Some(list(&chain.root, tomorrow))), "crl", &["give ca"]);
    refused(
        &clients(ca.clone(), Some(list(&chain.middle, tomorrow))),
        "crl",
        &["(CN=middle)", "none of the authorities"],
    );
    let stranger = authority("root", None);
    refused(&clients(ca.clone(), Some(list(&stranger, tomorrow))), "crl", &["not signed by the authority"]);
    refused(&clients(ca, Some(chain.root.pem())), "crl", &["no revocation list"]);
}
