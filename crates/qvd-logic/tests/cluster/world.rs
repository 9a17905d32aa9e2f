//! What nodes share: the database, the storage, and the truth that nobody in it can see.

use std::collections::BTreeMap;

use qvd_logic::cluster::{FileMark, Files, Peer, Promise, RowMark};
use qvd_model::{HostId, HostState, VmCommand, VmState};

use crate::dice::Dice;

/// Milliseconds.
pub const SECOND: u64 = 1000;
pub const BEAT: u64 = 5 * SECOND;
pub const STOP: u64 = 40 * SECOND;
pub const LOST: u64 = 60 * SECOND;

/// A mistake that the simulation has to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Nodes end their VMs when others already start them.
    NoMargin,
    /// Nothing ends the VMs of a node whose daemon hangs or is dead.
    NoWatchdog,
    /// Heartbeat files are not looked at.
    BlindToFiles,
    /// The age of a heartbeat by the database's clock counts.
    TrustedClock,
    /// A host is given up without looking whether it came back meanwhile.
    NoCompare,
}

#[derive(Debug, Clone)]
pub struct HostRow {
    pub mark: RowMark,
    pub state: HostState,
    pub promise: Promise,
}

#[derive(Debug, Clone)]
pub struct VmRow {
    pub state: VmState,
    pub host: Option<usize>,
    pub generation: i64,
    pub command: Option<VmCommand>,
}

/// The database, the storage, and what really happened.
pub struct World {
    pub now: u64,
    pub dice: Dice,
    pub mistake: Option<Mistake>,
    pub database_is_up: bool,
    pub storage_is_up: bool,
    /// How far the database's clock is off.
    pub skew: i64,
    pub hosts: Vec<HostRow>,
    pub vms: Vec<VmRow>,
    pub files: BTreeMap<HostId, FileMark>,
    /// When heartbeats of each host really arrived, in row and file.
    pub arrived: Vec<(u64, u64)>,
    pub violations: Vec<String>,
    pub reclaims: usize,
    pub fencings: usize,
}

impl World {
    pub fn new(seed: u64, nodes: usize, vms: usize, mistake: Option<Mistake>) -> Self {
        let host = HostRow {
            mark: RowMark { incarnation: 0, beat: None },
            state: HostState::Stopped,
            promise: Promise::default(),
        };
        let vm = VmRow { state: VmState::Stopped, host: None, generation: 0, command: None };
        Self {
            now: 0,
            dice: Dice::new(seed),
            mistake,
            database_is_up: true,
            storage_is_up: true,
            skew: 0,
            hosts: vec![host; nodes],
            vms: vec![vm; vms],
            files: BTreeMap::new(),
            arrived: vec![(0, 0); nodes],
            violations: Vec::new(),
            reclaims: 0,
            fencings: 0,
        }
    }

    fn clock(&self) -> i64 {
        i64::try_from(self.now).unwrap() + self.skew
    }

    pub fn has_peers(&self, host: usize) -> bool {
        self.hosts.iter().enumerate().any(|(i, row)| i != host && row.mark.incarnation > 0)
    }

    /// Registers a node; its new incarnation.
    pub fn register(&mut self, host: usize, promise: Promise) -> i64 {
        let beat = Some(self.clock());
        let row = &mut self.hosts[host];
        row.mark = RowMark { incarnation: row.mark.incarnation + 1, beat };
        (row.state, row.promise) = (HostState::Starting, promise);
        self.arrived[host].0 = self.now;
        self.hosts[host].mark.incarnation
    }

    /// A heartbeat to the row; whether the row was still the node's.
    pub fn beat(&mut self, host: usize, incarnation: i64, promise: Promise) -> bool {
        let beat = Some(self.clock());
        let row = &mut self.hosts[host];
        if row.mark.incarnation != incarnation || row.state == HostState::Lost {
            return false;
        }
        (row.mark.beat, row.promise) = (beat, promise);
        self.arrived[host].0 = self.now;
        true
    }

    /// What a node reads of all others.
    pub fn peers(&self, host: usize) -> Vec<Peer> {
        let others = self.hosts.iter().enumerate().filter(|(i, _)| *i != host);
        others
            .map(|(i, row)| {
                let blind = self.mistake == Some(Mistake::BlindToFiles);
                let named = self.vms.iter().any(|vm| vm.host == Some(i));
                Peer {
                    host: id(i),
                    mark: row.mark,
                    promise: Promise { file: row.promise.file && !blind, ..row.promise },
                    storage: row.promise.file.then(|| "shared".to_owned()),
                    is_of_concern: named || !matches!(row.state, HostState::Lost | HostState::Stopped),
                }
            })
            .collect()
    }

    pub fn read_files(&self) -> Files {
        Files { storage: "shared".to_owned(), marks: self.files.clone() }
    }

    /// Hosts that look lost to whoever trusts the database's clock.
    pub fn old_by_clock(&self, host: usize) -> Vec<(usize, RowMark)> {
        let old = |row: &HostRow| row.mark.beat.is_some_and(|beat| self.clock() - beat > LOST as i64);
        let rows = self.hosts.iter().enumerate();
        rows.filter(|(i, row)| *i != host && row.state != HostState::Lost && old(row))
            .map(|(i, row)| (i, row.mark))
            .collect()
    }

    /// Gives up a host if its row still shows this heartbeat.
    pub fn reclaim(&mut self, host: usize, seen: RowMark) {
        if self.hosts[host].mark != seen && self.mistake != Some(Mistake::NoCompare) {
            return;
        }
        let (row, file) = self.arrived[host];
        let last = if self.hosts[host].promise.file { row.max(file) } else { row };
        // Clocks that count seconds differ a little.
        if self.hosts[host].mark.incarnation > 0 && self.now - last < LOST * 998 / 1000 {
            self.violations.push(format!("{}: host {host} was given up though it lived at {last}", self.now));
        }
        self.hosts[host].state = HostState::Lost;
        self.reclaims += 1;
        for vm in self.vms.iter_mut().filter(|vm| vm.host == Some(host)) {
            let generation = vm.generation + 1;
            *vm = VmRow { state: VmState::Stopped, host: None, generation, command: None };
        }
    }

    /// Somebody wants a VM: it is given to a host that seems to live.
    pub fn start(&mut self, vm: usize) {
        if self.vms[vm].state != VmState::Stopped || self.vms[vm].command.is_some() {
            return;
        }
        let fresh = |row: &&HostRow| {
            let age = self.clock() - row.mark.beat.unwrap_or(i64::MIN / 2);
            row.state == HostState::Running && age <= 3 * BEAT as i64
        };
        let rows: Vec<usize> = (0..self.hosts.len()).filter(|i| fresh(&&self.hosts[*i])).collect();
        if rows.is_empty() {
            return;
        }
        let host = rows[self.dice.index(rows.len())];
        let row = &mut self.vms[vm];
        row.generation += 1;
        (row.host, row.command) = (Some(host), Some(VmCommand::Start));
    }

    pub fn stop(&mut self, vm: usize) {
        let row = &mut self.vms[vm];
        if row.state.accepts(VmCommand::Stop) {
            row.command = Some(VmCommand::Stop);
        }
    }

    /// Takes a pending start of a host: `None` if the host row is not this incarnation's any more.
    pub fn claim_start(&mut self, host: usize, incarnation: i64) -> Option<(usize, i64)> {
        let row = &self.hosts[host];
        if row.mark.incarnation != incarnation || row.state == HostState::Lost {
            return None;
        }
        let waits = |vm: &VmRow| vm.host == Some(host) && vm.command == Some(VmCommand::Start);
        let vm = self.vms.iter().position(|vm| waits(vm) && vm.state == VmState::Stopped)?;
        self.vms[vm].command = None;
        self.vms[vm].state = VmState::Starting;
        Some((vm, self.vms[vm].generation))
    }

    pub fn claim_stop(&mut self, host: usize) -> Option<usize> {
        let waits = |vm: &VmRow| vm.host == Some(host) && vm.command == Some(VmCommand::Stop);
        let vm = self.vms.iter().position(waits)?;
        self.vms[vm].command = None;
        Some(vm)
    }

    /// Whether a VM is this host's under this generation.
    pub fn owns(&self, host: usize, vm: usize, generation: i64) -> bool {
        self.vms[vm].host == Some(host) && self.vms[vm].generation == generation
    }

    pub fn set_state(&mut self, host: usize, (vm, generation): (usize, i64), state: VmState) -> bool {
        let owns = self.owns(host, vm, generation);
        if owns {
            self.vms[vm].state = state;
        }
        owns
    }

    pub fn clear(&mut self, host: usize, (vm, generation): (usize, i64)) {
        if self.owns(host, vm, generation) {
            self.vms[vm] = VmRow { state: VmState::Stopped, host: None, generation, command: None };
        }
    }
}

pub fn id(host: usize) -> HostId {
    HostId(i32::try_from(host).unwrap() + 1)
}
