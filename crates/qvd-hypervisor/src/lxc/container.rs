//! Containers that run: starting, finding, ending.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use qvd_model::VmId;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::process::{self, Process};
use super::{Lxc, container_name, vm_of};
use crate::Error;
use crate::blocking::blocking;

/// A container whose `lxc-start` is alive, or was when it was found.
#[derive(Debug)]
pub struct Container {
    /// The VM.
    pub vm: VmId,
    /// Its `lxc-start`: ends last, after the desktop's own processes.
    pub monitor: Process,
    /// Only for containers that this process started.
    child: Option<Child>,
}

impl Container {
    /// Returns when the container has ended, with its status if we are the parent. May be called again.
    pub async fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        match &mut self.child {
            Some(child) => {
                let status =
                    child.wait().await.map_err(Error::process("wait for", container_name(self.vm)))?;
                Ok(Some(status))
            }
            None => self.monitor.ended().await.map(|()| None),
        }
    }

    /// The first process of the desktop, once it is there.
    pub fn init(&self) -> Option<Process> {
        self.monitor.children().first().copied()
    }
}

/// Bytes of output that are quoted when a start fails.
const TAIL: u64 = 2048;

impl Lxc {
    /// Starts a container that is defined. It gets a session of its own and does not end with this process.
    ///
    /// Returns once `lxc-start` runs; whether the desktop came up shows in [`Container::ended`] and in its
    /// agent. What it writes is captured; see [`Lxc::exited`].
    pub fn start(&self, vm: VmId) -> Result<Container, Error> {
        let name = container_name(vm);
        let path = self.output(vm);
        let mut options = File::options();
        options.create(true).write(true).truncate(true).mode(0o640);
        let output = options.open(&path).map_err(Error::storage("open", &path))?;
        let errors = output.try_clone().map_err(Error::storage("open", &path))?;
        let mut command = Command::new(&self.programs.start);
        command.args(["-n", name.as_str(), "-P"]).arg(&self.run).arg("-F");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        own_session(&mut command);
        let failed = |source| Error::Program { program: self.programs.start.clone(), source };
        let child = command.spawn().map_err(failed)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let started = pid.and_then(Process::find);
        match started {
            Some(monitor) => Ok(Container { vm, monitor, child: Some(child) }),
            None => Err(self.exited(vm, None)),
        }
    }

    /// The error for a container that ended while it should have started, with the end of its output.
    pub fn exited(&self, vm: VmId, status: Option<ExitStatus>) -> Error {
        let status = status.map_or_else(|| "status unknown".to_owned(), |status| status.to_string());
        let parts = [self.output(vm), self.console(vm)].map(|path| tail(&path).unwrap_or_default());
        let output = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
        let output = output.collect::<Vec<_>>().join(" / ").replace(['\r', '\n'], " ");
        let output = if output.is_empty() { "it wrote nothing".to_owned() } else { output };
        Error::Exited { container: container_name(vm), status, output }
    }

    /// The running container of a VM, whoever started it.
    pub async fn find(&self, vm: VmId) -> Result<Option<Container>, Error> {
        Ok(self.running().await?.into_iter().find(|container| container.vm == vm))
    }

    /// All running containers whose definitions are in `path.run.lxc`.
    pub async fn running(&self) -> Result<Vec<Container>, Error> {
        let lxc = self.clone();
        // A node full of desktops has thousands of processes.
        blocking("look for containers", move || lxc.scan()).await
    }

    fn scan(&self) -> Result<Vec<Container>, Error> {
        let entries = fs::read_dir("/proc").map_err(Error::storage("list", "/proc"))?;
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        Ok(numbers.filter_map(|pid| self.adopt(pid)).collect())
    }

    /// VMs of which anything is on this machine: a running container, a control group, a definition. Groups that
    /// hold the `lxc-start` of another node on the same machine are not ours.
    pub async fn present(&self) -> Result<BTreeSet<VmId>, Error> {
        let lxc = self.clone();
        blocking("look for desktops", move || {
            let mut present: BTreeSet<VmId> = lxc.scan()?.iter().map(|container| container.vm).collect();
            let foreign = |vm: &VmId| {
                let monitors = lxc.cgroups.monitors(*vm).into_iter();
                monitors.filter_map(|pid| lxc.container_of(pid)).any(|(_, run)| run != lxc.run)
            };
            present.extend(lxc.cgroups.vms().into_iter().filter(|vm| !foreign(vm)));
            let definitions = fs::read_dir(&lxc.run).into_iter().flatten().flatten();
            present.extend(definitions.filter_map(|entry| vm_of(entry.file_name().to_str()?)));
            Ok(present)
        })
        .await
    }

    /// The process as a container if it is a living `lxc-start` of ours.
    fn adopt(&self, pid: i32) -> Option<Container> {
        let found = self.container_of(pid).filter(|(_, run)| *run == self.run);
        let monitor = found.and_then(|_| Process::find(pid))?;
        // Read again: from here on the number cannot mean another process unnoticed.
        let (vm, run) = self.container_of(pid)?;
        (run == self.run && monitor.is_alive()).then_some(Container { vm, monitor, child: None })
    }

    /// The VM and the directory of definitions of a process that is an `lxc-start` of some node.
    fn container_of(&self, pid: i32) -> Option<(VmId, PathBuf)> {
        let arguments = process::arguments(pid);
        let [program, name_option, name, run_option, run, ..] = arguments.as_slice() else { return None };
        let known = Path::new(OsStr::from_bytes(program)).file_name() == self.programs.start.file_name()
            && name_option == b"-n"
            && run_option == b"-P";
        let vm = vm_of(std::str::from_utf8(name).ok()?)?;
        known.then(|| (vm, PathBuf::from(OsStr::from_bytes(run))))
    }

    /// Asks the desktop's init to power off; whether it does shows in [`Container::ended`].
    pub async fn power_off(&self, vm: VmId, limit: Duration) -> Result<(), Error> {
        self.stop(vm, &["--nokill", "--nowait"], limit).await
    }

    /// Ends a container from outside the way LXC does, and waits for that.
    pub async fn kill(&self, vm: VmId, limit: Duration) -> Result<(), Error> {
        self.stop(vm, &["--kill"], limit).await
    }

    async fn stop(&self, vm: VmId, options: &[&str], limit: Duration) -> Result<(), Error> {
        let name = container_name(vm);
        let mut command = Command::new(&self.programs.stop);
        command.args(["-n", name.as_str(), "-P"]).arg(&self.run).args(options).kill_on_drop(true);
        command
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/");
        let finished = timeout(limit, command.output()).await;
        let finished = finished.map_err(|_| Error::Timeout { what: format!("lxc-stop of {name}"), limit })?;
        let output =
            finished.map_err(|source| Error::Program { program: self.programs.stop.clone(), source })?;
        // 2: it does not run.
        if output.status.success() || output.status.code() == Some(2) {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::process("stop", name)(io::Error::other(format!("{}: {text}", output.status))))
    }

    /// Makes sure that nothing of a VM runs any more: its control groups, nested ones included, and an
    /// `lxc-start` that never got as far as having one. Undo of starting; may be repeated.
    pub async fn end_processes(&self, vm: VmId, limit: Duration) -> Result<(), Error> {
        self.cgroups.kill(vm, limit).await?;
        for container in self.running().await?.into_iter().filter(|container| container.vm == vm) {
            container.monitor.kill()?;
            let ended = timeout(limit, container.monitor.ended()).await;
            ended
                .map_err(|_| Error::Timeout { what: format!("killing {}", container_name(vm)), limit })??;
        }
        self.cgroups.kill(vm, limit).await
    }
}

#[allow(unsafe_code, reason = "a session can only be left between fork and exec")]
fn own_session(command: &mut Command) {
    let leave = || nix::unistd::setsid().map(drop).map_err(io::Error::from);
    // SAFETY: setsid is one system call, allowed between fork and exec; nothing is allocated.
    unsafe { command.pre_exec(leave) };
}

/// The end of a file.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
