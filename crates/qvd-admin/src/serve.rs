//! Listening: HTTPS for everybody, a Unix socket for root of this machine.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use qvd_relay::{ServerTls, TlsMaterial, link, sockets};
use qvd_runtime::{Drain, Values};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tower::ServiceExt;
use tracing::{debug, info, warn};

use crate::error::Error;
use crate::session::Peer;
use crate::targets::Shortened;

/// How long a handshake, or the head of a request, may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// A listener that cannot accept, because of too many open files for example, tries again after this.
const PAUSE: Duration = Duration::from_millis(100);

/// The listening sockets.
pub(crate) struct Listeners {
    https: TcpListener,
    local: UnixListener,
    tls: Arc<Certificate>,
    /// The socket file that is ours to remove, and its inode: a newer process may have put its own in place.
    file: Option<(PathBuf, u64)>,
}

impl Listeners {
    /// Takes the sockets that the supervisor passed, or binds those of the configuration.
    pub(crate) fn open(values: &Values) -> Result<Self, Error> {
        let tls = Arc::new(Certificate::load(values)?);
        let https = match sockets::inherited("api")? {
            Some(socket) => tcp(socket).map_err(listen("api"))?,
            None => {
                let url = values.text("api.url")?;
                let address = address(&url)?;
                let bound = std::net::TcpListener::bind(address).map_err(listen(&url))?;
                bound.set_nonblocking(true).map_err(listen(&url))?;
                TcpListener::from_std(bound).map_err(listen(&url))?
            }
        };
        let path = values.path("api.socket")?;
        let (local, file) = match sockets::inherited("api-local")? {
            Some(socket) => (unix(socket).map_err(listen("api-local"))?, None),
            None => {
                let place = path.display().to_string();
                let bound = bind_unix(&path).map_err(listen(&place))?;
                let inode = std::fs::symlink_metadata(&path).map_err(listen(&place))?.ino();
                (bound, Some((path, inode)))
            }
        };
        Ok(Self { https, local, tls, file })
    }

    /// Where it listens for everybody.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.https.local_addr()
    }

    /// Accepts connections until the service stops.
    pub(crate) async fn serve(self, router: Router, tasks: Drain) {
        loop {
            tokio::select! {
                () = tasks.stopping() => break,
                accepted = self.https.accept() => match accepted {
                    Ok((stream, from)) => {
                        let connection = secured(stream, from, self.tls.clone(), router.clone(), tasks.clone());
                        tasks.spawn(connection);
                    }
                    Err(error) => not_accepted(&error).await,
                },
                accepted = self.local.accept() => match accepted {
                    Ok((stream, _)) => {
                        let peer = local_peer(&stream);
                        tasks.spawn(answer(stream, peer, router.clone(), tasks.clone()));
                    }
                    Err(error) => not_accepted(&error).await,
                },
            }
        }
        if let Some((file, inode)) = &self.file
            && std::fs::symlink_metadata(file).is_ok_and(|found| found.ino() == *inode)
            && let Err(error) = std::fs::remove_file(file)
        {
            debug!(socket = %file.display(), "not removed: {error}");
        }
    }
}

fn listen(place: &str) -> impl Fn(io::Error) -> Error {
    let place = place.to_owned();
    move |source| Error::Listen { place: place.clone(), source }
}

async fn not_accepted(error: &io::Error) {
    warn!("cannot accept a connection: {error}");
    tokio::time::sleep(PAUSE).await;
}

fn tcp(socket: OwnedFd) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::from(socket);
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

fn unix(socket: OwnedFd) -> io::Result<UnixListener> {
    let socket = std::os::unix::net::UnixListener::from(socket);
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket)
}

/// Binds a socket that only its owner, and root, can connect to.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    // Bound under another name first: until its permissions are set nobody must be able to connect, and a name
    // that a dead process left is replaced at once.
    let new = path.with_extension(format!("new{}", std::process::id()));
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    let placed = std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&new, path));
    if let Err(error) = placed {
        let _ = std::fs::remove_file(&new);
        return Err(error);
    }
    Ok(listener)
}

/// The address of `https://HOST:PORT/`; the host `*` means all.
fn address(url: &str) -> Result<SocketAddr, Error> {
    let wrong = || Error::Url(url.to_owned());
    let rest = url.strip_prefix("https://").ok_or_else(wrong)?.trim_end_matches('/');
    let (host, port) =
        rest.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).unwrap_or((rest, "443"));
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = match host.trim_matches(['[', ']']) {
        "*" => "0.0.0.0",
        host => host,
    };
    (host, port).to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(wrong)
}

/// Who is at the other end of a Unix socket, as the kernel says.
fn local_peer(stream: &UnixStream) -> Peer {
    match stream.peer_cred() {
        Ok(who) if who.uid() == 0 => Peer::Root,
        _ => Peer::Local,
    }
}

async fn secured(stream: TcpStream, from: SocketAddr, tls: Arc<Certificate>, router: Router, tasks: Drain) {
    if let Err(error) = link::tune(&stream, link::SILENCE) {
        debug!(%from, "socket options: {error}");
    }
    let handshake = tls.current().acceptor().accept(stream);
    match tokio::time::timeout(PATIENCE, handshake).await {
        Ok(Ok(stream)) => answer(stream, Peer::Remote(from.ip()), router, tasks).await,
        Ok(Err(error)) => debug!(%from, "no TLS: {error}"),
        Err(_) => debug!(%from, "no TLS in time"),
    }
}

/// Answers the requests of a connection; when the service stops, the one that is under way is still answered.
async fn answer<S>(stream: S, peer: Peer, router: Router, tasks: Drain)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(Shortened::new(stream)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tasks.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(?peer, "connection: {error}");
    }
}

/// The certificate, read again when its files change.
struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    state: Mutex<(ServerTls, Stamps)>,
}

/// When the files were last changed.
type Stamps = [Option<SystemTime>; 2];

impl Certificate {
    fn load(values: &Values) -> Result<Self, Error> {
        let (cert, key) = (values.path("path.api.ssl.cert")?, values.path("path.api.ssl.key")?);
        let stamps = stamps(&cert, &key);
        let tls = read(&cert, &key)?;
        Ok(Self { cert, key, state: Mutex::new((tls, stamps)) })
    }

    /// The TLS of the files as they are; if they cannot be used, the one before.
    fn current(&self) -> ServerTls {
        let now = stamps(&self.cert, &self.key);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.1 != now {
            state.1 = now;
            match read(&self.cert, &self.key) {
                Ok(tls) => {
                    info!(fingerprint = tls.fingerprint(), "certificate read again");
                    state.0 = tls;
                }
                Err(error) => warn!("the certificate stays as it was: {error}"),
            }
        }
        state.0.clone()
    }
}

fn stamps(cert: &Path, key: &Path) -> Stamps {
    [cert, key].map(|file| std::fs::metadata(file).and_then(|m| m.modified()).ok())
}

fn read(cert: &Path, key: &Path) -> Result<ServerTls, Error> {
    let text = |path: &Path| {
        std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
    };
    let material = TlsMaterial { cert: text(cert)?, key: text(key)?, ..TlsMaterial::default() };
    ServerTls::new(&material).map_err(|source| Error::Tls {
        cert: cert.to_owned(),
        key: key.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        assert_eq!(address("https://*:443/").unwrap().to_string(), "0.0.0.0:443");
        assert_eq!(address("https://127.0.0.1:0").unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(address("https://[::1]:8444/").unwrap().to_string(), "[::1]:8444");
        for bad in ["http://*:80/", "https://*:port/", "", "https://:443/"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
