//! What keeps the router from serving.

use std::path::PathBuf;

/// Why the router does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration value is missing or wrong.
    #[error(transparent)]
    Config(#[from] qvd_runtime::config::ConfigError),
    /// The database refuses us.
    #[error(transparent)]
    Database(#[from] qvd_db::Error),
    /// The supervisor's socket is of no use.
    #[error(transparent)]
    Inherited(#[from] qvd_relay::sockets::InheritedError),
    /// The port cannot be had.
    #[error("cannot listen on {address}: {source}; see l7r.address and l7r.port")]
    Listen {
        /// Address and port.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// There is no certificate.
    #[error("there is no certificate: set l7r.ssl.cert and l7r.ssl.key in the database, or put PEM files at {} and {}", cert.display(), key.display())]
    NoCertificate {
        /// Where the certificate may be.
        cert: PathBuf,
        /// Where its key may be.
        key: PathBuf,
    },
    /// Client certificates are demanded, but nobody says which.
    #[error("l7r.client.cert.require is on, but there is no l7r.ssl.ca to check client certificates with")]
    NoAuthority,
    /// The certificate cannot be used.
    #[error("l7r.ssl.*: {0}")]
    Tls(#[from] qvd_relay::TlsError),
    /// The lock that says that this process lives cannot be had.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}
