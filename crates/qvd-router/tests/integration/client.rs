//! A TLS client that sees single records, as existing clients do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use qvd_wire::http::{Answer, Credentials, FAILURE, Get, ResponseHead, ResponseParser, UPGRADE_QVD};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Client {
    pub stream: TlsStream<TcpStream>,
    parser: ResponseParser,
}

pub fn basic(login: &str, password: &str) -> Credentials {
    Credentials::Basic { login: login.as_bytes().to_vec(), password: password.as_bytes().to_vec().into() }
}

pub fn bearer(token: &str) -> Credentials {
    Credentials::Bearer { token: token.as_bytes().to_vec().into() }
}

pub fn connect_to(vm: i32, credentials: &Credentials) -> Get {
    Get::new("/qvd/connect_to_vm")
        .query("id", &vm.to_string())
        .query("qvd.client.link", "lan")
        .credentials(credentials)
        .upgrade(UPGRADE_QVD)
}

impl Client {
    pub async fn new(router: SocketAddr, certificate: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(router).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        Self { stream, parser: ResponseParser::new(64 * 1024) }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The content of the next TLS record; empty at the end.
    pub async fn record(&mut self) -> Vec<u8> {
        let next = tokio::time::timeout(LIMIT, self.stream.fill_buf()).await.expect("an answer in time");
        let record = next.map(<[u8]>::to_vec).unwrap_or_default();
        self.stream.consume(record.len());
        record
    }

    /// The next answer; `None` if the connection ended.
    pub async fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.parser.answer().unwrap() {
                return Some(answer);
            }
            let bytes = self.record().await;
            if bytes.is_empty() {
                return None;
            }
            self.parser.feed(&bytes);
        }
    }

    /// Asks and takes the final answer: status, failure code, body.
    pub async fn ask(&mut self, get: Get) -> (u16, String, String) {
        self.send(&get.encode()).await;
        loop {
            match self.answer().await.expect("an answer") {
                Answer::Interim(_) => {}
                Answer::Switched(head) => return (head.status, String::new(), String::new()),
                Answer::Final(head, body) => {
                    let code = head.headers.text(FAILURE).unwrap_or_default();
                    return (head.status, code, String::from_utf8(body).unwrap());
                }
            }
        }
    }

    /// Connects to a VM and returns the head of the 101.
    pub async fn connect(&mut self, vm: i32, credentials: &Credentials) -> ResponseHead {
        self.send(&connect_to(vm, credentials).encode()).await;
        loop {
            match self.answer().await.expect("an answer") {
                Answer::Interim(_) => {}
                Answer::Switched(head) => return head,
                Answer::Final(head, body) => panic!("{} {}", head.status, String::from_utf8_lossy(&body)),
            }
        }
    }

    /// Sends bytes through the bridge and waits for their echo.
    pub async fn echo(&mut self, text: &str) {
        self.send(text.as_bytes()).await;
        let mut heard = Vec::new();
        while heard.len() < text.len() {
            let bytes = self.record().await;
            assert!(!bytes.is_empty(), "the bridge ended");
            heard.extend(bytes);
        }
        assert_eq!(String::from_utf8(heard).unwrap(), text);
    }

    /// Waits for the end of the connection.
    pub async fn ended(&mut self) {
        while !self.record().await.is_empty() {}
    }
}
