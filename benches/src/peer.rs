//! The other sides that a router needs: clients that trust its certificate, and desktops that answer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use qvd_relay::certificate::SelfSigned;
use qvd_wire::http::{
    Answer, Credentials, Get, RequestParser, ResponseParser, TICKET, TICKET_WANTED, UPGRADE_QVD,
};
use qvd_wire::rpc::{LIMITS, Reply, Request};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The name in the certificate.
pub fn name() -> Result<ServerName<'static>> {
    Ok(ServerName::try_from("localhost")?)
}

/// A client that trusts the certificate and nothing else.
pub fn client_config(certificate: &SelfSigned, resume: bool) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.cert.as_bytes())?)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let mut config =
        builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth();
    if !resume {
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

/// One connection of such a client.
pub fn client(certificate: &SelfSigned) -> Result<ClientConnection> {
    Ok(ClientConnection::new(Arc::new(client_config(certificate, false)?), name()?)?)
}

/// The server that rustls makes by itself.
pub fn server(certificate: &SelfSigned) -> Result<Arc<ServerConfig>> {
    let chain = vec![CertificateDer::from_pem_slice(certificate.cert.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())?;
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    Ok(Arc::new(builder.with_single_cert(chain, key)?))
}

/// Many desktops on the loopback network: each has an address of its own, all have the same two ports.
pub struct Desktops {
    /// Port of their agents.
    pub agent: u16,
    /// Port of their NX links.
    pub nx: u16,
}

type States = Arc<Mutex<HashMap<IpAddr, &'static str>>>;

impl Desktops {
    /// Starts to answer on the current runtime.
    pub async fn start() -> Result<Self> {
        let agents = TcpListener::bind("0.0.0.0:0").await?;
        let links = TcpListener::bind("0.0.0.0:0").await?;
        let ports = Self { agent: agents.local_addr()?.port(), nx: links.local_addr()?.port() };
        let states = States::default();
        let (of_agents, of_links) = (states.clone(), states);
        tokio::spawn(async move {
            while let Ok((stream, _)) = agents.accept().await {
                let states = of_agents.clone();
                tokio::spawn(async move { answer(stream, &states).await });
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = links.accept().await {
                let states = of_links.clone();
                tokio::spawn(async move {
                    let Ok(address) = stream.local_addr() else { return };
                    set(&states, address.ip(), "connected");
                    let _sent = stream.write_all(b"desktop").await;
                    while stream.read(&mut [0; 16]).await.is_ok_and(|count| count > 0) {}
                    set(&states, address.ip(), "suspended");
                });
            }
        });
        Ok(ports)
    }
}

fn set(states: &States, desktop: IpAddr, state: &'static str) {
    states.lock().unwrap_or_else(PoisonError::into_inner).insert(desktop, state);
}

async fn answer(mut stream: TcpStream, states: &States) {
    let Ok(address) = stream.local_addr() else { return };
    let mut parser = RequestParser::new(LIMITS);
    let mut buffer = vec![0; 4096];
    let call = loop {
        match parser.request() {
            Ok(Some(request)) => break Request::from(request),
            Ok(None) => match stream.read(&mut buffer).await {
                Ok(count) if count > 0 => parser.feed(buffer.get(..count).unwrap_or_default()),
                _ => return,
            },
            Err(_) => return,
        }
    };
    let reply = {
        let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = states.entry(address.ip()).or_insert("stopped");
        match call.method.as_deref() {
            Some("x_start") => {
                *state = "starting";
                Reply::word("starting")
            }
            _ => {
                let now = *state;
                if now == "starting" {
                    *state = "listening";
                }
                Reply::word(now)
            }
        }
    };
    let reply = reply.to_http();
    let _sent = stream.write_all(&[reply.head(), reply.body().to_vec()].concat()).await;
}

/// A user who is at their desktop.
pub struct Connected {
    /// The link; it ends with this.
    _stream: TlsStream<TcpStream>,
    /// With what to come back.
    pub ticket: String,
}

/// How a user logs in.
#[derive(Debug, Clone)]
pub enum Login {
    /// As the first time.
    Password,
    /// With a ticket that nobody else can have used.
    Ticket(String),
    /// With one whose answer was lost.
    Doubtful(String),
}

/// What a router said in place of a desktop.
#[derive(Debug, thiserror::Error)]
#[error("{status} {text}")]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// What comes in place of the ticket that was shown.
    pub ticket: Option<String>,
    text: String,
}

impl Login {
    fn credentials(&self, user: usize) -> Credentials {
        match self {
            Self::Password => {
                let login = format!("user{user}").into_bytes();
                Credentials::Basic { login, password: b"secret".to_vec().into() }
            }
            Self::Ticket(ticket) | Self::Doubtful(ticket) => {
                Credentials::Bearer { token: ticket.as_bytes().to_vec().into() }
            }
        }
    }

    /// With what our client tries again after this.
    pub fn after(self, error: &anyhow::Error) -> Self {
        match (self, error.downcast_ref::<Refused>()) {
            (Self::Password, _) | (_, Some(Refused { status: 401, .. })) => Self::Password,
            (_, Some(Refused { ticket: Some(ticket), .. })) => Self::Ticket(ticket.clone()),
            (Self::Ticket(ticket) | Self::Doubtful(ticket), _) => Self::Doubtful(ticket),
        }
    }
}

/// Logs a user in and takes them to their desktop, from an address of their own, up to its first bytes.
pub async fn connect(
    config: Arc<ClientConfig>,
    router: SocketAddr,
    from: SocketAddr,
    user: usize,
    login: &Login,
) -> Result<Connected> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    let tcp = socket.connect(router).await?;
    let mut stream = TlsConnector::from(config).connect(name()?, tcp).await?;
    let ask = Get::new("/qvd/connect_to_vm")
        .query("id", &user.to_string())
        .query("qvd.client.link", "lan")
        .credentials(&login.credentials(user))
        .field(TICKET, TICKET_WANTED)
        .upgrade(UPGRADE_QVD);
    stream.write_all(&ask.encode()).await?;
    let mut parser = ResponseParser::new(64 * 1024);
    let mut buffer = vec![0; 4096];
    let ticket = loop {
        match parser.answer()? {
            Some(Answer::Switched(head)) => break head.headers.text(TICKET).context("no ticket")?,
            Some(Answer::Interim(_)) => {}
            Some(Answer::Final(head, body)) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                bail!(Refused { status: head.status, ticket: head.headers.text(TICKET), text })
            }
            None => {
                let count = stream.read(&mut buffer).await?;
                ensure!(count > 0, "the router hung up");
                parser.feed(buffer.get(..count).context("a reader counts right")?);
            }
        }
    };
    let early = parser.into_rest();
    if early.is_empty() {
        let count = stream.read(&mut buffer).await?;
        ensure!(count > 0, "the desktop hung up");
    }
    Ok(Connected { _stream: stream, ticket })
}
