//! Password hashes and the chain of authentication plug-ins.
//!
//! The router hands in what the client sent and what the user's row holds; this crate answers with a decision
//! and with effects (a hash to store), and never talks to the database itself. Default is to deny.

mod chain;
mod legacy;
mod login;
mod password;
mod second_factor;
mod token;
mod workers;

pub use chain::{Chain, Decision, UnknownPlugin};
pub use legacy::{is_legacy_hash, legacy_hash};
pub use login::{Login, normalize};
pub use password::{Hasher, PasswordError, Verdict};
pub use second_factor::{Code, InvalidSecret, SecondFactor, recovery_codes};
pub use token::{digest as token_digest, fresh as fresh_token, fresh_ticket, is_ticket};
