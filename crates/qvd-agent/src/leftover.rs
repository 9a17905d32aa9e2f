//! The X server of an agent that ended without ending it. Its display and its socket are in the way of the
//! next session, and nobody can reach it any more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;
use tracing::warn;

use crate::settings::Settings;

/// How often the end of a process that is not our child is looked for.
const LOOK: Duration = Duration::from_millis(50);

fn file(settings: &Settings) -> PathBuf {
    settings.run.join("nxagent.pid")
}

/// Remembers the X server of this session.
pub(crate) fn remember(settings: &Settings, server: Pid) -> std::io::Result<()> {
    std::fs::write(file(settings), format!("{server}\n"))
}

/// Forgets it: it has ended.
pub(crate) fn forget(settings: &Settings) {
    // There may be none.
    let _ = std::fs::remove_file(file(settings));
}

/// Ends the X server that an earlier agent left behind, if it is one.
pub(crate) async fn end(settings: &Settings) {
    let remembered = std::fs::read_to_string(file(settings)).ok();
    let Some(number) = remembered.and_then(|text| text.trim().parse::<i32>().ok()).filter(|n| *n > 1) else {
        return;
    };
    let runs = || is_server(settings, number);
    if runs() {
        warn!("the X server {number} of an earlier agent is still there; ending it");
    }
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let deadline = Instant::now() + settings.limits.stopping;
        if !runs() {
            break;
        }
        if let Err(error) = kill(Pid::from_raw(number), signal) {
            warn!("cannot send {signal} to {number}: {error}");
        }
        while runs() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }
    forget(settings);
}

/// Removes lock and socket of an X server that was killed: one that runs as another user could not.
pub(crate) fn unlock(settings: &Settings) {
    let display = settings.display;
    let lock = format!("/tmp/.X{display}-lock");
    let owner = std::fs::read_to_string(&lock).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let Some(owner) = owner else { return };
    if Path::new("/proc").join(owner.to_string()).exists() {
        return;
    }
    for path in [lock, format!("/tmp/.X11-unix/X{display}")] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!("cannot remove {path}: {error}")
            }
            _ => {}
        }
    }
}

/// Whether the process is the X server, and not another one that got its number.
fn is_server(settings: &Settings, number: i32) -> bool {
    let running = std::fs::read_link(Path::new("/proc").join(number.to_string()).join("exe"));
    let wanted = settings.programs.nxagent.canonicalize();
    // The configured program may be a wrapper that became nxagent.
    let name = std::fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
    matches!((running, wanted), (Ok(running), Ok(wanted)) if running == wanted) || name.trim() == "nxagent"
}
