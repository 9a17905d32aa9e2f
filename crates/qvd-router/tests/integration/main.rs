//! The router against a private PostgreSQL, with real TLS clients and a small peer in place of a desktop.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test says where it failed"
)]

mod client;
mod connect;
mod desktop;
mod installation;
mod requests;
mod tickets;
