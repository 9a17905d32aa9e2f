//! What an installation leaves on its machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::Cluster;

impl Cluster {
    /// What could be left on its machine: links, mounts, rules, processes and control groups, one a line.
    pub fn traces(&self) -> Result<BTreeSet<String>> {
        let machine = self.namespace();
        let mut traces = groups(Path::new("/sys/fs/cgroup"), self.bridge());
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
}

/// That nothing is on a machine that was not before, and all that was.
pub fn assert_same(before: &BTreeSet<String>, after: &BTreeSet<String>) {
    let difference: Vec<&String> = before.symmetric_difference(after).collect();
    assert!(difference.is_empty(), "{difference:#?}");
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
