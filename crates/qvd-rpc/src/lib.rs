//! Calls to the agent inside a desktop (`spec/vma.md` 2): what router and node use.
//!
//! Each call is a TCP connection of its own, as existing agents expect, and has a deadline that covers all of
//! it. The address comes from the VM's row; the secret from its column `vma_secret`.

mod error;

pub use error::AgentError;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use qvd_model::{Failure, SessionState};
use qvd_wire::http::{Answer, ResponseParser};
use qvd_wire::rpc::{Call, MAX_BODY, Reply};

pub use qvd_wire::rpc::View;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The agent of one desktop. Cheap to make; holds no connection.
#[derive(Debug, Clone)]
pub struct Agent {
    /// The desktop's address.
    pub address: IpAddr,
    /// The agent's port (`internal.vm.port.vma`).
    pub port: u16,
    /// The secret of this start of the desktop; agents of existing images ignore it.
    pub secret: Option<SecretString>,
    /// Longest time on the way to the agent; without one, as long as the whole call may take.
    pub way: Option<Duration>,
}

impl Agent {
    /// The agent at this address.
    pub fn new(address: impl Into<IpAddr>, port: u16, secret: Option<SecretString>) -> Self {
        Self { address: address.into(), port, secret, way: None }
    }

    /// Gives a call up that is not connected within `way`. A packet that comes before the desktop has its address is
    /// lost, and TCP would wait a second before the next; whoever answers on a network of this node does so at once.
    #[must_use]
    pub fn within(self, way: Duration) -> Self {
        Self { way: Some(way), ..self }
    }

    /// Whether the agent answers at all.
    pub async fn ping(&self, limit: Duration) -> Result<(), AgentError> {
        self.call(Call::new("ping"), limit).await.map(drop)
    }

    /// Starts the X session, or resumes it. `parameters` is the whole bag of `spec/vma.md` 2.1.
    ///
    /// A session that is busy, connected for example, is an [`AgentError::Failed`]; try again a second later.
    pub async fn x_start<N, V>(
        &self,
        parameters: impl IntoIterator<Item = (N, V)>,
        limit: Duration,
    ) -> Result<(), AgentError>
    where
        N: Into<String>,
        V: Into<String>,
    {
        self.call(Call::new("x_start").with_arguments(parameters), limit).await.map(drop)
    }

    /// What the X session is doing.
    pub async fn x_state(&self, limit: Duration) -> Result<SessionState, AgentError> {
        let value = self.call(Call::new("x_state"), limit).await?;
        let word = value.as_str().unwrap_or_default();
        word.parse().map_err(|source| AgentError::State { agent: self.socket(), source })
    }

    /// Why the last session did not come up, where the agent knows. Agents of existing images have no such
    /// method ([`AgentError::Status`] 404).
    pub async fn x_failure(&self, limit: Duration) -> Result<Option<Failure>, AgentError> {
        let value = self.call(Call::new("x_failure"), limit).await?;
        serde_json::from_value(value)
            .map_err(|error| AgentError::Failure { agent: self.socket(), problem: error.to_string() })
    }

    /// Makes the session let go of its client.
    pub async fn x_suspend(&self, limit: Duration) -> Result<(), AgentError> {
        self.call(Call::new("x_suspend"), limit).await.map(drop)
    }

    /// Ends the session.
    pub async fn x_stop(&self, limit: Duration) -> Result<(), AgentError> {
        self.call(Call::new("x_stop"), limit).await.map(drop)
    }

    /// Powers the desktop off. Agents of existing images report an error although they do it; such an
    /// [`AgentError::Failed`] is no reason to skip the wait for the end of the desktop.
    pub async fn poweroff(&self, limit: Duration) -> Result<(), AgentError> {
        self.call(Call::new("poweroff"), limit).await.map(drop)
    }

    /// Tells the desktop that it has passed its soft limit. The times are written as PostgreSQL writes them.
    pub async fn expire(
        &self,
        soft: Option<&str>,
        hard: Option<&str>,
        limit: Duration,
    ) -> Result<(), AgentError> {
        let times = [("vm.expiration.soft", soft), ("vm.expiration.hard", hard)];
        let arguments = times.into_iter().filter_map(|(name, time)| Some((name, time?)));
        self.call(Call::new("expire").with_arguments(arguments), limit).await.map(drop)
    }

    /// Makes one call and returns its value.
    pub async fn call(&self, call: Call, limit: Duration) -> Result<Value, AgentError> {
        let call = match &self.secret {
            Some(secret) => call.with_secret(secret.expose_secret()),
            None => call,
        };
        let method = call.method().to_owned();
        let agent = self.socket();
        let (status, body) = match tokio::time::timeout(limit, self.exchange(&call)).await {
            Ok(response) => response?,
            Err(_) => return Err(AgentError::Timeout { agent, method, limit }),
        };
        if !(200..300).contains(&status) {
            let text = String::from_utf8_lossy(&body).trim().to_owned();
            return Err(AgentError::Status { agent, method, status, text });
        }
        match Reply::decode(&body).map_err(|source| AgentError::Malformed { agent, source })? {
            Reply::Value(value) => Ok(value),
            Reply::Error(message) => Err(AgentError::Failed { agent, method, message }),
        }
    }

    /// One connection: the call, then the final answer to it, as status and body.
    async fn exchange(&self, call: &Call) -> Result<(u16, Vec<u8>), AgentError> {
        Ok(match self.ask(&call.encode()).await?.0 {
            Answer::Final(head, body) => (head.status, body),
            Answer::Switched(head) | Answer::Interim(head) => (head.status, Vec::new()),
        })
    }

    /// Sends a request and reads up to its last answer; the result has the connection and what came behind the answer.
    async fn ask(&self, request: &[u8]) -> Result<(Answer, TcpStream, Vec<u8>), AgentError> {
        let agent = self.socket();
        let lost = |source| AgentError::Lost { agent, source };
        let not_http = |source| AgentError::NotHttp { agent, source };
        let mut stream = self.connect(agent).await.map_err(|e| AgentError::connect(agent, e))?;
        stream.write_all(request).await.map_err(lost)?;
        let mut parser = ResponseParser::new(MAX_BODY);
        let mut buffer = vec![0; 4096];
        loop {
            let count = stream.read(&mut buffer).await.map_err(lost)?;
            if count == 0 {
                return match parser.finish() {
                    Ok(Some(answer @ Answer::Final(..))) => Ok((answer, stream, Vec::new())),
                    _ => Err(lost(std::io::ErrorKind::UnexpectedEof.into())),
                };
            }
            parser.feed(buffer.get(..count).unwrap_or_default());
            while let Some(answer) = parser.answer().map_err(not_http)? {
                if !matches!(answer, Answer::Interim(_)) {
                    return Ok((answer, stream, parser.into_rest().to_vec()));
                }
            }
        }
    }

    /// Opens the screen of the desktop, once its user agrees if the agent asks. The stream then carries RFB; the bytes
    /// are its beginning.
    pub async fn watch(&self, view: &View, limit: Duration) -> Result<(TcpStream, Vec<u8>), AgentError> {
        let (agent, method) = (self.socket(), "vnc_connect".to_owned());
        let request = view.encode(self.secret.as_ref().map(ExposeSecret::expose_secret));
        match tokio::time::timeout(limit, self.ask(&request)).await {
            Err(_) => Err(AgentError::Timeout { agent, method, limit }),
            Ok(answered) => match answered? {
                (Answer::Switched(_), stream, first) => Ok((stream, first)),
                (Answer::Final(head, body), ..) => {
                    let text = String::from_utf8_lossy(&body).trim().to_owned();
                    Err(AgentError::Status { agent, method, status: head.status, text })
                }
                (Answer::Interim(head), ..) => {
                    Err(AgentError::Status { agent, method, status: head.status, text: String::new() })
                }
            },
        }
    }

    async fn connect(&self, agent: SocketAddr) -> std::io::Result<TcpStream> {
        let connecting = TcpStream::connect(agent);
        match self.way {
            None => connecting.await,
            Some(way) => tokio::time::timeout(way, connecting).await?,
        }
    }

    fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}
