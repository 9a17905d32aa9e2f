//! The private database of an installation, without the rest of it.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use qvd_db::{Settings, Tls, Vault};
use qvd_runtime::postgres::{Access, PrivateCluster};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::installation::Installation;
use crate::layout::Layout;
use crate::up::is_running;

/// How long to wait before a server that is down is looked at again.
const PAUSE: Duration = Duration::from_secs(1);

/// How the work goes along with daemons that use the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// They may.
    Shared,
    /// They must be down.
    Alone,
}

/// The connection of an administrator to a database of the private PostgreSQL.
pub fn settings(layout: &Layout, name: &str) -> Settings {
    Settings {
        hosts: vec![layout.postgres().join("run").display().to_string()],
        port: 5432,
        name: name.to_owned(),
        user: "postgres".to_owned(),
        password: None,
        tls: Tls::default(),
        vault: Vault::at(layout.secrets()),
        connect_timeout: Duration::from_secs(20),
        pool_size: 2,
    }
}

/// The PostgreSQL of an installation.
pub fn cluster(layout: &Layout) -> Result<PrivateCluster> {
    Ok(PrivateCluster::new(layout.postgres(), crate::POSTGRES_USER, Access::Passwords)?)
}

/// Starts the server again when it crashes, until `stop`. One that somebody stopped is theirs to start.
pub async fn keep(cluster: PrivateCluster, stop: CancellationToken) {
    loop {
        let watched = cluster.clone();
        let ended = tokio::task::spawn_blocking(move || watched.wait_end());
        tokio::select! {
            _ = ended => {}
            () = stop.cancelled() => return,
        }
        if cluster.is_crashed() {
            error!("PostgreSQL has crashed; starting it again");
            let starting = cluster.clone();
            match tokio::task::spawn_blocking(move || starting.start()).await {
                Ok(Ok(())) => continue,
                Ok(Err(problem)) => error!("PostgreSQL does not start: {problem}"),
                Err(problem) => error!("PostgreSQL does not start: {problem}"),
            }
        }
        // Nothing tells when somebody else starts it, and what a crashed server leaves takes a moment to end.
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Does some work with the database of an installation, which runs for as long as that takes if it did not.
pub fn with_database(
    layout: &Layout,
    sharing: Sharing,
    work: impl FnOnce(&Settings) -> Result<()>,
) -> Result<()> {
    let root = layout.root().display();
    ensure!(layout.installation().exists(), "{root} holds no installation; `qvd up --data {root}` makes one");
    if let Some(farm) = Installation::read(layout)?.and_then(|installation| installation.farm) {
        bail!("{root} is a node of a farm, whose database is at {}; do this there", farm.place());
    }
    let up = is_running(layout)?;
    ensure!(!up || sharing == Sharing::Shared, "the installation is up; first: qvd down --data {root}");
    let cluster = cluster(layout)?;
    let started = cluster.pid().is_none();
    if started {
        cluster.start()?;
    }
    let done = work(&settings(layout, crate::DATABASE));
    if started {
        cluster.stop()?;
    }
    done
}
