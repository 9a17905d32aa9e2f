//! VMA, the agent inside each desktop (`spec/vma.md`).
//!
//! * `server` answers router and node; it refuses whoever is inside the desktop or lacks its secret.
//! * `owner` is the one task that owns the session. It feeds what happens to the pure `machine` and carries
//!   out the effects: `prepare` (hooks, `provision`), `launch` (nxagent, then the desktop, as the user).
//! * `screen` shows the session to an administrator whom its user lets see it; `question` asks the user.
//! * `watch` follows nxagent's state file, `gate` owns the public NX port and lets one peer through.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::as_conversions))]

mod accounts;
pub mod dialog;
mod environment;
mod error;
mod gate;
mod hooks;
pub mod init;
mod launch;
mod leftover;
mod machine;
mod owner;
mod parameters;
mod power;
mod prepare;
mod provision;
pub mod question;
mod screen;
mod server;
mod service;
mod settings;
mod watch;

pub use error::Error;
pub use service::{Service, run};
pub use settings::{Consent, Hooks, Limits, Programs, Settings};
