//! Why the agent cannot serve.

use std::net::SocketAddr;
use std::path::PathBuf;

use qvd_runtime::config::ConfigError;

/// Why the agent cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration value is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `vma.user.umask` is not a file creation mask.
    #[error("vma.user.umask: `{0}` is not an octal number up to 0777")]
    Umask(String),
    /// A port cannot be listened on.
    #[error("cannot listen on {address} for {purpose}: {source}")]
    Listen {
        /// What the port is for.
        purpose: &'static str,
        /// Address and port.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A directory or file of the agent cannot be made.
    #[error("cannot make {}: {source}", path.display())]
    Make {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The files of the X server cannot be watched.
    #[error("cannot watch {}: {source}", path.display())]
    Watch {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The secret cannot be read.
    #[error("cannot read the secret {}: {source}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
