//! Keeps the lease of this node: heartbeats to both witnesses, the deadline on disk, and what has to be done when
//! neither can be reached any more.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use qvd_db::Doorbell;
use qvd_db::hosts::{self, Beat, Heartbeat};
use qvd_logic::cluster::{Effect, Event, FileMark, Lease, Limits, Moment, Promise, Stage};
use qvd_model::{FailureCode, HostCommand, HostId};
use qvd_runtime::Values;
use qvd_runtime::config::ConfigError;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock;
use crate::container;
use crate::error::Error;
use crate::guard::{Counted, Guard, GuardFile};
use crate::node::{End, Node};
use crate::owner::Message;
use crate::witness::Witness;

/// Clocks that differ by more than this are worth a warning.
const SKEW: f64 = 2.0;
/// Pause before a heartbeat that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long killed processes may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Whether all nodes have the same storage, as configured: `None` has to be found out.
pub fn shared_by_key(values: &Values) -> Result<Option<bool>, ConfigError> {
    Ok(match values.text("internal.hkd.cluster.storage")?.as_str() {
        "shared" => Some(true),
        "private" => Some(false),
        _ => None,
    })
}

/// The times of the lease, as configured.
pub fn limits(values: &Values) -> Result<Limits, String> {
    let seconds = |key: &str| values.seconds(key).map_err(|error| error.to_string());
    let (beat, stop) =
        (seconds("internal.hkd.agent.ticker.delay")?, seconds("internal.hkd.agent.ticker.timeout")?);
    let lost = seconds("internal.hkd.cluster.node.timeout")?;
    Limits::new(beat, stop, lost).map_err(|error| error.to_string())
}

/// Warns of times that leave VMs little time to stop.
pub fn warn_of_hurry(limits: &Limits) {
    if let Some(time) = limits.hurry() {
        warn!(
            "VMs of a node that is cut off have only {} s to stop by themselves: internal.hkd.agent.ticker.timeout \
             and internal.hkd.cluster.node.timeout lie close together",
            time.as_secs_f64()
        );
    }
}

/// A heartbeat that is under way.
type Flight<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What became of a heartbeat to the row.
struct RowAnswer {
    sent: Moment,
    wrote: Promise,
    found: Result<Heartbeat, qvd_db::Error>,
}

/// What became of a heartbeat to the file.
struct FileAnswer {
    sent: Moment,
    written: std::io::Result<()>,
}

/// The task that keeps the lease.
pub struct Keeper {
    node: Arc<Node>,
    lease: Lease,
    guard: Guard,
    file: GuardFile,
    witness: Option<Witness>,
    count: u64,
    /// What does not get heartbeats at the moment, so that it is said once.
    silent: BTreeSet<&'static str>,
}

impl Keeper {
    /// The keeper of a lease that has just begun. Whoever makes one has the deadline on disk.
    pub fn new(
        node: Arc<Node>,
        lease: Lease,
        guard: Guard,
        file: GuardFile,
        witness: Option<Witness>,
    ) -> Self {
        Self { node, lease, guard, file, witness, count: 0, silent: BTreeSet::new() }
    }

    /// Keeps it until `until`, or until it is lost: then everything is killed, and `stop` is cancelled. `shares` tells
    /// whether the storage was found to be shared.
    pub async fn run(
        mut self,
        mut bell: Doorbell,
        mut shares: watch::Receiver<bool>,
        stop: CancellationToken,
        until: CancellationToken,
    ) {
        let (mut row, mut file) = (Some(self.send_row()), self.send_file());
        let beat = self.lease.limits().beat();
        let (mut next_row, mut next_file) = (Instant::now() + beat, Instant::now() + beat);
        loop {
            let promise = self.lease.promise();
            let end = tokio::select! {
                biased;
                () = until.cancelled() => return,
                () = clock::until(self.lease.due()) => self.take(Event::Elapsed).await,
                answer = landed(&mut row) => {
                    next_row = Instant::now() + if answer.found.is_ok() { beat } else { beat.min(RETRY) };
                    self.take_row(answer, &stop).await
                }
                FileAnswer { sent, written } = landed(&mut file) => {
                    next_file = Instant::now() + beat;
                    match written {
                        Ok(()) => {
                            self.arrived("storage");
                            self.take(Event::File { sent }).await
                        }
                        Err(problem) => {
                            self.missed("storage", &problem);
                            None
                        }
                    }
                }
                Ok(()) = shares.changed() => {
                    let shared = *shares.borrow_and_update();
                    info!(shared, "the storage is that of other nodes, too: a heartbeat there counts");
                    next_row = Instant::now();
                    self.take(Event::Shared(shared)).await
                }
                () = bell.rung(), if row.is_none() => {
                    next_row = Instant::now();
                    None
                }
                () = tokio::time::sleep_until(next_row), if row.is_none() => {
                    row = Some(self.send_row());
                    None
                }
                () = tokio::time::sleep_until(next_file), if file.is_none() => {
                    file = self.send_file();
                    next_file = Instant::now() + beat;
                    None
                }
            };
            if let Some(end) = end {
                self.node.end(end);
                stop.cancel();
                return;
            }
            if self.lease.promise() != promise {
                // What changed is told at once.
                next_row = Instant::now();
            }
        }
    }

    fn send_row(&self) -> Flight<RowAnswer> {
        let (node, wrote) = (self.node.clone(), self.lease.promise());
        let storage = self.witness.as_ref().map(|witness| witness.storage().to_owned());
        let period = self.lease.limits().beat();
        Box::pin(async move {
            let sent = clock::now();
            let beat = Beat { pid: own_pid(), promise: wrote, storage: storage.as_deref(), period };
            let limit = period.max(RETRY);
            let found = tokio::time::timeout(limit, hosts::heartbeat(&node.database, node.own, beat)).await;
            let found = found.unwrap_or_else(|_| {
                let problem = format!("no answer within {} s", limit.as_secs_f64());
                Err(qvd_db::Error::Away { operation: "write the heartbeat", problem })
            });
            RowAnswer { sent, wrote, found }
        })
    }

    /// Writing may hang with the storage; what counts is when it began.
    fn send_file(&mut self) -> Option<Flight<FileAnswer>> {
        let witness = self.witness.clone()?;
        self.count += 1;
        let mark = FileMark { incarnation: self.node.own.number, count: self.count };
        Some(write_file(witness, self.node.own.host, mark))
    }

    /// Takes the answer to a heartbeat of the row, and the command to the host in it.
    async fn take_row(&mut self, answer: RowAnswer, stop: &CancellationToken) -> Option<End> {
        let RowAnswer { sent, wrote, found } = answer;
        match found {
            Ok(Heartbeat::Own { command, now, peers, .. }) => {
                self.arrived("database");
                warn_of_skew(now);
                let end = self.take(Event::Row { sent, wrote, peers }).await;
                self.node.peers.send_if_modified(|known| std::mem::replace(known, peers) != peers);
                if command == Some(HostCommand::Stop) {
                    obey_stop(&self.node, stop).await;
                }
                end
            }
            // The other daemon adopts what runs here, if it is here as well.
            Ok(Heartbeat::Superseded) => Some(End::Superseded),
            Ok(Heartbeat::Lost) => {
                error!("the other nodes gave this one up");
                self.take(Event::Disowned).await
            }
            Err(problem) => {
                self.missed("database", &problem);
                None
            }
        }
    }

    fn arrived(&mut self, place: &'static str) {
        if self.silent.remove(place) {
            info!("heartbeats reach the {place} again");
        }
    }

    fn missed(&mut self, place: &'static str, problem: &dyn std::fmt::Display) {
        if self.silent.insert(place) {
            warn!("no heartbeat in the {place}: {problem}");
        }
    }

    /// Steps the lease, does what it asks for, and puts the new deadline where the watchdog sees it.
    async fn take(&mut self, event: Event) -> Option<End> {
        let before = self.lease.stage();
        let effects = self.lease.step(clock::now(), event);
        let stage = self.lease.stage();
        // Before anything is killed, so that nobody cleans up what is somebody else's by now.
        publish(&self.node.stage, stage);
        for effect in effects {
            match effect {
                Effect::Stop(until) => {
                    let left = until.since(clock::now()).as_secs_f64();
                    error!(
                        "neither database nor storage got a heartbeat for long; stopping all VMs, {left:.0} s are left"
                    );
                    for (_, _, handle) in self.node.owned() {
                        handle.hint(Message::Stop);
                    }
                }
                Effect::Kill => {
                    error!("the lease of this node has ended; killing all VMs");
                    kill_all(&self.node.config.now()).await;
                    for (_, _, handle) in self.node.owned() {
                        handle.hint(Message::Kill(FailureCode::Fenced));
                    }
                }
            }
        }
        if stage == Stage::Fenced {
            return Some(End::Fenced);
        }
        if (before, stage) == (Stage::Stopping, Stage::Held) {
            info!("heartbeats arrive again; VMs may be started again");
        }
        self.write_guard();
        None
    }

    fn write_guard(&mut self) {
        let mut guard = self.guard.clone();
        guard.set_deadline(self.lease.deadline());
        let witness = self.witness.as_ref().filter(|_| self.lease.file_counts());
        guard.file = witness.map(|witness| Counted {
            storage: witness.storage().to_owned(),
            host: self.node.own.host,
            incarnation: self.node.own.number,
        });
        if guard == self.guard {
            return;
        }
        match self.file.write(&guard) {
            Ok(()) => self.guard = guard,
            // The watchdog has the old deadline, which is earlier.
            Err(problem) => error!("the watchdog is not told: {problem}"),
        }
    }
}

/// Writes a heartbeat to the storage; when it began.
fn write_file(witness: Witness, host: HostId, mark: FileMark) -> Flight<FileAnswer> {
    let sent = clock::now();
    let writing = tokio::task::spawn_blocking(move || witness.write(host, mark));
    Box::pin(async move {
        let written = writing.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        FileAnswer { sent, written }
    })
}

/// Kills whatever runs of all desktops.
pub async fn kill_all(values: &Values) {
    let lxc = match container::lxc(values) {
        Ok(lxc) => lxc,
        Err(failure) => return error!("desktops are not killed: {failure}"),
    };
    let killed = tokio::task::spawn_blocking(move || lxc.cgroups.kill_all(KILL_LIMIT)).await;
    match killed {
        Ok(Ok(count)) => info!("killed {count} processes of desktops"),
        Ok(Err(problem)) => error!("not everything was killed: {problem}"),
        Err(problem) => error!("desktops are not killed: {problem}"),
    }
}

/// Prolongs the lease of the daemon before this one by the storage alone, while the database cannot be reached yet.
pub async fn bridge(file: &GuardFile, boot: &str, limits: &Limits, values: &Values) -> Result<(), Error> {
    let Some(mut guard) = file.read(boot) else { return Ok(()) };
    let (Some(counted), Some(_)) = (guard.file.clone(), guard.deadline) else { return Ok(()) };
    let root = values.path("path.storage.root")?;
    let opened = tokio::task::spawn_blocking(move || Witness::open(&root)).await;
    let Ok(Ok(witness)) = opened else { return Ok(()) };
    if witness.storage() != counted.storage || guard.has_lapsed(clock::now()) {
        return Ok(());
    }
    // Any number that was not there before will do.
    let count = u64::try_from(clock::now().0.as_micros()).unwrap_or(u64::MAX);
    let mark = FileMark { incarnation: counted.incarnation, count };
    let FileAnswer { sent, written } = write_file(witness, counted.host, mark).await;
    if written.is_ok() && !guard.has_lapsed(clock::now()) {
        guard.set_deadline(guard.deadline().max(Some(sent + limits.kill_after())));
        file.write(&guard)?;
    }
    Ok(())
}

/// The promise of a registration, made binding before it is made.
pub fn bind(
    file: &GuardFile,
    boot: &str,
    limits: &Limits,
    standing: hosts::Standing,
    shared: bool,
) -> Result<(Guard, Promise), Error> {
    let none = Guard { boot: boot.to_owned(), deadline: None, file: None };
    let mut guard = file.read(boot).unwrap_or(none);
    if standing.peers || standing.bound {
        let end = clock::now() + limits.kill_after();
        guard.set_deadline(Some(guard.deadline().map_or(end, |old| old.min(end))));
    }
    file.write(&guard)?;
    let lease = standing.peers.then(|| limits.lost_after());
    Ok((guard, Promise { lease, file: shared }))
}

/// Resolves when what is under way has landed; never if nothing is.
async fn landed<T>(flight: &mut Option<Flight<T>>) -> T {
    match flight {
        Some(flying) => {
            let answer = flying.await;
            *flight = None;
            answer
        }
        None => std::future::pending().await,
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

/// This process.
pub fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

fn warn_of_skew(database: f64) {
    let own = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let skew = own.as_secs_f64() - database;
    if skew.abs() > SKEW {
        warn!("the clock of this node differs from the database's by {skew:.1} s; run NTP on both");
    }
}

/// Wakes those who wait for another stage. Each heartbeat steps the lease, and mostly it stays where it is.
fn publish(known: &watch::Sender<Stage>, stage: Stage) {
    known.send_if_modified(|known| std::mem::replace(known, stage) != stage);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_that_changes_nothing_wakes_nobody() {
        let known = watch::Sender::new(Stage::Held);
        let waiting = known.subscribe();
        publish(&known, Stage::Held);
        assert!(!waiting.has_changed().unwrap());
        publish(&known, Stage::Stopping);
        assert!(waiting.has_changed().unwrap());
        assert_eq!(*waiting.borrow(), Stage::Stopping);
    }
}
