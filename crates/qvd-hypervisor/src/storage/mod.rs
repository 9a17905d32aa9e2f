//! From an image to a root file system that one desktop may write (`spec/node.md` 6.1 to 6.4).
//!
//! ```text
//! image ──unpack──► base tree ──overlay──► root ◄── home
//!  (file, shared)    (shared)   (per VM)    (mount point, bound by the container)
//! ```

mod ahead;
mod base;
mod directories;
mod home;
mod image;
mod inside;
mod layout;
mod mounts;
mod oci;
mod overlay;
mod record;
mod seed;
mod unpack;
mod verify;

pub use base::{Progress, Unpacking, prepare_base, remove_base, remove_unused_base, unpacked_bases};
pub use directories::{Directories, base_name};
pub use home::{Home, HomeOwner, prepare_home};
pub use image::{Compression, Image, Kind, inspect, recognize};
pub use inside::Inside;
pub use layout::{Init, Layout, Tree};
pub use mounts::{mount_root, mounted_below, unmount_below};
pub use oci::{flatten, is_container_image};
pub use overlay::{Overlay, discard_overlay, prepare_overlay, purge_discarded};
pub use seed::{Seed, seed_root};
pub use unpack::Limits;
pub use verify::{Account, Examined, RootFileSystem, verify};
