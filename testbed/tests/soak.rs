//! Daemons are killed at random moments while people work: nothing of theirs is lost, and nothing stays behind.

use testbed::soak::{Losses, Plan, Report, run};

/// That nothing is lost that must not be.
fn check(report: &Report) {
    eprintln!("{report}");
    for daemon in ["qvd-hkd", "qvd-api"] {
        let Losses { sessions, connections, .. } = report.of(daemon);
        assert_eq!((*sessions, *connections), (0, 0), "lost by kills of {daemon}");
    }
    assert_eq!(report.of("qvd-l7r").sessions, 0, "lost by kills of qvd-l7r");
    assert!(report.left.is_empty());
}

#[test]
fn a_few_kills() {
    let plan = Plan { desktops: 3, kills: 3, seed: 4300 };
    check(&run(plan.from_environment().unwrap()).unwrap());
}

/// `make soak`; `QVD_SOAK_KILLS`, `QVD_SOAK_DESKTOPS` and `QVD_SOAK_SEED` change it.
#[test]
#[ignore = "takes a quarter of an hour"]
fn a_hundred_kills_of_each_daemon() {
    let plan = Plan { desktops: 20, kills: 100, seed: rand::random() };
    check(&run(plan.from_environment().unwrap()).unwrap());
}
