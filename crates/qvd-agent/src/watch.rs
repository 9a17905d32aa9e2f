//! Following the X server by its state file and its socket, with inotify.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use qvd_wire::nx::XServerState;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::Error;
use crate::machine::Event;

/// Longer than every word of a state file.
const MAX_STATE: u64 = 64;

/// The files of one session.
#[derive(Debug)]
pub(crate) struct Watch {
    changes: Receiver,
    state: PathBuf,
    link: PathBuf,
}

impl Watch {
    /// Watches the directory of `state` and `link`; both may appear later.
    pub(crate) fn new(directory: &Path, state: PathBuf, link: PathBuf) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Watch { path: directory.to_owned(), source };
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).map_err(|errno| failed(errno.into()))?;
        let interesting = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE;
        inotify.add_watch(directory, interesting).map_err(|errno| failed(errno.into()))?;
        let descriptor = inotify.as_fd().try_clone_to_owned().map_err(failed)?;
        // Not a pipe, but read like one; what the events say does not matter.
        let changes = Receiver::from_owned_fd_unchecked(descriptor).map_err(failed)?;
        Ok(Self { changes, state, link })
    }

    /// Waits for a change and tells what the X server is doing now. Safe to cancel.
    pub(crate) async fn changed(&mut self) -> Event {
        let mut events = [0; 4096];
        loop {
            match self.changes.read(&mut events).await {
                Ok(count) if count > 0 => {}
                // The descriptor cannot end; if it does, the X server's own end still tells.
                _ => return std::future::pending().await,
            }
            if let Some(event) = self.look() {
                return event;
            }
        }
    }

    /// What the X server is doing, as the machine understands it.
    fn look(&self) -> Option<Event> {
        // The user's programs can write here: no link is followed, nothing blocks, little is read.
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
        let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(&self.state).ok()?;
        let mut content = Vec::new();
        file.take(MAX_STATE).read_to_end(&mut content).ok()?;
        Some(match XServerState::parse(&content)? {
            XServerState::Starting | XServerState::Resuming => {
                let waits = self.link.symlink_metadata().is_ok_and(|m| m.file_type().is_socket());
                return waits.then_some(Event::Waiting);
            }
            XServerState::Running => Event::Running,
            XServerState::Suspending => Event::Suspending,
            XServerState::Suspended => Event::Suspended,
            XServerState::Terminating | XServerState::Terminated => Event::Terminating,
        })
    }
}
