//! The vocabulary that every room of QVD shares.
//!
//! Pure data and pure functions: no sockets, no clock, no randomness. A name that exists on a wire, in a
//! table or in a configuration file is spelled here once.

#![forbid(unsafe_code)]

pub mod acl;
pub mod action;
pub mod config;
pub mod event;
pub mod expiry;
pub mod failure;
pub mod filter;
pub mod ids;
pub mod network;
pub mod notify;
pub mod role;
pub mod states;
mod words;

pub use failure::{Failure, FailureCode};
pub use ids::{AdminId, DiId, Generation, HostId, OsfId, RoleId, TenantId, UserId, VmId};
pub use states::{HostCommand, HostState, SessionState, UserCommand, UserState, VmCommand, VmState};
pub use words::{UnknownWord, nearest};
