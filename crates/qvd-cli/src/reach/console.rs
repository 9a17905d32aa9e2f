//! The console of a container: a shell of its root, for root of the node that it runs on.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::process::Command;

use super::{Vm, ended, spawn};
use crate::api::Api;
use crate::error::Error;

const ATTACH: &str = "/usr/bin/lxc-attach";

/// Becomes root in the container of the VM, if that runs here. The API writes down how long.
pub(super) async fn attach(api: &mut Api, vm: &Vm, passed: &[String]) -> Result<(), Error> {
    let container = format!("qvd-{}", vm.id);
    let there = || {
        let host = vm.row.get("host_name").and_then(Value::as_str).unwrap_or("its node");
        Error::Usage(format!(
            "{} is a container on {host}, and root has its console there: qa4 vm id={} console",
            vm.name, vm.id
        ))
    };
    if !nix::unistd::geteuid().is_root() {
        return Err(there());
    }
    let directory = directory_of(&container).ok_or_else(there)?;
    let mut tunnel = api.tunnel(&json!({ "vm_id": vm.id, "to": "console" })).await?;
    let mut command = Command::new(ATTACH);
    command.args(["-n", &container, "-P"]).arg(directory).args(["--clear-env", "--keep-var", "TERM"]);
    if !passed.is_empty() {
        command.arg("--").args(passed);
    }
    let status = spawn(&mut command)?.wait().await;
    // The API may be gone already.
    let _ = tunnel.close(None).await;
    ended(status)
}

/// Where the container's definition is, out of the arguments of the process that root has started it with.
fn directory_of(container: &str) -> Option<PathBuf> {
    let network = std::fs::read_link("/proc/self/ns/net").ok()?;
    let processes = std::fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    processes
        .filter(|process| std::fs::metadata(process).is_ok_and(|found| found.uid() == 0))
        .filter(|process| std::fs::read_link(process.join("ns/net")).is_ok_and(|own| own == network))
        .find_map(|process| directory_in(&std::fs::read(process.join("cmdline")).ok()?, container))
}

/// The directory in the command line of an `lxc-start` for this container.
fn directory_in(line: &[u8], container: &str) -> Option<PathBuf> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let value = |option: &[u8]| {
        let at = words.iter().position(|word| *word == option)?;
        words.get(at.checked_add(1)?).copied()
    };
    let program = Path::new(std::str::from_utf8(words.first()?).ok()?).file_name()?;
    let is_it = program == "lxc-start" && value(b"-n")? == container.as_bytes();
    let directory = value(b"-P")?;
    is_it.then(|| PathBuf::from(OsString::from_vec(directory.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_by_how_it_was_started() {
        let line = b"/usr/bin/lxc-start\0-n\0qvd-7\0-P\0/run/qvd/lxc\0-F\0";
        assert_eq!(directory_in(line, "qvd-7"), Some(PathBuf::from("/run/qvd/lxc")));
        assert_eq!(directory_in(line, "qvd-70"), None);
        assert_eq!(directory_in(b"/bin/sh\0-n\0qvd-7\0-P\0/evil\0", "qvd-7"), None);
        assert_eq!(directory_in(b"", "qvd-7"), None);
    }
}
