//! The definition of a container: what `lxc-start` reads (`spec/node.md` 6.5 and 15.6).

use std::fmt::{Display, Write};
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use qvd_model::VmId;

use super::cgroups::{MONITOR, PAYLOAD, PIVOT, Version};
use super::{Lxc, container_name};
use crate::Error;
use crate::storage::{Home, Init};

/// How a desktop gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// It asks the node's DHCP server.
    Dhcp,
    /// It is born with it.
    Static {
        /// The address.
        address: Ipv4Addr,
        /// Bits of the network part.
        prefix: u8,
        /// The router, if there is one.
        gateway: Option<Ipv4Addr>,
    },
}

/// The network link of a desktop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Name of the end on the node (`qvd<id>`).
    pub name: String,
    /// The bridge that it is a port of.
    pub bridge: String,
    /// MAC address of the end in the desktop, which is `eth0` there.
    pub mac: String,
    /// How it gets its address.
    pub addressing: Addressing,
}

/// What holds a desktop in besides namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// Whether processes in the desktop may mount. systemd has to; root of a desktop that may not has a hard
    /// time becoming root of the node.
    pub mounts: bool,
    /// The system calls that are refused, as a file in LXC's format.
    pub seccomp: Option<PathBuf>,
    /// The AppArmor profile; none where the kernel has no AppArmor.
    pub apparmor: Option<&'static str>,
}

impl Confinement {
    /// The tightest that an image with this init can live with.
    pub fn for_init(init: Init) -> Self {
        Self {
            mounts: init == Init::Systemd,
            seccomp: Some(PathBuf::from("/usr/share/lxc/config/common.seccomp")),
            apparmor: profile(),
        }
    }
}

/// AppArmor profiles for desktops, the best first: one of our own where somebody has loaded it, and LXC's.
const PROFILES: [&str; 2] = ["lxc-container-qvd", "lxc-container-default-cgns"];

fn profile() -> Option<&'static str> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" {
        return None;
    }
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    // Under a profile that is not loaded LXC starts nothing.
    Some(choose_profile(&loaded).unwrap_or_else(|| {
        tracing::warn!("no AppArmor profile for desktops is loaded ({}): unconfined", PROFILES.join(", "));
        "unconfined"
    }))
}

/// The best of the profiles that the kernel lists, one a line, as `name (mode)`.
fn choose_profile(loaded: &str) -> Option<&'static str> {
    let is_loaded = |wanted: &&str| {
        loaded.lines().any(|line| line.rsplit_once(" (").is_some_and(|(name, _)| name == *wanted))
    };
    PROFILES.into_iter().find(is_loaded)
}

/// Everything that `lxc-start` has to know about one desktop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The VM.
    pub vm: VmId,
    /// Its host name; see [`host_name`].
    pub host_name: String,
    /// Its mounted root.
    pub root: PathBuf,
    /// Whether the root is read-only: OSFs without overlay.
    pub read_only: bool,
    /// What it boots with.
    pub init: Init,
    /// The home, if it has one.
    pub home: Option<Home>,
    /// Its network link.
    pub link: Link,
    /// Memory, and memory and swap together, in bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// What holds it in.
    pub confinement: Confinement,
    /// Container settings of an extended image. They act on the node: only of images whose author is trusted.
    pub image_settings: Option<PathBuf>,
    /// Mounts of an extended image; the same holds for them.
    pub image_mounts: Option<PathBuf>,
    /// Further lines in LXC's format (`internal.vm.lxc.conf.extra`).
    pub extra: String,
}

/// Devices that a desktop may use, beside the ones that its `/dev` is made of.
const DEVICES: [&str; 15] = [
    "c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9", "c 5:0", "c 5:1", "c 5:2", "c 136:*", "c 254:0", "c 10:229",
    "c 10:200", "c 10:228", "c 10:232", "c 81:*",
];

/// Capabilities that no desktop needs: they act on the kernel or on devices, which are the node's.
const DROPPED: &str = "mac_admin mac_override sys_time sys_module sys_rawio syslog mknod dac_read_search \
                       audit_control wake_alarm block_suspend bpf perfmon checkpoint_restore";

/// Makes a host name out of a VM's name: what DNS allows in a label, never empty.
pub fn host_name(name: &str, vm: VmId) -> String {
    let fitting = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().take(63).map(fitting).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { container_name(vm) } else { name.to_owned() }
}

impl Definition {
    /// The text in LXC's format.
    ///
    /// # Errors
    /// [`Error::Definition`] for a value with a line break or another character that would end it.
    pub fn text(&self, lxc: &Lxc) -> Result<String, Error> {
        let mut lines = Lines { vm: self.vm, text: String::new() };
        lines.set("lxc.uts.name", &self.host_name)?;
        lines.set("lxc.rootfs.path", format!("dir:{}", self.root.display()))?;
        if self.read_only {
            lines.set("lxc.rootfs.options", "ro")?;
        }
        lines.set("lxc.autodev", 1)?;
        lines.set("lxc.tty.max", 3)?;
        lines.set("lxc.pty.max", 1024)?;
        lines.set("lxc.console.logfile", lxc.console(self.vm).display())?;
        lines.set("lxc.console.size", "128KB")?;
        lines.set("lxc.console.rotate", 1)?;
        lines.set("lxc.signal.halt", if self.init == Init::Systemd { "SIGRTMIN+4" } else { "SIGPWR" })?;
        self.mounts(&mut lines)?;
        self.groups(&mut lines, lxc)?;
        self.confinement(&mut lines)?;
        self.network(&mut lines)?;
        if let Some(path) = &self.image_mounts {
            lines.set("lxc.mount.fstab", path.display())?;
        }
        if let Some(path) = &self.image_settings {
            lines.set("lxc.include", path.display())?;
        }
        lines.text.push_str(&self.extra);
        lines.text.push('\n');
        Ok(lines.text)
    }

    fn mounts(&self, lines: &mut Lines) -> Result<(), Error> {
        let groups = if self.init == Init::Systemd { " cgroup:mixed" } else { "" };
        lines.set("lxc.mount.auto", format!("proc:mixed sys:mixed{groups}"))?;
        lines.mount("tmpfs dev/shm tmpfs rw,nosuid,nodev,mode=1777,create=dir")?;
        lines.mount("tmpfs run tmpfs rw,nosuid,nodev,mode=755,create=dir")?;
        lines.mount("/dev/fuse dev/fuse none bind,optional,create=file")?;
        if let Some(home) = &self.home {
            let (source, target) = (self.field("home", &home.source)?, self.field("home", &home.target)?);
            lines.mount(&format!("{source} {target} none bind"))?;
        }
        Ok(())
    }

    /// A path as a field of a mount entry, where blanks separate.
    fn field(&self, what: &'static str, path: &Path) -> Result<String, Error> {
        let refuse = || Error::Definition { vm: self.vm.0, what, value: path.display().to_string() };
        let text = path.to_str().filter(|text| !text.contains(['\n', '\\'])).ok_or_else(refuse)?;
        Ok(text.replace(' ', "\\040").replace('\t', "\\011"))
    }

    fn groups(&self, lines: &mut Lines, lxc: &Lxc) -> Result<(), Error> {
        let cgroups = &lxc.cgroups;
        let group = cgroups.group(self.vm);
        lines.set("lxc.cgroup.dir.monitor", format!("{group}/{MONITOR}"))?;
        lines.set("lxc.cgroup.dir.monitor.pivot", format!("{group}/{PIVOT}"))?;
        lines.set("lxc.cgroup.dir.container", format!("{group}/{PAYLOAD}"))?;
        // One group further in, so that a desktop that manages its groups cannot lift its own limits.
        lines.set("lxc.cgroup.dir.container.inner", "inside")?;
        if let Some(bytes) = self.memory {
            match cgroups.controller("memory") {
                Some(Version::V1) => {
                    lines.set("lxc.cgroup.memory.limit_in_bytes", bytes)?;
                    if cgroups.counts_swap() {
                        lines.set("lxc.cgroup.memory.memsw.limit_in_bytes", bytes)?;
                    }
                }
                Some(Version::V2) => {
                    lines.set("lxc.cgroup2.memory.max", bytes)?;
                    lines.set("lxc.cgroup2.memory.swap.max", 0)?;
                }
                None => tracing::warn!(vm = %self.vm, "no memory controller: the desktop is not limited"),
            }
        }
        if let (Some(pids), Some(version)) = (self.pids, cgroups.controller("pids")) {
            lines.set(&format!("{}.pids.max", key(version)), pids)?;
        }
        if let Some(version) = cgroups.devices() {
            lines.set(&format!("{}.devices.deny", key(version)), "a")?;
            for device in DEVICES {
                lines.set(&format!("{}.devices.allow", key(version)), format!("{device} rwm"))?;
            }
        }
        Ok(())
    }

    fn confinement(&self, lines: &mut Lines) -> Result<(), Error> {
        lines.set("lxc.cap.drop", DROPPED)?;
        if !self.confinement.mounts {
            lines.set("lxc.cap.drop", "sys_admin")?;
        }
        if let Some(path) = &self.confinement.seccomp {
            lines.set("lxc.seccomp.profile", path.display())?;
        }
        if let Some(profile) = self.confinement.apparmor {
            lines.set("lxc.apparmor.profile", profile)?;
        }
        Ok(())
    }

    fn network(&self, lines: &mut Lines) -> Result<(), Error> {
        lines.set("lxc.net.0.type", "veth")?;
        lines.set("lxc.net.0.veth.pair", &self.link.name)?;
        lines.set("lxc.net.0.link", &self.link.bridge)?;
        lines.set("lxc.net.0.name", "eth0")?;
        lines.set("lxc.net.0.hwaddr", &self.link.mac)?;
        lines.set("lxc.net.0.flags", "up")?;
        if let Addressing::Static { address, prefix, gateway } = self.link.addressing {
            // LXC would guess a wrong broadcast address.
            let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            let broadcast = Ipv4Addr::from(u32::from(address) | host_bits);
            lines.set("lxc.net.0.ipv4.address", format!("{address}/{prefix} {broadcast}"))?;
            if let Some(gateway) = gateway {
                lines.set("lxc.net.0.ipv4.gateway", gateway)?;
            }
        }
        Ok(())
    }
}

const fn key(version: Version) -> &'static str {
    match version {
        Version::V1 => "lxc.cgroup",
        Version::V2 => "lxc.cgroup2",
    }
}

struct Lines {
    vm: VmId,
    text: String,
}

impl Lines {
    fn set(&mut self, key: &str, value: impl Display) -> Result<(), Error> {
        let value = value.to_string();
        if value.is_empty() || value.contains(['\n', '\r', '\0']) {
            return Err(Error::Definition { vm: self.vm.0, what: "a setting", value });
        }
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{key} = {value}");
        Ok(())
    }

    fn mount(&mut self, entry: &str) -> Result<(), Error> {
        self.set("lxc.mount.entry", format!("{entry} 0 0"))
    }
}

impl Lxc {
    /// Writes the definition to `path.run.lxc/qvd-<id>/config`, where an administrator can read it.
    pub fn define(&self, definition: &Definition) -> Result<PathBuf, Error> {
        let text = definition.text(self)?;
        let directory = self.directory(definition.vm);
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o750)
            .create(&directory)
            .map_err(Error::storage("create", &directory))?;
        let path = directory.join("config");
        let temporary = directory.join("config.new");
        fs::write(&temporary, text).map_err(Error::storage("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(Error::storage("write", &path))?;
        Ok(path)
    }

    /// Removes the definition, and what was captured of the container's output.
    pub fn undefine(&self, vm: VmId) -> Result<(), Error> {
        let directory = self.directory(vm);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::storage("remove", &directory)(error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loaded_profiles_are_named() {
        let lxc = "/usr/sbin/ntpd (enforce)\nlxc-container-default-cgns (enforce)\n";
        assert_eq!(choose_profile(lxc), Some("lxc-container-default-cgns"));
        assert_eq!(
            choose_profile(&format!("{lxc}lxc-container-qvd (complain)\n")),
            Some("lxc-container-qvd")
        );
        assert_eq!(choose_profile("lxc-container-default-cgns-x (enforce)\n"), None);
    }
}
