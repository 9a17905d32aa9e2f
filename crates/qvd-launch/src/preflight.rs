//! What this machine lacks for `qvd up`: everything at once, before anything is changed.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Uid, User};

use crate::installation::{Installation, SERVICE_USER};
use crate::layout::Layout;

/// Programs that a node needs, and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 6] = [
    ("/usr/bin/lxc-start", "lxc"),
    ("/usr/bin/lxc-stop", "lxc"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/sbin/dnsmasq", "dnsmasq-base"),
    ("/usr/sbin/useradd", "passwd"),
    ("/usr/bin/setpriv", "util-linux"),
];
/// Free space that a first image and its desktops need.
const SPACE: u64 = 3 << 30;

/// What is to be checked.
pub struct Request<'a> {
    /// Where everything is kept.
    pub layout: &'a Layout,
    /// What is to run.
    pub installation: &'a Installation,
    /// Whether our own supervisor runs already, so that its ports are taken by right.
    pub running: bool,
}

/// Everything that is missing, as sentences that say what to do.
pub fn findings(request: &Request<'_>) -> Vec<String> {
    let mut findings = Vec::new();
    if !Uid::effective().is_root() {
        findings.push("this must run as root: desktops need mounts, a bridge and control groups".to_owned());
    }
    for (program, package) in PROGRAMS {
        if !Path::new(program).exists() {
            findings.push(format!("{program} is missing: apt-get install {package}"));
        }
    }
    let Request { layout, installation, running } = *request;
    if installation.farm.is_none() {
        postgres(layout, &mut findings);
    }
    let storage = installation.storage(layout);
    entry(layout.root(), &mut findings);
    if installation.storage.is_some() {
        shared(&storage, &mut findings);
    }
    if Uid::effective().is_root() {
        overlay(&storage, &mut findings);
    }
    control_groups(&mut findings);
    space(&storage, &mut findings);
    if !running {
        if let Some(interface) = &installation.interface {
            port_of_bridge(interface, &installation.bridge, &mut findings);
        }
        for port in installation.ports() {
            let address = SocketAddr::new(installation.listen, port);
            if let Err(error) = TcpListener::bind(address) {
                findings.push(format!(
                    "{address} cannot be listened on ({error}); choose another port or address"
                ));
            }
        }
    }
    findings
}

fn postgres(layout: &Layout, findings: &mut Vec<String>) {
    if let Err(error) = crate::database::cluster(layout) {
        findings.push(error.to_string());
    }
}

fn entry(directory: &Path, findings: &mut Vec<String>) {
    let blocked = existing_parents(directory).find(|path| !may_be_entered(path));
    if let Some(path) = blocked {
        findings.push(format!(
            "{} may only be entered by its owner, but PostgreSQL and the router run as other users; \
             choose another --data directory or chmod o+x it",
            path.display()
        ));
    }
}

/// A storage directory that others share: it must be there, and ours must be the user that it knows.
fn shared(storage: &Path, findings: &mut Vec<String>) {
    use std::os::unix::fs::MetadataExt;
    if !storage.is_dir() {
        return findings.push(format!(
            "--storage {}: there is no such directory; mount the shared storage first",
            storage.display()
        ));
    }
    entry(storage, findings);
    let staging = storage.join("staging");
    let Ok(owner) = fs::metadata(&staging).map(|found| found.uid()) else { return };
    let own = User::from_name(SERVICE_USER).ok().flatten().map(|user| user.uid.as_raw());
    if own != Some(owner) {
        let here = own.map_or("is missing".to_owned(), |own| format!("has the id {own}"));
        findings.push(format!(
            "{} belongs to the user id {owner}, but the user {SERVICE_USER} {here} here; \
             give it the same id on all nodes",
            staging.display()
        ));
    }
}

/// An interface that becomes a port of the bridge no longer serves the machine itself.
fn port_of_bridge(interface: &str, bridge: &str, findings: &mut Vec<String>) {
    let link = Path::new("/sys/class/net").join(interface);
    if !link.exists() {
        return findings.push(format!("--interface {interface}: this machine has no such interface"));
    }
    if let Ok(master) = fs::read_link(link.join("master")) {
        if master.file_name().is_none_or(|name| name != bridge) {
            findings.push(format!("--interface {interface}: it belongs to {} already", master.display()));
        }
        return;
    }
    let addresses = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut own =
        addresses.filter(|found| found.interface_name == interface).filter_map(|found| found.address);
    if let Some(address) = own.find_map(|address| address.as_sockaddr_in().map(|address| address.ip())) {
        findings.push(format!(
            "--interface {interface}: it has the address {address}, which could not be reached any more; \
             give an interface that only leads to the desktop network"
        ));
    }
}

fn existing_parents(path: &Path) -> impl Iterator<Item = PathBuf> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let parents: Vec<PathBuf> = absolute.ancestors().skip(1).map(Path::to_owned).collect();
    parents.into_iter().filter(|parent| parent.exists())
}

fn may_be_entered(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
}

/// Tries an overlay where the desktops' layers will be.
fn overlay(storage: &Path, findings: &mut Vec<String>) {
    let Some(parent) =
        std::iter::once(storage.to_owned()).chain(existing_parents(storage)).find(|p| p.exists())
    else {
        return;
    };
    let Ok(probe) = tempfile::Builder::new().prefix(".qvd-probe-").tempdir_in(&parent) else {
        return findings.push(format!("{} cannot be written", parent.display()));
    };
    let at = |name: &str| probe.path().join(name);
    for name in ["lower", "upper", "work", "root"] {
        if let Err(error) = fs::create_dir(at(name)) {
            return findings.push(format!("{}: {error}", at(name).display()));
        }
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        at("lower").display(),
        at("upper").display(),
        at("work").display()
    );
    match mount(Some("overlay"), &at("root"), Some("overlay"), MsFlags::empty(), Some(options.as_str())) {
        Ok(()) => {
            if let Err(error) = umount2(&at("root"), MntFlags::empty()) {
                findings.push(format!("the probe of overlayfs cannot be unmounted: {error}"));
            }
        }
        Err(error) => findings.push(format!(
            "the kernel makes no overlayfs on {} ({error}); load the module overlay, or choose a directory on ext4, xfs or btrfs",
            parent.display()
        )),
    }
}

fn control_groups(findings: &mut Vec<String>) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let found = mounts.lines().any(|line| matches!(line.split(' ').nth(2), Some("cgroup" | "cgroup2")));
    if !found {
        findings.push("no control groups are mounted below /sys/fs/cgroup".to_owned());
    }
}

fn space(storage: &Path, findings: &mut Vec<String>) {
    let existing = std::iter::once(storage.to_owned()).chain(existing_parents(storage)).find(|p| p.exists());
    let Some(existing) = existing else { return };
    let Ok(found) = nix::sys::statvfs::statvfs(&existing) else { return };
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    if free < SPACE {
        findings.push(format!(
            "{} has {} MiB free; {} are needed",
            existing.display(),
            free >> 20,
            SPACE >> 20
        ));
    }
}

/// Whether the service user is still to be made.
pub fn lacks_service_user() -> bool {
    User::from_name(SERVICE_USER).ok().flatten().is_none()
}
