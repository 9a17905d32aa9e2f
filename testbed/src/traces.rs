//! What an installation leaves on its machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Machine;

/// Where control groups are.
const GROUPS: &str = "/sys/fs/cgroup";
/// How long what is killed may take to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(100);

impl Machine {
    /// What could be left on this machine: links, mounts, rules, processes and control groups, one a line.
    pub fn traces(&self) -> Result<BTreeSet<String>> {
        let machine = self.namespace();
        let mut traces = groups(Path::new(GROUPS), self.bridge());
        for (program, arguments) in
            [("/bin/ls", ["/sys/class/net"].as_slice()), ("/usr/sbin/nft", &["list", "ruleset"])]
        {
            traces.extend(machine.run(program, arguments)?.lines().map(str::to_owned));
        }
        // Those of other tests, which are seen here too, come and go.
        let directory = self.directory().display().to_string();
        let mounts = machine.run("/bin/cat", &["/proc/self/mounts"])?;
        traces.extend(mounts.lines().filter(|line| line.contains(&directory)).map(str::to_owned));
        for process in machine.processes() {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            traces.insert(format!("process {process} {}", name.trim()));
        }
        Ok(traces)
    }

    /// What was not here before and stays. The nxproxy of a client that was killed ends by itself, but not before its
    /// housekeeper has slept for three seconds.
    pub fn lasting(&self, before: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left: BTreeSet<String> = self.traces()?.difference(before).cloned().collect();
            if left.is_empty() || Instant::now() >= end {
                return Ok(left);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// That nothing is on a machine that was not before, and all that was.
pub fn assert_same(before: &BTreeSet<String>, after: &BTreeSet<String>) {
    let difference: Vec<&String> = before.symmetric_difference(after).collect();
    assert!(difference.is_empty(), "{difference:#?}");
}

/// Processes in control groups that have the name of a bridge.
pub fn members(bridge: &str) -> BTreeSet<i32> {
    groups(Path::new(GROUPS), bridge).iter().flat_map(|group| processes(group)).collect()
}

fn processes(group: &str) -> Vec<i32> {
    let listed = fs::read_to_string(Path::new(group).join("cgroup.procs")).unwrap_or_default();
    listed.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Kills what is in control groups that have the name of a bridge, and removes them.
pub fn remove_groups(bridge: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = groups(Path::new(GROUPS), bridge);
        if found.is_empty() {
            return Ok(());
        }
        for group in found.iter().rev() {
            for process in processes(group) {
                // It may have ended meanwhile, which is what we want.
                let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
            }
            // One whose processes are still ending is removed in the next round.
            let _ = fs::remove_dir(group);
        }
        if Instant::now() > end {
            bail!("control groups do not go: {found:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Control groups below the one that has the name of the bridge.
fn groups(directory: &Path, bridge: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if path.to_string_lossy().contains(bridge) {
                found.insert(path.display().to_string());
            }
            found.extend(groups(&path, bridge));
        }
    }
    found
}
