//! One client: handshake, requests in sequence, and the way out of HTTP.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use qvd_model::Failure;
use qvd_relay::{duplex, link};
use qvd_runtime::config::ConfigError;
use qvd_wire::http::{Limits, Reply, Request, RequestError, RequestParser, Status, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, error};

use crate::endpoints::{self, Next};
use crate::login::Identity;
use crate::router::{Router, Waiting};
use crate::stream::Stream;

/// A client that takes no bytes for this long is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// A client that speaks HTTP.
pub(crate) struct Connection {
    pub(crate) router: Arc<Router>,
    pub(crate) address: IpAddr,
    pub(crate) stream: Stream,
    /// Who was let in.
    pub(crate) identity: Option<Identity>,
    parser: RequestParser,
    /// The place among those that have not logged in; given back at the login.
    pub(crate) waiting: Option<Waiting>,
}

struct Deadlines {
    handshake: Duration,
    request: Duration,
    idle: Duration,
    silence: Duration,
}

impl Deadlines {
    fn now(router: &Router) -> Result<Self, ConfigError> {
        let values = router.config.now();
        Ok(Self {
            handshake: values.seconds("internal.l7r.timeout.handshake")?,
            request: values.seconds("internal.l7r.timeout.request")?,
            idle: values.seconds("internal.l7r.timeout.idle")?,
            silence: values.seconds("internal.l7r.timeout.link")?,
        })
    }
}

/// Serves a client until it is gone or has reached its desktop.
pub(crate) async fn serve(router: Arc<Router>, stream: TcpStream, address: IpAddr, waiting: Waiting) {
    let deadlines = match Deadlines::now(&router) {
        Ok(deadlines) => deadlines,
        Err(wrong) => return error!("connection closed: {wrong}"),
    };
    if let Err(error) = link::tune(&stream, deadlines.silence) {
        return debug!(%address, "gone at once: {error}");
    }
    let stream = match router.tls() {
        None => Stream::Plain(stream),
        Some(tls) => match timeout(deadlines.handshake, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
            Ok(Err(error)) => return debug!(%address, "handshake failed: {error}"),
            Err(_) => return debug!(%address, "handshake took too long"),
        },
    };
    let connection = Connection {
        parser: RequestParser::new(Limits::default()),
        router,
        address,
        stream,
        identity: None,
        waiting: Some(waiting),
    };
    // Boxed, so that the small task that copies later does not carry this one's size.
    Box::pin(connection.run(deadlines)).await;
}

impl Connection {
    async fn run(mut self, deadlines: Deadlines) {
        loop {
            let request = match self.request(&deadlines).await {
                Some(Ok(request)) => request,
                Some(Err(wrong)) => {
                    if let Some(reply) = malformed(wrong) {
                        self.reply(&reply).await;
                    }
                    break;
                }
                None => break,
            };
            let old = request.version == Version::Http10;
            match endpoints::answer(&mut self, &request).await {
                Next::Another if old => break,
                Next::Another => {}
                Next::Close => break,
                Next::Bridge(bridge) => {
                    let Self { router, stream, parser, .. } = self;
                    let tasks = router.connections.clone();
                    tasks.spawn(bridge.run(router, stream, parser.into_rest()));
                    return;
                }
            }
            if self.identity.is_some() {
                self.waiting = None;
            }
        }
        duplex::close(&mut self.stream).await;
    }

    /// The next request; `None` if the client left, took too long, or the router stops.
    async fn request(&mut self, deadlines: &Deadlines) -> Option<Result<Request, RequestError>> {
        let patience = if self.identity.is_some() { deadlines.idle } else { deadlines.request };
        let mut deadline = Instant::now() + patience;
        let mut begun = false;
        let mut buffer = BytesMut::new();
        loop {
            match self.parser.request() {
                Ok(Some(request)) => return Some(Ok(request)),
                Ok(None) => {}
                Err(wrong) => return Some(Err(wrong)),
            }
            if self.parser.in_request() && !begun {
                begun = true;
                deadline = Instant::now() + deadlines.request;
            }
            buffer.clear();
            buffer.reserve(4096);
            let router = self.router.clone();
            let read = tokio::select! {
                read = timeout_at(deadline, self.stream.read_buf(&mut buffer)) => read,
                () = router.connections.stopping() => return None,
            };
            match read {
                Ok(Ok(0)) => return None,
                Ok(Ok(_)) => self.parser.feed(&buffer),
                Ok(Err(error)) => {
                    debug!(address = %self.address, "gone: {error}");
                    return None;
                }
                Err(_) => {
                    debug!(address = %self.address, "no request in time");
                    return None;
                }
            }
        }
    }

    /// Writes one buffer and flushes it, so that it is a record of its own. Whether the client took it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let work = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        matches!(timeout(WRITE_LIMIT, work).await, Ok(Ok(())))
    }

    /// Writes head and body of a final answer, each a record of its own (rule R10).
    pub(crate) async fn reply(&mut self, reply: &Reply) -> bool {
        self.send(&reply.head()).await && self.send(reply.body()).await
    }

    /// Bytes that the client sends while it waits for an answer; empty when it leaves. May be dropped.
    pub(crate) async fn overhear(&mut self, early: &mut BytesMut) -> bool {
        const MOST: usize = 64 * 1024;
        if early.len() >= MOST {
            return std::future::pending().await;
        }
        early.reserve(1024);
        matches!(self.stream.read_buf(early).await, Ok(count) if count > 0)
    }

    /// Gives bytes that were overheard back to whatever comes next.
    pub(crate) fn remember(&mut self, early: &[u8]) {
        self.parser.feed(early);
    }
}

/// The answer to what is no request; NX data gets none, as nobody would read it (rule R17).
fn malformed(wrong: RequestError) -> Option<Reply> {
    let status = match wrong {
        RequestError::Version => Status::Version,
        RequestError::RequestLine | RequestError::HeaderLine => Status::BadRequest,
        RequestError::TargetTooLong => Status::UriTooLong,
        RequestError::HeadTooLarge => Status::HeadTooLarge,
        RequestError::NxLink => return None,
    };
    Some(Reply::text(status, format!("{wrong}\r\n")))
}

/// Whether a failure is worth the same request again on the same connection; for the log only.
pub(crate) fn log_refusal(address: IpAddr, failure: &Failure) {
    tracing::info!(%address, code = %failure.code, "{}", failure.detail);
}
