//! Control groups of desktops, in whichever hierarchies the machine has (`spec/node.md` 6.6, 15.6).

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qvd_model::VmId;

use super::{container_name, vm_of};
use crate::Error;

/// Which kind of hierarchy has a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller.
    V1,
    /// The unified one.
    V2,
}

#[derive(Debug, Clone)]
struct Hierarchy {
    version: Version,
    controllers: Vec<String>,
    /// Directories in which the groups of all desktops may be: the top, and below the group of process 1.
    tops: Vec<PathBuf>,
}

/// The control groups of this machine, and the parent that all desktops of one node have in each.
#[derive(Debug, Clone)]
pub struct Cgroups {
    parent: String,
    hierarchies: Vec<Hierarchy>,
}

impl Cgroups {
    /// Looks at what is mounted. `parent` is `qvd`, or another word where several nodes share a machine.
    pub fn detect(parent: &str) -> Result<Self, Error> {
        let read = |path: &str| fs::read_to_string(path).map_err(Error::storage("read", path));
        let hierarchies = parse(&read("/proc/self/mountinfo")?, &read("/proc/1/cgroup")?);
        Ok(Self { parent: parent.to_owned(), hierarchies })
    }

    /// Where a controller can be used, if it can.
    pub fn controller(&self, name: &str) -> Option<Version> {
        let has = |hierarchy: &&Hierarchy| match hierarchy.version {
            Version::V1 => hierarchy.controllers.iter().any(|word| word == name),
            Version::V2 => hierarchy.tops.first().is_some_and(|top| {
                let listed = fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
                listed.split_whitespace().any(|word| word == name)
            }),
        };
        self.hierarchies.iter().find(has).map(|hierarchy| hierarchy.version)
    }

    /// How access to devices is limited: version 2 does it without a controller.
    pub fn devices(&self) -> Option<Version> {
        self.controller("devices")
            .or_else(|| self.hierarchies.iter().find(|h| h.version == Version::V2).map(|h| h.version))
    }

    /// Whether memory and swap can be limited together.
    pub(super) fn counts_swap(&self) -> bool {
        // Only groups below the top have the file in some kernels.
        let named = |h: &&Hierarchy| h.controllers.iter().any(|word| word == "memory");
        self.hierarchies.iter().find(named).and_then(|h| h.tops.first()).is_some_and(|top| {
            let file = "memory.memsw.limit_in_bytes";
            let below = fs::read_dir(top).into_iter().flatten().filter_map(Result::ok);
            top.join(file).exists() || below.into_iter().any(|entry| entry.path().join(file).exists())
        })
    }

    /// The group of a VM, relative to the top; everything that belongs to it is in groups below.
    pub(super) fn group(&self, vm: VmId) -> String {
        format!("{}/{}", self.parent, container_name(vm))
    }

    fn directories(&self, vm: VmId) -> Vec<PathBuf> {
        let group = self.group(vm);
        let tops = self.hierarchies.iter().flat_map(|hierarchy| &hierarchy.tops);
        tops.map(|top| top.join(&group)).filter(|path| path.is_dir()).collect()
    }

    /// Processes of a VM, nested groups included.
    pub fn processes(&self, vm: VmId) -> BTreeSet<i32> {
        self.directories(vm).iter().flat_map(|directory| processes_below(directory)).collect()
    }

    /// VMs that have groups, whoever made them.
    pub(super) fn vms(&self) -> BTreeSet<VmId> {
        let tops = self.hierarchies.iter().flat_map(|hierarchy| &hierarchy.tops);
        let groups = tops.filter_map(|top| fs::read_dir(top.join(&self.parent)).ok()).flatten().flatten();
        groups.filter_map(|group| vm_of(group.file_name().to_str()?)).collect()
    }

    /// Processes of a VM's `lxc-start`.
    pub(super) fn monitors(&self, vm: VmId) -> BTreeSet<i32> {
        self.directories(vm).iter().flat_map(|directory| processes_below(&directory.join(MONITOR))).collect()
    }

    /// Removes the parent of all desktops where no desktop has groups in it any more.
    pub fn remove_parent(&self) {
        for top in self.hierarchies.iter().flat_map(|hierarchy| &hierarchy.tops) {
            // A group with groups in it refuses; one that was never made is not there.
            let _ = fs::remove_dir(top.join(&self.parent));
        }
    }

    /// Kills everything in the groups of all desktops and waits until nothing is left; how many processes there were.
    /// Needs nothing but the kernel.
    ///
    /// # Errors
    /// [`Error::Timeout`] when processes are left after `limit`.
    pub fn kill_all(&self, limit: Duration) -> Result<usize, Error> {
        let started = Instant::now();
        let tops = self.hierarchies.iter().flat_map(|hierarchy| &hierarchy.tops);
        let groups: Vec<PathBuf> = tops.map(|top| top.join(&self.parent)).collect();
        let mut killed = BTreeSet::new();
        loop {
            let found: BTreeSet<i32> = groups.iter().flat_map(|group| processes_below(group)).collect();
            if found.is_empty() {
                return Ok(killed.len());
            }
            killed.extend(found);
            for group in groups.iter().filter(|group| group.is_dir()) {
                kill_below(group)?;
            }
            if started.elapsed() >= limit {
                return Err(Error::Timeout { what: format!("killing everything in {}", self.parent), limit });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills the desktop, then whatever else is in its groups, and removes the groups.
    ///
    /// # Errors
    /// [`Error::Timeout`] when processes are left after `limit`.
    pub async fn kill(&self, vm: VmId, limit: Duration) -> Result<(), Error> {
        let started = Instant::now();
        // lxc-start leaves by itself once the desktop is gone, and cleans up; it is not waited for long.
        let patience = limit.min(Duration::from_secs(3)) / 2;
        loop {
            let waited = started.elapsed();
            let all = waited > patience;
            let directories = self.directories(vm);
            let scope = |directory: &PathBuf| if all { directory.clone() } else { directory.join(PAYLOAD) };
            for directory in directories.iter().map(scope).filter(|directory| directory.is_dir()) {
                kill_below(&directory)?;
            }
            if directories.iter().all(|directory| processes_below(directory).is_empty()) {
                return directories.iter().try_for_each(|directory| remove_groups(directory));
            }
            if waited >= limit {
                return Err(Error::Timeout { what: format!("killing {}", container_name(vm)), limit });
            }
            // Version 1 tells nobody when a group falls empty.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Groups of the desktop itself, of its `lxc-start`, and the one through which that leaves.
pub(super) const PAYLOAD: &str = "payload";
pub(super) const MONITOR: &str = "monitor";
pub(super) const PIVOT: &str = "pivot";

fn parse(mounts: &str, first: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut right = right.split(' ');
        let version = match right.next() {
            Some("cgroup") => Version::V1,
            Some("cgroup2") => Version::V2,
            _ => continue,
        };
        let controllers: Vec<String> = match version {
            Version::V2 => Vec::new(),
            Version::V1 => right.nth(1).unwrap_or_default().split(',').map(str::to_owned).collect(),
        };
        let mut tops = vec![mount.clone()];
        let own = first.lines().find_map(|line| group_of_first(line, version, &controllers));
        if let Some(below) = own.filter(|path| !path.is_empty()) {
            tops.push(mount.join(below));
        }
        found.push(Hierarchy { version, controllers, tops });
    }
    found
}

/// The group of process 1 if `line` of its list is about this hierarchy.
fn group_of_first(line: &str, version: Version, controllers: &[String]) -> Option<String> {
    let mut fields = line.splitn(3, ':');
    let (number, names, path) = (fields.next()?, fields.next()?, fields.next()?);
    let same = match version {
        Version::V2 => number == "0",
        Version::V1 => {
            !names.is_empty() && names.split(',').all(|name| controllers.iter().any(|c| c == name))
        }
    };
    // LXC leaves out systemd's own group, too.
    same.then(|| path.trim_end_matches("/init.scope").trim_start_matches('/').to_owned())
}

/// A group and all groups in it, deepest first.
fn groups_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let children = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    for child in children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        found.extend(groups_below(&child.path()));
    }
    found.push(directory.to_owned());
    found
}

fn processes_below(directory: &Path) -> BTreeSet<i32> {
    let lists = groups_below(directory).into_iter();
    let lists = lists.map(|group| fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default());
    // 0 stands for a process that this namespace cannot see.
    lists
        .flat_map(|list| list.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .filter(|pid| *pid > 0)
        .collect()
}

fn kill_below(directory: &Path) -> Result<(), Error> {
    match fs::write(directory.join("cgroup.kill"), "1") {
        Ok(()) => return Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {}
        Err(error) => return Err(Error::storage("kill", directory)(error)),
    }
    for pid in processes_below(directory) {
        match kill(Pid::from_raw(pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(Error::process("kill process", pid)(error)),
        }
    }
    Ok(())
}

fn remove_groups(directory: &Path) -> Result<(), Error> {
    for group in groups_below(directory) {
        match fs::remove_dir(&group) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::storage("remove", &group)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 20 0:25 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:26 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw
32 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct
33 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn hierarchies_are_told_apart() {
        let found = parse(HYBRID, "5:memory:/\n3:cpu,cpuacct:/init.scope\n0::/system/x\n");
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].version, Version::V2);
        assert_eq!(found[0].tops[1], Path::new("/sys/fs/cgroup/unified/system/x"));
        assert!(found[1].controllers.iter().any(|c| c == "cpuacct"));
        assert_eq!(found[1].tops, [Path::new("/sys/fs/cgroup/cpu,cpuacct")]);
        assert_eq!(found[2].tops, [Path::new("/sys/fs/cgroup/memory")]);
    }

    #[test]
    fn this_machine_has_groups() {
        let cgroups = Cgroups::detect("qvd").unwrap();
        assert!(!cgroups.hierarchies.is_empty());
        assert!(cgroups.devices().is_some());
        assert_eq!(cgroups.group(VmId(7)), "qvd/qvd-7");
    }
}
