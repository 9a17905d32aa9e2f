//! One machine, one command: `qvd up`, `qvd down`, `qvd status`, `qvd restart`; with a database elsewhere, one node of
//! a farm.
//!
//! `up` checks the machine, makes what is missing, starts a supervisor in the background and returns when desktops
//! can be had. The supervisor owns the listening sockets and the private PostgreSQL, and keeps API, HKD and L7R
//! running. `down` stops everything and leaves only the data. `restart` brings a newer program into use: router and API
//! are replaced while they serve, the node's desktops are adopted by the new daemon.

mod addresses;
mod child;
mod choice;
mod control;
mod database;
mod down;
mod farm;
mod installation;
mod layout;
mod network;
mod passwords;
mod preflight;
mod report;
mod status;
mod supervisor;
mod up;

pub use choice::Options;
pub use control::restart;
pub use database::{Sharing, with_database};
pub use down::down;
pub use installation::SERVICE_USER;
pub use layout::{Daemon, Layout};
pub use passwords::generate as new_password;
pub use status::status;
pub use supervisor::supervise;
pub use up::up;

/// The database of an installation.
const DATABASE: &str = "qvd";
/// The user that the private PostgreSQL runs as.
const POSTGRES_USER: &str = "postgres";
/// The bridge of the first installation of a machine.
const BRIDGE: &str = "qvdnet";
