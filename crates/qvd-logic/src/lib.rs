//! Decisions as pure machines and functions: `step(event) -> effects`, no I/O.
//!
//! Time and randomness are arguments. Whatever can be wrong in logic is here, where it is property-tested.

#![forbid(unsafe_code)]

pub mod chart;
pub mod cluster;
pub mod fetching;
pub mod layers;
pub mod lifecycle;
pub mod placement;
pub mod proxies;
pub mod roles;
pub mod session;
pub mod throttle;
