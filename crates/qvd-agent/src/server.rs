//! The RPC server: who may call, and what the methods do (`spec/vma.md` 2).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qvd_model::{Failure, FailureCode, SessionState};
use qvd_runtime::Drain;
use qvd_wire::http::{self, RequestError, RequestParser, Status as HttpStatus};
use qvd_wire::nx::ClientValues;
use qvd_wire::rpc::{LIMITS, NoUpgrade, Reply, Request, View};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::hooks::{self, Moment};
use crate::owner::{Ask, Start, Status};
use crate::parameters::Parameters;
use crate::power;
use crate::prepare::hook_failed;
use crate::provision::Wanted;
use crate::screen::{Denied, Screen};
use crate::settings::Settings;

/// Connections at the same time; a router holds one for the length of a call.
const MAX_CONNECTIONS: usize = 64;

/// How long a connection may stay without a call.
const IDLE: Duration = Duration::from_secs(60);

/// What handlers need.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) settings: Arc<Settings>,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) drain: Drain,
}

/// An answer, and whether the desktop powers off after it.
struct Answer {
    reply: http::Reply,
    power_off: bool,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply: reply.to_http(), power_off: false }
    }
}

impl Server {
    pub(crate) async fn serve(self, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.drain.stopping() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!("cannot accept calls: {error}");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                warn!("call of {peer} refused: {MAX_CONNECTIONS} connections are open");
                continue;
            };
            let server = self.clone();
            self.drain.spawn(async move {
                if let Err(error) = server.connection(stream, peer).await {
                    info!("connection of {peer}: {error}");
                }
                drop(slot);
            });
        }
    }

    async fn connection(&self, mut stream: TcpStream, peer: SocketAddr) -> std::io::Result<()> {
        if self.settings.refuse_local && is_local(&stream, peer) {
            warn!("call from inside the desktop refused");
            let refusal =
                http::Reply::text(HttpStatus::Forbidden, "calls from inside the desktop are refused");
            return send(&mut stream, &refusal).await;
        }
        let mut parser = RequestParser::new(LIMITS);
        let mut buffer = vec![0; 8192];
        loop {
            match parser.request() {
                Ok(Some(request)) => {
                    if let Some(view) = View::read(&request) {
                        return self.show(stream, view, &Request::from(request), peer).await;
                    }
                    let request = Request::from(request);
                    let answer = self.answer(&request, peer).await;
                    send(&mut stream, &answer.reply).await?;
                    if answer.power_off {
                        power::off(&self.settings).await;
                    }
                    if request.close {
                        return Ok(());
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => return send(&mut stream, &malformed(error)).await,
            }
            let count = tokio::select! {
                read = tokio::time::timeout(IDLE, stream.read(&mut buffer)) => match read {
                    Ok(read) => read?,
                    Err(_) => return Ok(()),
                },
                () = self.drain.stopping() => return Ok(()),
            };
            if count == 0 {
                return Ok(());
            }
            parser.feed(buffer.get(..count).unwrap_or_default());
        }
    }

    async fn answer(&self, request: &Request, peer: SocketAddr) -> Answer {
        let refuse = |reply| Answer { reply, power_off: false };
        if let Err(reply) = self.admit(request, peer) {
            return refuse(reply);
        }
        let unknown = || refuse(http::Reply::text(HttpStatus::NotFound, "no such method"));
        let Some(method) = &request.method else { return unknown() };
        if method != "ping" && method != "x_state" {
            info!("{peer} calls {method}");
        }
        let result = match method.as_str() {
            "ping" => Ok(Reply::Value(json!(1))),
            "x_state" => Ok(Reply::word(self.state().as_str())),
            "x_failure" => Ok(self.failure()),
            "x_start" => self.start(request, peer).await,
            "x_suspend" => self.suspend().await,
            "x_stop" => self.stop().await,
            "expire" => self.expire(request).await,
            "poweroff" => match self.power_off().await {
                Ok(()) => return Answer { reply: Reply::DONE.to_http(), power_off: true },
                Err(failure) => Err(failure),
            },
            _ => return unknown(),
        };
        match result {
            Ok(reply) => reply.into(),
            Err(failure) => {
                info!("{method}: {}: {}", failure.code, failure.detail);
                Reply::failure(&failure).into()
            }
        }
    }

    /// Whether the caller knows the secret.
    fn admit(&self, request: &Request, peer: SocketAddr) -> Result<(), http::Reply> {
        let refuse = |status, text: &str| Err(http::Reply::text(status, text));
        match admits(&self.settings.secret, request.secret.as_ref().map(|s| s.as_str())) {
            Ok(true) => Ok(()),
            Ok(false) => {
                warn!("call of {peer} refused: it does not know the secret of this desktop");
                refuse(HttpStatus::Unauthorized, "the secret of this desktop is missing or wrong")
            }
            Err(error) => {
                warn!("cannot read {}: {error}", self.settings.secret.display());
                refuse(HttpStatus::Internal, "the secret of this desktop cannot be read")
            }
        }
    }

    /// Answers with the screen of the session, and goes on with it until either side ends it.
    async fn show(
        &self,
        mut stream: TcpStream,
        view: Result<View, NoUpgrade>,
        request: &Request,
        peer: SocketAddr,
    ) -> std::io::Result<()> {
        if let Err(reply) = self.admit(request, peer) {
            return send(&mut stream, &reply).await;
        }
        let view = match view {
            Ok(view) => view,
            Err(error) => {
                return send(&mut stream, &http::Reply::text(HttpStatus::UpgradeRequired, error.to_string()))
                    .await;
            }
        };
        let (answer, answered) = oneshot::channel();
        let session = match self.ask(Ask::See(answer)).await {
            Ok(()) => answered.await.ok().flatten(),
            Err(_) => None,
        };
        let state = self.state();
        let Some(session) = session else {
            let text = format!("there is no session to be seen: it is {state}");
            return send(&mut stream, &http::Reply::text(HttpStatus::Unavailable, text)).await;
        };
        let attended = state == SessionState::Connected;
        let screen = Screen { settings: &self.settings, drain: &self.drain, session, view, attended, peer };
        match screen.show(&mut stream).await {
            Ok(()) => Ok(()),
            Err(Denied::Lost(error)) => Err(error),
            Err(denied) => {
                warn!("the screen is not shown to {peer}: {denied}");
                send(&mut stream, &http::Reply::text(denied.status(), denied.to_string())).await
            }
        }
    }

    fn state(&self) -> SessionState {
        self.status.borrow().state
    }

    fn failure(&self) -> Reply {
        match &self.status.borrow().failure {
            Some(failure) => Reply::Value(json!({ "code": failure.code, "detail": failure.detail })),
            None => Reply::DONE,
        }
    }

    async fn start(&self, request: &Request, peer: SocketAddr) -> Result<Reply, Failure> {
        let settings = &self.settings;
        let parameters = Parameters::new(&settings.client_defaults, request.arguments.clone());
        let invalid = |error: String| Failure::new(FailureCode::Configuration, error);
        let client = ClientValues::from_parameters(|name| parameters.value(name));
        let client = client.map_err(|error| invalid(error.to_string()))?;
        let wanted = Wanted::read(settings, &parameters).map_err(|error| invalid(error.to_string()))?;
        let server = &settings.programs.nxagent;
        if !server.is_file() {
            let detail = format!("{} is not in the image", server.display());
            return Err(Failure::new(FailureCode::XServerMissing, detail));
        }
        let desktop = &settings.programs.x_session;
        if !desktop.is_file() {
            let detail = format!("{} (command.x-session) is not in the image", desktop.display());
            return Err(Failure::new(FailureCode::XSessionFailed, detail));
        }
        let (answer, answered) = oneshot::channel();
        let caller = peer.ip().to_canonical();
        self.ask(Ask::Start(Box::new(Start { caller, parameters, client, wanted, answer }))).await?;
        answered.await.map_err(|_| leaving())??;
        Ok(Reply::word("starting"))
    }

    async fn suspend(&self) -> Result<Reply, Failure> {
        if matches!(self.state(), SessionState::Listening | SessionState::Connected) {
            self.hook(hooks::SUSPEND, &Parameters::default()).await?;
        }
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Suspend(answer)).await?;
        let word = if answered.await.map_err(|_| leaving())? { "starting" } else { self.state().as_str() };
        Ok(Reply::word(word))
    }

    async fn stop(&self) -> Result<Reply, Failure> {
        if self.state() != SessionState::Stopped {
            self.hook(hooks::STOP, &Parameters::default()).await?;
        }
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Stop(answer)).await?;
        let word = if answered.await.map_err(|_| leaving())? { "stopping" } else { self.state().as_str() };
        Ok(Reply::word(word))
    }

    async fn expire(&self, request: &Request) -> Result<Reply, Failure> {
        let parameters = Parameters::new(&[], request.arguments.clone());
        self.hook(hooks::EXPIRE, &parameters).await?;
        Ok(Reply::DONE)
    }

    /// The hooks of the end. Only `poweroff` can forbid it.
    async fn power_off(&self) -> Result<(), Failure> {
        if self.state() != SessionState::Stopped
            && let Err(failure) = self.hook(hooks::STOP, &Parameters::default()).await
        {
            warn!("{failure}");
        }
        self.hook(hooks::POWEROFF, &Parameters::default()).await
    }

    async fn hook(&self, moment: Moment, parameters: &Parameters) -> Result<(), Failure> {
        let state = [("qvd.vm.session.state", self.state().as_str())];
        hooks::run(&self.settings, moment, parameters, &state).await.map_err(|error| hook_failed(&error))
    }

    async fn ask(&self, ask: Ask) -> Result<(), Failure> {
        self.asks.send(ask).await.map_err(|_| leaving())
    }
}

fn leaving() -> Failure {
    Failure::new(FailureCode::Cancelled, "the agent is stopping")
}

fn malformed(error: RequestError) -> http::Reply {
    let status = match error {
        RequestError::Version => HttpStatus::Version,
        RequestError::TargetTooLong => HttpStatus::UriTooLong,
        RequestError::HeadTooLarge => HttpStatus::HeadTooLarge,
        _ => HttpStatus::BadRequest,
    };
    http::Reply::text(status, error.to_string())
}

async fn send(stream: &mut TcpStream, reply: &http::Reply) -> std::io::Result<()> {
    stream.write_all(&[reply.head().as_slice(), reply.body()].concat()).await
}

/// Whether the peer is the desktop itself, by the loopback address or by any of its own.
fn is_local(stream: &TcpStream, peer: SocketAddr) -> bool {
    let peer = peer.ip().to_canonical();
    peer.is_loopback() || stream.local_addr().is_ok_and(|own| own.ip().to_canonical() == peer)
}

/// Whether a caller that sent this secret may call. A desktop whose node wrote no secret has none.
fn admits(path: &Path, sent: Option<&str>) -> std::io::Result<bool> {
    let secret = match std::fs::read_to_string(path) {
        Ok(secret) => SecretString::from(secret.trim()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let expected = secret.expose_secret();
    let sent = sent.unwrap_or_default();
    Ok(!expected.is_empty() && bool::from(expected.as_bytes().ct_eq(sent.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_counts_as_soon_as_there_is_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vma.secret");
        assert!(admits(&path, None).unwrap());
        std::fs::write(&path, "5ec\n").unwrap();
        assert!(admits(&path, Some("5ec")).unwrap());
        assert!(!admits(&path, Some("5e")).unwrap() && !admits(&path, None).unwrap());
        std::fs::write(&path, "").unwrap();
        assert!(!admits(&path, None).unwrap() && !admits(&path, Some("")).unwrap());
    }
}
