//! The agent as a whole.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qvd_runtime::{Config, Drain};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::gate::Gate;
use crate::owner::Owner;
use crate::server::Server;
use crate::{Error, Settings};

/// How long the end may take: an X server that does not listen is killed within.
const DRAIN: Duration = Duration::from_secs(50);

/// An agent whose ports are open.
#[derive(Debug)]
pub struct Service {
    settings: Arc<Settings>,
    rpc: TcpListener,
    nx: TcpListener,
}

impl Service {
    /// Opens the ports and makes the directories.
    pub async fn bind(settings: Settings) -> Result<Self, Error> {
        for directory in [&settings.run, &settings.log] {
            make(directory)?;
        }
        let rpc = listen("calls", settings.rpc).await?;
        let nx = listen("connections of clients", settings.nx).await?;
        Ok(Self { settings: Arc::new(settings), rpc, nx })
    }

    /// Where calls arrive.
    pub fn rpc_address(&self) -> Option<SocketAddr> {
        self.rpc.local_addr().ok()
    }

    /// Where the router connects its client to.
    pub fn nx_address(&self) -> Option<SocketAddr> {
        self.nx.local_addr().ok()
    }

    /// Serves until `stop`, then ends the session.
    pub async fn serve(self, stop: CancellationToken) {
        let drain = Drain::new(stop);
        let gate = Gate::default();
        let (asks, asked) = mpsc::channel(16);
        let (owner, inbox, status) = Owner::new(self.settings.clone(), gate.clone(), asked, drain.clone());
        drain.spawn(gate.serve(self.nx, owner.events(), drain.clone()));
        let server = Server { settings: self.settings, asks, status, drain: drain.clone() };
        drain.spawn(server.serve(self.rpc));
        drain.spawn(owner.run(inbox));
        qvd_runtime::ready::notify();
        drain.stopping().await;
        if !drain.finish(DRAIN).await {
            warn!("{} tasks did not end within {DRAIN:?}", drain.len());
        }
    }
}

/// Runs the agent of this desktop.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let settings = Settings::read(&config.now())?;
    let service = Service::bind(settings).await?;
    info!("agent serves on {:?}", service.rpc_address());
    service.serve(stop).await;
    Ok(())
}

async fn listen(purpose: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { purpose, address, source })
}

fn make(directory: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(directory).map_err(|source| Error::Make { path: directory.to_owned(), source })
}
