//! QVD clusters on one machine, for tests.
//!
//! Everything is real: the programs that are installed, a PostgreSQL, containers, a client that draws on an X server.
//! A [`Cluster`] is one machine with everything, a [`Farm`] several nodes with a database, a storage and networks
//! between them, each of which can fail. They live in namespaces of their own; when they are dropped, whatever was
//! started in them ends and nothing stays.

pub mod agents;
pub mod client;
pub mod cluster;
pub mod desktops;
pub mod display;
pub mod farm;
pub mod image;
pub mod lease;
pub mod machine;
pub mod namespace;
pub mod node;
pub mod picture;
pub mod programs;
pub mod proxy;
pub mod rows;
pub mod scratch;
pub mod soak;
pub mod traces;
pub mod viewer;

pub use client::Client;
pub use cluster::Cluster;
pub use desktops::Desktops;
pub use display::Display;
pub use farm::{Farm, Lan};
pub use machine::{Answer, Machine};
pub use namespace::Namespace;
pub use node::Node;
pub use picture::Picture;
pub use proxy::{Fault, Proxy};
pub use rows::Rows;
pub use scratch::Scratch;
pub use viewer::Viewer;
