//! The clock of leases: it counts from boot, also while the machine sleeps, and nobody can set it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use qvd_logic::cluster::Moment;
use tracing::error;

use crate::routers::readable;

/// A timer that cannot be had is replaced by looking this often.
const FALLBACK: Duration = Duration::from_secs(1);

/// Now.
pub fn now() -> Moment {
    // The clock exists on every kernel that has cgroups; without it everything would have lapsed.
    let read = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    Moment(read.unwrap_or(Duration::MAX))
}

/// A timer that becomes readable at `moment`.
pub fn alarm(moment: Moment) -> io::Result<OwnedFd> {
    let timer = TimerFd::new(TimerClock::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
    // Zero would disarm it.
    let at = TimeSpec::from(moment.0.max(Duration::from_nanos(1)));
    timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
    Ok(timer.into())
}

/// Resolves at `moment`; never where there is none.
pub async fn until(moment: Option<Moment>) {
    let Some(moment) = moment else { return std::future::pending().await };
    let waited = async { readable(alarm(moment)?)?.readable().await.map(drop) };
    if let Err(problem) = waited.await {
        error!("no timer: {problem}");
        tokio::time::sleep(FALLBACK.min(moment.since(now()))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn moments_come() {
        let start = now();
        until(Some(start + Duration::from_millis(30))).await;
        assert!(now().since(start) >= Duration::from_millis(30));
        // What is past has come.
        until(Some(Moment(Duration::ZERO))).await;
        let never = tokio::time::timeout(Duration::from_millis(10), until(None)).await;
        assert!(never.is_err());
    }
}
