//! A QVD cluster on one machine, for tests.
//!
//! Everything is real: the programs that are installed, a PostgreSQL, containers, a client that draws on an X server.
//! A [`Cluster`] lives in namespaces of its own; when it is dropped, whatever was started in it ends and nothing stays.

pub mod client;
pub mod cluster;
pub mod display;
pub mod image;
pub mod namespace;
pub mod picture;
pub mod programs;
pub mod traces;

pub use client::Client;
pub use cluster::Cluster;
pub use display::Display;
pub use namespace::Namespace;
pub use picture::Picture;
