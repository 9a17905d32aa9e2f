//! Random sequences of requests, against what a model says.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::Installation;

/// Tries random sequences of steps on one installation; `check` makes what it needs anew for each.
pub fn every_sequence<S: Strategy>(
    name: &str,
    cases: u32,
    step: S,
    check: impl AsyncFn(&Installation, Vec<S::Value>) -> Result<(), TestCaseError>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let it = runtime.block_on(Installation::start(name));
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Default::default() });
    let steps = proptest::collection::vec(step, 1..24);
    let outcome = runner.run(&steps, |steps| runtime.block_on(check(&it, steps)));
    runtime.block_on(it.stop());
    outcome.unwrap();
}
