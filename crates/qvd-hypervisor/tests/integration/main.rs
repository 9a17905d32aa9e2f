//! Storage and containers, against real archives, mounts and processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails the test"
)]

mod container;
mod support;
mod unpack;
