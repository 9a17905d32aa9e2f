//! QVD-DB: the only place with SQL.
//!
//! Statements are named constants ([`Sql`]); each module lists its own in `ALL`, and one test prepares them all
//! against the migrated schema. Multi-statement changes run through [`Database::transaction`].

pub mod admin;
pub mod commands;
pub mod configs;
mod database;
pub mod deploy;
mod error;
pub mod events;
pub mod hosts;
mod listener;
pub mod node;
pub mod placement;
pub mod router;
mod seed;
mod sql;

pub use database::{Database, Settings, Transaction};
pub use error::{Conflict, Error};
pub use listener::{Doorbell, Listener};
pub use sql::{Session, Sql, column};

/// Every statement of this crate, for the test that prepares them all.
pub fn statements() -> impl Iterator<Item = Sql> {
    [commands::ALL, configs::ALL, database::ALL, events::ALL, hosts::ALL, node::ALL, placement::ALL]
        .into_iter()
        .flatten()
        .copied()
        .chain(admin::statements())
        .chain(router::statements())
}
