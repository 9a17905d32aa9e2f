//! The node: its means, and which VMs it owns.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use qvd_db::Database;
use qvd_db::events::Actor;
use qvd_db::hosts::Incarnation;
use qvd_db::node::Ownership;
use qvd_logic::cluster::Stage;
use qvd_model::{Generation, VmId};
use qvd_runtime::{Config, Drain};
use tokio::sync::{Semaphore, watch};

use crate::network::Network;
use crate::owner::{Handle, Origin, spawn};
use crate::record::Records;

/// What all parts of the daemon share.
pub struct Node {
    /// The live configuration.
    pub config: Config,
    /// QVD-DB.
    pub database: Database,
    /// `nodename`.
    pub name: String,
    /// The host and this life of its daemon.
    pub own: Incarnation,
    /// Who stands in events.
    pub actor: Actor,
    /// Which boot of the machine this is.
    pub boot: String,
    /// What is kept of VMs on disk.
    pub records: Records,
    /// Bounds how many VMs start at the same time.
    pub slots: Arc<Semaphore>,
    /// The desktop network of this machine.
    pub network: Network,
    /// The tasks that own VMs.
    pub owners: Drain,
    desktops: Mutex<HashMap<VmId, (Generation, Handle)>>,
    /// How this node stands: only while its lease is held, its VMs are its own.
    pub stage: watch::Sender<Stage>,
    /// Whether there are other nodes.
    pub peers: watch::Sender<bool>,
    told_to_stop: AtomicBool,
    ended: OnceLock<End>,
}

/// Why a node cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its lease ended, and everything on it.
    Fenced,
    /// Another daemon has the host row.
    Superseded,
}

/// The parts of a node that are known before it serves.
pub struct Parts {
    /// See [`Node`].
    pub config: Config,
    /// See [`Node`].
    pub database: Database,
    /// See [`Node`].
    pub name: String,
    /// See [`Node`].
    pub own: Incarnation,
    /// See [`Node`].
    pub boot: String,
    /// See [`Node`].
    pub records: Records,
    /// How many VMs may start at the same time.
    pub starting: usize,
    /// See [`Node`].
    pub network: Network,
}

impl Node {
    /// A node that owns nothing yet.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { config, database, name, own, boot, records, starting, network } = parts;
        Arc::new(Self {
            config,
            database,
            actor: Actor::node(&name),
            name,
            own,
            boot,
            records,
            slots: Arc::new(Semaphore::new(starting)),
            network,
            owners: Drain::default(),
            desktops: Mutex::default(),
            stage: watch::Sender::new(Stage::Held),
            peers: watch::Sender::new(false),
            told_to_stop: AtomicBool::new(false),
            ended: OnceLock::new(),
        })
    }

    /// The condition of every write about a VM.
    pub fn ownership(&self, vm: VmId, generation: Generation) -> Ownership {
        Ownership { vm, host: self.own.host, generation }
    }

    /// Gives a VM an owner. It takes over from an owner of an earlier generation, without making anybody wait.
    pub fn take(self: &Arc<Self>, vm: VmId, generation: Generation, origin: Origin) {
        let mut desktops = self.desktops();
        let old = desktops.remove(&vm).filter(|(_, handle)| handle.is_alive());
        let owner = match old {
            Some((of, handle)) if of == generation => handle,
            old => spawn(self, vm, generation, origin, old.map(|(_, handle)| handle)),
        };
        desktops.insert(vm, (generation, owner));
    }

    /// The living owner of a VM.
    pub fn owner(&self, vm: VmId) -> Option<(Generation, Handle)> {
        self.desktops().get(&vm).filter(|(_, handle)| handle.is_alive()).cloned()
    }

    /// Every VM with a living owner.
    pub fn owned(&self) -> Vec<(VmId, Generation, Handle)> {
        let mut desktops = self.desktops();
        desktops.retain(|_, (_, handle)| handle.is_alive());
        desktops.iter().map(|(vm, (generation, handle))| (*vm, *generation, handle.clone())).collect()
    }

    /// The host was commanded to stop, with its VMs.
    pub fn tell_to_stop(&self) {
        self.told_to_stop.store(true, Ordering::Relaxed);
    }

    /// Whether the host was commanded to stop.
    pub fn is_told_to_stop(&self) -> bool {
        self.told_to_stop.load(Ordering::Relaxed)
    }

    /// Whether the VMs of this node are its own for long enough to start some.
    pub fn holds(&self) -> bool {
        *self.stage.borrow() == Stage::Held
    }

    /// Whether its VMs, and what they wrote, may be those of other nodes by now.
    pub fn is_fenced(&self) -> bool {
        *self.stage.borrow() == Stage::Fenced
    }

    /// The node cannot go on.
    pub fn end(&self, end: End) {
        // The first reason is the one.
        let _first = self.ended.set(end);
    }

    /// Why the node cannot go on, if it cannot.
    pub fn ended(&self) -> Option<End> {
        self.ended.get().copied()
    }

    fn desktops(&self) -> std::sync::MutexGuard<'_, HashMap<VmId, (Generation, Handle)>> {
        self.desktops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
