//! Why a connection did not come about, or ended.

use std::fmt;
use std::io;
use std::time::Duration;

use qvd_wire::http::ResponseError;

use crate::ticket::Ticket;

/// What is wrong with a certificate, where a user may decide to accept it all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// No authority that is trusted here vouches for it; a self-signed one, for example.
    Untrusted,
    /// It is for another host.
    WrongHost,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
}

impl Doubt {
    /// The word that stands for it in the file of exceptions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::WrongHost => "wrong-host",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untrusted => "no authority that is trusted here vouches for it",
            Self::WrongHost => "it was made for another host",
            Self::Expired => "it has expired",
            Self::NotYetValid => "it is not valid yet",
        })
    }
}

/// A certificate that is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateProblem {
    /// The router's host, as the user wrote it.
    pub host: String,
    /// The router's port.
    pub port: u16,
    /// What is wrong; `None` for what nobody should accept, such as a broken signature.
    pub doubt: Option<Doubt>,
    /// What the check said.
    pub detail: String,
    /// SHA-256 of the certificate, `AB:CD:…`.
    pub fingerprint: String,
    /// SHA-256 of its public key, by which exceptions are remembered.
    pub key: String,
}

/// Why there is no desktop.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name of the router has no address.
    #[error("{host} has no address: {detail}")]
    Name {
        /// The name.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// No TCP connection.
    #[error("cannot connect to {host}:{port}: {source}")]
    Tcp {
        /// The router's host.
        host: String,
        /// The router's port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// TLS failed for another reason than the certificate.
    #[error("no TLS with {host}:{port}: {detail}")]
    Tls {
        /// The router's host.
        host: String,
        /// The router's port.
        port: u16,
        /// Why.
        detail: String,
    },
    /// The certificate is not believed.
    #[error(
        "the certificate of {}:{} is not trusted: {}; its SHA-256 fingerprint is {}",
        .0.host, .0.port, .0.detail, .0.fingerprint
    )]
    Certificate(Box<CertificateProblem>),
    /// What answers is no router.
    #[error("{server} is not a QVD router: {source}")]
    NotRouter {
        /// Host and port.
        server: String,
        /// What is wrong with its answer.
        source: ResponseError,
    },
    /// The connection ended, or broke, before the answer.
    #[error("connection to {server} lost: {detail}")]
    Lost {
        /// Host and port.
        server: String,
        /// What happened.
        detail: String,
    },
    /// No answer in time.
    #[error("{server} did not answer within {limit:?}")]
    Timeout {
        /// Host and port.
        server: String,
        /// How long we waited.
        limit: Duration,
    },
    /// 401.
    #[error("{server} rejects the login")]
    LoginRejected {
        /// Host and port.
        server: String,
    },
    /// The router refused to list VMs.
    #[error("{server} gives no list of VMs: {text}")]
    List {
        /// Host and port.
        server: String,
        /// Status and what the router said.
        text: String,
    },
    /// The router refused to connect the VM.
    #[error("VM {vm}: {text}")]
    Refused {
        /// The VM's id.
        vm: i32,
        /// The HTTP status.
        status: u16,
        /// What the router said.
        text: String,
        /// What comes in place of the ticket that it was asked with.
        ticket: Option<Ticket>,
    },
    /// There is no X server to draw on.
    #[error("cannot draw on display `{display}`: {detail}")]
    Display {
        /// The display, as `DISPLAY` has it.
        display: String,
        /// Why.
        detail: String,
    },
    /// nxproxy cannot be used.
    #[error("cannot run nxproxy: {0}")]
    Proxy(String),
}

impl ConnectError {
    /// Whether trying again may help without anybody doing anything: the network, the router, or what it needs may be
    /// back.
    pub fn passes(&self) -> bool {
        match self {
            Self::Name { .. } | Self::Tcp { .. } | Self::Tls { .. } => true,
            Self::Lost { .. } | Self::Timeout { .. } => true,
            Self::Refused { status, .. } => matches!(status, 429 | 500 | 503),
            _ => false,
        }
    }

    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name { .. } => "unknown_host",
            Self::Tcp { .. } => "cannot_connect",
            Self::Tls { .. } => "tls_failed",
            Self::Certificate(_) => "certificate",
            Self::NotRouter { .. } => "not_a_router",
            Self::Lost { .. } => "connection_lost",
            Self::Timeout { .. } => "timeout",
            Self::LoginRejected { .. } => "login_rejected",
            Self::List { .. } => "no_list",
            Self::Refused { status: 403, .. } => "vm_blocked",
            Self::Refused { status: 404, .. } => "unknown_vm",
            Self::Refused { .. } => "vm_failed",
            Self::Display { .. } => "no_display",
            Self::Proxy(_) => "no_nxproxy",
        }
    }

    /// What to do about it, as a sentence.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Name { .. } => "Check the name of the router (-h).",
            Self::Tcp { .. } => "Check host and port of the router (-h, -p), and the network.",
            Self::Tls { .. } => "Check that the port is that of a QVD router (-p).",
            Self::Certificate(problem) if problem.doubt.is_none() => "Ask your administrator.",
            Self::Certificate(_) => {
                "Compare the fingerprint with the one your administrator gives you; then put the authority \
                 into ~/.qvd/certs, accept the certificate on a terminal, or skip the check with -n."
            }
            Self::NotRouter { .. } => "Check host and port of the router (-h, -p).",
            Self::Lost { .. } | Self::Timeout { .. } => "Try again; if it stays, ask your administrator.",
            Self::LoginRejected { .. } => "Check login and password (-u, -w).",
            Self::List { .. } => "Try again later, or ask your administrator.",
            Self::Refused { status: 403, .. } => "Ask your administrator to unblock it.",
            Self::Refused { status: 404, .. } => "Choose a VM of your own list (-l).",
            Self::Refused { status: 426, .. } => "Use a client that fits the router.",
            Self::Refused { .. } => "Try again later, or ask your administrator.",
            Self::Display { .. } => "Start it inside a graphical session, or set DISPLAY and XAUTHORITY.",
            Self::Proxy(_) => "Install the package nxproxy.",
        }
    }
}
