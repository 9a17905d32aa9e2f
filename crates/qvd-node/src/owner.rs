//! The task that owns one VM: it feeds the lifecycle machine with what happens and carries out what it asks for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use qvd_logic::lifecycle::{Effect, Event, Machine, State, Step, Timer};
use qvd_model::{Failure, FailureCode, Generation, VmId, VmState};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::desktop::{Desktop, RowLost};
use crate::node::Node;
use crate::pulse::{Patience, Phase, Pulse, Verdict};
use crate::record::Record;

/// What others tell the owner of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// An administrator or a router wants it stopped.
    Stop,
    /// It must end at once.
    Kill(FailureCode),
}

/// How a VM comes to its owner.
#[derive(Debug)]
pub enum Origin {
    /// Its row was claimed for a start.
    Claimed,
    /// Its processes were found alive; this is the state in its row.
    Adopted(VmState, Record),
    /// Only left-overs of it were found.
    Abandoned(Option<Record>, Failure),
}

/// The way to a VM's owner.
#[derive(Debug, Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Message>,
}

/// How many messages may wait; the sender of more waits itself.
const INBOX: usize = 8;

impl Handle {
    /// Tells the owner; one that is gone needs no telling.
    pub async fn tell(&self, message: Message) {
        if self.inbox.send(message).await.is_err() {
            debug!("the owner of the VM has just ended");
        }
    }

    /// Tells the owner without waiting; one with so many messages is about to do something about them anyway.
    pub fn hint(&self, message: Message) {
        if let Err(error) = self.inbox.try_send(message) {
            debug!("not told: {error}");
        }
    }

    /// Whether the owner still has the VM.
    pub fn is_alive(&self) -> bool {
        !self.inbox.is_closed()
    }

    /// Resolves when the owner has let go of the VM.
    pub async fn ended(&self) {
        self.inbox.closed().await;
    }
}

/// Starts the task of a VM; it ends when the VM is stopped. A predecessor, whose ownership ended, is killed and
/// waited for first.
pub fn spawn(
    node: &Arc<Node>,
    vm: VmId,
    generation: Generation,
    origin: Origin,
    predecessor: Option<Handle>,
) -> Handle {
    let (inbox, messages) = mpsc::channel(INBOX);
    let desktop = Arc::new(Desktop::new(node.clone(), vm, generation));
    node.owners.spawn(async move {
        if let Some(predecessor) = predecessor {
            predecessor.tell(Message::Kill(FailureCode::Fenced)).await;
            predecessor.ended().await;
        }
        let (machine, effects) = begin(&desktop, origin);
        let mut owner = Owner {
            machine,
            messages,
            operation: None,
            persisting: None,
            deadline: None,
            ping: None,
            pulse: None,
            ended: None,
            desktop,
        };
        owner.carry_out(effects);
        owner.attend(State::Stopped);
        owner.run().await;
    });
    Handle { inbox }
}

fn begin(desktop: &Desktop, origin: Origin) -> (Machine, Vec<Effect>) {
    let keep_silent = desktop.keeps_silent();
    match origin {
        Origin::Claimed => {
            let mut machine = Machine::new(keep_silent);
            let effects = machine.step(Event::Start).unwrap_or_default();
            // The claim has written the state already.
            let effects = effects.into_iter().filter(|e| !matches!(e, Effect::Persist(_))).collect();
            (machine, effects)
        }
        Origin::Adopted(was, record) => {
            info!(vm = desktop.vm.0, state = %was, "adopted");
            desktop.resume(record, was);
            Machine::adopted(keep_silent, was)
        }
        Origin::Abandoned(record, failure) => {
            info!(vm = desktop.vm.0, "cleaning up what is left: {failure}");
            if let Some(record) = record {
                desktop.resume(record, VmState::Stopping);
            }
            Machine::abandoned(failure)
        }
    }
}

type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

struct Owner {
    desktop: Arc<Desktop>,
    machine: Machine,
    messages: mpsc::Receiver<Message>,
    /// What runs for the machine, and whether it waits for the answer.
    operation: Pending<Result<(), Failure>>,
    /// The public state on its way to the row; the newest replaces an older one.
    persisting: Pending<Result<(), RowLost>>,
    deadline: Option<Instant>,
    ping: Pending<Result<(), String>>,
    pulse: Option<(Pulse, Instant)>,
    ended: Pending<Event>,
}

impl Owner {
    async fn run(&mut self) {
        while self.machine.state() != State::Stopped {
            let event = self.next_event().await;
            let before = self.machine.state();
            debug!(vm = self.desktop.vm.0, ?event, state = ?before);
            match self.machine.step(event) {
                Ok(effects) => self.carry_out(effects),
                Err(refused) => debug!(vm = self.desktop.vm.0, "{refused}"),
            }
            self.attend(before);
        }
    }

    async fn next_event(&mut self) -> Event {
        loop {
            tokio::select! {
                biased;
                Some(message) = self.messages.recv() => return match message {
                    Message::Stop => Event::Stop,
                    Message::Kill(code) => Event::Kill(code),
                },
                result = pending(&mut self.operation) => return match result {
                    Ok(()) => Event::Done,
                    Err(failure) => {
                        warn!(vm = self.desktop.vm.0, state = ?self.machine.state(), "{failure}");
                        Event::Failed(failure)
                    }
                },
                result = pending(&mut self.persisting) => if let Err(RowLost) = result {
                    warn!(vm = self.desktop.vm.0, "the row is not ours any more; the VM is killed here");
                    return Event::Kill(FailureCode::Fenced);
                },
                event = pending(&mut self.ended) => return event,
                answer = pending(&mut self.ping) => if let Some(event) = self.observe(answer) {
                    return event;
                },
                () = until(self.deadline) => {
                    self.deadline = None;
                    return Event::Elapsed;
                }
            }
        }
    }

    /// Starts what the machine asks for. Operations exclude each other; the machine never asks for a second one.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let desktop = self.desktop.clone();
            match effect {
                Effect::Persist(state) => {
                    self.persisting = Some(Box::pin(async move { desktop.persist(state).await }))
                }
                Effect::ReleaseSlot => desktop.release_slot(),
                Effect::Arm(timer) => self.deadline = Instant::now().checked_add(desktop.limit(timer)),
                Effect::Cancel => self.abandon_operation(),
                Effect::Run(step) => self.operate(async move { desktop.perform(step).await }),
                Effect::PowerOff => self.operate(async move { desktop.power_off().await }),
                Effect::Halt => self.operate(async move { desktop.halt().await }),
                Effect::KillAll => self.operate(async move { desktop.kill().await }),
                Effect::Undo(undo) => {
                    let failure = self.machine.failure().map(|failure| failure.code);
                    self.operate(async move { desktop.undo(undo, failure).await });
                }
                Effect::ClearRow(failure) => {
                    self.persisting = None;
                    self.operate(async move { desktop.clear(failure).await });
                }
            }
        }
    }

    /// Runs an operation after the one that could not be abandoned, if there is one.
    fn operate(&mut self, next: impl Future<Output = Result<(), Failure>> + Send + 'static) {
        self.operation = Some(match self.operation.take() {
            None => Box::pin(next),
            Some(previous) => Box::pin(async move {
                if let Err(failure) = previous.await {
                    debug!("abandoned: {failure}");
                }
                next.await
            }),
        });
    }

    /// Long steps that change nothing on their own are dropped; the others end first, or they would race with
    /// what undoes them.
    fn abandon_operation(&mut self) {
        if self.desktop.step().is_none_or(Step::is_abandonable) {
            self.operation = None;
        }
    }

    /// Begins and ends watching process and agent as the new state demands.
    fn attend(&mut self, before: State) {
        let state = self.machine.state();
        if state == before {
            return;
        }
        if !matches!(state, State::Booting | State::PoweringOff | State::Halting | State::Waiting) {
            self.deadline = None;
        }
        if self.ended.is_none() && self.desktop.runs() {
            let desktop = self.desktop.clone();
            self.ended = Some(Box::pin(async move { desktop.ended().await }));
        }
        match state {
            State::Booting => self.watch(Phase::Booting),
            State::Running | State::Debugging if self.pulse.is_none() => self.watch(Phase::Running),
            State::Running | State::Debugging => {}
            _ => {
                self.pulse = None;
                self.ping = None;
            }
        }
    }

    fn watch(&mut self, phase: Phase) {
        match Patience::read(&self.desktop.node.config.now(), phase) {
            Ok(patience) => {
                let pulse = Pulse::new(phase, patience);
                self.ping = Some(self.desktop.clone().ping_after(pulse.pause(), pulse.way()));
                self.pulse = Some((pulse, Instant::now()));
            }
            Err(error) => warn!(vm = self.desktop.vm.0, "the agent is not watched: {error}"),
        }
    }

    fn observe(&mut self, answer: Result<(), String>) -> Option<Event> {
        let (pulse, last) = self.pulse.as_mut()?;
        let now = Instant::now();
        let verdict = pulse.observe(answer, now.saturating_duration_since(*last));
        *last = now;
        self.ping = Some(self.desktop.clone().ping_after(pulse.pause(), pulse.way()));
        match verdict {
            Verdict::Alive => Some(Event::Alive),
            Verdict::Unknown => None,
            Verdict::Silent(failure) => Some(Event::Silent(failure)),
        }
    }
}

/// Resolves and empties what is pending; never resolves if nothing is.
async fn pending<T>(slot: &mut Pending<T>) -> T {
    match slot {
        Some(future) => {
            let output = future.as_mut().await;
            *slot = None;
            output
        }
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// How long cleaning up waits before the nth new attempt, below the configured longest pause.
pub fn retry_pause(attempt: u32, longest: Duration) -> Duration {
    Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(attempt.min(16))).min(longest)
}

/// The limit of a state that `Timer` names, by configuration.
pub fn timer_key(timer: Timer) -> &'static str {
    match timer {
        Timer::Boot => "internal.l7r.timeout.vm_start",
        Timer::PowerOff => "internal.hkd.lxc.timeout.on_state.stopping.shutdown.waiting_for_lxc",
        Timer::Halt => "internal.hkd.lxc.timeout.on_state.stopping.stop.waiting_for_lxc",
        Timer::Retry(_) => "internal.hkd.lxc.timeout.on_state.zombie.reap.delaying",
    }
}
