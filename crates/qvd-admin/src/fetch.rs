//! Fetching something by HTTP from an address that the allow-list names (`api.download.allow`).
//!
//! Every address that is connected to, also after a redirection, was checked as a number: what a name leads to later
//! does not matter.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::handshake;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use qvd_logic::fetching::{AllowList, Malformed, Scheme, Target};
use qvd_relay::ClientTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How long a connection, or an answer, may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing may arrive.
const SILENCE: Duration = Duration::from_secs(60);
/// How often one may be led on.
const REDIRECTIONS: usize = 5;

/// Why something is not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// It is no address.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The list does not name it.
    #[error("{0} is not allowed by api.download.allow")]
    NotNamed(String),
    /// A name leads into a network that is not public.
    #[error("{target} leads to {address}, which is not public; name that address in api.download.allow, too")]
    NotPublic { target: String, address: SocketAddr },
    /// The configuration does not make sense.
    #[error("{0}")]
    Settings(String),
    /// It cannot be reached, or does not answer as it should.
    #[error("{target}: {problem}")]
    Failed { target: String, problem: String },
}

/// What may be fetched, and whom to trust.
#[derive(Debug)]
pub(crate) struct Fetcher {
    allowed: AllowList,
    tls: ClientTls,
}

/// Something on its way.
#[derive(Debug)]
pub(crate) struct Fetched {
    body: Incoming,
    target: String,
    /// Its bytes, if the server says so.
    pub(crate) length: Option<u64>,
}

impl Fetcher {
    /// From the texts of `api.download.allow` and `api.download.ca`.
    pub(crate) fn new(allowed: &str, authorities: &str) -> Result<Self, FetchError> {
        let allowed = allowed
            .parse()
            .map_err(|e: Malformed| FetchError::Settings(format!("api.download.allow: {e}")))?;
        let authorities = (!authorities.is_empty()).then(|| Path::new(authorities));
        let tls =
            ClientTls::new(authorities).map_err(|e| FetchError::Settings(format!("api.download.ca: {e}")))?;
        Ok(Self { allowed, tls })
    }

    /// Asks for what lies at an address, and reads the head of the answer.
    pub(crate) async fn get(&self, address: &str) -> Result<Fetched, FetchError> {
        let mut target: Target = address.parse()?;
        for _ in 0..=REDIRECTIONS {
            let answer = tokio::time::timeout(PATIENCE, self.ask(&target)).await;
            let answer = answer.map_err(|_| failed(&target, "no answer in time"))??;
            match answer.status() {
                StatusCode::OK => {
                    let length = hyper::body::Body::size_hint(answer.body()).exact();
                    return Ok(Fetched { body: answer.into_body(), target: target.to_string(), length });
                }
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    let location = answer.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
                    let location = location.ok_or_else(|| failed(&target, "it leads on to nowhere"))?;
                    target = target.redirected(location)?;
                }
                status => return Err(failed(&target, format!("it answers {status}"))),
            }
        }
        Err(failed(&target, format!("it leads on more than {REDIRECTIONS} times")))
    }

    async fn ask(&self, target: &Target) -> Result<Response<Incoming>, FetchError> {
        let stream = self.connect(target).await?;
        match target.scheme {
            Scheme::Http => exchange(target, stream).await,
            Scheme::Https => {
                let stream = self.tls.connect(&target.host, stream).await.map_err(|e| failed(target, e))?;
                exchange(target, stream).await
            }
        }
    }

    /// Connects to the first of its addresses that may be and can be connected to.
    async fn connect(&self, target: &Target) -> Result<TcpStream, FetchError> {
        if !self.allowed.allows(target) {
            return Err(FetchError::NotNamed(format!("{}://{}", target.scheme.as_str(), target.authority())));
        }
        let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
        let mut problem = failed(target, "its name has no address");
        for address in found.map_err(|e| failed(target, e))? {
            if !self.allowed.allows_address(target, address.ip()) {
                problem = FetchError::NotPublic { target: target.to_string(), address };
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => problem = failed(target, format!("{address}: {error}")),
            }
        }
        Err(problem)
    }
}

async fn exchange<S>(target: &Target, stream: S) -> Result<Response<Incoming>, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, driver) = handshake(TokioIo::new(stream)).await.map_err(|e| failed(target, e))?;
    // It ends with the body, or when that is dropped.
    tokio::spawn(driver);
    let request = Request::get(&target.path)
        .header(header::HOST, target.authority())
        .header(header::USER_AGENT, concat!("qvd-api/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| failed(target, e))?;
    sender.send_request(request).await.map_err(|e| failed(target, e))
}

impl Fetched {
    /// The next bytes; none at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        let failed = |problem: String| FetchError::Failed { target: self.target.clone(), problem };
        loop {
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            let frame =
                frame.map_err(|_| failed(format!("nothing came for {} seconds", SILENCE.as_secs())))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(failed(error.to_string())),
                // Trailers say nothing here.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => return Ok(Some(bytes)),
                    Err(_) => continue,
                },
            }
        }
    }
}

fn failed(target: &Target, problem: impl std::fmt::Display) -> FetchError {
    FetchError::Failed { target: target.to_string(), problem: problem.to_string() }
}
