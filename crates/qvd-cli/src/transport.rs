//! One HTTP/1.1 connection to the API: over TLS, or over its Unix socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::http::request::Builder;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use qvd_model::action::Status;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::error::Error;
use crate::options::{Place, Settings};
use crate::pins::fingerprint;
use crate::tls::{self, Trust};

/// The largest answer that is read.
const MAX_ANSWER: usize = 512 << 20;

/// Milliseconds after which a line on which nothing is acknowledged is dead.
const SILENCE: u32 = 30_000;

/// What a request carries.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// A connection that sends one request after the other.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Body>,
    host: String,
    prefix: String,
    place: String,
    timeout: Duration,
}

/// A request.
pub struct Outgoing<'a> {
    /// How.
    pub method: Method,
    /// Where to, below the API.
    pub path: &'a str,
    /// What the body is.
    pub content_type: &'a str,
    /// What says who we are, if the kernel does not.
    pub proof: Option<Proof<'a>>,
    /// More about it.
    pub headers: &'a [(&'static str, String)],
    /// What it carries.
    pub body: Body,
    /// What the body may take beyond the usual time.
    pub more: Duration,
}

/// What says who we are.
#[derive(Debug, Clone, Copy)]
pub enum Proof<'a> {
    /// A session.
    Session(&'a str),
    /// A token.
    Token(&'a SecretString),
}

/// What came back.
pub struct Reply {
    /// The body.
    pub bytes: Vec<u8>,
    /// How much of an upload is there, where the answer tells.
    pub offset: Option<u64>,
}

/// A body that is at hand.
pub fn whole(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed()
}

impl Connection {
    /// Connects.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let Dialed { stream, host, prefix, place } = dial(settings).await?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&place, e))?;
        // The driver ends with the connection, which ends when the sender is dropped.
        tokio::spawn(driver);
        Ok(Self { sender, host, prefix, place, timeout: settings.timeout })
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, outgoing: Outgoing<'_>) -> Result<Reply, Error> {
        let Outgoing { method, path, content_type, proof, headers, body, more } = outgoing;
        let request = self.request(method, path, content_type, proof, headers);
        let request = request.body(body).map_err(|e| Error::Usage(e.to_string()))?;
        let place = self.place.clone();
        let exchange = async {
            self.sender.ready().await.map_err(|e| unreachable(&place, e))?;
            let answer = self.sender.send_request(request).await.map_err(|e| unreachable(&place, e))?;
            let json = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let json = json.is_some_and(|kind| kind.starts_with("application/json"));
            if answer.status() == StatusCode::NOT_FOUND && path != "/api" && !json {
                return Err(Error::Refused {
                    code: Status::UnknownAction.code(),
                    message: format!("the API at {place} has no {path}"),
                });
            }
            let offset = answer.headers().get("upload-offset").and_then(|value| value.to_str().ok());
            let offset = offset.and_then(|value| value.parse().ok());
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            Ok(Reply { bytes: body.map_err(|e| unreachable(&place, e))?.to_bytes().to_vec(), offset })
        };
        let limit = self.timeout.saturating_add(more);
        tokio::time::timeout(limit, exchange).await.map_err(|_| Error::Timeout(limit.as_secs()))?
    }

    /// Opens a stream that goes on until one of both ends it.
    pub(crate) async fn stream(&mut self, path: &str, proof: Option<Proof<'_>>) -> Result<Incoming, Error> {
        let request = self.request(Method::GET, path, "application/json", proof, &[]);
        let request = request.body(whole(Vec::new())).map_err(|e| Error::Usage(e.to_string()))?;
        let place = self.place.clone();
        let opening = async {
            self.sender.ready().await.map_err(|e| unreachable(&place, e))?;
            self.sender.send_request(request).await.map_err(|e| unreachable(&place, e))
        };
        let answer = tokio::time::timeout(self.timeout, opening).await;
        let answer = answer.map_err(|_| Error::Timeout(self.timeout.as_secs()))??;
        if answer.status() == StatusCode::OK {
            return Ok(answer.into_body());
        }
        Err(unreachable(&self.place, format!("{path} is answered with {}", answer.status())))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        proof: Option<Proof<'_>>,
        headers: &[(&'static str, String)],
    ) -> Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, content_type);
        request = match proof {
            Some(Proof::Session(sid)) => request.header(header::COOKIE, format!("sid={sid}")),
            Some(Proof::Token(token)) => {
                request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()))
            }
            None => request,
        };
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request
    }

    /// Whether the other side has ended it.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Where it leads, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }
}

/// A stream to the API on which nothing was said yet.
pub(crate) struct Dialed {
    pub(crate) stream: Box<dyn Stream>,
    /// What the API is called in requests.
    pub(crate) host: String,
    /// What its addresses begin with.
    pub(crate) prefix: String,
    /// What it is called in messages.
    pub(crate) place: String,
}

/// What bytes can be carried on.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to the API.
pub(crate) async fn dial(settings: &Settings) -> Result<Dialed, Error> {
    let connecting = async {
        match &settings.place {
            Place::Socket(path) => {
                let place = path.display().to_string();
                let stream = UnixStream::connect(path).await.map_err(|e| unreachable(&place, e))?;
                let host = "localhost".to_owned();
                Ok(Dialed { stream: Box::new(stream), host, prefix: String::new(), place })
            }
            Place::Url(url) => dial_tls(url, settings).await,
        }
    };
    tokio::time::timeout(settings.timeout, connecting)
        .await
        .map_err(|_| Error::Timeout(settings.timeout.as_secs()))?
}

async fn dial_tls(url: &str, settings: &Settings) -> Result<Dialed, Error> {
    let address = Address::parse(url)?;
    let authority = format!("{}:{}", address.host, address.port);
    let known = settings.pins.as_ref().map(|pins| pins.known(&authority)).transpose()?.flatten();
    let config = tls::client_config(match &settings.pins {
        _ if settings.insecure => Trust::Anybody,
        Some(_) => Trust::Pinned(known.clone()),
        None => Trust::Authorities(settings.ca.as_deref()),
    })?;
    let name = ServerName::try_from(address.host.trim_matches(['[', ']']).to_owned())
        .map_err(|_| Error::Usage(format!("`{}` is not a host name", address.host)))?;
    let host = address.host.trim_matches(['[', ']']);
    let stream = match &settings.proxy {
        None => TcpStream::connect((host, address.port)).await.map_err(|e| unreachable(url, e))?,
        Some(proxy) => {
            let through = |e| unreachable(url, format!("proxy {}: {e}", proxy.place()));
            proxy.connect(host, address.port).await.map_err(through)?
        }
    };
    stream.set_nodelay(true).map_err(|e| unreachable(url, e))?;
    // A line that went dead while a file is on its way is noticed, and the file gone on with.
    setsockopt(&stream, sockopt::TcpUserTimeout, &SILENCE).map_err(|e| unreachable(url, e))?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(|e| match &settings.pins {
        Some(pins) if tls::is_trust_problem(&e) => unreachable(url, pins.changed(&authority)),
        None if tls::is_trust_problem(&e) => {
            unreachable(url, format!("{e}; give its authority with --ca, or see --pin"))
        }
        _ => unreachable(url, e),
    })?;
    if let (Some(pins), None) = (settings.pins.as_ref().filter(|_| !settings.insecure), known)
        && let Some([certificate, ..]) = stream.get_ref().1.peer_certificates()
    {
        let fingerprint = fingerprint(certificate);
        pins.remember(&authority, &fingerprint).map_err(|e| Error::Usage(format!("--pin: {e}")))?;
        eprintln!("qa4: {authority} is known by its certificate from now on, SHA-256 {fingerprint}");
    }
    let (prefix, place) = (address.prefix, url.to_owned());
    Ok(Dialed { stream: Box::new(stream), host: authority, prefix, place })
}

fn unreachable(place: &str, problem: impl std::fmt::Display) -> Error {
    Error::Unreachable { place: place.to_owned(), problem: problem.to_string() }
}

/// The parts of `https://host:port/prefix`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    prefix: String,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |problem: &str| Error::Usage(format!("`{url}` is not the address of an API: {problem}"));
        let rest = url.strip_prefix("https://").ok_or_else(|| wrong("it must begin with https://"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong("its port is not a number"))?)
            }
            _ => (authority, 443),
        };
        if host.is_empty() || host.contains('@') {
            return Err(wrong("it names no host"));
        }
        let path = path.trim_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
        Ok(Self { host: host.to_owned(), port, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parts = |url| {
            let a = Address::parse(url).unwrap();
            (a.host, a.port, a.prefix)
        };
        assert_eq!(parts("https://api.example:8444/"), ("api.example".into(), 8444, String::new()));
        assert_eq!(parts("https://[::1]/qvd/"), ("[::1]".into(), 443, "/qvd".into()));
        for bad in ["http://a/", "https://", "https://a:b/", "https://u@h/"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
