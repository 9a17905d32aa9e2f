//! Whether the agent in a desktop answers (`spec/node.md` 4.3 and 15.4).

use std::time::Duration;

use qvd_model::{Failure, FailureCode};
use qvd_runtime::Values;
use qvd_runtime::config::ConfigError;

/// Pings of a desktop that boots begin this far apart, each a tenth further from the next one: whenever the agent is
/// there, it is seen after about a tenth of the time that it took.
const FIRST_BEAT: Duration = Duration::from_millis(10);
const SLOWEST_BEAT: Duration = Duration::from_secs(1);

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
    /// From the begin of one ping to the next while the desktop boots.
    beat: Duration,
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
        Self { phase, patience, unanswered: 0, silent_for: Duration::ZERO, pause, beat: FIRST_BEAT }
    }

    /// How long to wait before the next ping.
    pub const fn pause(&self) -> Duration {
        self.pause
    }

    /// How long the next ping may take to connect. An agent that was there before, on a busy machine, gets all the time
    /// of a call.
    pub const fn way(&self) -> Option<Duration> {
        match self.phase {
            Phase::Booting => Some(self.beat),
            Phase::Running => None,
        }
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
            Phase::Booting => {
                let pinged = passed.saturating_sub(self.pause);
                let pause = self.beat.saturating_sub(pinged);
                self.beat = (self.beat * 11 / 10).min(SLOWEST_BEAT);
                pause
            }
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

    /// When the agent of a desktop that is reachable after `dark`, and has an agent after `ready`, is seen, and how
    /// often it was asked until then.
    fn seen(dark: Duration, ready: Duration) -> (Duration, u32) {
        let mut pulse = Pulse::new(Phase::Booting, PATIENCE);
        let mut now = Duration::ZERO;
        for asked in 1.. {
            let begun = now;
            now += pulse.pause();
            if now >= dark.max(ready) {
                return (now, asked);
            }
            if now < dark {
                now += pulse.way().unwrap();
            }
            pulse.observe(Err("refused".to_owned()), now - begun);
        }
        unreachable!("it is asked until it answers")
    }

    proptest::proptest! {
        #[test]
        fn an_agent_is_seen_soon_after_it_is_there(dark in 0_u64..20_000, ready in 0_u64..20_000) {
            let (dark, ready) = (Duration::from_millis(dark), Duration::from_millis(ready));
            let (seen, asked) = seen(dark, ready);
            let late = seen - dark.max(ready);
            let allowed = FIRST_BEAT + dark.max(ready) / 9;
            proptest::prop_assert!(late <= allowed.min(SLOWEST_BEAT), "{late:?} late");
            proptest::prop_assert!(asked <= 80, "asked {asked} times");
        }
    }

    #[test]
    fn an_agent_that_was_there_gets_all_the_time_of_a_call() {
        let mut pulse = Pulse::new(Phase::Booting, PATIENCE);
        assert_eq!((pulse.pause(), pulse.way()), (Duration::ZERO, Some(FIRST_BEAT)));
        pulse.observe(Ok(()), Duration::ZERO);
        assert_eq!((pulse.pause(), pulse.way()), (PATIENCE.after_ok, None));
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
