//! Who may know whom: an arrow between packages points to a lower tier (`ARCHITECTURE.md`, section Map).

use crate::Finding;
use crate::source::Package;

/// The room of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    /// No I/O, no clock, no randomness.
    Pure,
    /// Pure state machines and functions.
    Decisions,
    /// Each wraps one outside thing.
    Means,
    /// Each is one daemon or command.
    Services,
    /// What is installed.
    Programs,
    /// Beside the product: tests and chores.
    Side,
}

/// Every package has a room. A new one gets its line here first.
const ROOMS: [(&str, Tier); 25] = [
    ("qvd-model", Tier::Pure),
    ("qvd-wire", Tier::Pure),
    ("qvd-logic", Tier::Decisions),
    ("qvd-runtime", Tier::Means),
    ("qvd-db", Tier::Means),
    ("qvd-auth", Tier::Means),
    ("qvd-rpc", Tier::Means),
    ("qvd-hypervisor", Tier::Means),
    ("qvd-net", Tier::Means),
    ("qvd-relay", Tier::Means),
    ("qvd-nx", Tier::Means),
    ("qvd-node", Tier::Services),
    ("qvd-router", Tier::Services),
    ("qvd-admin", Tier::Services),
    ("qvd-agent", Tier::Services),
    ("qvd-connect", Tier::Services),
    ("qvd-cli", Tier::Services),
    ("qvd-launch", Tier::Services),
    ("qvd", Tier::Programs),
    ("qa4", Tier::Programs),
    ("qvd-vma", Tier::Programs),
    ("qvdclient", Tier::Programs),
    ("testbed", Tier::Side),
    ("benches", Tier::Side),
    ("xtask", Tier::Side),
];

/// Arrows within a tier that are meant.
const SIDEWAYS: [(&str, &str, &str); 2] = [
    ("qvd-wire", "qvd-model", "codecs speak the shared vocabulary"),
    ("benches", "testbed", "what is measured are real installations"),
];

/// All that the pure tiers may use from outside: nothing here does I/O or reads a clock.
const PURE_CRATES: [&str; 7] = ["base64", "bytes", "serde", "serde_json", "thiserror", "time", "zeroize"];

/// Every arrow that points the wrong way.
pub fn findings(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let Some(tier) = tier(&package.name) else {
            findings
                .push(format!("package {} has no room; give it a line in xtask/src/tiers.rs", package.name));
            continue;
        };
        // Tests may use whatever they need to prove something.
        for dependency in
            package.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"))
        {
            findings.extend(arrow(&package.name, tier, &dependency.name));
        }
    }
    findings
}

fn arrow(from: &str, tier_from: Tier, to: &str) -> Option<Finding> {
    let Some(tier_to) = tier(to) else {
        let pure = tier_from <= Tier::Decisions;
        return (pure && !PURE_CRATES.contains(&to))
            .then(|| format!("{from} is pure, but depends on {to}, which is not known to be"));
    };
    let meant = SIDEWAYS.iter().any(|(a, b, _)| (*a, *b) == (from, to));
    if tier_to < tier_from && tier_to != Tier::Side || meant {
        return None;
    }
    Some(format!("{from} ({tier_from:?}) depends on {to} ({tier_to:?}); arrows point to a lower tier"))
}

fn tier(package: &str) -> Option<Tier> {
    ROOMS.iter().find(|(name, _)| *name == package).map(|(_, tier)| *tier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Dependency;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) });
        Package { name: name.to_owned(), dependencies: dependencies.collect() }
    }

    #[test]
    fn down_is_allowed_sideways_and_up_are_not() {
        assert_eq!(findings(&[package("qvd-node", &[("qvd-net", None), ("tokio", None)])]), [""; 0]);
        assert_eq!(findings(&[package("qvd-net", &[("qvd-db", None)])]).len(), 1);
        assert_eq!(findings(&[package("qvd-db", &[("qvd-node", Some("build"))])]).len(), 1);
        assert_eq!(findings(&[package("qvd", &[("testbed", None)])]).len(), 1);
    }

    #[test]
    fn tests_may_look_anywhere() {
        assert_eq!(
            findings(&[package("qvd-net", &[("qvd-db", Some("dev")), ("testbed", Some("dev"))])]),
            [""; 0]
        );
    }

    #[test]
    fn the_pure_tiers_take_only_pure_crates() {
        assert_eq!(findings(&[package("qvd-logic", &[("tokio", None)])]).len(), 1);
        assert_eq!(findings(&[package("qvd-wire", &[("bytes", None), ("qvd-model", None)])]), [""; 0]);
    }

    #[test]
    fn a_package_without_a_room_is_a_finding() {
        let found = findings(&[package("qvd-extra", &[])]);
        assert!(found[0].contains("qvd-extra"));
    }
}
