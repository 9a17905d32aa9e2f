//! TLS, the duplex relay and inherited sockets.
//!
//! The relay never looks at what it copies: after the upgrade a connection has left HTTP for good.

pub mod certificate;
mod client;
pub mod duplex;
mod examination;
pub mod link;
pub mod sockets;
pub mod tls;

pub use client::ClientTls;
pub use duplex::{Duplex, Ended, Side, Traffic};
pub use examination::{Examined, Flaw, examine};
pub use tls::{ServerTls, TlsError, TlsMaterial};
