//! Why a call to an agent did not do what it should.

use std::net::SocketAddr;
use std::time::Duration;

use qvd_model::{Failure, FailureCode};
use qvd_wire::http::ResponseError;
use qvd_wire::rpc::{MalformedReply, failure_of};

/// Why a call failed. Each names the agent; none holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody listens there: the desktop is up, its agent is not.
    #[error("agent {agent}: nobody listens")]
    Refused {
        /// Address and port.
        agent: SocketAddr,
    },
    /// No way to the desktop.
    #[error("agent {agent}: cannot connect: {source}")]
    Unreachable {
        /// Address and port.
        agent: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The connection ended before the reply.
    #[error("agent {agent}: connection lost: {source}")]
    Lost {
        /// Address and port.
        agent: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// No reply in time.
    #[error("agent {agent}: {method} was not answered within {limit:?}")]
    Timeout {
        /// Address and port.
        agent: SocketAddr,
        /// The method called.
        method: String,
        /// How long we waited.
        limit: Duration,
    },
    /// What answers is no agent.
    #[error("agent {agent}: {source}")]
    NotHttp {
        /// Address and port.
        agent: SocketAddr,
        /// What is wrong with the answer.
        source: ResponseError,
    },
    /// What came back is no reply.
    #[error("agent {agent}: {source}")]
    Malformed {
        /// Address and port.
        agent: SocketAddr,
        /// What is wrong with it.
        source: MalformedReply,
    },
    /// The call itself was refused; 401 is a wrong secret, 404 an unknown method.
    #[error("agent {agent}: {method}: status {status}: {text}")]
    Status {
        /// Address and port.
        agent: SocketAddr,
        /// The method called.
        method: String,
        /// The HTTP status.
        status: u16,
        /// What the agent said.
        text: String,
    },
    /// The method refused or failed.
    #[error("agent {agent}: {method}: {message}")]
    Failed {
        /// Address and port.
        agent: SocketAddr,
        /// The method called.
        method: String,
        /// What the agent said; see [`AgentError::failure`] for its code.
        message: String,
    },
    /// `x_failure` answered something that is not a failure.
    #[error("agent {agent}: x_failure: {problem}")]
    Failure {
        /// Address and port.
        agent: SocketAddr,
        /// What is wrong with the answer.
        problem: String,
    },
    /// `x_state` answered something that is not a state.
    #[error("agent {agent}: {source}")]
    State {
        /// Address and port.
        agent: SocketAddr,
        /// The word.
        source: qvd_model::UnknownWord,
    },
}

impl AgentError {
    pub(crate) fn connect(agent: SocketAddr, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::ConnectionRefused => Self::Refused { agent },
            _ => Self::Unreachable { agent, source },
        }
    }

    /// Whether the agent did not answer at all, which passes while a desktop boots.
    pub fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Unreachable { .. } | Self::Lost { .. } | Self::Timeout { .. }
        )
    }

    /// The failure to show and to store.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Failed { message, .. } => failure_of(message),
            error if error.is_silence() => Failure::new(FailureCode::AgentSilent, error.to_string()),
            error => Failure::new(FailureCode::AgentFailed, error.to_string()),
        }
    }
}
