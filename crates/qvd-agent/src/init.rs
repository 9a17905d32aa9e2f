//! A small init: what runs as process 1 in containers without one. It starts the agent, reaps orphans, passes
//! the wish to end on, and ends with the agent, which ends the container.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Runs `agent` until it ends; its exit code.
pub fn run(mut agent: Command) -> std::io::Result<i32> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR] {
        signals.add(signal);
    }
    // Blocked before the agent starts, so that none gets lost.
    signals.thread_block()?;
    // SAFETY: the closure runs between fork and exec; it makes one system call and allocates nothing.
    #[allow(unsafe_code, reason = "a child inherits what is blocked, and so would all of the session")]
    unsafe {
        agent.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?));
    }
    let child = agent.spawn()?;
    let id = Pid::from_raw(i32::try_from(child.id()).map_err(std::io::Error::other)?);
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => {
                if let Some(code) = reap(id)? {
                    return Ok(code);
                }
            }
            _ => kill(id, Signal::SIGTERM)?,
        }
    }
}

/// Reaps whoever has ended; the exit code of the agent if it is among them.
fn reap(agent: Pid) -> nix::Result<Option<i32>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == agent => return Ok(Some(code)),
            Ok(WaitStatus::Signaled(pid, ..)) if pid == agent => {
                return Ok(Some(1));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}
