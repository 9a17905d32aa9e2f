//! What every QVD daemon needs around its work: configuration layers, logs, signals, readiness and a private
//! PostgreSQL for one-machine installations and tests.

pub mod config;
pub mod drain;
pub mod instances;
pub mod log;
pub mod memory;
pub mod postgres;
pub mod privileges;
pub mod properties;
pub mod ready;
pub mod signals;
pub mod zone;

pub use config::{Config, Snapshot, Values};
pub use drain::Drain;
