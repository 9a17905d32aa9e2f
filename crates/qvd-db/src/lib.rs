//! QVD-DB: the only place with SQL.
//!
//! Statements are named constants ([`Sql`]); each module lists its own in `ALL`, and one test prepares them all
//! against the migrated schema. Multi-statement changes run through [`Database::transaction`].

pub mod admin;
pub mod attempts;
pub mod cluster;
pub mod commands;
pub mod configs;
mod database;
pub mod deploy;
mod error;
pub mod events;
pub mod expiry;
pub mod hosts;
mod listener;
pub mod node;
pub mod placement;
pub mod router;
pub mod secrets;
mod seed;
mod sql;
mod takeover;
mod tls;
pub mod vault;

pub use database::{Database, Settings, Transaction};
pub use error::{Conflict, Error};
pub use listener::{Doorbell, Listener};
pub use sql::{Session, Sql, column};
pub use takeover::TakenOver;
pub use tls::Tls;
pub use vault::Vault;

/// Every statement of this crate by module, for the tests that prepare them all and check who may run them.
pub fn statements() -> impl Iterator<Item = (&'static str, Sql)> {
    let of = |module, statements: &'static [Sql]| statements.iter().map(move |sql| (module, *sql));
    of("attempts", attempts::ALL)
        .chain(of("commands", commands::ALL))
        .chain(of("cluster", cluster::ALL))
        .chain(of("configs", configs::ALL))
        .chain(of("database", database::ALL))
        .chain(of("events", events::ALL))
        .chain(of("expiry", expiry::ALL))
        .chain(of("hosts", hosts::ALL))
        .chain(of("node", node::ALL))
        .chain(of("placement", placement::ALL))
        .chain(admin::statements().map(|sql| ("admin", sql)))
        .chain(router::statements().map(|sql| ("router", sql)))
}
