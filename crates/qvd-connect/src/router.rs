//! One connection to a router: the requests of `spec/protocol.md` 4.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use qvd_relay::link;
use qvd_wire::http::{
    Answer, Credentials, Get, ResponseError, ResponseHead, ResponseParser, SESSION, SESSION_END, SessionEnd,
    TICKET, TICKET_WANTED, UPGRADE_QVD, VM_INFO, VmEntry, decode_end, decode_vms,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::ConnectError;
use crate::resolve;
use crate::ticket::Ticket;
use crate::trust::Trust;

/// Time for TCP and TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Time for the list of VMs.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// Time from the wish for a desktop to the desktop, which may have to boot.
const DESKTOP_LIMIT: Duration = Duration::from_secs(600);
/// Time for the answer why a session ended.
const END_LIMIT: Duration = Duration::from_secs(10);
/// Longest body; lists of existing routers stay below 64 KiB.
const MAX_BODY: usize = 1024 * 1024;

/// Where a router is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What the client wants of its session; values are sent as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionWishes {
    /// Name of a link speed: modem, isdn, adsl, wan, lan or local.
    pub link: String,
    /// Model and layout, e.g. `pc105/es`.
    pub keyboard: String,
    /// Width and height, e.g. `1024x768`.
    pub geometry: String,
    /// Whether the desktop takes the whole screen.
    pub fullscreen: bool,
    /// Whether to ask for a ticket to come back with. Routers that know none do not mind.
    pub ticket: bool,
}

impl SessionWishes {
    fn parameters(&self) -> [(&'static str, &str); 5] {
        [
            ("qvd.client.os", "linux"),
            ("qvd.client.link", &self.link),
            ("qvd.client.keyboard", &self.keyboard),
            ("qvd.client.geometry", &self.geometry),
            ("qvd.client.fullscreen", if self.fullscreen { "1" } else { "0" }),
        ]
    }
}

/// A connection to a router on which requests follow each other.
pub struct Router {
    server: Server,
    credentials: Credentials,
    stream: TlsStream<TcpStream>,
    parser: ResponseParser,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("server", &self.server).finish_non_exhaustive()
    }
}

/// A link to a desktop: from here on only X travels.
pub struct Link {
    pub(crate) stream: TlsStream<TcpStream>,
    /// What the desktop sent together with the answer.
    pub(crate) early: BytesMut,
    /// The number of the session, where the router gives one; see [`Router::end_of`].
    pub session: Option<String>,
    /// With what to come back if the link is lost, where it was wished for and the router gives one.
    pub ticket: Option<Ticket>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Router {
    /// Connects, by TLS.
    pub async fn open(server: Server, credentials: Credentials, trust: &Trust) -> Result<Self, ConnectError> {
        let Server { host, port } = server.clone();
        let limit = CONNECT_LIMIT;
        let late = || ConnectError::Timeout { server: server.to_string(), limit };
        let tls = |detail: String| ConnectError::Tls { host: host.clone(), port, detail };
        let tcp = tokio::time::timeout(limit, tcp(&server)).await.map_err(|_| late())??;
        link::tune(&tcp, link::SILENCE).map_err(|source| ConnectError::Tcp {
            host: host.clone(),
            port,
            source,
        })?;
        let (config, verdict) = trust.config(&host, port).map_err(|error| tls(error.to_string()))?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|error| tls(error.to_string()))?;
        let handshake = TlsConnector::from(std::sync::Arc::new(config)).connect(name, tcp);
        let stream = match tokio::time::timeout(limit, handshake).await.map_err(|_| late())? {
            Ok(stream) => stream,
            Err(error) => {
                return Err(match verdict.take() {
                    Some(problem) => ConnectError::Certificate(Box::new(problem)),
                    None => tls(error.to_string()),
                });
            }
        };
        Ok(Self { server, credentials, stream, parser: ResponseParser::new(MAX_BODY) })
    }

    /// The VMs of the user.
    pub async fn vms(&mut self) -> Result<Vec<VmEntry>, ConnectError> {
        let get = self.get("/qvd/list_of_vm").field("Accept", "application/json");
        let (head, body) = self.finish(get, LIST_LIMIT, &mut |_| {}).await?;
        let refused = |text| ConnectError::List { server: self.server.to_string(), text };
        match head.status {
            200 => decode_vms(&body).map_err(|error| refused(error.to_string())),
            _ => Err(refused(said(&head, &body))),
        }
    }

    /// Stops a VM and waits until it has. Like existing clients it goes on whatever the router says, unless
    /// the login is rejected: connecting will tell.
    pub async fn stop(&mut self, vm: i32, progress: &mut dyn FnMut(&str)) -> Result<(), ConnectError> {
        let get = self.get("/qvd/stop_vm").query("id", &vm.to_string()).upgrade(UPGRADE_QVD);
        let (head, body) = self.finish(get, DESKTOP_LIMIT, progress).await?;
        if head.status != 200 {
            progress(&said(&head, &body));
        }
        Ok(())
    }

    /// Connects to the desktop of a VM; `progress` gets what the router tells meanwhile.
    pub async fn connect(
        mut self,
        vm: i32,
        wishes: &SessionWishes,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Link, ConnectError> {
        let mut get = self.get("/qvd/connect_to_vm").query("id", &vm.to_string());
        for (name, value) in wishes.parameters() {
            get = get.query(name, value);
        }
        if wishes.ticket {
            get = get.field(TICKET, TICKET_WANTED);
        }
        match self.exchange(get.upgrade(UPGRADE_QVD), DESKTOP_LIMIT, progress).await? {
            Answer::Switched(head) => {
                let session = head.headers.text(SESSION);
                let ticket = Ticket::of(&head).filter(|_| wishes.ticket);
                Ok(Link { stream: self.stream, early: self.parser.into_rest(), session, ticket })
            }
            Answer::Interim(head) | Answer::Final(head, _) if head.status == 401 => {
                Err(ConnectError::LoginRejected { server: self.server.to_string() })
            }
            Answer::Interim(head) => Err(refused(vm, &head, b"")),
            Answer::Final(head, body) => Err(refused(vm, &head, &body)),
        }
    }

    /// Why a session ended that this router, or another one of the farm, had; `None` if it does not know.
    pub async fn end_of(&mut self, session: &str) -> Result<Option<SessionEnd>, ConnectError> {
        let get = Get::new(SESSION_END).query("id", session);
        let (head, body) = self.finish(get, END_LIMIT, &mut |_| {}).await?;
        Ok(if head.status == 200 { decode_end(&body) } else { None })
    }

    fn get(&self, path: &str) -> Get {
        Get::new(path).credentials(&self.credentials)
    }

    /// An exchange that ends with a final answer, other than a rejected login.
    async fn finish(
        &mut self,
        get: Get,
        limit: Duration,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(ResponseHead, Vec<u8>), ConnectError> {
        match self.exchange(get, limit, progress).await? {
            Answer::Final(head, _) if head.status == 401 => {
                Err(ConnectError::LoginRejected { server: self.server.to_string() })
            }
            Answer::Final(head, body) => Ok((head, body)),
            Answer::Interim(head) | Answer::Switched(head) => Ok((head, Vec::new())),
        }
    }

    async fn exchange(
        &mut self,
        get: Get,
        limit: Duration,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Answer, ConnectError> {
        let get = get.field("User-Agent", concat!("QVD/", env!("CARGO_PKG_VERSION")));
        let server = self.server.to_string();
        match tokio::time::timeout(limit, self.speak(&get, progress)).await {
            Ok(answer) => answer,
            Err(_) => Err(ConnectError::Timeout { server, limit }),
        }
    }

    async fn speak(&mut self, get: &Get, progress: &mut dyn FnMut(&str)) -> Result<Answer, ConnectError> {
        let server = self.server.to_string();
        let lost =
            |error: io::Error| ConnectError::Lost { server: server.clone(), detail: error.to_string() };
        let wrong = |source: ResponseError| match source {
            ResponseError::Truncated => lost(io::ErrorKind::UnexpectedEof.into()),
            source => ConnectError::NotRouter { server: server.clone(), source },
        };
        self.stream.write_all(&get.encode()).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)?;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            while let Some(answer) = self.parser.answer().map_err(wrong)? {
                match answer {
                    Answer::Interim(head) => {
                        if let Some(text) = head.headers.text(VM_INFO).filter(|text| !text.is_empty()) {
                            progress(&text);
                        }
                    }
                    answer => return Ok(answer),
                }
            }
            let count = match self.stream.read(&mut buffer).await {
                Ok(count) => count,
                // Existing routers close without TLS's farewell.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(lost(error)),
            };
            if count == 0 {
                let parser = std::mem::replace(&mut self.parser, ResponseParser::new(MAX_BODY));
                let ended = || lost(io::ErrorKind::UnexpectedEof.into());
                return parser.finish().map_err(wrong)?.ok_or_else(ended);
            }
            self.parser.feed(buffer.get(..count).unwrap_or_default());
        }
    }
}

async fn tcp(server: &Server) -> Result<TcpStream, ConnectError> {
    let Server { host, port } = server;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in resolve::addresses(host, *port).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(ConnectError::Tcp { host: host.clone(), port: *port, source: last })
}

fn refused(vm: i32, head: &ResponseHead, body: &[u8]) -> ConnectError {
    ConnectError::Refused { vm, status: head.status, text: said(head, body), ticket: Ticket::of(head) }
}

/// What the router said, in one line: its text, or the status where it gave none.
fn said(head: &ResponseHead, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = text.chars().take(500).collect();
    if short.is_empty() { format!("status {} {}", head.status, head.reason) } else { short }
}
