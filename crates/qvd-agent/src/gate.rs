//! The public NX port: one peer is let through to the X server's private socket, the one whose `x_start` is
//! pending.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use qvd_runtime::Drain;
use qvd_wire::nx::{self, Greeting};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::machine::Event;

/// How long an admitted peer may take to show that it is an nxproxy: its client starts one meanwhile.
const GREETING_LIMIT: Duration = Duration::from_secs(30);

/// How long the X server may take from making its socket to listening on it.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);

/// How long a silent peer may stay away before its connection counts as lost.
const PEER_LIMIT: Duration = Duration::from_secs(60);

/// Whom to let in, and whereto.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    /// The router that asked for the session.
    pub(crate) peer: IpAddr,
    /// The X server's socket.
    pub(crate) link: PathBuf,
    /// The X server's user and process: the socket lies where the user can replace it.
    pub(crate) uid: u32,
    pub(crate) pid: i32,
}

/// The gate, as its owner sees it. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<Admission>>);

#[derive(Debug, Default)]
struct Admission {
    ticket: Option<Ticket>,
    connection: Option<CancellationToken>,
}

/// Why an admitted connection came to nothing.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the peer sent no X link")]
    Stranger,
    #[error("the peer was silent for {GREETING_LIMIT:?}")]
    Silent,
    #[error("the socket of the X server is somebody else's")]
    Foreign,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Gate {
    /// Lets the holder of the ticket in, once.
    pub(crate) fn open(&self, ticket: Ticket) {
        self.lock().ticket = Some(ticket);
    }

    /// Lets nobody in, and ends the connection that there is.
    pub(crate) fn close(&self) {
        let mut admission = self.lock();
        admission.ticket = None;
        if let Some(connection) = admission.connection.take() {
            connection.cancel();
        }
    }

    fn admit(&self, peer: IpAddr) -> Option<(Ticket, CancellationToken)> {
        let mut admission = self.lock();
        let ticket = admission.ticket.take_if(|ticket| ticket.peer == peer)?;
        let connection = CancellationToken::new();
        admission.connection = Some(connection.clone());
        Some((ticket, connection))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Admission> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts until the service stops; tells the owner when its peer comes and goes.
    pub(crate) async fn serve(self, listener: TcpListener, events: mpsc::Sender<Event>, drain: Drain) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = drain.stopping() => return,
            };
            let (stream, peer) = match accepted {
                Ok((stream, address)) => (stream, address.ip().to_canonical()),
                Err(error) => {
                    warn!("cannot accept connections of routers: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let Some((ticket, connection)) = self.admit(peer) else {
                warn!("connection of {peer} refused: no session waits for it");
                continue;
            };
            let events = events.clone();
            drain.spawn(async move {
                // A closed channel means that the owner ends, and the session with it.
                let _ = events.send(Event::Linked).await;
                tokio::select! {
                    result = splice(stream, &ticket) => match result {
                        Ok(()) => info!("link of {peer} ended"),
                        Err(error) => warn!("link of {peer}: {error}"),
                    },
                    () = connection.cancelled() => {}
                }
                let _ = events.send(Event::Unlinked).await;
            });
        }
    }
}

/// Copies both ways until either side ends.
async fn splice(mut stream: TcpStream, ticket: &Ticket) -> Result<(), LinkError> {
    notice_loss(&stream)?;
    let first = tokio::time::timeout(GREETING_LIMIT, greeting(&mut stream));
    let first = first.await.map_err(|_| LinkError::Silent)??;
    let mut server = connect(&ticket.link).await?;
    let owner = server.peer_cred()?;
    if owner.uid() != ticket.uid || owner.pid() != Some(ticket.pid) {
        return Err(LinkError::Foreign);
    }
    info!("link of {} begins", ticket.peer);
    server.write_all(&first).await?;
    let (mut from_peer, mut to_peer) = stream.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        result = tokio::io::copy(&mut from_peer, &mut to_server) => result?,
        result = tokio::io::copy(&mut from_server, &mut to_peer) => result?,
    };
    Ok(())
}

/// Makes a connection fail when its peer has been away for too long.
pub(crate) fn notice_loss(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &30)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &u32::try_from(PEER_LIMIT.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

/// Connects to the X server, whose socket appears a moment before it listens, and nothing tells when it does.
async fn connect(link: &Path) -> std::io::Result<UnixStream> {
    let deadline = Instant::now() + LISTEN_LIMIT;
    loop {
        match UnixStream::connect(link).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            result => return result,
        }
    }
}

/// Reads until the peer has shown that it is an nxproxy.
async fn greeting(stream: &mut TcpStream) -> Result<Vec<u8>, LinkError> {
    let mut bytes = Vec::with_capacity(256);
    loop {
        match nx::greeting(&bytes) {
            Greeting::Proxy => return Ok(bytes),
            Greeting::Stranger => return Err(LinkError::Stranger),
            Greeting::Undecided => {}
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(LinkError::Stranger);
        }
    }
}
