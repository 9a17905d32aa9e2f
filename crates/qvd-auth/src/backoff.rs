//! Guessing gets slower with every failure, and nobody is locked out.
//!
//! An attempt is delayed by the failures of its account from its address, of its address, and of its account,
//! in this order of severity, so that an attacker elsewhere costs the owner of an account seconds at most.
//! Pure: time is an argument, counted from any fixed moment.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// How one kind of key is slowed down.
#[derive(Debug, Clone, Copy)]
struct Slope {
    /// Failures without consequence.
    free: u32,
    /// The delay never exceeds this.
    most: Duration,
}

const PAIR: Slope = Slope { free: 2, most: Duration::from_secs(30) };
const ADDRESS: Slope = Slope { free: 20, most: Duration::from_secs(30) };
const ACCOUNT: Slope = Slope { free: 10, most: Duration::from_secs(4) };

/// The delay after the first failure that counts; it doubles with each further one.
const STEP: Duration = Duration::from_millis(500);
/// Failures are forgotten after this time without another one.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// An attempt that would wait longer than this behind others is refused.
const PATIENCE: Duration = Duration::from_secs(60);
/// Entries kept at most; the oldest go first.
const CAPACITY: usize = 50_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Pair(IpAddr, String),
    Address(IpAddr),
    Account(String),
}

impl Key {
    fn slope(&self) -> Slope {
        match self {
            Self::Pair(..) => PAIR,
            Self::Address(_) => ADDRESS,
            Self::Account(_) => ACCOUNT,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Record {
    failures: u32,
    /// When the next attempt may be made.
    free_at: Duration,
    touched: Duration,
}

/// What to do with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Check it after this time, which may be zero.
    After(Duration),
    /// Too many wait already; it may be tried again after this time.
    Refused(Duration),
}

/// The failures of the recent past.
#[derive(Debug, Default)]
pub struct Backoff {
    records: HashMap<Key, Record>,
}

impl Backoff {
    /// Admits an attempt. Attempts on the same key queue behind each other, so that trying in parallel is
    /// not faster.
    pub fn admit(&mut self, address: IpAddr, account: &str, now: Duration) -> Admission {
        let keys = keys(address, account);
        let wait = keys
            .iter()
            .filter_map(|key| self.records.get(key))
            .map(|record| record.free_at.saturating_sub(now))
            .max()
            .unwrap_or_default();
        if wait > PATIENCE {
            return Admission::Refused(wait);
        }
        for key in keys {
            let slope = key.slope();
            if let Some(record) = self.records.get_mut(&key) {
                record.free_at = now.saturating_add(wait).saturating_add(delay(slope, record.failures));
            }
        }
        Admission::After(wait)
    }

    /// The attempt failed.
    pub fn failed(&mut self, address: IpAddr, account: &str, now: Duration) {
        self.forget_old(now);
        for key in keys(address, account) {
            let slope = key.slope();
            let fresh = Record { failures: 0, free_at: now, touched: now };
            let record = self.records.entry(key).or_insert(fresh);
            record.failures = record.failures.saturating_add(1);
            record.touched = now;
            record.free_at = record.free_at.max(now.saturating_add(delay(slope, record.failures)));
        }
    }

    /// The attempt succeeded: its account is trusted from this address again.
    pub fn succeeded(&mut self, address: IpAddr, account: &str) {
        self.records.remove(&Key::Pair(address, account.to_owned()));
        self.records.remove(&Key::Account(account.to_owned()));
    }

    /// Amortized: looks at all entries only when there are many.
    fn forget_old(&mut self, now: Duration) {
        if self.records.len() < CAPACITY {
            return;
        }
        self.records.retain(|_, record| now.saturating_sub(record.touched) < MEMORY);
        if self.records.len() >= CAPACITY {
            let mut times: Vec<_> = self.records.values().map(|record| record.touched).collect();
            times.sort_unstable();
            let median = times.get(times.len() / 2).copied().unwrap_or(now);
            self.records.retain(|_, record| record.touched > median);
        }
    }
}

fn keys(address: IpAddr, account: &str) -> [Key; 3] {
    let address = network(address);
    [Key::Pair(address, account.to_owned()), Key::Address(address), Key::Account(account.to_owned())]
}

/// IPv6 hosts own whole /64 networks.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

fn delay(slope: Slope, failures: u32) -> Duration {
    match failures.checked_sub(slope.free) {
        None | Some(0) => Duration::ZERO,
        Some(n) => STEP.saturating_mul(1 << (n - 1).min(16)).min(slope.most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn failures_cost_more_and_more_and_success_forgives() {
        let mut backoff = Backoff::default();
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let Admission::After(wait) = backoff.admit(HOME, "joe", now) else { panic!() };
            waits.push(wait.as_millis());
            now += wait;
            backoff.failed(HOME, "joe", now);
        }
        assert_eq!(waits, [0, 0, 0, 500, 1000, 2000]);
        backoff.succeeded(HOME, "joe");
        assert_eq!(backoff.admit(HOME, "joe", now), Admission::After(Duration::ZERO));
    }

    #[test]
    fn parallel_guesses_queue_and_finally_are_refused() {
        let mut backoff = Backoff::default();
        for _ in 0..9 {
            backoff.failed(HOME, "joe", at(0));
        }
        let admitted: Vec<_> = (0..4).map(|_| backoff.admit(HOME, "joe", at(0))).collect();
        assert_eq!(admitted[0], Admission::After(at(30)));
        assert_eq!(admitted[1], Admission::After(at(60)));
        assert_eq!(admitted[2], Admission::Refused(at(90)));
    }

    #[test]
    fn an_attacker_elsewhere_costs_the_owner_seconds_at_most() {
        let mut backoff = Backoff::default();
        for _ in 0..1000 {
            backoff.failed(ELSEWHERE, "joe", at(0));
        }
        assert_eq!(backoff.admit(HOME, "joe", at(0)), Admission::After(at(4)));
        assert_eq!(backoff.admit(HOME, "eve", at(0)), Admission::After(Duration::ZERO));
    }

    #[test]
    fn neighbours_in_one_ipv6_network_are_one() {
        let mut backoff = Backoff::default();
        for n in 0..40_u16 {
            let address = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
            backoff.failed(address, &format!("user{n}"), at(0));
        }
        let last = IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 9, 9, 9, 9));
        assert!(matches!(backoff.admit(last, "joe", at(0)), Admission::After(wait) if wait > at(5)));
    }

    proptest::proptest! {
        #[test]
        fn memory_is_bounded_and_waits_are_too(steps in proptest::collection::vec((0_u32..5, 0_u8..4, 0_u64..100), 0..200)) {
            let mut backoff = Backoff::default();
            let mut now = Duration::ZERO;
            for (account, address, passed) in steps {
                now += Duration::from_millis(passed);
                let address = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, address));
                let account = account.to_string();
                if let Admission::After(wait) = backoff.admit(address, &account, now) {
                    proptest::prop_assert!(wait <= PATIENCE);
                    backoff.failed(address, &account, now);
                }
            }
            proptest::prop_assert!(backoff.records.len() <= 5 * 4 + 5 + 4);
        }
    }

    #[test]
    fn a_flood_of_names_does_not_fill_memory() {
        let mut backoff = Backoff::default();
        for n in 0..60_000_u64 {
            backoff.failed(HOME, &n.to_string(), Duration::from_millis(n));
        }
        assert!(backoff.records.len() < CAPACITY + 3);
    }
}
