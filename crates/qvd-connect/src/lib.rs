//! The client library: log in at a router, choose a VM, and show its desktop with nxproxy
//! (`spec/client.md`).
//!
//! * [`Router`] is one TLS connection to a router: list, stop, connect.
//! * [`Trust`] decides whom to believe: authorities of the system, the user's own, and remembered exceptions.
//! * [`Screen`] is the X server to draw on; [`show`] runs nxproxy between it and the link that
//!   [`Router::connect`] gives.
//! * [`Comeback`] finds the way back to a desktop whose link was lost, with the [`Ticket`] that came with the link.

mod comeback;
mod display;
mod error;
mod link;
mod pins;
mod proxy;
mod resolve;
mod router;
mod ticket;
mod trust;

pub use comeback::Comeback;
pub use display::Screen;
pub use error::{CertificateProblem, ConnectError, Doubt};
pub use link::{Ending, show};
pub use pins::Pins;
pub use proxy::ProxySettings;
pub use qvd_model::event::EndReason;
pub use qvd_wire::http::{Credentials, SessionEnd, VmEntry};
pub use router::{Link, Router, Server, SessionWishes};
pub use ticket::Ticket;
pub use trust::{Trust, TrustError};
