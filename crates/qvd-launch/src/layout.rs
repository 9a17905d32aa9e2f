//! Where an installation keeps what, below its data directory.

use std::path::{Path, PathBuf};

/// The data directory of `qvd up`.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

/// The three daemons, in the order in which they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Daemon {
    /// The administration API.
    Api,
    /// The node daemon.
    Hkd,
    /// The router.
    L7r,
}

impl Daemon {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Api, Self::Hkd, Self::L7r];

    /// The name of its program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Api => "qvd-api",
            Self::Hkd => "qvd-hkd",
            Self::L7r => "qvd-l7r",
        }
    }

    /// Its role in the database.
    pub const fn role(self) -> &'static str {
        match self {
            Self::Api => "qvd_api",
            Self::Hkd => "qvd_node",
            Self::L7r => "qvd_l7r",
        }
    }

    /// Whether it runs as root.
    pub const fn is_privileged(self) -> bool {
        matches!(self, Self::Hkd)
    }
}

impl Layout {
    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The data directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was chosen when the installation was made.
    pub fn installation(&self) -> PathBuf {
        self.root.join("installation.json")
    }

    /// Generated passwords, for root only.
    pub fn passwords(&self) -> PathBuf {
        self.root.join("passwords")
    }

    /// The keys that seal the secrets in the database.
    pub fn secrets(&self) -> PathBuf {
        self.configuration_directory().join("secrets.key")
    }

    /// Directory of the configuration files.
    pub fn configuration_directory(&self) -> PathBuf {
        self.root.join("etc")
    }

    /// The configuration file of a daemon.
    pub fn configuration(&self, daemon: Daemon) -> PathBuf {
        let name = match daemon {
            Daemon::Api => "api.conf",
            Daemon::Hkd => "node.conf",
            Daemon::L7r => "l7r.conf",
        };
        self.configuration_directory().join(name)
    }

    /// The private PostgreSQL.
    pub fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }

    /// `path.storage.root`.
    pub fn storage(&self) -> PathBuf {
        self.root.join("storage")
    }

    /// `path.run`.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Directory of the logs.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The log of a daemon.
    pub fn log_file(&self, daemon: Daemon) -> PathBuf {
        self.log().join(format!("{}.log", daemon.program()))
    }

    /// What a daemon says when it cannot log.
    pub fn last_words(&self, daemon: Daemon) -> PathBuf {
        self.log().join(format!("{}.stderr", daemon.program()))
    }

    /// Certificate and key of router and API.
    pub fn certificates(&self) -> PathBuf {
        self.root.join("certs")
    }

    /// Held by the supervisor while it lives.
    pub fn lock(&self) -> PathBuf {
        self.run().join("supervisor.lock")
    }

    /// What the supervisor has to say, for `qvd status`.
    pub fn report(&self) -> PathBuf {
        self.run().join("supervisor.json")
    }

    /// What the supervisor made of the network, and has to take back.
    pub fn network(&self) -> PathBuf {
        self.run().join("network.json")
    }

    /// Where the supervisor takes orders.
    pub fn control(&self) -> PathBuf {
        self.run().join("supervisor.sock")
    }

    /// The API's socket for root.
    pub fn api_socket(&self) -> PathBuf {
        self.run().join("api.sock")
    }
}
