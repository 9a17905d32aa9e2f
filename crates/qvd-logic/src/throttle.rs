//! Guessing gets slower with every failure, and nobody is locked out.
//!
//! An attempt to log in is held up by the failures of its account from its address, of its address, and of its account,
//! in this order of severity, so that an attacker elsewhere costs the owner of an account seconds at most. How many
//! attempts of a kind are looked at *at the same time* is bounded too: otherwise a crowd of first guesses would be
//! checked before the first of them has failed.

use std::net::IpAddr;
use std::time::Duration;

/// What failures are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An account, from one address.
    Pair,
    /// An account, from anywhere.
    Account,
    /// An address, whatever the account.
    Address,
}

/// One thing that failures are counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// What it is called; the kind is part of it.
    pub name: String,
}

/// How one kind is slowed down.
#[derive(Debug, Clone, Copy)]
struct Slope {
    /// Failures without consequence.
    free: u32,
    /// The delay never exceeds this.
    most: Duration,
    /// Attempts that are checked at the same time, in one process.
    at_once: usize,
}

/// The delay after the first failure that counts; it doubles with each further one.
const STEP: Duration = Duration::from_millis(500);
/// Failures are forgotten after this time without another one.
pub const MEMORY: Duration = Duration::from_secs(15 * 60);
/// An attempt that would wait longer than this behind others is refused.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Attempts of an account from one address that wait for each other; further ones are refused.
pub const WAITING: usize = 64;
/// After as many failures the delay of every kind has its greatest value.
pub const STEEPEST: usize = 32;

impl Kind {
    /// Every kind, in the order in which an attempt passes them.
    pub const ALL: [Self; 3] = [Self::Pair, Self::Account, Self::Address];

    const fn slope(self) -> Slope {
        match self {
            Self::Pair => Slope { free: 2, most: Duration::from_secs(30), at_once: 1 },
            Self::Account => Slope { free: 10, most: Duration::from_secs(4), at_once: 4 },
            // Many people may share one.
            Self::Address => Slope { free: 20, most: Duration::from_secs(30), at_once: 16 },
        }
    }

    /// As it is stored.
    pub const fn number(self) -> i16 {
        match self {
            Self::Pair => 1,
            Self::Account => 2,
            Self::Address => 3,
        }
    }

    /// How many attempts may be checked at the same time.
    pub const fn at_once(self) -> usize {
        self.slope().at_once
    }

    /// How long the next attempt has to wait after so many failures.
    pub fn delay(self, failures: u32) -> Duration {
        let slope = self.slope();
        match failures.checked_sub(slope.free) {
            None | Some(0) => Duration::ZERO,
            Some(n) => STEP.saturating_mul(1 << (n - 1).min(16)).min(slope.most),
        }
    }
}

/// What an attempt is counted by. `account` is who it claims to be, normalized; tokens claim nothing.
pub fn keys(address: IpAddr, account: Option<&str>) -> Vec<Key> {
    let address = network(address);
    Kind::ALL
        .into_iter()
        .filter_map(|kind| {
            let name = match kind {
                Kind::Address => format!("address {address}"),
                Kind::Account => format!("account {}", account?),
                Kind::Pair => format!("pair {address} {}", account?),
            };
            Some(Key { kind, name })
        })
        .collect()
}

/// IPv6 hosts own whole /64 networks.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waits(kind: Kind, failures: std::ops::Range<u32>) -> Vec<u128> {
        failures.map(|n| kind.delay(n).as_millis()).collect()
    }

    #[test]
    fn failures_cost_more_and_more() {
        assert_eq!(waits(Kind::Pair, 0..7), [0, 0, 0, 500, 1000, 2000, 4000]);
        assert_eq!(waits(Kind::Account, 9..16), [0, 0, 500, 1000, 2000, 4000, 4000]);
        assert_eq!(waits(Kind::Address, 20..22), [0, 500]);
    }

    #[test]
    fn neighbours_in_one_ipv6_network_are_one_and_a_mapped_address_is_itself() {
        let name = |text: &str| keys(text.parse().unwrap(), None).remove(0).name;
        assert_eq!(name("2001:db8::1"), name("2001:db8::ffff:1"));
        assert_ne!(name("2001:db8::1"), name("2001:db8:0:1::1"));
        assert_eq!(name("::ffff:192.0.2.1"), name("192.0.2.1"));
    }

    #[test]
    fn who_claims_no_account_is_only_an_address() {
        let address = "192.0.2.1".parse().unwrap();
        let kinds = |account| keys(address, account).into_iter().map(|key| key.kind).collect::<Vec<_>>();
        assert_eq!(kinds(None), [Kind::Address]);
        assert_eq!(kinds(Some("joe")), Kind::ALL);
    }

    proptest! {
        #[test]
        fn delays_never_shrink_and_end_at_their_greatest(failures in 0_u32..100_000) {
            for kind in Kind::ALL {
                prop_assert!(kind.delay(failures) <= kind.delay(failures + 1));
                let steepest = kind.delay(u32::try_from(STEEPEST).unwrap());
                prop_assert!(kind.delay(failures) <= steepest && kind.delay(u32::MAX) == steepest);
                prop_assert!(steepest < PATIENCE && steepest < MEMORY);
            }
        }

        #[test]
        fn names_of_different_accounts_never_meet(one in "[a-c @]{0,4}", other in "[a-c @]{0,4}") {
            let address = "192.0.2.1".parse().unwrap();
            let names = |account: &str| keys(address, Some(account)).into_iter().map(|key| key.name).collect::<Vec<_>>();
            for (a, b) in names(&one).into_iter().zip(names(&other)).take(2) {
                prop_assert_eq!(a == b, one == other);
            }
        }
    }
}
