//! The loops of a node: commands, configuration, routers, other nodes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use qvd_db::{Listener, node as rows};
use qvd_hypervisor::storage;
use qvd_model::notify;
use qvd_runtime::Drain;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::node::Node;
use crate::owner::{Message, Origin};
use crate::watchdog::{self, Watch};
use crate::witness::Witness;
use crate::{container, expiry, load_rows, monitor, reconcile, routers};

/// How long overlays of failed starts are kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How often old events are forgotten.
const FORGETTING: Duration = Duration::from_secs(60 * 60);

/// What the loops about other nodes need.
pub struct Cluster {
    /// The heartbeat files.
    pub witness: Option<Witness>,
    /// Who is told that the storage is shared, where that has to be found out.
    pub shares: Option<watch::Sender<bool>>,
    /// What the watchdog is called with.
    pub watch: Arc<Watch>,
}

/// Starts the loops as tasks of `loops`.
pub fn start(node: &Arc<Node>, listener: &Listener, loops: &Drain, cluster: Cluster) {
    let commands = listener.subscribe(notify::vm_command(node.own.host));
    let configuration = listener.subscribe(notify::CONFIG_CHANGED);
    let until = loops.token().clone();
    let run = |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let until = until.clone();
        loops.spawn(async move {
            tokio::select! {
                () = task => {}
                () = until.cancelled() => {}
            }
        });
    };
    run(Box::pin(serve_commands(node.clone(), commands)));
    run(Box::pin(follow_configuration(node.clone(), configuration)));
    run(Box::pin(follow_images(node.clone(), listener.subscribe(notify::DI_DELETED))));
    run(Box::pin(routers::follow(node.clone())));
    run(Box::pin(expiry::follow(node.clone(), listener.subscribe(notify::VM_CHANGED))));
    run(Box::pin(monitor::watch(node.clone(), cluster.witness, cluster.shares)));
    run(Box::pin(watchdog::keep(cluster.watch)));
}

/// Takes commands to VMs when told of them, and looks for lost ones and for drift now and then.
async fn serve_commands(node: Arc<Node>, mut bell: qvd_db::Doorbell) {
    let mut stage = node.stage.subscribe();
    let next_sweep = || Instant::now() + period(&node, "internal.hkd.agent.vm_command_handler.delay", 61);
    let mut forget: Option<Instant> = None;
    // Commands that keep coming do not put it off.
    let mut sweep = next_sweep();
    loop {
        tokio::select! {
            () = bell.rung() => {}
            // What came while the node might not start anything waits.
            Ok(()) = stage.changed() => {}
            () = tokio::time::sleep_until(sweep) => {
                if let Err(error) = reconcile::reconcile(&node).await {
                    warn!("rows not reconciled: {error}");
                }
                purge(&node).await;
                if forget.is_none_or(|last| last.elapsed() >= FORGETTING) {
                    forget_events(&node).await;
                    forget = Some(Instant::now());
                }
                sweep = next_sweep();
            }
        }
        if let Err(error) = take_commands(&node).await {
            warn!("commands not read: {error}");
        }
    }
}

/// Removes what failed starts left for whoever looks into them.
async fn purge(node: &Node) {
    let directories = match container::directories(&node.config.now()) {
        Ok(directories) => directories,
        Err(error) => return warn!("old overlays not purged: {error}"),
    };
    if let Err(error) = storage::purge_discarded(&directories, KEPT).await {
        warn!("old overlays not purged: {error}");
    }
}

/// Removes what was unpacked of images that are gone: when one goes, and now and then.
async fn follow_images(node: Arc<Node>, mut bell: qvd_db::Doorbell) {
    loop {
        if let Err(error) = purge_bases(&node).await {
            warn!("base trees of removed images not purged: {error}");
        }
        let _ = tokio::time::timeout(FORGETTING, bell.rung()).await;
    }
}

async fn purge_bases(node: &Node) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let directories = container::directories(&node.config.now())?;
    // First: a tree that is made after this may be of an image that is made after it, too.
    let bases = storage::unpacked_bases(&directories).await?;
    if bases.is_empty() {
        return Ok(());
    }
    let files = rows::image_files(&node.database).await?;
    let known: HashSet<&str> = files.iter().map(|file| storage::base_name(file)).collect();
    for base in bases.iter().filter(|base| !known.contains(base.as_str())) {
        if storage::remove_unused_base(&directories, base).await? {
            info!(base, "the base tree of a removed image is gone");
        }
    }
    Ok(())
}

/// Forgets what happened too long ago to matter to anybody.
async fn forget_events(node: &Node) {
    let days = match node.config.now().int("hkd.events.days") {
        Ok(days) => days,
        Err(error) => return warn!("old events not forgotten: {error}"),
    };
    match rows::forget_events(&node.database, days).await {
        Ok(0) => {}
        Ok(forgotten) => info!(forgotten, days, "old events forgotten"),
        Err(error) => warn!("old events not forgotten: {error}"),
    }
}

async fn take_commands(node: &Arc<Node>) -> Result<(), qvd_db::Error> {
    if !node.holds() {
        return Ok(());
    }
    for (vm, generation) in rows::claim_stops(&node.database, node.own.host).await? {
        match node.owner(vm) {
            Some((_, handle)) => handle.tell(Message::Stop).await,
            None => reconcile::clean_orphan(node, vm, generation),
        }
    }
    for (vm, generation) in rows::claim_starts(&node.database, &node.actor, node.own).await? {
        node.take(vm, generation, Origin::Claimed);
    }
    Ok(())
}

async fn follow_configuration(node: Arc<Node>, mut bell: qvd_db::Doorbell) {
    loop {
        bell.rung().await;
        match load_rows(&node.database, &node.config).await {
            Ok(()) => info!("configuration loaded"),
            Err(error) => warn!("configuration not loaded: {error}"),
        }
    }
}

fn period(node: &Node, key: &str, fallback: u64) -> Duration {
    node.config.now().seconds(key).unwrap_or(Duration::from_secs(fallback))
}
