//! A node: its machine, its watchdog, its daemon, and the instances of VMs that run on it.

use std::time::Duration;

use qvd_logic::cluster::FileMark;
use qvd_logic::cluster::{Effect, Event, Finding, Lease, Limits, Moment, Observer, Promise, RowMark, Stage};
use qvd_model::{HostState, VmState};

use crate::world::{BEAT, LOST, Mistake, SECOND, STOP, World, id};

/// A VM that really runs, and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    pub vm: usize,
    pub generation: i64,
    pub ends: Option<u64>,
}

/// Something that was sent and is not answered yet.
#[derive(Debug, Clone, Copy)]
struct Flight<T> {
    sent: Moment,
    lands: u64,
    returns: u64,
    wrote: Promise,
    /// What it did where it landed; `None` if it got lost.
    outcome: Option<T>,
    has_landed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Work {
    /// Everything is prepared until then.
    Prepare(u64),
    /// The desktop boots until then.
    Boot(u64),
    /// It powers off until then.
    Stop(u64),
}

#[derive(Debug, Clone, Copy)]
struct Job {
    vm: (usize, i64),
    work: Work,
}

/// What the daemon has in its memory.
enum Daemon {
    Registering(Option<Flight<i64>>),
    Serving(Box<Service>),
}

struct Service {
    incarnation: i64,
    lease: Lease,
    observer: Observer,
    row: Option<Flight<bool>>,
    file: Option<Flight<()>>,
    count: u64,
    next_beat: u64,
    next_look: u64,
    next_sweep: u64,
    /// Hosts to be given up, which takes a while.
    giving_up: Vec<(u64, usize, RowMark)>,
    jobs: Vec<Job>,
    adopted: bool,
    stopping: bool,
}

pub struct Node {
    pub index: usize,
    /// Off or asleep until then.
    pub off_until: u64,
    pub asleep_until: u64,
    /// The daemon is dead or frozen until then.
    pub dead_until: u64,
    pub frozen_until: u64,
    pub database_cut_until: u64,
    pub storage_cut_until: u64,
    drift: i64,
    boot: u64,
    /// The lease as it stands on disk, for watchdog and next daemon; it goes with the boot.
    guard: Option<Option<Moment>>,
    pub instances: Vec<Instance>,
    daemon: Option<Daemon>,
}

fn limits(mistake: Option<Mistake>) -> Limits {
    let ms = Duration::from_millis;
    let late = if mistake == Some(Mistake::NoMargin) { LOST / 3 } else { 0 };
    Limits::new(ms(BEAT), ms(STOP), ms(LOST + late)).unwrap()
}

impl Node {
    pub fn new(index: usize, world: &mut World) -> Self {
        let drift = i64::try_from(world.dice.between(0, 400)).unwrap() - 200;
        Self {
            index,
            off_until: 0,
            asleep_until: 0,
            dead_until: 0,
            frozen_until: 0,
            database_cut_until: 0,
            storage_cut_until: 0,
            drift,
            boot: 0,
            guard: None,
            instances: Vec::new(),
            daemon: None,
        }
    }

    /// The boot-time clock, which runs a little too fast or too slow.
    fn moment(&self, now: u64) -> Moment {
        let real = i64::try_from(now - self.boot).unwrap();
        let shown = real + real * self.drift / 1_000_000;
        Moment(Duration::from_millis(u64::try_from(shown).unwrap()))
    }

    pub fn is_off(&self, world: &World) -> bool {
        world.now < self.off_until
    }

    pub fn is_asleep(&self, world: &World) -> bool {
        world.now < self.asleep_until
    }

    fn reaches_database(&self, world: &World) -> bool {
        world.database_is_up && world.now >= self.database_cut_until
    }

    fn reaches_storage(&self, world: &World) -> bool {
        world.storage_is_up && world.now >= self.storage_cut_until
    }

    pub fn power_off(&mut self, until: u64) {
        (self.off_until, self.boot, self.guard, self.daemon) = (until, until, None, None);
        self.instances.clear();
    }

    pub fn kill_daemon(&mut self, until: u64) {
        (self.dead_until, self.daemon) = (until, None);
    }

    pub fn tick(&mut self, world: &mut World) {
        self.land(world);
        if self.is_off(world) || self.is_asleep(world) {
            return;
        }
        self.instances.retain(|instance| instance.ends.is_none_or(|end| world.now < end));
        self.guard(world);
        if world.now < self.dead_until || world.now < self.frozen_until {
            return;
        }
        match self.daemon.take() {
            None => self.daemon = Some(Daemon::Registering(None)),
            Some(Daemon::Registering(flight)) => self.register(world, flight),
            Some(Daemon::Serving(service)) => self.serve(world, service),
        }
    }

    /// The watchdog: it knows the deadline, and how to kill.
    fn guard(&mut self, world: &mut World) {
        let Some(Some(deadline)) = self.guard else { return };
        if self.moment(world.now) >= deadline && world.mistake != Some(Mistake::NoWatchdog) {
            world.fencings += usize::from(self.instances.iter().any(|instance| instance.ends.is_none()));
            self.kill(world, |_| true);
        }
    }

    /// Killing takes up to two seconds, unless the machine slept: then nothing ran.
    fn kill(&mut self, world: &mut World, which: impl Fn(&Instance) -> bool) {
        let slept = world.now < self.asleep_until + SECOND;
        for instance in self.instances.iter_mut().filter(|instance| which(instance)) {
            let end = world.now + if slept { 0 } else { world.dice.between(0, 2 * SECOND) };
            instance.ends = Some(instance.ends.map_or(end, |ends| ends.min(end)));
        }
        self.instances.retain(|instance| instance.ends.is_none_or(|end| world.now < end));
    }

    fn send<T>(&self, world: &mut World, wrote: Promise) -> Flight<T> {
        let slow = if world.dice.hits(50) { 8 * SECOND } else { SECOND };
        let lands = world.now + world.dice.between(1, slow);
        let returns = lands + world.dice.between(1, slow);
        Flight { sent: self.moment(world.now), lands, returns, wrote, outcome: None, has_landed: false }
    }

    /// What was sent arrives, whatever became of the sender.
    fn land(&mut self, world: &mut World) {
        let (database, storage) = (self.reaches_database(world), self.reaches_storage(world));
        let index = self.index;
        match &mut self.daemon {
            Some(Daemon::Registering(Some(flight))) if !flight.has_landed && world.now >= flight.lands => {
                flight.has_landed = true;
                flight.outcome = database.then(|| world.register(index, flight.wrote));
            }
            Some(Daemon::Serving(service)) => {
                if let Some(flight) = service.row.as_mut().filter(|f| !f.has_landed && world.now >= f.lands) {
                    flight.has_landed = true;
                    flight.outcome = database.then(|| world.beat(index, service.incarnation, flight.wrote));
                }
                if let Some(flight) = service.file.as_mut().filter(|f| !f.has_landed && world.now >= f.lands)
                {
                    flight.has_landed = true;
                    if storage {
                        flight.outcome = Some(());
                        let mark = FileMark { incarnation: service.incarnation, count: service.count };
                        world.files.insert(id(index), mark);
                        world.arrived[index].1 = world.now;
                    }
                }
            }
            _ => {}
        }
    }

    fn register(&mut self, world: &mut World, flight: Option<Flight<i64>>) {
        let limits = limits(world.mistake);
        let (now, peers) = (self.moment(world.now), world.has_peers(self.index));
        self.daemon = Some(Daemon::Registering(match flight {
            Some(flight) if world.now < flight.returns => Some(flight),
            Some(Flight { outcome: Some(incarnation), sent, wrote, .. }) if self.reaches_database(world) => {
                let lease = Lease::registered(limits, sent, wrote, peers, wrote.file);
                self.guard = Some(lease.deadline());
                let (observer, next) = (Observer::new(limits.beat(), limits.lost_after(), now), world.now);
                self.daemon = Some(Daemon::Serving(Box::new(Service {
                    incarnation,
                    lease,
                    observer,
                    row: None,
                    file: None,
                    count: 0,
                    next_beat: next,
                    next_look: next,
                    next_sweep: next + 30 * SECOND,
                    giving_up: Vec::new(),
                    jobs: Vec::new(),
                    adopted: false,
                    stopping: false,
                })));
                return;
            }
            Some(_) => None,
            None if self.reaches_database(world) => {
                // The promise binds from before it is made.
                let end = now + limits.kill_after();
                let bound = peers || world.hosts[self.index].promise.lease.is_some();
                if bound {
                    self.guard = Some(Some(self.guard.flatten().map_or(end, |old| old.min(end))));
                }
                let lease = Duration::from_millis(LOST);
                let file = self.reaches_storage(world) && world.hosts.len() > 1;
                Some(self.send(world, Promise { lease: peers.then_some(lease), file }))
            }
            None => None,
        }));
    }

    fn serve(&mut self, world: &mut World, mut service: Box<Service>) {
        let now = self.moment(world.now);
        let mut effects = service.lease.step(now, Event::Elapsed);
        if let Some(flight) = service.row.take_if(|flight| world.now >= flight.returns) {
            match flight.outcome.filter(|_| self.reaches_database(world)) {
                Some(true) => {
                    let peers = world.has_peers(self.index);
                    let event = Event::Row { sent: flight.sent, wrote: flight.wrote, peers };
                    effects.extend(service.lease.step(now, event));
                }
                Some(false) => effects.extend(service.lease.step(now, Event::Disowned)),
                None => service.observer.outage(now),
            }
        }
        if let Some(flight) = service.file.take_if(|flight| world.now >= flight.returns)
            && flight.outcome.is_some()
            && self.reaches_storage(world)
        {
            effects.extend(service.lease.step(now, Event::File { sent: flight.sent }));
        }
        if world.now >= service.next_beat {
            // Whether the storage is shared is found out, and may change.
            let shared = world.hosts.len() > 1 && !world.dice.hits(50);
            effects.extend(service.lease.step(now, Event::Shared(shared)));
        }
        self.guard = Some(service.lease.deadline());
        for effect in effects {
            match effect {
                Effect::Stop(_) => {
                    service.stopping = true;
                    for instance in self.instances.clone() {
                        self.power_off_vm(world, &mut service, (instance.vm, instance.generation));
                    }
                }
                Effect::Kill => {
                    world.fencings += 1;
                    self.kill(world, |_| true);
                }
            }
        }
        if service.lease.stage() == Stage::Fenced {
            // It kills before it serves.
            self.kill(world, |_| true);
            self.daemon = Some(if self.instances.is_empty() {
                Daemon::Registering(None)
            } else {
                Daemon::Serving(service)
            });
            return;
        }
        if service.row.is_none() && world.now >= service.next_beat {
            service.next_beat = world.now + BEAT;
            let mut promise = service.lease.promise();
            // A node that keeps its promise badly still makes the usual one.
            promise.lease = promise.lease.map(|_| Duration::from_millis(LOST));
            service.row = Some(self.send(world, promise));
            if service.file.is_none() {
                service.count += 1;
                service.file = Some(self.send(world, promise));
            }
        }
        if self.reaches_database(world) {
            self.work(world, &mut service);
            self.look(world, &mut service);
        }
        self.progress(world, &mut service);
        self.daemon = Some(Daemon::Serving(service));
    }

    fn power_off_vm(&mut self, world: &mut World, service: &mut Service, vm: (usize, i64)) {
        service.jobs.retain(|job| job.vm != vm);
        let end = world.now + world.dice.between(SECOND, 12 * SECOND);
        service.jobs.push(Job { vm, work: Work::Stop(end) });
    }

    /// Adoption, commands, and the sweep that makes rows and instances agree.
    fn work(&mut self, world: &mut World, service: &mut Service) {
        let index = self.index;
        if !service.adopted || world.now >= service.next_sweep {
            service.next_sweep = world.now + 30 * SECOND;
            let rows = world.vms.clone();
            self.kill(world, |i| rows[i.vm].host != Some(index) || rows[i.vm].generation != i.generation);
            for (vm, row) in rows.iter().enumerate() {
                let key = (vm, row.generation);
                let here = self.instances.iter().any(|i| (i.vm, i.generation) == key && i.ends.is_none());
                let busy = service.jobs.iter().any(|job| job.vm == key);
                if row.host != Some(index) || row.state == VmState::Stopped || busy {
                    continue;
                }
                match (here, row.state) {
                    (false, _) => world.clear(index, key),
                    (true, VmState::Starting) => {
                        service.jobs.push(Job { vm: key, work: Work::Boot(world.now + SECOND) })
                    }
                    (true, VmState::Stopping) => self.power_off_vm(world, service, key),
                    (true, _) => {}
                }
            }
            // What runs here without right is gone before anything else begins.
            service.adopted |= self.instances.iter().all(|i| i.ends.is_none());
            if !service.adopted {
                return;
            }
            if world.hosts[index].mark.incarnation == service.incarnation
                && world.hosts[index].state == HostState::Starting
            {
                world.hosts[index].state = HostState::Running;
            }
        }
        if service.lease.stage() != Stage::Held {
            return;
        }
        service.stopping = false;
        while let Some(vm) = world.claim_start(index, service.incarnation) {
            let until = world.now + world.dice.between(SECOND / 2, 6 * SECOND);
            service.jobs.push(Job { vm, work: Work::Prepare(until) });
        }
        while let Some(vm) = world.claim_stop(index) {
            let key = (vm, world.vms[vm].generation);
            world.set_state(index, key, VmState::Stopping);
            self.power_off_vm(world, service, key);
        }
        // Desktops that ended by themselves, or were ended while the daemon did not look.
        for (vm, row) in world.vms.clone().iter().enumerate() {
            let key = (vm, row.generation);
            let here = self.instances.iter().any(|i| (i.vm, i.generation) == key);
            let busy = service.jobs.iter().any(|job| job.vm == key);
            if row.host == Some(index) && row.state == VmState::Running && !here && !busy {
                world.clear(index, key);
            }
        }
    }

    /// Watches the others, and gives up who is lost.
    fn look(&mut self, world: &mut World, service: &mut Service) {
        let now = self.moment(world.now);
        if world.now >= service.next_look {
            service.next_look = world.now + world.dice.between(5 * SECOND, 9 * SECOND);
            let files = self.reaches_storage(world).then(|| world.read_files());
            let found = service.observer.observe(now, now, &world.peers(self.index), files.as_ref());
            let mut lost: Vec<(usize, RowMark)> = Vec::new();
            for (host, finding) in found {
                if let Finding::Lost(mark) = finding {
                    lost.push((usize::try_from(host.0).unwrap() - 1, mark));
                }
            }
            if world.mistake == Some(Mistake::TrustedClock) {
                lost.extend(world.old_by_clock(self.index));
            }
            for (host, mark) in lost {
                let slow = if world.dice.hits(200) { 30 * SECOND } else { SECOND };
                service.giving_up.push((world.now + world.dice.between(0, slow), host, mark));
            }
        }
        let due = |(at, ..): &(u64, usize, RowMark)| *at <= world.now;
        let (now, later): (Vec<_>, Vec<_>) = service.giving_up.iter().partition(|entry| due(entry));
        service.giving_up = later;
        for (_, host, mark) in now {
            world.reclaim(host, mark);
        }
    }

    fn progress(&mut self, world: &mut World, service: &mut Service) {
        let index = self.index;
        let mut jobs = std::mem::take(&mut service.jobs);
        jobs.retain_mut(|job| {
            let (vm, generation) = job.vm;
            let instance = self.instances.iter().position(|i| (i.vm, i.generation) == job.vm);
            match job.work {
                Work::Prepare(until) if world.now >= until => {
                    if service.lease.stage() != Stage::Held || service.stopping {
                        return false;
                    }
                    self.instances.push(Instance { vm, generation, ends: None });
                    job.work = Work::Boot(world.now + world.dice.between(SECOND / 2, 3 * SECOND));
                    true
                }
                Work::Boot(until) if world.now >= until && self.reaches_database(world) => {
                    if instance.is_none() {
                        world.clear(index, job.vm);
                    } else if !world.set_state(index, job.vm, VmState::Running) {
                        self.kill(world, |i| (i.vm, i.generation) == (vm, generation));
                    }
                    false
                }
                Work::Stop(until) if world.now >= until => {
                    self.instances.retain(|i| (i.vm, i.generation) != (vm, generation));
                    if !self.reaches_database(world) {
                        return true;
                    }
                    world.clear(index, job.vm);
                    false
                }
                _ => true,
            }
        });
        service.jobs.extend(jobs);
    }
}
