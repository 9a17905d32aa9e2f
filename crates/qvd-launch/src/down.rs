//! `qvd down`.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layout::Layout;
use crate::report::Report;
use crate::up::is_running;

/// How long everything may take to stop.
const LIMIT: Duration = Duration::from_secs(400);

/// Stops the installation and waits until nothing of it runs.
pub fn down(data: &Path, out: &mut impl Write) -> Result<()> {
    let layout = Layout::new(std::path::absolute(data)?);
    if !is_running(&layout)? {
        writeln!(out, "not up")?;
        return Ok(());
    }
    let report = Report::read(&layout)?;
    let pid = Pid::from_raw(i32::try_from(report.pid)?);
    writeln!(out, "stopping desktops, daemons and database")?;
    match kill(pid, Signal::SIGTERM) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => bail!("the supervisor (process {pid}) cannot be told to stop: {error}"),
    }
    wait_for_lock(&layout)?;
    writeln!(out, "down; the data is in {}", layout.root().display())?;
    Ok(())
}

/// The supervisor holds its lock until the very end; waiting for the lock is waiting for the end.
fn wait_for_lock(layout: &Layout) -> Result<()> {
    use nix::fcntl::{Flock, FlockArg};
    let path = layout.lock();
    let (ended, wait) = std::sync::mpsc::channel();
    let file = std::fs::File::options().append(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    std::thread::spawn(move || {
        let locked = Flock::lock(file, FlockArg::LockExclusive).is_ok();
        // The receiver has gone when it took too long.
        let _ = ended.send(locked);
    });
    match wait.recv_timeout(LIMIT) {
        Ok(true) => Ok(()),
        _ => bail!("it did not stop within {} s; see {}", LIMIT.as_secs(), layout.log().display()),
    }
}
