//! The housekeeper: a child that tidies caches. Each of the two programs has one, and waits for its end: nxagent before
//! it lets go of a client, nxproxy before it ends itself.
//!
//! The housekeeper looks whether it was told to end only after its first sleep, of three seconds. A link that ends
//! before that sleep begins would hold everybody up for as long; a second signal, while it sleeps, ends it at once.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// When it is told again: it falls asleep within half a second.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];

/// Ends the housekeeper of this nxagent or nxproxy, which runs as this user and has been told, or is about to see, that
/// its link ends.
pub async fn end(program: Pid, user: u32) {
    for pause in PAUSES {
        tokio::time::sleep(pause).await;
        for child in children(program, user) {
            // It may have ended this moment.
            let _ = kill(child, Signal::SIGTERM);
        }
    }
}

/// Children of the program that are copies of it, as programs that it starts are not.
fn children(program: Pid, user: u32) -> Vec<Pid> {
    let name = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let listed =
        std::fs::read_to_string(format!("/proc/{program}/task/{program}/children")).unwrap_or_default();
    let own = name(&program.to_string());
    listed
        .split_whitespace()
        .filter(|pid| own.is_some() && name(pid) == own)
        .filter(|pid| std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|found| found.uid() == user))
        .filter_map(|pid| pid.parse().ok().map(Pid::from_raw))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn only_copies_of_the_same_user_are_found() {
        // A shell whose child is a copy of it, and another one that is not.
        let script = "exec 3<&0; (read line <&3) & sleep 600 & wait";
        let mut shell = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let server = Pid::from_raw(i32::try_from(shell.id()).unwrap());
        let user = nix::unistd::getuid().as_raw();
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        let list = || std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
        let named = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        while !list().split_whitespace().any(|pid| named(pid) == "sleep\n") {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(10));
        }
        let found = children(server, user);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(children(server, user + 1).is_empty());
        for pid in list().split_whitespace() {
            kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
    }
}
