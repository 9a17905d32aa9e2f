//! What this machine lacks for `qvd up`: everything at once, before anything is changed.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Uid, User};

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
    /// Address of router and API.
    pub listen: IpAddr,
    /// Their ports.
    pub ports: &'a [u16],
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
    postgres(request.layout, &mut findings);
    if Uid::effective().is_root() {
        overlay(request.layout, &mut findings);
    }
    control_groups(&mut findings);
    space(request.layout, &mut findings);
    if !request.running {
        for port in request.ports {
            let address = SocketAddr::new(request.listen, *port);
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
    let blocked = existing_parents(layout.root()).find(|path| !may_be_entered(path));
    if let Some(path) = blocked {
        findings.push(format!(
            "{} may only be entered by its owner, but PostgreSQL and the router run as other users; \
             choose another --data directory or chmod o+x it",
            path.display()
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
fn overlay(layout: &Layout, findings: &mut Vec<String>) {
    let Some(parent) =
        std::iter::once(layout.root().to_owned()).chain(existing_parents(layout.root())).find(|p| p.exists())
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

fn space(layout: &Layout, findings: &mut Vec<String>) {
    let existing =
        std::iter::once(layout.root().to_owned()).chain(existing_parents(layout.root())).find(|p| p.exists());
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
    User::from_name(crate::installation::SERVICE_USER).ok().flatten().is_none()
}
