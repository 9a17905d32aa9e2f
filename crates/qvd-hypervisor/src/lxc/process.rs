//! Processes that stay the same process: number and time of start.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::Error;

/// One process of this machine's current boot. Numbers are used again, this pair is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

impl Process {
    /// The living process of this number; zombies do not count.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse(&stat)
            .filter(|(state, _)| !matches!(state, 'Z' | 'X'))
            .map(|(_, started)| Self { pid, started })
    }

    /// Whether it is still there.
    pub fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Its children.
    pub fn children(self) -> Vec<Self> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| Self::find(pid.parse().ok()?)).collect()
    }

    /// Returns when it has ended.
    pub async fn ended(self) -> Result<(), Error> {
        let failed = |error: io::Error| Error::process("watch process", self.pid)(error);
        let Some(handle) = self.handle().map_err(failed)? else { return Ok(()) };
        let handle = watched(handle).map_err(failed)?;
        handle.readable().await.map(drop).map_err(failed)
    }

    /// Kills it. One that has ended is fine.
    pub fn kill(self) -> Result<(), Error> {
        let failed = |error: io::Error| Error::process("kill process", self.pid)(error);
        let Some(handle) = self.handle().map_err(failed)? else { return Ok(()) };
        match rustix::process::pidfd_send_signal(handle, rustix::process::Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(failed(error.into())),
        }
    }

    fn handle(self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            // Looked at after opening: from here on the handle cannot mean another process.
            Ok(handle) if self.is_alive() => Ok(Some(handle)),
            Ok(_) | Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The arguments of whichever process has this number; none for a zombie.
pub(super) fn arguments(pid: i32) -> Vec<Vec<u8>> {
    let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    text.split(|byte| *byte == 0).filter(|argument| !argument.is_empty()).map(<[u8]>::to_vec).collect()
}

#[allow(unsafe_code, reason = "tokio wants a promise about the handle")]
fn watched(handle: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the registration owns the handle, so it stays open, and the same, for as long as it is watched.
    unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }.map_err(io::Error::other)
}

/// State and start time out of `/proc/<pid>/stat`; the command in parentheses may hold anything.
fn parse(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_any_command_name() {
        let stat = "7 (a) R) 9) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        assert_eq!(parse(stat), Some(('S', 4711)));
        assert_eq!(parse("7 (cat) S 1 7"), None);
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_seen() {
        let mut child = tokio::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let process = Process::find(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        assert!(process.is_alive());
        process.kill().unwrap();
        process.ended().await.unwrap();
        assert!(!process.is_alive());
        child.wait().await.unwrap();
        process.kill().unwrap();
    }
}
