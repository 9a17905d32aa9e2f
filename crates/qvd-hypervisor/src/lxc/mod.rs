//! Desktops as LXC containers (`spec/node.md` 6.1, 6.5, 6.6 and 15.6).
//!
//! A container is found by its name and by the directory of its definition; its life is that of its
//! `lxc-start` process, which has a session and a control group of its own, so that a desktop outlives the
//! daemon that started it and is adopted by the next one.

mod cgroups;
mod container;
mod definition;
mod process;

use std::path::PathBuf;

use qvd_model::VmId;

pub use cgroups::{Cgroups, Version};
pub use container::Container;
pub use definition::{Addressing, Confinement, Definition, Link, host_name};
pub use process::Process;

/// Programs of the installed LXC.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `command.lxc-start`
    pub start: PathBuf,
    /// `command.lxc-stop`
    pub stop: PathBuf,
}

/// The LXC of a node.
#[derive(Debug, Clone)]
pub struct Lxc {
    /// Its programs.
    pub programs: Programs,
    /// Where definitions are kept (`path.run.lxc`).
    pub run: PathBuf,
    /// The control groups of all desktops of this node.
    pub cgroups: Cgroups,
}

/// The name of a VM's container.
pub fn container_name(vm: VmId) -> String {
    format!("qvd-{vm}")
}

/// The VM whose container has this name.
fn vm_of(name: &str) -> Option<VmId> {
    name.strip_prefix("qvd-")?.parse().ok()
}

/// The name of the host end of a VM's link.
pub fn link_name(prefix: &str, vm: VmId) -> String {
    format!("{prefix}{vm}")
}

impl Lxc {
    fn directory(&self, vm: VmId) -> PathBuf {
        self.run.join(container_name(vm))
    }

    fn output(&self, vm: VmId) -> PathBuf {
        self.directory(vm).join("output")
    }

    fn console(&self, vm: VmId) -> PathBuf {
        self.directory(vm).join("console")
    }
}
