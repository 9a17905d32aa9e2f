//! The loops of a node: commands, heartbeat, configuration.

use std::sync::Arc;
use std::time::Duration;

use qvd_db::hosts::{self, Heartbeat};
use qvd_db::{Listener, node as rows};
use qvd_hypervisor::storage;
use qvd_model::{HostCommand, notify};
use qvd_runtime::Drain;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::node::Node;
use crate::owner::{Message, Origin};
use crate::{container, load_rows, reconcile, routers};

/// Clocks that differ by more than this are worth a warning.
const SKEW: f64 = 2.0;

/// How long overlays of failed starts are kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Starts the loops as tasks of `loops`. A host command `stop` cancels `stop`.
pub fn start(node: &Arc<Node>, listener: &Listener, loops: &Drain, stop: &CancellationToken) {
    let commands = listener.subscribe(notify::vm_command(node.own.host));
    let configuration = listener.subscribe(notify::CONFIG_CHANGED);
    let host_commands = listener.subscribe(notify::host_command(node.own.host));
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
    run(Box::pin(routers::follow(node.clone())));
    run(Box::pin(beat(node.clone(), host_commands, stop.clone())));
}

/// Takes commands to VMs when told of them, and looks for lost ones and for drift now and then.
async fn serve_commands(node: Arc<Node>, mut bell: qvd_db::Doorbell) {
    loop {
        let sweep = period(&node, "internal.hkd.agent.vm_command_handler.delay", 61);
        tokio::select! {
            () = bell.rung() => {}
            () = tokio::time::sleep(sweep) => {
                if let Err(error) = reconcile::reconcile(&node).await {
                    warn!("rows not reconciled: {error}");
                }
                purge(&node).await;
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

async fn take_commands(node: &Arc<Node>) -> Result<(), qvd_db::Error> {
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

/// Writes the heartbeat, and takes the commands to the host that it finds.
async fn beat(node: Arc<Node>, mut bell: qvd_db::Doorbell, stop: CancellationToken) {
    loop {
        match hosts::heartbeat(&node.database, node.own, crate::beat(&node.config.now())).await {
            Ok(Heartbeat::Own { command, now, .. }) => {
                warn_of_skew(now);
                if command == Some(HostCommand::Stop) {
                    obey_stop(&node, &stop).await;
                }
            }
            Ok(Heartbeat::Lost | Heartbeat::Superseded) => {
                node.give_up();
                stop.cancel();
                return;
            }
            Err(error) => warn!("no heartbeat: {error}"),
        }
        tokio::select! {
            () = bell.rung() => {}
            () = tokio::time::sleep(period(&node, "internal.hkd.agent.ticker.delay", 5)) => {}
        }
    }
}

async fn obey_stop(node: &Node, stop: &CancellationToken) {
    let taken = match node.database.client().await {
        Ok(client) => hosts::take_command(&client, node.own.host).await,
        Err(error) => Err(error),
    };
    match taken {
        Ok(Some(HostCommand::Stop)) => {
            info!("told to stop this node with its VMs");
            node.tell_to_stop();
            stop.cancel();
        }
        Ok(None) => {}
        Err(error) => warn!("host command not taken: {error}"),
    }
}

fn warn_of_skew(database: f64) {
    let own = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let skew = own.as_secs_f64() - database;
    if skew.abs() > SKEW {
        warn!("the clock of this node differs from the database's by {skew:.1} s; run NTP on both");
    }
}

fn period(node: &Node, key: &str, fallback: u64) -> Duration {
    node.config.now().seconds(key).unwrap_or(Duration::from_secs(fallback))
}
