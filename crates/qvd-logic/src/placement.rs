//! Which host takes a VM (`spec/node.md` 9).
//!
//! The score is that of existing farms, so configured weights keep their meaning; eligibility adds a fresh
//! heartbeat and the hypervisor.

use std::fmt;
use std::time::Duration;

use qvd_model::{HostId, HostState};

/// A host without a heartbeat for this long is suspect, where its daemon does not tell how often it writes one.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(15);

/// What is known of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Whether it runs VMs at all.
    pub backend: bool,
    /// Whether an administrator blocked it.
    pub blocked: bool,
    /// What its daemon says.
    pub state: HostState,
    /// Age of its last heartbeat, if it ever had one.
    pub heartbeat_age: Option<Duration>,
    /// Age at which it is suspect and gets no new VM.
    pub suspect_after: Duration,
    /// The hypervisors it offers; `None` where its daemon does not tell.
    pub hypervisors: Option<Vec<String>>,
    /// Memory in MB.
    pub ram: f64,
    /// Processors in bogomips.
    pub cpu: f64,
    /// How many VMs are assigned to it, in any state.
    pub vms: u32,
}

/// `l7r.loadbalancer.plugin.default.weight.*`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Of memory.
    pub ram: f64,
    /// Of processors.
    pub cpu: f64,
    /// Upper bound of the random term.
    pub random: f64,
}

impl Weights {
    /// Asks for the value of each key.
    pub fn read<E>(mut value: impl FnMut(&str) -> Result<f64, E>) -> Result<Self, E> {
        Ok(Self {
            ram: value("l7r.loadbalancer.plugin.default.weight.ram")?,
            cpu: value("l7r.loadbalancer.plugin.default.weight.cpu")?,
            random: value("l7r.loadbalancer.plugin.default.weight.random")?,
        })
    }
}

/// Why a host cannot take a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It runs no VMs.
    NotBackend,
    /// An administrator blocked it.
    Blocked,
    /// Its daemon is not running.
    NotRunning(HostState),
    /// It has not been heard of for a while.
    Suspect(Option<Duration>),
    /// It lacks the hypervisor.
    NoHypervisor(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotBackend => f.write_str("runs no VMs"),
            Self::Blocked => f.write_str("is blocked"),
            Self::NotRunning(state) => write!(f, "is {state}"),
            Self::Suspect(Some(age)) => write!(f, "has had no heartbeat for {} s", age.as_secs()),
            Self::Suspect(None) => f.write_str("never had a heartbeat"),
            Self::NoHypervisor(hypervisor) => write!(f, "does not offer {hypervisor}"),
        }
    }
}

impl Candidate {
    /// Whether it may take a VM of this hypervisor.
    pub fn fits(&self, hypervisor: &str) -> Result<(), Unfit> {
        if !self.backend {
            return Err(Unfit::NotBackend);
        }
        if self.blocked {
            return Err(Unfit::Blocked);
        }
        if self.state != HostState::Running {
            return Err(Unfit::NotRunning(self.state));
        }
        if self.heartbeat_age.is_none_or(|age| age > self.suspect_after) {
            return Err(Unfit::Suspect(self.heartbeat_age));
        }
        match &self.hypervisors {
            Some(offered) if !offered.iter().any(|h| h == hypervisor) => {
                Err(Unfit::NoHypervisor(hypervisor.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Its score; `chance` is uniform in 0..1.
    pub fn score(&self, weights: Weights, chance: f64) -> f64 {
        let capacity = weights.ram * self.ram + weights.cpu * self.cpu;
        capacity / (f64::from(self.vms) + 1.0) + weights.random * chance
    }
}

/// The host with the highest score, the first one of equals; or why each host is unfit.
/// `chance` gives a number in 0..1 for each host.
pub fn choose(
    candidates: &[Candidate],
    hypervisor: &str,
    weights: Weights,
    mut chance: impl FnMut(HostId) -> f64,
) -> Result<HostId, Vec<(String, Unfit)>> {
    let mut best: Option<(f64, HostId)> = None;
    let mut unfit = Vec::new();
    for candidate in candidates {
        match candidate.fits(hypervisor) {
            Ok(()) => {
                let score = candidate.score(weights, chance(candidate.host));
                if best.is_none_or(|(highest, _)| score > highest) {
                    best = Some((score, candidate.host));
                }
            }
            Err(reason) => unfit.push((candidate.name.clone(), reason)),
        }
    }
    best.map(|(_, host)| host).ok_or(unfit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WEIGHTS: Weights = Weights { ram: 1.0, cpu: 1.0, random: 1.0 };

    fn host(id: i32, vms: u32) -> Candidate {
        Candidate {
            host: HostId(id),
            name: format!("node{id}"),
            backend: true,
            blocked: false,
            state: HostState::Running,
            heartbeat_age: Some(Duration::from_secs(1)),
            suspect_after: SUSPECT_AFTER,
            hypervisors: Some(vec!["lxc".to_owned()]),
            ram: 16000.0,
            cpu: 8000.0,
            vms,
        }
    }

    #[test]
    fn the_formula_of_existing_farms() {
        assert_eq!(host(1, 2).score(WEIGHTS, 0.5), 8000.5);
        assert_eq!(host(1, 0).score(Weights { ram: 2.0, cpu: 0.0, random: 0.0 }, 0.9), 32000.0);
    }

    #[test]
    fn the_least_loaded_of_equal_hosts_takes_it_and_the_first_wins_a_tie() {
        let hosts = [host(1, 3), host(2, 1), host(3, 1)];
        assert_eq!(choose(&hosts, "lxc", WEIGHTS, |_| 0.5), Ok(HostId(2)));
    }

    #[test]
    fn each_unfit_host_says_why() {
        let hosts = [
            Candidate { backend: false, ..host(1, 0) },
            Candidate { blocked: true, ..host(2, 0) },
            Candidate { state: HostState::Lost, ..host(3, 0) },
            Candidate { heartbeat_age: Some(Duration::from_secs(16)), ..host(4, 0) },
            Candidate { heartbeat_age: None, ..host(5, 0) },
            Candidate { hypervisors: Some(vec!["kvm".to_owned()]), ..host(6, 0) },
        ];
        let reasons = choose(&hosts, "lxc", WEIGHTS, |_| 0.0).unwrap_err();
        let text: Vec<String> = reasons.iter().map(|(name, why)| format!("{name} {why}")).collect();
        assert_eq!(
            text,
            [
                "node1 runs no VMs",
                "node2 is blocked",
                "node3 is lost",
                "node4 has had no heartbeat for 16 s",
                "node5 never had a heartbeat",
                "node6 does not offer lxc",
            ]
        );
    }

    proptest! {
        #[test]
        fn many_starts_on_equal_hosts_stay_even(count in 2_usize..8, starts in 1_usize..60) {
            let mut hosts: Vec<Candidate> = (0..count).map(|i| host(i32::try_from(i).unwrap(), 0)).collect();
            for _ in 0..starts {
                let chosen = choose(&hosts, "lxc", WEIGHTS, |h| f64::from(h.0) / 10.0).unwrap();
                hosts.iter_mut().find(|h| h.host == chosen).unwrap().vms += 1;
            }
            let most = hosts.iter().map(|h| h.vms).max().unwrap();
            let least = hosts.iter().map(|h| h.vms).min().unwrap();
            prop_assert!(most - least <= 1);
        }
    }
}
