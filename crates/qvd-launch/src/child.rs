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
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::installation::SERVICE_USER;
use crate::layout::{Daemon, Layout};
use crate::report::Reporter;

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
    /// The directories.
    pub layout: Layout,
    /// Listening sockets by name; they outlive the daemon.
    pub sockets: Vec<(&'static str, OwnedFd)>,
    /// How long it may take to stop before it is killed.
    pub patience: Duration,
}

/// Keeps a daemon running until `stop`; resolves when it has ended for good.
pub async fn supervise(plan: Arc<Plan>, reporter: Reporter, stop: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        let mut served = false;
        let ended = run_once(&plan, &reporter, &stop, &mut served).await;
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

/// Runs it to its end; `serves` becomes true when it serves.
async fn run_once(
    plan: &Plan,
    reporter: &Reporter,
    stop: &CancellationToken,
    serves: &mut bool,
) -> Result<ExitStatus> {
    let (ready, notify_path) = readiness_socket(plan)?;
    let mut child = start(plan, &notify_path)?;
    let pid = child.id().context("it ended at once")?;
    reporter.started(plan.daemon, pid);
    let mut message = [0; 64];
    loop {
        tokio::select! {
            status = child.wait() => return status.context("cannot wait for it"),
            received = ready.recv(&mut message), if !*serves => {
                let length = received.context("readiness socket")?;
                if message.get(..length).is_some_and(|said| said.starts_with(b"READY=1")) {
                    *serves = true;
                    reporter.ready(plan.daemon);
                }
            }
            () = stop.cancelled() => return end(plan, &mut child, pid).await,
        }
    }
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
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let mut command = std::process::Command::new(program);
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
