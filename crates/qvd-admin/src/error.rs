//! Why the service does not run.

use std::path::PathBuf;

/// What keeps the API from running.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] qvd_runtime::config::ConfigError),
    /// The zone of `api.timezone`.
    #[error("api.timezone: {0}")]
    Zone(#[from] qvd_runtime::zone::UnknownZone),
    /// The list of `api.trusted-proxies`.
    #[error("api.trusted-proxies: {0}")]
    Proxies(#[from] qvd_logic::proxies::NoNetwork),
    /// The database.
    #[error(transparent)]
    Database(#[from] qvd_db::Error),
    /// It cannot go on as another user.
    #[error("api.user, api.group: {0}")]
    Privileges(#[from] qvd_runtime::privileges::PrivilegeError),
    /// `api.url` is not where one can listen.
    #[error("api.url: `{0}` is not https://HOST:PORT/")]
    Url(String),
    /// A socket cannot be used.
    #[error("cannot listen on {place}: {source}")]
    Listen {
        /// Where.
        place: String,
        /// Why.
        source: std::io::Error,
    },
    /// A socket that was passed cannot be used.
    #[error(transparent)]
    Inherited(#[from] qvd_relay::sockets::InheritedError),
    /// Certificate or key cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("{} and {}: {source}", cert.display(), key.display())]
    Tls {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        source: qvd_relay::TlsError,
    },
}
