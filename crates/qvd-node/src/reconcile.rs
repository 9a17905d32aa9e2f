//! Rows against what really runs: at start, and now and then (`spec/node.md` 15.2).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use qvd_db::node::{self as rows, Owned};
use qvd_hypervisor::lxc::Process;
use qvd_model::{Failure, FailureCode, Generation, VmId};
use tracing::{info, warn};

use crate::container;
use crate::error::Error;
use crate::node::Node;
use crate::owner::{Message, Origin};
use crate::record::Record;

/// How long the VMs of a node that is told to stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(300);
/// How long what runs of a VM may take to go before its owner goes on with it.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Gives every VM that runs here, or that its row says does, an owner: adopted if it lives and is ours,
/// cleaned up otherwise. So is what nobody knows of any more.
pub async fn adopt(node: &Arc<Node>) -> Result<(), Error> {
    let mut owned: HashMap<VmId, Owned> =
        rows::own_vms(&node.database, node.own.host).await?.into_iter().map(|own| (own.vm, own)).collect();
    let mut unknown = present(node).await;
    for (vm, record) in node.records.read_all()? {
        unknown.remove(&vm);
        let row = owned.remove(&vm);
        match record {
            Ok(record) => {
                if row.is_none_or(|row| row.generation != record.generation) {
                    end_foreign(node, vm).await;
                }
                adopt_one(node, vm, row, record);
            }
            Err(error) => {
                warn!(vm = vm.0, "record not usable: {error}");
                let generation = row.map_or(Generation(0), |row| row.generation);
                abandon(node, vm, generation, None, format!("its record was not usable: {error}"));
            }
        }
    }
    for row in owned.into_values() {
        if unknown.remove(&row.vm) {
            let why = "its record was lost while its daemon was away".to_owned();
            abandon(node, row.vm, row.generation, None, why);
        } else {
            clean_orphan(node, row.vm, row.generation);
        }
    }
    for vm in unknown {
        abandon(node, vm, Generation(0), None, "it was here without record and row".to_owned());
    }
    Ok(())
}

/// VMs of which the hypervisor has anything here.
async fn present(node: &Node) -> BTreeSet<VmId> {
    let present = match container::lxc(&node.config.now()) {
        Ok(lxc) => lxc.present().await.map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    present.unwrap_or_else(|problem| {
        warn!("not looked for desktops without records: {problem}");
        BTreeSet::new()
    })
}

/// Ends what runs here of a VM that is somebody else's by now, before this node serves.
async fn end_foreign(node: &Node, vm: VmId) {
    let ended =
        async { Ok::<_, Failure>(container::lxc(&node.config.now())?.end_processes(vm, KILL_LIMIT).await?) };
    if let Err(failure) = ended.await {
        warn!(vm = vm.0, "not ended yet: {failure}");
    }
}

fn adopt_one(node: &Arc<Node>, vm: VmId, row: Option<Owned>, record: Record) {
    let generation = record.generation;
    let ours = row.filter(|row| row.generation == generation);
    let process = record.process.map(Process::from);
    let lives = record.boot == node.boot && process.is_some_and(Process::is_alive);
    match ours {
        Some(row) if lives => node.take(vm, generation, Origin::Adopted(row.state, record)),
        Some(_) => {
            abandon(node, vm, generation, Some(record), "it ended while its daemon was away".to_owned())
        }
        None => {
            let why = "its row was given to somebody else while its daemon was away".to_owned();
            let failure = Failure::new(FailureCode::Fenced, why);
            node.take(vm, generation, Origin::Abandoned(Some(record), failure));
        }
    }
}

/// A row says that the VM is here, but nothing is.
pub fn clean_orphan(node: &Arc<Node>, vm: VmId, generation: Generation) {
    abandon(node, vm, generation, None, "nothing of it was found on its host".to_owned());
}

fn abandon(node: &Arc<Node>, vm: VmId, generation: Generation, record: Option<Record>, why: String) {
    let failure = Failure::new(FailureCode::HypervisorExited, why);
    node.take(vm, generation, Origin::Abandoned(record, failure));
}

/// Gives rows without an owner one, and ends VMs whose rows are not ours any more.
pub async fn reconcile(node: &Arc<Node>) -> Result<(), qvd_db::Error> {
    let owned = rows::own_vms(&node.database, node.own.host).await?;
    let by_row: HashMap<VmId, Generation> = owned.iter().map(|own| (own.vm, own.generation)).collect();
    for (vm, generation, handle) in node.owned() {
        if by_row.get(&vm).is_none_or(|of| *of != generation) {
            info!(vm = vm.0, "its row is not ours any more");
            handle.tell(Message::Kill(FailureCode::Fenced)).await;
        }
    }
    for own in owned {
        if node.owner(own.vm).is_none() {
            clean_orphan(node, own.vm, own.generation);
        }
    }
    Ok(())
}

/// Stops every VM of the node, all in parallel, and waits for them.
pub async fn stop_all(node: &Arc<Node>) {
    for (_, _, handle) in node.owned() {
        handle.tell(Message::Stop).await;
    }
    if node.owners.finish(STOP_LIMIT).await {
        return;
    }
    for (vm, _, handle) in node.owned() {
        warn!(vm = vm.0, "did not stop in time; killed");
        handle.tell(Message::Kill(FailureCode::Cancelled)).await;
    }
    if !node.owners.finish(STOP_LIMIT).await {
        warn!("some VMs could not be cleaned up");
    }
}
