//! Why the desktop network is not as it should be.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qvd_model::{Failure, FailureCode};

/// What went wrong, with the object it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a change of a network link.
    #[error("cannot {operation} {link}: {source}")]
    Link {
        /// What was tried.
        operation: &'static str,
        /// On which link.
        link: String,
        /// Why it failed.
        source: Box<rtnetlink::Error>,
    },
    /// The kernel cannot be asked at all.
    #[error("cannot talk to the kernel about network links: {0}")]
    Netlink(#[source] io::Error),
    /// The bridge of the desktop network is not there.
    #[error("the bridge {0} does not exist on this node")]
    NoBridge(String),
    /// An interface is not there.
    #[error("there is no interface {0} on this node")]
    NoInterface(String),
    /// Something else has the bridge's name.
    #[error("{0} exists, but it is no bridge")]
    NotABridge(String),
    /// A name that no link can have.
    #[error("`{0}` cannot be the name of a network link")]
    Name(String),
    /// The firewall refused the rules.
    #[error("the firewall refused the rules: {0}")]
    Rules(String),
    /// A program could not be run.
    #[error("cannot run {program}: {source}")]
    Program {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program ended that should serve.
    #[error("{program} does not serve: {output}")]
    Ended {
        /// The program.
        program: PathBuf,
        /// How it ended, and what it wrote last.
        output: String,
    },
    /// A program took too long.
    #[error("{program} took longer than {limit:?}")]
    Timeout {
        /// The program.
        program: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// A file, of the DHCP server or the kernel.
    #[error("cannot {operation} {path}: {source}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn link(operation: &'static str, link: &str) -> impl FnOnce(rtnetlink::Error) -> Self {
        move |source| Self::Link { operation, link: link.to_owned(), source: Box::new(source) }
    }

    pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { operation, path: path.to_owned(), source }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(FailureCode::NetworkFailed, error.to_string())
    }
}
