//! The configured times of a lease.

use std::time::Duration;

/// The longest margin between the end of everything on a node and the moment others may begin.
const MARGIN: Duration = Duration::from_secs(30);
/// Less than this for VMs to stop gracefully is worth a warning.
const SHORT: Duration = Duration::from_secs(60);
/// A host that missed this many heartbeats is suspect.
const MISSED: u32 = 3;

/// The times of a lease, in an order that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    beat: Duration,
    stop: Duration,
    lost: Duration,
}

/// Times that leave a node no chance to end its VMs before others start them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// T_stop is too late.
    #[error(
        "internal.hkd.agent.ticker.timeout is {} s but must be less than {} s: internal.hkd.cluster.node.timeout \
         ({} s) without the margin ({} s)",
        stop.as_secs_f64(), kill.as_secs_f64(), (*kill + *margin).as_secs_f64(), margin.as_secs_f64()
    )]
    NoTimeToStop {
        /// `internal.hkd.agent.ticker.timeout`
        stop: Duration,
        /// When everything is killed.
        kill: Duration,
        /// What lies between that and `internal.hkd.cluster.node.timeout`.
        margin: Duration,
    },
    /// Single lost heartbeats would stop VMs.
    #[error(
        "internal.hkd.agent.ticker.timeout is {} s but must be at least {MISSED} times internal.hkd.agent.ticker.delay \
         ({} s)",
        stop.as_secs_f64(), beat.as_secs_f64()
    )]
    TooHasty {
        /// `internal.hkd.agent.ticker.timeout`
        stop: Duration,
        /// `internal.hkd.agent.ticker.delay`
        beat: Duration,
    },
}

impl Limits {
    /// `beat` is `internal.hkd.agent.ticker.delay`, `stop` `internal.hkd.agent.ticker.timeout` and `lost`
    /// `internal.hkd.cluster.node.timeout`.
    pub fn new(beat: Duration, stop: Duration, lost: Duration) -> Result<Self, Unsafe> {
        let limits = Self { beat, stop, lost };
        if stop >= limits.kill_after() {
            return Err(Unsafe::NoTimeToStop { stop, kill: limits.kill_after(), margin: limits.margin() });
        }
        if stop < beat * MISSED {
            return Err(Unsafe::TooHasty { stop, beat });
        }
        Ok(limits)
    }

    /// Period of the heartbeat.
    pub const fn beat(&self) -> Duration {
        self.beat
    }

    /// Age of the last heartbeat at which a node begins to stop its VMs: T_stop.
    pub const fn stop_after(&self) -> Duration {
        self.stop
    }

    /// Age of the last heartbeat at which a node kills what is left: T_lost − m.
    pub fn kill_after(&self) -> Duration {
        self.lost.saturating_sub(self.margin())
    }

    /// Age of the last heartbeat at which others may have the VMs: T_lost.
    pub const fn lost_after(&self) -> Duration {
        self.lost
    }

    /// m
    pub fn margin(&self) -> Duration {
        (self.lost / 10).min(MARGIN)
    }

    /// Age of the last heartbeat at which a host with this period gets no new VMs.
    pub const fn suspect_after(beat: Duration) -> Duration {
        beat.saturating_mul(MISSED)
    }

    /// The time that VMs have for stopping gracefully, where it is short.
    pub fn hurry(&self) -> Option<Duration> {
        let time = self.kill_after().saturating_sub(self.stop);
        (time < SHORT).then_some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_defaults_leave_two_minutes() {
        let limits = Limits::new(s(5), s(450), s(600)).unwrap();
        assert_eq!((limits.margin(), limits.kill_after(), limits.hurry()), (s(30), s(570), None));
        assert_eq!(Limits::suspect_after(limits.beat()), s(15));
        assert_eq!(Limits::new(s(5), s(540), s(600)).unwrap().hurry(), Some(s(30)));
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_keys() {
        let late = Limits::new(s(5), s(570), s(600)).unwrap_err().to_string();
        assert_eq!(
            late,
            "internal.hkd.agent.ticker.timeout is 570 s but must be less than 570 s: \
             internal.hkd.cluster.node.timeout (600 s) without the margin (30 s)"
        );
        let hasty = Limits::new(s(200), s(450), s(600)).unwrap_err().to_string();
        assert!(hasty.contains("at least 3 times internal.hkd.agent.ticker.delay (200 s)"), "{hasty}");
    }
}
