//! What the node puts into a root before the desktop starts.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::inside::Inside;
use crate::Error;
use crate::blocking::blocking;

/// Files and directories of a root that differ from desktop to desktop.
#[derive(Clone)]
pub struct Seed {
    /// Host name, for `/etc/hostname`.
    pub host_name: String,
    /// DNS servers, for `/etc/resolv.conf`; none leaves the image's file.
    pub dns: Vec<Ipv4Addr>,
    /// Search domain beside them.
    pub domain: Option<String>,
    /// What routers and the node show to the agent, for `/etc/qvd/vma.secret`.
    pub secret: String,
    /// Where the home is bound, relative to the root.
    pub home: Option<PathBuf>,
}

/// Directories that a container is mounted together from.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "run"];

/// Puts everything into place. Links of the image are not followed out of its root.
pub async fn seed_root(root: &Path, seed: Seed) -> Result<(), Error> {
    let root = root.to_owned();
    blocking("seed a root", move || {
        let inside = Inside::open(&root)?;
        for directory in MOUNT_POINTS {
            inside.make_directory(directory)?;
        }
        if let Some(home) = &seed.home {
            inside.make_directory(home)?;
        }
        inside.write("etc/hostname", format!("{}\n", seed.host_name).as_bytes(), 0o644)?;
        if !seed.dns.is_empty() {
            inside.write("etc/resolv.conf", seed.resolv_conf().as_bytes(), 0o644)?;
        }
        inside.write("etc/qvd/vma.secret", format!("{}\n", seed.secret).as_bytes(), 0o600)
    })
    .await
}

impl Seed {
    fn resolv_conf(&self) -> String {
        let search = self.domain.iter().map(|domain| format!("search {domain}\n"));
        search.chain(self.dns.iter().map(|server| format!("nameserver {server}\n"))).collect()
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seed").field("host_name", &self.host_name).finish_non_exhaustive()
    }
}
