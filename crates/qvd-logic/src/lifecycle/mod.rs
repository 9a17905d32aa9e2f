//! The life of one VM on its node, as a pure machine.
//!
//! ```text
//!            Start            Done …            Done                Alive
//!  Stopped ─────────► Starting(step) ─────► Booting ──────────────────────► Running ◄──────► Debugging
//!     ▲                 │ Failed, Stop, Kill   │ Ended │ Silent, Elapsed,     │ Stop  Alive/Silent
//!     │                 │                      │       │ Stop                 ▼
//!     │                 │                      │       ├──────────────── PoweringOff ──┐ Failed, Elapsed
//!     │                 │                      │       ▼                               │
//!     │                 │                      │    Halting ◄──────────────────────────┘
//!     │                 │                      │     │ Ended   │ Failed, Elapsed (Kill from anywhere)
//!     │                 ▼                      ▼     ▼         ▼
//!     │ Done        Undoing(undo) ◄──────────────────────── Killing
//!  Clearing ◄───────────┘ list empty                           │
//!     │ Failed          │ Failed                               │ Failed
//!     └──────────► Waiting (zombie) ◄──────────────────────────┘
//!                       │ Elapsed ──► Killing
//! ```
//!
//! Public states are those of [`VmState`]; the internal ones follow `spec/node.md` 4.4. Each step of a start
//! registers what undoes it *before* it runs, so cleaning up walks a list and needs not know where a start
//! failed. The machine asks for effects; whoever runs it answers each operation with [`Event::Done`] or
//! [`Event::Failed`].

mod plan;

pub use plan::{Step, Undo};

use qvd_model::{Failure, FailureCode, VmState};

/// Where a VM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is here.
    Stopped,
    /// A step of the start runs.
    Starting(Step),
    /// The hypervisor runs; the agent has not answered yet.
    Booting,
    /// The agent answers.
    Running,
    /// The agent is silent and the VM is kept for inspection.
    Debugging,
    /// The agent was asked to power off.
    PoweringOff,
    /// The hypervisor was told to stop it.
    Halting,
    /// All its processes are being killed.
    Killing,
    /// A step is being undone.
    Undoing(Undo),
    /// The row is being cleared.
    Clearing,
    /// Cleaning up failed; it is tried again later.
    Waiting,
}

/// What happens to a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The row was claimed for a start.
    Start,
    /// Stop it, gracefully if it runs.
    Stop,
    /// End it at once: it was fenced, or the node leaves.
    Kill(FailureCode),
    /// The operation asked for last is complete.
    Done,
    /// The operation asked for last failed.
    Failed(Failure),
    /// The agent answered.
    Alive,
    /// The agent has been silent beyond its limits.
    Silent(Failure),
    /// The hypervisor process ended; the text is the end of its output.
    Ended(String),
    /// The hypervisor process was killed, not by us; the text tells more.
    Crashed(String),
    /// The timer of the present state ran out.
    Elapsed,
}

/// What the owner of the machine is to do. Operations (marked) are answered by `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write the public state to the row.
    Persist(VmState),
    /// Operation: run a step of the start.
    Run(Step),
    /// Abandon the operation that runs.
    Cancel,
    /// Give the start slot back.
    ReleaseSlot,
    /// Operation: ask the agent to power off. Only a failure is answered; the end of the process is the success.
    PowerOff,
    /// Operation: tell the hypervisor to stop the VM. Answered like `PowerOff`.
    Halt,
    /// Operation: kill every process of the VM and wait until none is left.
    KillAll,
    /// Operation: undo a step.
    Undo(Undo),
    /// Operation: clear the row, with the reason if it did not stop by request.
    ClearRow(Option<Failure>),
    /// Set the timer of the new state, replacing the old one.
    Arm(Timer),
}

/// The limits of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// For the agent to answer first.
    Boot,
    /// For a powered-off VM to end.
    PowerOff,
    /// For a halted VM to end.
    Halt,
    /// Until cleaning up is tried again, for the nth time.
    Retry(u32),
}

/// An event that the present state has no use for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} is not possible in {state:?}")]
pub struct Refused {
    /// The state, which stays.
    pub state: State,
    /// The event.
    pub event: Event,
}

/// The machine of one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    state: State,
    /// What is to be undone, in the order of the steps.
    undo: Vec<Undo>,
    failure: Option<Failure>,
    attempts: u32,
    /// Whether a silent agent leads to `Debugging` (`internal.vm.debug.enable`).
    keep_silent: bool,
}

impl Machine {
    /// A stopped VM.
    pub const fn new(keep_silent: bool) -> Self {
        Self { state: State::Stopped, undo: Vec::new(), failure: None, attempts: 0, keep_silent }
    }

    /// A VM whose processes were found alive when its daemon came back. `was` is the state in its row: a start
    /// goes on waiting for the agent, a stop goes on with the ladder.
    pub fn adopted(keep_silent: bool, was: VmState) -> (Self, Vec<Effect>) {
        let mut machine = Self { undo: Self::everything(), ..Self::new(keep_silent) };
        let effects = match was {
            VmState::Running | VmState::Debugging => machine.enter(State::Running, []),
            VmState::Starting => machine.enter(State::Booting, [Effect::Arm(Timer::Boot)]),
            VmState::Stopping => machine.halt(),
            VmState::Stopped | VmState::Zombie => machine.kill(),
        };
        (machine, effects)
    }

    /// A VM whose processes are gone, or not known, when its daemon came back: everything is undone.
    pub fn abandoned(failure: Failure) -> (Self, Vec<Effect>) {
        let mut machine = Self { undo: Self::everything(), failure: Some(failure), ..Self::new(false) };
        let effects = machine.kill();
        (machine, effects)
    }

    /// What a complete start leaves to be undone; its slot is long released.
    fn everything() -> Vec<Undo> {
        Step::ALL.iter().filter_map(|step| step.undo()).filter(|undo| *undo != Undo::Slot).collect()
    }

    /// Where the VM is.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The state that others see.
    pub const fn public(&self) -> VmState {
        match self.state {
            State::Stopped => VmState::Stopped,
            State::Starting(_) | State::Booting => VmState::Starting,
            State::Running => VmState::Running,
            State::Debugging => VmState::Debugging,
            State::PoweringOff | State::Halting | State::Killing | State::Undoing(_) | State::Clearing => {
                if self.attempts > 0 {
                    VmState::Zombie
                } else {
                    VmState::Stopping
                }
            }
            State::Waiting => VmState::Zombie,
        }
    }

    /// Why the VM did not run, or does not any more, if not by request.
    pub const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Takes an event; the effects are to be carried out in order. A refused event changes nothing.
    pub fn step(&mut self, event: Event) -> Result<Vec<Effect>, Refused> {
        use Event as E;
        use State as S;
        let before = self.public();
        let mut effects = match (self.state, event) {
            (S::Stopped, E::Start) => self.run(Step::FIRST),

            (S::Starting(step), E::Done) => match step.next() {
                Some(next) => self.run(next),
                None => self.enter(S::Booting, [Effect::Arm(Timer::Boot)]),
            },
            (S::Starting(_), E::Failed(failure)) => self.fail(failure).unwind(),
            (S::Starting(_), E::Ended(output) | E::Crashed(output)) => self.fail(exited(&output)).unwind(),
            (S::Starting(_), E::Stop) => self.cancel(FailureCode::Cancelled),
            (S::Starting(_), E::Kill(code)) => self.cancel(code),

            (S::Booting | S::Debugging, E::Alive) => {
                self.undo.retain(|undo| *undo != Undo::Slot);
                self.enter(S::Running, [Effect::ReleaseSlot])
            }
            (S::Running, E::Alive) => Vec::new(),
            (S::Booting | S::Running | S::Debugging, E::Crashed(output)) => {
                self.fail(exited(&output)).unwind()
            }
            (S::Booting, E::Ended(output)) => self.fail(exited(&output)).unwind(),
            (S::Booting, E::Silent(failure)) => self.fail(failure).halt(),
            (S::Booting, E::Elapsed) => {
                let failure = Failure::new(FailureCode::AgentSilent, "the agent did not answer in time");
                self.fail(failure).halt()
            }
            (S::Booting | S::Debugging, E::Stop) => self.halt(),
            (S::Debugging, E::Silent(_) | E::Elapsed) => Vec::new(),
            (S::Running, E::Silent(_)) if self.keep_silent => self.enter(S::Debugging, []),
            (S::Running, E::Silent(failure)) => self.fail(failure).halt(),
            (S::Running, E::Stop) => {
                self.enter(S::PoweringOff, [Effect::Arm(Timer::PowerOff), Effect::PowerOff])
            }
            (S::Running | S::Debugging | S::PoweringOff | S::Halting, E::Ended(_)) => self.unwind(),
            (S::PoweringOff | S::Halting, E::Crashed(_)) => self.unwind(),
            (S::PoweringOff, E::Failed(_) | E::Elapsed) => self.halt(),
            (S::Halting, E::Failed(_) | E::Elapsed) => self.kill(),
            (S::PoweringOff | S::Halting, E::Done | E::Alive | E::Silent(_) | E::Stop) => Vec::new(),

            (S::Killing, E::Done) => self.unwind(),
            (S::Undoing(undo), E::Done) => {
                self.undo.retain(|u| *u != undo);
                self.unwind()
            }
            (S::Clearing, E::Done) => {
                self.undo.clear();
                self.attempts = 0;
                self.enter(S::Stopped, [])
            }
            (S::Killing | S::Undoing(_) | S::Clearing, E::Failed(failure)) => {
                self.attempts += 1;
                let retry = Timer::Retry(self.attempts);
                self.fail(failure).enter(S::Waiting, [Effect::Arm(retry)])
            }
            (S::Waiting, E::Elapsed) => self.kill(),
            (
                S::Killing | S::Undoing(_) | S::Clearing | S::Waiting,
                E::Stop | E::Ended(_) | E::Crashed(_),
            ) => Vec::new(),
            (S::Killing | S::Undoing(_) | S::Clearing, E::Kill(_) | E::Alive | E::Silent(_) | E::Elapsed) => {
                Vec::new()
            }

            (S::Booting | S::Running | S::Debugging | S::PoweringOff | S::Halting, E::Kill(code)) => {
                self.fail(Failure::new(code, "the node ended it at once")).kill()
            }
            (S::Waiting, E::Kill(_)) => self.kill(),
            (state, event) => return Err(Refused { state, event }),
        };
        if self.public() != before && self.state != S::Stopped {
            effects.insert(0, Effect::Persist(self.public()));
        }
        Ok(effects)
    }

    fn enter<const N: usize>(&mut self, state: State, effects: [Effect; N]) -> Vec<Effect> {
        self.state = state;
        effects.into()
    }

    fn run(&mut self, step: Step) -> Vec<Effect> {
        if let Some(undo) = step.undo() {
            self.undo.push(undo);
        }
        if step == Step::FIRST {
            self.failure = None;
        }
        self.enter(State::Starting(step), [Effect::Run(step)])
    }

    /// Keeps the first reason: what follows from it is not why.
    fn fail(&mut self, failure: Failure) -> &mut Self {
        self.failure.get_or_insert(failure);
        self
    }

    fn cancel(&mut self, code: FailureCode) -> Vec<Effect> {
        let mut effects = vec![Effect::Cancel];
        effects.append(&mut self.fail(Failure::new(code, "it was stopped while starting")).unwind());
        effects
    }

    fn halt(&mut self) -> Vec<Effect> {
        self.enter(State::Halting, [Effect::Arm(Timer::Halt), Effect::Halt])
    }

    fn kill(&mut self) -> Vec<Effect> {
        self.enter(State::Killing, [Effect::KillAll])
    }

    /// Undoes the latest step that is not undone yet, or clears the row when none is left.
    fn unwind(&mut self) -> Vec<Effect> {
        match self.undo.last().copied() {
            Some(undo) => self.enter(State::Undoing(undo), [Effect::Undo(undo)]),
            None => {
                let failure = self.failure.clone();
                self.enter(State::Clearing, [Effect::ClearRow(failure)])
            }
        }
    }
}

fn exited(output: &str) -> Failure {
    let output = output.trim();
    let detail = if output.is_empty() {
        "the hypervisor ended without a word".to_owned()
    } else {
        format!("the hypervisor ended: {output}")
    };
    Failure::new(FailureCode::HypervisorExited, detail)
}

#[cfg(test)]
mod tests;
