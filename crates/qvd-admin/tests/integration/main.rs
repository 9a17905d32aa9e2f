//! The API against a real private PostgreSQL, called by `qa4` and by hand, over its Unix socket and over TLS.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test says where it failed"
)]

mod any_request;
mod audit;
mod bad_input;
mod changes;
mod clients;
mod codes;
mod console;
mod containers;
mod deliveries;
mod downloads;
mod earlier_clients;
mod examples;
mod files;
mod images;
mod installation;
mod legacy_lists;
mod live;
mod monitoring;
mod openapi;
mod permissions;
mod properties;
mod repeats;
mod role_model;
mod roles;
mod second_factor;
mod sequences;
mod sessions;
#[path = "../shapes/mod.rs"]
mod shapes;
mod spying;
mod tag_model;
mod tokens;
mod uploads;
mod v2;
mod walk_through;
mod weaknesses;

use qvd_cli::error::Error as CliError;

pub use installation::{Answer, Installation, PASSWORD, image_file};

/// The code of a refusal.
pub fn code(result: Result<String, CliError>) -> u16 {
    match result.unwrap_err() {
        CliError::Refused { code, .. } => code,
        CliError::Partial { failures, .. } => {
            let (_, message) = failures.first().unwrap();
            message.rsplit_once("[code ").unwrap().1.trim_end_matches(']').parse().unwrap()
        }
        other => panic!("{other:?}"),
    }
}
