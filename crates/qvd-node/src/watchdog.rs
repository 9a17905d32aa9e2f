//! What ends the desktops of a node whose daemon does not (`spec/node.md` 15.3): a process of its own, without
//! database and network, that knows the deadline and how to kill.
//!
//! The daemon writes the deadline to a file and moves it ahead with each heartbeat. A daemon that was killed, hangs or
//! was stopped does not; one that is merely started again does in time. After the deadline the watchdog goes on
//! killing, because a daemon that wakes up may go on with what it was about to do.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use qvd_hypervisor::lxc::{Cgroups, Process};
use tracing::{error, info, warn};

use crate::clock;
use crate::error::Error;
use crate::guard::{Guard, GuardFile};

/// How often it kills again after the deadline.
const AGAIN: u16 = 200;
/// How long killed processes may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// Pause before a watchdog that ended is replaced.
const PAUSE: Duration = Duration::from_secs(1);

/// What a watchdog is called with.
#[derive(Debug, Clone)]
pub struct Watch {
    /// `path.run`
    pub run: PathBuf,
    /// `internal.hkd.cgroup`
    pub cgroup: String,
}

/// Watches until there is nothing to guard any more. Ends at once where another one watches.
pub fn run(watch: &Watch) -> Result<(), Error> {
    let file = GuardFile::new(&watch.run)?;
    let Some(_lock) = lock(file.directory())? else { return Ok(()) };
    // Whatever makes memory scarce, it must not be this process that pays.
    let _unavailable = fs::write("/proc/self/oom_score_adj", "-1000");
    let boot = crate::boot_id()?;
    let io = |source| Error::Io { operation: format!("watch {}", file.directory().display()), source };
    let notices = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|e| io(e.into()))?;
    let kinds = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_DELETE_SELF;
    notices.add_watch(file.directory(), kinds).map_err(|e| io(e.into()))?;
    // A file that cannot be read does not prolong what is known.
    let mut known: Option<Guard> = None;
    let mut told = false;
    loop {
        // What is read below is newer than what is dropped here.
        while notices.read_events().is_ok_and(|events| !events.is_empty()) {}
        if !file.exists() {
            return Ok(());
        }
        known = file.read(&boot).or(known);
        let lapsed = known.as_ref().is_some_and(|guard| guard.has_lapsed(clock::now()));
        if lapsed {
            kill(&watch.cgroup, !told);
        }
        told = lapsed;
        let deadline = known.as_ref().and_then(Guard::deadline).filter(|_| !lapsed);
        let alarm = deadline.map(clock::alarm).transpose().map_err(io)?;
        let mut waits = vec![PollFd::new(notices.as_fd(), PollFlags::POLLIN)];
        waits.extend(alarm.as_ref().map(|alarm| PollFd::new(alarm.as_fd(), PollFlags::POLLIN)));
        let timeout = if lapsed { PollTimeout::from(AGAIN) } else { PollTimeout::NONE };
        match poll(&mut waits, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(io(errno.into())),
        }
    }
}

fn kill(cgroup: &str, tell: bool) {
    if tell {
        warn!("the lease of this node has lapsed and its daemon did nothing about it; killing all desktops");
    }
    match Cgroups::detect(cgroup).and_then(|groups| groups.kill_all(KILL_LIMIT)) {
        Ok(0) => {}
        Ok(count) => info!("killed {count} processes"),
        Err(problem) => error!("not everything was killed: {problem}"),
    }
}

/// The lock that one watchdog has, with its number in it.
fn lock(directory: &Path) -> Result<Option<Flock<File>>, Error> {
    let path = lock_path(directory);
    let io = |source| Error::Io { operation: format!("lock {}", path.display()), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    let Ok(mut lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(None) };
    lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id())).map_err(io)?;
    Ok(Some(lock))
}

fn lock_path(directory: &Path) -> PathBuf {
    directory.join("watchdog.lock")
}

/// Sees to it that there is a watchdog, for as long as it is polled.
pub async fn keep(watch: Arc<Watch>) {
    loop {
        let ended = match start(&watch) {
            Ok(mut child) => {
                let ended = child.wait().await.map(|status| status.to_string());
                ended.unwrap_or_else(|problem| problem.to_string())
            }
            Err(problem) => {
                error!("no watchdog: {problem}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // One of an earlier daemon goes on: ours has ended for it.
        let Some(other) = running(&watch) else {
            warn!("the watchdog ended ({ended}); starting another one");
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if let Err(problem) = other.ended().await {
            error!("the watchdog cannot be watched: {problem}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn running(watch: &Watch) -> Option<Process> {
    let path = lock_path(&watch.run.join("lease"));
    Process::find(fs::read_to_string(path).ok()?.trim().parse().ok()?)
}

/// Starts one: this very program, in a session of its own, so that it outlives the daemon.
fn start(watch: &Watch) -> std::io::Result<tokio::process::Child> {
    let log = watch.run.join("lease/watchdog.log");
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("qvd").arg("watchdog").arg("--run").arg(&watch.run).arg("--cgroup").arg(&watch.cgroup);
    command.current_dir("/").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.process_group(0);
    tokio::process::Command::from(command).kill_on_drop(false).spawn()
}
