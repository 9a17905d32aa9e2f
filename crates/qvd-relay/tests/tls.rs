//! The server's TLS against a real TLS client over loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

use std::sync::Arc;

use qvd_relay::certificate::{fingerprint, self_signed};
use qvd_relay::{ServerTls, TlsMaterial, link};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

fn material() -> TlsMaterial {
    let made = self_signed(&["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    TlsMaterial { cert: made.cert, key: made.key, ..TlsMaterial::default() }
}

/// One connection to a server that answers `hello` once the client has spoken.
async fn talk(server: &ServerTls, client: ClientConfig, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let acceptor = server.acceptor().clone();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        link::tune(&stream, link::SILENCE)?;
        let mut tls = acceptor.accept(stream).await?;
        tls.write_all(b"hello").await?;
        tls.shutdown().await
    });
    let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
    let stream = TcpStream::connect(address).await?;
    let mut tls = TlsConnector::from(Arc::new(client)).connect(name, stream).await?;
    let mut said = String::new();
    let read = tls.read_to_string(&mut said).await;
    serving.await.map_err(std::io::Error::other)??;
    read?;
    assert_eq!(said, "hello");
    Ok(tls)
}

fn trusting(cert: &str, versions: &[&'static rustls::SupportedProtocolVersion]) -> RootedBuilder {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
}

type RootedBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

#[tokio::test]
async fn both_versions_work_and_http_2_is_never_chosen() {
    let material = material();
    let server = ServerTls::new(&material).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for name in ["localhost", "127.0.0.1"] {
            let mut client = trusting(&material.cert, &[version]).with_no_client_auth();
            client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let tls = talk(&server, client, name).await.unwrap();
            let (_, connection) = tls.get_ref();
            assert_eq!(connection.protocol_version(), Some(version.version));
            assert_eq!(connection.alpn_protocol(), None);
            let shown = fingerprint(&connection.peer_certificates().unwrap()[0]);
            assert_eq!(shown, server.fingerprint());
        }
    }
}

#[tokio::test]
async fn a_required_client_certificate_is_checked() {
    let authority = self_signed(&["client".to_owned()]).unwrap();
    let material = TlsMaterial { client_ca: Some(authority.cert.clone()), ..material() };
    let server = ServerTls::new(&material).unwrap();
    let builder = || trusting(&material.cert, &[&rustls::version::TLS13]);
    assert!(talk(&server, builder().with_no_client_auth(), "localhost").await.is_err());
    let stranger = self_signed(&["client".to_owned()]).unwrap();
    let shown = |made: &qvd_relay::certificate::SelfSigned| {
        let chain = vec![CertificateDer::from_pem_slice(made.cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
        builder().with_client_auth_cert(chain, key).unwrap()
    };
    assert!(talk(&server, shown(&stranger), "localhost").await.is_err());
}
