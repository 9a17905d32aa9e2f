//! What a process pays before its first request: alone in its program, because only the first one pays.

#![allow(clippy::unwrap_used, reason = "a failed test says where it failed")]

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rustls::crypto::aws_lc_rs::default_provider;

#[test]
fn the_first_random_number_takes_no_time_of_the_processor() {
    let spent = || Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap());
    let before = spent();
    let mut random = [0; 32];
    default_provider().secure_random.fill(&mut random).unwrap();
    let took = spent() - before;
    // With the measurements that `.cargo/config.toml` switches off it is 25 ms at least.
    assert!(took < Duration::from_millis(10), "{took:?}");
}
