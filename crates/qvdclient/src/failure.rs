//! What can go wrong, each with its exit code.

use std::io;

use qvd_connect::{ConnectError, EndReason, TrustError};

pub(crate) const USAGE: u8 = 1;
const NO_VM: u8 = 2;
const CANNOT_CONNECT: u8 = 3;
const CERTIFICATE: u8 = 4;
const NO_LIST: u8 = 5;
const BAD_CHOICE: u8 = 6;
const LOGIN_REJECTED: u8 = 7;
const VM_FAILED: u8 = 8;
const NO_SCREEN: u8 = 9;
const LINK_ENDED: u8 = 10;
const TAKEN_OVER: u8 = 11;
const DISCONNECTED: u8 = 12;
const VM_STOPPED: u8 = 13;
const VM_DIED: u8 = 14;
const EXPIRED: u8 = 15;
const IDLE: u8 = 16;
const DRAIN: u8 = 17;
const NODE_LOST: u8 = 18;

/// Why qvdclient ends without a session, or with a broken one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The connection did not come about.
    #[error("{code}: {0}. {advice}", code = .0.code(), advice = .0.advice())]
    Connect(#[from] ConnectError),
    /// The files of the user cannot be used.
    #[error("trust: {0}. Check -c, -k and ~/.qvd/certs.")]
    Trust(#[from] TrustError),
    /// The file of exceptions cannot be used.
    #[error("pins: cannot use {path}: {source}. Check its permissions.")]
    Pins {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody typed a password, and none is set.
    #[error("no_password: no password for {user} is given. Set QVDPASSWORD, or run it on a terminal.")]
    NoPassword {
        /// The login.
        user: String,
    },
    /// The user has no VM.
    #[error("no_vm: {user} has no VM. Ask your administrator for one.")]
    NoVm {
        /// The login.
        user: String,
    },
    /// The VM is not the user's.
    #[error("unknown_vm: VM {id} is not in your list ({list}). Choose one of it with -s.")]
    UnknownVm {
        /// What was asked for.
        id: String,
        /// Ids and names.
        list: String,
    },
    /// There are several, and nobody chose.
    #[error("no_choice: you have several VMs ({list}). Choose one with -s ID, or the first with -o.")]
    NoChoice {
        /// Ids and names.
        list: String,
    },
    /// nxproxy ended by itself.
    #[error("nxproxy_failed: nxproxy ended: {0}. Run it with -d to see more.")]
    Proxy(String),
    /// The connection ended, and nobody says why.
    #[error(
        "link_ended: the connection ended: {0}. The network failed, or a router that tells no reasons ended it; \
         the desktop goes on, connect again to continue."
    )]
    LinkEnded(String),
    /// The router ended the session.
    #[error("{reason}: {}", .0.sentence().unwrap_or("The session ended."), reason = .0)]
    Ended(EndReason),
    /// The system refused something basic.
    #[error("system: {0}. Look at limits and memory of this machine.")]
    System(io::Error),
}

impl Failure {
    /// The documented exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Connect(error) => match error {
                ConnectError::Name { .. }
                | ConnectError::Tcp { .. }
                | ConnectError::Tls { .. }
                | ConnectError::NotRouter { .. }
                | ConnectError::Lost { .. }
                | ConnectError::Timeout { .. } => CANNOT_CONNECT,
                ConnectError::Certificate(_) => CERTIFICATE,
                ConnectError::LoginRejected { .. } => LOGIN_REJECTED,
                ConnectError::List { .. } => NO_LIST,
                ConnectError::Refused { .. } => VM_FAILED,
                ConnectError::Display { .. } | ConnectError::Proxy(_) => NO_SCREEN,
            },
            Self::Trust(_) | Self::Pins { .. } | Self::NoPassword { .. } => USAGE,
            Self::NoVm { .. } => NO_VM,
            Self::UnknownVm { .. } | Self::NoChoice { .. } => BAD_CHOICE,
            Self::Proxy(_) | Self::System(_) => NO_SCREEN,
            Self::LinkEnded(_) => LINK_ENDED,
            Self::Ended(reason) => match reason {
                EndReason::Left => 0,
                EndReason::LinkLost => LINK_ENDED,
                EndReason::TakenOver => TAKEN_OVER,
                EndReason::Admin => DISCONNECTED,
                EndReason::VmStopped => VM_STOPPED,
                EndReason::VmFailed => VM_DIED,
                EndReason::Expired => EXPIRED,
                EndReason::Idle => IDLE,
                EndReason::Drain => DRAIN,
                EndReason::NodeLost => NODE_LOST,
            },
        }
    }
}
