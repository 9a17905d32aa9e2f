//! Why the daemon does not run.

use qvd_runtime::config::ConfigError;

use crate::record::RecordError;

/// A reason to end the daemon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another daemon has the node.
    #[error("another qvd-hkd has the lock {path}")]
    Locked {
        /// The lock.
        path: String,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] qvd_db::Error),
    /// The run-time directory failed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The machine lacks what a node needs; all that was found.
    #[error("this node cannot run desktops:\n  {}", .0.join("\n  "))]
    Unfit(Vec<String>),
    /// The host row says that another daemon has it.
    #[error("the row of host {host} is not ours any more: another qvd-hkd runs under its name")]
    Superseded {
        /// The node's name.
        host: String,
    },
    /// The lease ended; everything was killed, and the next daemon registers again.
    #[error(
        "host {host} lost its lease and killed its VMs; it registers again when qvd-hkd is started again"
    )]
    Fenced {
        /// The node's name.
        host: String,
    },
    /// The desktop network could not be set up.
    #[error("desktop network: {0}")]
    Network(String),
    /// A file operation failed.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried, and on what.
        operation: String,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    /// The exit code that tells a supervisor what to do: 78 mend the configuration, 75 try later.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Unfit(_) => 78,
            Self::Locked { .. } => 75,
            _ => 1,
        }
    }
}
