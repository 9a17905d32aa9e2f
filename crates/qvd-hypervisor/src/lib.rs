//! Desktops and their storage.
//!
//! [`storage`] turns a registered image into a root file system that one desktop may write: base tree,
//! overlay, mount, home. [`lxc`] turns that root into a running container and ends it again. Both know no
//! database and no configuration: whoever calls passes values.
//!
//! Every step may be repeated, and so may its undo, in any state that an earlier life of the VM left behind.

mod blocking;
pub mod error;
pub mod lxc;
pub mod storage;

pub use error::Error;
