//! A client on its way to its desktop (`spec/protocol.md` 9.3), as a pure machine.
//!
//! ```text
//! Claiming ──acquired──► Waiting ──VM runs──► StartingX ──accepted──► ComingUp ──listening──► Linking
//!    │ ▲                    │ ▲                  │ ▲                    │ ▲                      │
//!    └─┘ contended: the     └─┘ stopped: order   └─┘ busy: again        └─┘ starting: again   Establishing
//!        owner is told          a start                                                          │
//!        to let go                                                                             Done
//! ```
//!
//! Every phase may end in [`Effect::Fail`]. The caller carries effects out, feeds back what came of them, and
//! sends [`Event::Tick`] at [`Connect::wake`] and [`Event::Changed`] when rows may have changed. That the
//! client left, or that the session was told to end, is the caller's business: it drops the machine.

use std::time::Duration;

use qvd_model::event::EndReason;
use qvd_model::{Failure, FailureCode, SessionState, VmCommand, VmId, VmState};

/// The first pause between two questions to the agent; it doubles up to [`Limits::poll_x`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// A wait is looked at again after this time although nothing was notified.
const SWEEP: Duration = Duration::from_secs(30);
/// Waiting that lasts as long deserves a word.
const NOTABLE: Duration = Duration::from_secs(2);
/// Old clients read one progress message a second and few in all (rule R11).
const PROGRESS_GAP: Duration = Duration::from_secs(1);
const PROGRESS_MOST: u32 = 8;
/// How many of them may tell steps of a start; the others keep the connection alive.
const PROGRESS_STEPS: u32 = 4;
/// When a long wait says that it goes on.
const KEEP_ALIVE: [Duration; 3] =
    [Duration::from_secs(30), Duration::from_secs(60), Duration::from_secs(120)];

/// How long the phases may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until another client lets go (`internal.l7r.timeout.takeover`).
    pub takeover: Duration,
    /// Pause between attempts to get the session (`internal.l7r.poll_time.vm`).
    pub poll_vm: Duration,
    /// Until a VM runs (`internal.l7r.timeout.vm_start`).
    pub vm_start: Duration,
    /// Until the agent accepts a start of the X session.
    pub x_accept: Duration,
    /// Until an accepted X session listens (`internal.l7r.timeout.x_start`).
    pub x_start: Duration,
    /// Longest pause between questions to the agent (`internal.l7r.poll_time.x`).
    pub poll_x: Duration,
}

/// What a VM's row shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is doing.
    pub state: VmState,
    /// What somebody wants it to do.
    pub command: Option<VmCommand>,
    /// Whether its address is known.
    pub placed: bool,
    /// How far its start is.
    pub step: Option<String>,
    /// Why it stopped by itself, or did not start.
    pub failure: Option<Failure>,
    /// Whether the daemon of its node lives.
    pub host_alive: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The session is ours.
    Acquired,
    /// Another client has it.
    Contended {
        /// Its router is known to be dead.
        orphan: bool,
    },
    /// The VM is gone.
    Gone,
    /// The row was read.
    Row(Row),
    /// The start was ordered, or was not needed any more.
    Ordered,
    /// The start was refused.
    Refused(Failure),
    /// The agent starts or resumes the session.
    XAccepted,
    /// The agent did not do it, or did not answer.
    XRefused(Failure),
    /// The state of the session.
    XIs(SessionState),
    /// The agent did not answer.
    XSilent(Failure),
    /// Why the session did not come up.
    XFailed(Failure),
    /// The session's port accepted a connection.
    Linked,
    /// It did not; why.
    NotLinked(String),
    /// Whether the session could be made ours for good.
    Established(bool),
    /// Rows may have changed.
    Changed,
    /// The time of [`Connect::wake`] has come.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Claim the session.
    Claim,
    /// Release the session of a dead router.
    ForgetOrphan,
    /// Tell the owner of the session to let go.
    TakeOver,
    /// Read the row.
    ReadRow,
    /// Have the VM placed and started.
    OrderStart,
    /// Take the order back: nobody carries it out.
    RevokeStart,
    /// Have the agent start or resume the session.
    StartX,
    /// Ask for the session's state.
    AskX,
    /// Ask why the session did not come up.
    AskWhy,
    /// Connect to the session's port.
    Link,
    /// Make the session ours for good.
    Establish,
    /// Answer 101 and copy.
    Switch,
    /// Send a progress message.
    Tell(String),
    /// Answer with this failure.
    Fail(Failure),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Claiming,
    /// For the VM to run. `ordered`: a start was seen or ordered, so that `stopped` means failure.
    Waiting {
        ordered: bool,
        pending: bool,
    },
    StartingX,
    ComingUp,
    Linking,
    Establishing,
    Done,
}

/// One client on its way to its desktop.
#[derive(Debug, Clone)]
pub struct Connect {
    vm: VmId,
    limits: Limits,
    phase: Phase,
    since: Duration,
    /// When the pause before the next question ends.
    next: Option<Duration>,
    pause: Duration,
    told: u32,
    told_at: Option<Duration>,
    step: Option<String>,
    noted: bool,
}

impl Connect {
    /// A machine that begins with [`Effect::Claim`].
    pub fn new(vm: VmId, limits: Limits, now: Duration) -> (Self, Vec<Effect>) {
        let machine = Self {
            vm,
            limits,
            phase: Phase::Claiming,
            since: now,
            next: None,
            pause: FIRST_PAUSE,
            told: 0,
            told_at: None,
            step: None,
            noted: false,
        };
        (machine, vec![Effect::Claim])
    }

    /// When to send [`Event::Tick`], if nothing else happens before.
    pub fn wake(&self) -> Option<Duration> {
        if self.phase == Phase::Done {
            return None;
        }
        let alive = KEEP_ALIVE.iter().map(|span| self.since.saturating_add(*span));
        let alive = alive.filter(|at| self.told_at.is_none_or(|told| *at > told)).min();
        let limit = self.limit().map(|limit| self.since.saturating_add(limit));
        [self.next, alive, limit].into_iter().flatten().min()
    }

    /// Whether the session has been acquired, so that leaving must release it.
    pub fn owns(&self) -> bool {
        self.phase != Phase::Claiming
    }

    /// What to do about an event.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        let mut effects = match (self.phase.clone(), event) {
            (Phase::Done, _) => Vec::new(),

            (Phase::Claiming, Event::Acquired) => {
                self.enter(Phase::Waiting { ordered: false, pending: false }, now);
                vec![Effect::ReadRow]
            }
            (Phase::Claiming, Event::Contended { orphan: true }) => vec![Effect::ForgetOrphan, Effect::Claim],
            (Phase::Claiming, Event::Contended { orphan: false }) => {
                self.next = Some(now.saturating_add(self.limits.poll_vm));
                let mut effects = vec![Effect::TakeOver];
                let text = format!("Aborting contending session for VM_ID: {}", self.vm);
                effects.extend(self.tell(now, text, PROGRESS_STEPS));
                effects
            }
            (Phase::Claiming, Event::Gone) => {
                self.fail(FailureCode::UnknownVm, format!("VM {} was deleted", self.vm))
            }
            (Phase::Claiming, Event::Changed | Event::Tick) => {
                if self.over(now) {
                    let text = format!(
                        "another client has the session of VM {} and did not let go within {} s",
                        self.vm,
                        self.limits.takeover.as_secs()
                    );
                    return self.fail(FailureCode::TakeoverTimeout, text);
                }
                vec![Effect::Claim]
            }

            (Phase::Waiting { ordered, .. }, Event::Row(row)) => self.wait(now, ordered, row),
            (Phase::Waiting { .. }, Event::Ordered) => vec![Effect::ReadRow],
            (_, Event::Refused(failure)) => self.end(failure),
            (Phase::Waiting { pending, .. }, Event::Tick) if self.over(now) => {
                let text =
                    format!("VM {} did not come up within {} s", self.vm, self.limits.vm_start.as_secs());
                let mut effects = if pending { vec![Effect::RevokeStart] } else { Vec::new() };
                effects.extend(self.fail(FailureCode::Timeout, text));
                effects
            }
            (Phase::Waiting { .. }, Event::Changed | Event::Tick) => vec![Effect::ReadRow],

            (Phase::StartingX, Event::XAccepted) => {
                self.enter(Phase::ComingUp, now);
                self.next = Some(now.saturating_add(self.pause));
                Vec::new()
            }
            (Phase::StartingX, Event::XRefused(failure)) => self.again(now, failure),
            (Phase::StartingX, Event::Tick) if self.due(now) => vec![Effect::StartX],

            (Phase::ComingUp, Event::XIs(SessionState::Listening)) => {
                self.enter(Phase::Linking, now);
                vec![Effect::Link]
            }
            (Phase::ComingUp, Event::XIs(SessionState::Starting)) => {
                let limit = self.limits.x_start.as_secs();
                let text = format!("the X session of VM {} did not listen within {limit} s", self.vm);
                self.again(now, Failure::new(FailureCode::XSessionFailed, text))
            }
            (Phase::ComingUp, Event::XIs(SessionState::Provisioning)) => {
                // Making a home may take its time.
                self.since = now;
                self.pause(now);
                Vec::new()
            }
            (Phase::ComingUp, Event::XIs(_)) => vec![Effect::AskWhy],
            (Phase::ComingUp, Event::XSilent(failure)) => self.again(now, failure),
            (Phase::ComingUp, Event::XFailed(failure)) => self.end(failure),
            (Phase::ComingUp, Event::Tick) if self.due(now) => vec![Effect::AskX],

            (Phase::StartingX | Phase::ComingUp, Event::Changed) => vec![Effect::ReadRow],
            (Phase::StartingX | Phase::ComingUp, Event::Row(row)) if row.state != VmState::Running => {
                self.end(stopped(self.vm, row.failure))
            }

            (Phase::Linking, Event::Linked) => {
                self.enter(Phase::Establishing, now);
                vec![Effect::Establish]
            }
            (Phase::Linking, Event::NotLinked(problem)) => self.fail(FailureCode::XSessionFailed, problem),
            (Phase::Establishing, Event::Established(true)) => {
                self.phase = Phase::Done;
                vec![Effect::Switch]
            }
            (Phase::Establishing, Event::Established(false)) => {
                self.fail(FailureCode::Cancelled, format!("the session of VM {} was taken away", self.vm))
            }
            // Whatever is left comes too late for its phase, or too early to matter.
            _ => Vec::new(),
        };
        effects.extend(self.keep_alive(now));
        effects
    }

    fn wait(&mut self, now: Duration, ordered: bool, row: Row) -> Vec<Effect> {
        let pending = row.command == Some(VmCommand::Start);
        self.next = Some(now.saturating_add(SWEEP));
        match row.state {
            VmState::Running if row.placed => {
                self.enter(Phase::StartingX, now);
                return vec![Effect::StartX];
            }
            VmState::Stopped if pending && !row.host_alive => {
                self.phase = Phase::Done;
                let text = format!("the node that VM {} was assigned to takes no commands", self.vm);
                let failure = Failure::new(FailureCode::NodeNotRunning, text);
                return vec![Effect::RevokeStart, Effect::Fail(failure)];
            }
            VmState::Stopped if !pending && ordered => return self.end(stopped(self.vm, row.failure)),
            VmState::Stopped if !pending => {
                self.phase = Phase::Waiting { ordered: true, pending: true };
                let mut effects = vec![Effect::OrderStart];
                effects.extend(self.tell(now, "Starting virtual machine".to_owned(), PROGRESS_STEPS));
                return effects;
            }
            VmState::Debugging => {
                let text = format!("VM {} is kept for inspection because its agent is silent", self.vm);
                return self.fail(FailureCode::AgentSilent, text);
            }
            VmState::Stopped | VmState::Starting => self.phase = Phase::Waiting { ordered: true, pending },
            VmState::Running | VmState::Stopping | VmState::Zombie => {}
        }
        let news = row.step.filter(|step| self.step.as_ref() != Some(step));
        match news {
            Some(step) if now.saturating_sub(self.since) >= NOTABLE => {
                let text = format!("Starting virtual machine: {step}");
                self.step = Some(step);
                self.tell(now, text, PROGRESS_STEPS).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Tries again after a pause, or gives up with this failure.
    fn again(&mut self, now: Duration, failure: Failure) -> Vec<Effect> {
        if self.over(now) {
            return self.end(failure);
        }
        self.pause(now);
        Vec::new()
    }

    fn pause(&mut self, now: Duration) {
        self.next = Some(now.saturating_add(self.pause));
        self.pause = self.pause.saturating_mul(2).min(self.limits.poll_x);
    }

    fn enter(&mut self, phase: Phase, now: Duration) {
        self.phase = phase;
        self.since = now;
        self.next = None;
        self.pause = FIRST_PAUSE.min(self.limits.poll_x);
        self.noted = false;
    }

    fn limit(&self) -> Option<Duration> {
        match self.phase {
            Phase::Claiming => Some(self.limits.takeover),
            Phase::Waiting { .. } => Some(self.limits.vm_start),
            Phase::StartingX => Some(self.limits.x_accept),
            Phase::ComingUp => Some(self.limits.x_start),
            Phase::Linking | Phase::Establishing | Phase::Done => None,
        }
    }

    fn over(&self, now: Duration) -> bool {
        self.limit().is_some_and(|limit| now.saturating_sub(self.since) >= limit)
    }

    fn due(&mut self, now: Duration) -> bool {
        let due = self.over(now) || self.next.is_some_and(|next| now >= next);
        if due {
            self.next = None;
        }
        due
    }

    fn keep_alive(&mut self, now: Duration) -> Option<Effect> {
        if self.phase == Phase::Done {
            return None;
        }
        let lasted = now.saturating_sub(self.since);
        let due = KEEP_ALIVE
            .iter()
            .filter(|span| **span <= lasted)
            .any(|span| self.told_at.is_none_or(|told| told < self.since.saturating_add(*span)));
        let x = matches!(self.phase, Phase::StartingX | Phase::ComingUp);
        let notable = x && !self.noted && lasted >= NOTABLE;
        if !(due || notable) {
            return None;
        }
        self.noted = true;
        let text = match self.phase {
            Phase::StartingX => format!("Starting X session at VM {}", self.vm),
            Phase::ComingUp => format!("Waiting for X session to come up on VM {}", self.vm),
            _ => "Waiting for VM to reach state 'running'".to_owned(),
        };
        let told = self.tell(now, text, PROGRESS_MOST);
        // A message that was too much must not keep the clock ringing.
        self.told_at = Some(now);
        told
    }

    fn tell(&mut self, now: Duration, text: String, most: u32) -> Option<Effect> {
        let soon = self.told_at.is_some_and(|at| now.saturating_sub(at) < PROGRESS_GAP);
        if soon || self.told >= most {
            return None;
        }
        self.told = self.told.saturating_add(1);
        self.told_at = Some(now);
        Some(Effect::Tell(text))
    }

    fn fail(&mut self, code: FailureCode, text: String) -> Vec<Effect> {
        self.end(Failure::new(code, text))
    }

    fn end(&mut self, failure: Failure) -> Vec<Effect> {
        self.phase = Phase::Done;
        vec![Effect::Fail(failure)]
    }
}

fn stopped(vm: VmId, failure: Option<Failure>) -> Failure {
    failure.unwrap_or_else(|| Failure::new(FailureCode::Cancelled, format!("VM {vm} was stopped meanwhile")))
}

/// What ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The client's side ended.
    Client {
        /// Whether it went by itself; false for a link that broke.
        orderly: bool,
        /// The VM, if anything is known about it.
        vm: Option<Seen>,
    },
    /// The desktop's side ended.
    Desktop(Option<Seen>),
    /// Somebody had it ended.
    Told(EndReason),
}

/// A VM as its router sees it when a connection has ended. Which side ends first when a VM goes down is a matter of
/// luck, so it says more than the side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// What it is doing.
    pub state: VmState,
    /// Why it was told to stop, if it was.
    pub ordered: Option<EndReason>,
    /// Whether it failed, as its row tells in the end.
    pub failed: bool,
    /// Whether the daemon of its node lives.
    pub host_alive: bool,
    /// Whether its agent answers.
    pub answers: bool,
}

impl Seen {
    /// Whether nothing more will be known of it.
    pub fn is_settled(&self) -> bool {
        self.ordered.is_some() || self.failed || self.state == VmState::Stopped || self.answers
    }

    /// What became of the VM: `None` if it is up.
    fn end(&self) -> Option<EndReason> {
        match self.ordered {
            Some(reason) => Some(reason),
            None if matches!(self.state, VmState::Running | VmState::Starting) => None,
            None if self.failed => Some(EndReason::VmFailed),
            None => Some(EndReason::VmStopped),
        }
    }
}

impl Cause {
    /// The reason for the story. A session that the user ended inside a running desktop was left.
    pub fn reason(self) -> EndReason {
        if let Self::Client { vm: Some(seen), .. } | Self::Desktop(Some(seen)) = self
            && let Some(end) = seen.end()
        {
            return end;
        }
        match self {
            Self::Told(reason) => reason,
            Self::Client { orderly: true, .. } => EndReason::Left,
            Self::Desktop(Some(seen)) if seen.answers => EndReason::Left,
            Self::Desktop(Some(seen)) if !seen.host_alive => EndReason::NodeLost,
            Self::Client { orderly: false, .. } | Self::Desktop(_) => EndReason::LinkLost,
        }
    }
}

#[cfg(test)]
mod tests;
