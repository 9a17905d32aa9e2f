//! One supervised daemon: started, awaited until it serves, started again when it ends.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use qvd_runtime::Drain;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::installation::SERVICE_USER;
use crate::layout::{Daemon, Layout};
use crate::report::Reporter;

/// How long a daemon may take to serve.
pub const START_LIMIT: Duration = Duration::from_secs(60);
/// The first descriptor that a daemon inherits.
const FIRST_DESCRIPTOR: i32 = 3;
/// Pauses before a daemon that ended is started again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause before one that served: whoever waits for it should not wait much longer than it takes.
const SERVED_PAUSE: Duration = Duration::from_secs(1);
/// A daemon that lived this long starts with the first pause again.
const PROVEN: Duration = Duration::from_secs(60);

/// What a daemon needs to be started.
pub struct Plan {
    /// Which one.
    pub daemon: Daemon,
    /// The program as it was called: what lies there later is a newer version of it.
    pub program: PathBuf,
    /// The directories.
    pub layout: Layout,
    /// Listening sockets by name; they outlive the daemon.
    pub sockets: Vec<(&'static str, OwnedFd)>,
    /// How long it may take to stop before it is killed.
    pub patience: Duration,
}

/// Where it is told whether a daemon was restarted.
pub type Answer = oneshot::Sender<Result<()>>;

/// A daemon that is kept running.
pub struct Kept {
    /// How it is started.
    pub plan: Arc<Plan>,
    /// Where its state is told.
    pub reporter: Reporter,
    /// Wishes to have it restarted.
    pub orders: mpsc::Receiver<Answer>,
    /// Where processes that were replaced are waited for.
    pub tasks: Drain,
    /// The sign to end it.
    pub stop: CancellationToken,
}

/// Keeps a daemon running until it shall stop; resolves when it has ended for good.
pub async fn supervise(mut kept: Kept) {
    let (plan, reporter, stop) = (kept.plan.clone(), kept.reporter.clone(), kept.stop.clone());
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        let mut served = false;
        let ended = run_once(&mut kept, &mut served).await;
        if served {
            pause = pause.min(SERVED_PAUSE);
        }
        match ended {
            // A node that was told to stop with its desktops ends by itself, and is not wanted back.
            Ok(status) if stop.is_cancelled() || (status.success() && plan.daemon == Daemon::Hkd) => {
                info!(daemon = plan.daemon.program(), %status, "stopped");
                return reporter.stopped(plan.daemon);
            }
            Ok(status) => {
                warn!(daemon = plan.daemon.program(), %status, "ended; starting it again in {pause:?}");
                reporter.failed(plan.daemon, &format!("ended with {status}; see its log"));
            }
            Err(error) => {
                warn!(daemon = plan.daemon.program(), "{error:#}; trying again in {pause:?}");
                reporter.failed(plan.daemon, &format!("{error:#}"));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return reporter.stopped(plan.daemon),
        }
        pause = if started.elapsed() > PROVEN { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
    }
}

/// A process of the daemon.
struct Process {
    child: Child,
    pid: u32,
    ready: UnixDatagram,
}

impl Process {
    fn begin(plan: &Plan) -> Result<Self> {
        let (ready, notify_path) = readiness_socket(plan)?;
        let child = start(plan, &notify_path)?;
        let pid = child.id().context("it ended at once")?;
        Ok(Self { child, pid, ready })
    }
}

/// Resolves when a process says that it serves. Safe to cancel.
async fn serves(ready: &UnixDatagram) -> Result<()> {
    let mut message = [0; 64];
    loop {
        let length = ready.recv(&mut message).await.context("readiness socket")?;
        if message.get(..length).is_some_and(|said| said.starts_with(b"READY=1")) {
            return Ok(());
        }
    }
}

/// Runs it to its end, perhaps in one process after the other; `served` becomes true when it serves.
async fn run_once(kept: &mut Kept, served: &mut bool) -> Result<ExitStatus> {
    let Kept { plan, reporter, orders, tasks, stop } = kept;
    let mut process = Process::begin(plan)?;
    reporter.started(plan.daemon, process.pid);
    // Who waits for a process that could only start when its predecessor had ended.
    let mut waits: Option<Answer> = None;
    loop {
        tokio::select! {
            status = process.child.wait() => return status.context("cannot wait for it"),
            said = serves(&process.ready), if !*served => {
                said?;
                *served = true;
                reporter.ready(plan.daemon);
                waits.take().map(|answer| answer.send(Ok(())));
            }
            Some(answer) = orders.recv() => {
                if !*served {
                    drop(answer.send(Err(anyhow::anyhow!("it is starting already"))));
                } else if plan.daemon == Daemon::Hkd {
                    end(plan, &mut process.child, process.pid).await?;
                    process = Process::begin(plan)?;
                    *served = false;
                    reporter.started(plan.daemon, process.pid);
                    waits = Some(answer);
                } else {
                    match successor(plan, stop).await {
                        Ok(next) => {
                            reporter.replaced(plan.daemon, next.pid);
                            let old = std::mem::replace(&mut process, next);
                            tasks.spawn(run_out(plan.clone(), reporter.clone(), old, stop.clone()));
                            drop(answer.send(Ok(())));
                        }
                        Err(error) => drop(answer.send(Err(error))),
                    }
                }
            }
            () = stop.cancelled() => return end(plan, &mut process.child, process.pid).await,
        }
    }
}

/// A second process beside the one that serves, on the same sockets, once it serves as well. One that does not is
/// ended, and everything stays as it was.
async fn successor(plan: &Plan, stop: &CancellationToken) -> Result<Process> {
    let mut process = Process::begin(plan)?;
    let program = plan.daemon.program();
    let problem = tokio::select! {
        said = serves(&process.ready) => match said {
            Ok(()) => return Ok(process),
            Err(error) => format!("{error:#}"),
        },
        status = process.child.wait() => {
            bail!("the new {program} ended with {}; the old one stays, see its log", status?)
        }
        () = tokio::time::sleep(START_LIMIT) => format!("did not serve within {START_LIMIT:?}"),
        () = stop.cancelled() => "everything is being stopped".to_owned(),
    };
    end(plan, &mut process.child, process.pid).await?;
    bail!("the new {program}: {problem}; the old one stays")
}

/// Lets a process that was replaced end: a router when its sessions have, or when everything stops.
async fn run_out(plan: Arc<Plan>, reporter: Reporter, mut old: Process, stop: CancellationToken) {
    let signal = if plan.daemon == Daemon::L7r { Signal::SIGUSR1 } else { Signal::SIGTERM };
    let told = i32::try_from(old.pid).map_err(anyhow::Error::from);
    if let Err(error) = told.and_then(|pid| Ok(kill(Pid::from_raw(pid), signal)?)) {
        warn!(daemon = plan.daemon.program(), "cannot be told that it is replaced: {error}");
    }
    let ended = tokio::select! {
        status = old.child.wait() => status.context("cannot wait for it"),
        () = stop.cancelled() => end(&plan, &mut old.child, old.pid).await,
    };
    match ended {
        Ok(status) => info!(daemon = plan.daemon.program(), old.pid, %status, "the replaced one has ended"),
        Err(error) => warn!(daemon = plan.daemon.program(), old.pid, "{error:#}"),
    }
    reporter.run_out(plan.daemon, old.pid);
}

async fn end(plan: &Plan, child: &mut Child, pid: u32) -> Result<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(pid)?);
    if let Err(error) = kill(pid, Signal::SIGTERM) {
        warn!(daemon = plan.daemon.program(), "cannot be told to stop: {error}");
    }
    match tokio::time::timeout(plan.patience, child.wait()).await {
        Ok(status) => status.context("cannot wait for it"),
        Err(_) => {
            warn!(daemon = plan.daemon.program(), "did not stop in {:?}; killed", plan.patience);
            child.kill().await?;
            child.wait().await.context("cannot wait for it")
        }
    }
}

/// A datagram socket on which the daemon says that it serves.
fn readiness_socket(plan: &Plan) -> Result<(UnixDatagram, PathBuf)> {
    let path = plan.layout.run().join(format!("{}.notify", plan.daemon.program()));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => bail!("{}: {error}", path.display()),
        _ => {}
    }
    let socket = UnixDatagram::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    // Only the daemon may say that it serves.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    if !plan.daemon.is_privileged() {
        let user = service_user()?;
        chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    Ok((socket, path))
}

fn service_user() -> Result<User> {
    User::from_name(SERVICE_USER)?.context("the service user is missing")
}

fn start(plan: &Plan, notify: &std::path::Path) -> Result<Child> {
    let mut command = std::process::Command::new(&plan.program);
    command
        .arg("daemon")
        .arg(plan.daemon.program())
        .arg("--config-file")
        .arg(plan.layout.configuration(plan.daemon))
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("QVD_SUPERVISED", "1")
        .env("NOTIFY_SOCKET", notify)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let log = plan.layout.last_words(plan.daemon);
    let log_file = std::fs::File::options().create(true).append(true).open(&log);
    command.stderr(log_file.with_context(|| format!("cannot open {}", log.display()))?);
    if !plan.sockets.is_empty() {
        let names: Vec<&str> = plan.sockets.iter().map(|(name, _)| *name).collect();
        command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        let mut mappings = Vec::new();
        for ((_, socket), child_fd) in plan.sockets.iter().zip(FIRST_DESCRIPTOR..) {
            mappings.push(FdMapping { parent_fd: socket.try_clone()?, child_fd });
        }
        command.fd_mappings(mappings).context("cannot pass its sockets")?;
    }
    if !plan.daemon.is_privileged() {
        let user = service_user()?;
        use std::os::unix::process::CommandExt;
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    let mut command = Command::from(command);
    command.kill_on_drop(false).spawn().with_context(|| format!("cannot start {}", plan.daemon.program()))
}
