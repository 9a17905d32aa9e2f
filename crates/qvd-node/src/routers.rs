//! Routers of this host that died: their sessions are released, so that others can have them.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use qvd_db::router::forget_dead;
use qvd_runtime::instances;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{info, warn};

use crate::node::Node;

/// The kernel tells that a file was closed just before it gives up its lock.
const CLOSING: Duration = Duration::from_millis(20);
/// Pause after a failure of the database or of watching.
const RETRY: Duration = Duration::from_secs(5);

/// Looks for dead routers now, and whenever one lets go of its lock file.
pub async fn follow(node: Arc<Node>) {
    loop {
        if let Err(problem) = look_and_wait(&node).await {
            warn!("sessions of dead routers are not released: {problem}");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn look_and_wait(node: &Node) -> Result<(), String> {
    let run = node.config.now().path("path.run").map_err(|error| error.to_string())?;
    let directory = instances::directory_of_routers(&run);
    // Watched before it is looked at: nothing is missed in between.
    let closed = watch(&directory, &run).map_err(|error| format!("{}: {error}", directory.display()))?;
    let lives = |id: &str| instances::lives(&directory, id);
    let released = forget_dead(&node.database, node.own.host, lives, &node.actor).await;
    let released = released.map_err(|error| error.to_string())?;
    if !released.is_empty() {
        info!(sessions = released.len(), "released the sessions of a router that died");
    }
    closed.readable().await.map_err(|error| error.to_string())?.retain_ready();
    tokio::time::sleep(CLOSING).await;
    Ok(())
}

/// Becomes readable when a file in `directory` that was open for writing is closed, as it is when a process
/// ends; where `directory` is not there yet, when something is made on the way to it from `run`.
fn watch(directory: &Path, run: &Path) -> std::io::Result<AsyncFd<OwnedFd>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let there = directory.ancestors().take_while(|path| path.starts_with(run)).find(|path| path.is_dir());
    let flags = match there {
        Some(path) if path == directory => AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DELETE_SELF,
        _ => AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE_SELF,
    };
    inotify.add_watch(there.unwrap_or(run), flags | AddWatchFlags::IN_MOVE_SELF)?;
    readable(OwnedFd::from(inotify))
}

#[allow(unsafe_code, reason = "tokio wants a promise about the handle")]
pub(crate) fn readable(handle: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the registration owns the handle, so it stays open, and the same, for as long as it is watched.
    unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }.map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    async fn rings(watch: AsyncFd<OwnedFd>) -> bool {
        tokio::time::timeout(Duration::from_secs(5), watch.readable()).await.is_ok()
    }

    #[tokio::test]
    async fn the_end_of_a_process_shows_at_its_lock_file() {
        let run = tempfile::tempdir().unwrap();
        let directory = instances::directory_of_routers(run.path());
        let made = watch(&directory, run.path()).unwrap();
        std::fs::create_dir_all(&directory).unwrap();
        assert!(rings(made).await);

        let file = std::fs::File::create(instances::lock_file(&directory, "a")).unwrap();
        let mut process =
            tokio::process::Command::new("/bin/cat").stdin(Stdio::piped()).stdout(file).spawn().unwrap();
        let closed = watch(&directory, run.path()).unwrap();
        process.start_kill().unwrap();
        assert!(rings(closed).await);
        process.wait().await.unwrap();
    }
}
