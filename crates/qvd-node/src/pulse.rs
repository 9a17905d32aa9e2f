//! Whether the agent in a desktop answers (`spec/node.md` 4.3 and 15.4).

use std::time::Duration;

use qvd_model::{Failure, FailureCode};
use qvd_runtime::Values;
use qvd_runtime::config::ConfigError;

/// Asking starts this fast while a desktop boots, and slows down by half each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const SLOWEST_PAUSE: Duration = Duration::from_secs(1);

/// How patient the node is with a silent agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Unanswered pings in a row.
    pub count: u32,
    /// Time since the last answer.
    pub time: Duration,
    /// Pause after an answer.
    pub after_ok: Duration,
    /// Pause after silence.
    pub after_error: Duration,
}

/// Which limits apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The desktop boots and has not answered yet.
    Booting,
    /// It has answered before.
    Running,
}

/// What a ping told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It answered.
    Alive,
    /// It did not, but there is patience left.
    Unknown,
    /// Both limits are exceeded.
    Silent(Failure),
}

/// The series of pings to one agent, without the pinging.
#[derive(Debug, Clone)]
pub struct Pulse {
    phase: Phase,
    patience: Patience,
    unanswered: u32,
    silent_for: Duration,
    pause: Duration,
}

impl Patience {
    /// The documented keys of a phase.
    pub fn read(values: &Values, phase: Phase) -> Result<Self, ConfigError> {
        let word = match phase {
            Phase::Booting => "starting",
            Phase::Running => "running",
        };
        let key = |name: &str| format!("internal.hkd.vmhandler.{name}");
        Ok(Self {
            count: values.int(&key(&format!("vma.failed.max_count.on.{word}")))?,
            time: values.seconds(&key(&format!("vma.failed.max_time.on.{word}")))?,
            after_ok: values.seconds(&key("vma_monitor.delay.after.ok"))?,
            after_error: values.seconds(&key("vma_monitor.delay.after.error"))?,
        })
    }
}

impl Pulse {
    /// A series that begins now.
    pub const fn new(phase: Phase, patience: Patience) -> Self {
        let pause = match phase {
            Phase::Booting => Duration::ZERO,
            Phase::Running => patience.after_ok,
        };
        Self { phase, patience, unanswered: 0, silent_for: Duration::ZERO, pause }
    }

    /// How long to wait before the next ping.
    pub const fn pause(&self) -> Duration {
        self.pause
    }

    /// Takes the answer to a ping, or its absence, and the time since the previous one.
    pub fn observe(&mut self, answer: Result<(), String>, passed: Duration) -> Verdict {
        let Err(problem) = answer else {
            self.unanswered = 0;
            self.silent_for = Duration::ZERO;
            self.phase = Phase::Running;
            self.pause = self.patience.after_ok;
            return Verdict::Alive;
        };
        self.unanswered = self.unanswered.saturating_add(1);
        self.silent_for = self.silent_for.saturating_add(passed);
        self.pause = match self.phase {
            Phase::Running => self.patience.after_error,
            Phase::Booting => (self.pause.max(FIRST_PAUSE) * 3 / 2).min(SLOWEST_PAUSE),
        };
        if self.unanswered < self.patience.count || self.silent_for < self.patience.time {
            return Verdict::Unknown;
        }
        let seconds = self.silent_for.as_secs();
        let detail = format!("the agent has not answered for {seconds} s ({problem})");
        Verdict::Silent(Failure::new(FailureCode::AgentSilent, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        count: 3,
        time: Duration::from_secs(5),
        after_ok: Duration::from_secs(30),
        after_error: Duration::from_secs(10),
    };

    #[test]
    fn a_booting_agent_is_asked_often_and_then_less() {
        let mut pulse = Pulse::new(Phase::Booting, PATIENCE);
        assert_eq!(pulse.pause(), Duration::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            pulse.observe(Err("refused".to_owned()), pulse.pause());
            pauses.push(pulse.pause());
        }
        assert_eq!(pauses[0], Duration::from_millis(30));
        assert_eq!(pauses.last(), Some(&SLOWEST_PAUSE));
    }

    #[test]
    fn silence_needs_both_the_count_and_the_time() {
        let mut pulse = Pulse::new(Phase::Running, PATIENCE);
        let second = Duration::from_secs(1);
        for _ in 0..4 {
            assert_eq!(pulse.observe(Err("refused".to_owned()), second), Verdict::Unknown);
        }
        assert!(matches!(pulse.observe(Err("refused".to_owned()), second), Verdict::Silent(_)));
        assert_eq!(pulse.observe(Ok(()), second), Verdict::Alive);
        assert_eq!(pulse.observe(Err("refused".to_owned()), second * 60), Verdict::Unknown);
        assert_eq!(pulse.pause(), PATIENCE.after_error);
    }
}
