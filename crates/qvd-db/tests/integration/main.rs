//! QVD-DB against a real private PostgreSQL.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed test says where it failed"
)]

mod attempts;
mod base;
mod cluster;
mod deployment;
mod encryption;
mod initial;
mod inventory;
mod lists;
mod notifications;
mod rights;
mod schema;
mod secrets;
mod takeover;
