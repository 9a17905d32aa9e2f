//! The lease as it stands on disk, in `path.run/lease/guard.json`: for the watchdog, and for the next daemon.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qvd_logic::cluster::Moment;
use qvd_model::HostId;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Until when the desktops of this node may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// The boot of the machine; its clock means nothing in another one.
    pub boot: String,
    /// Milliseconds after boot at which all of them must be dead; `None`: never.
    pub deadline: Option<u64>,
    /// The heartbeat file, where it counts.
    pub file: Option<Counted>,
}

/// A heartbeat file that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The storage it is in.
    pub storage: String,
    /// Whose it is.
    pub host: HostId,
    /// The registration that stands in it.
    pub incarnation: i64,
}

impl Guard {
    /// When all desktops must be dead.
    pub fn deadline(&self) -> Option<Moment> {
        self.deadline.map(|ms| Moment(Duration::from_millis(ms)))
    }

    /// Sets when that is.
    pub fn set_deadline(&mut self, deadline: Option<Moment>) {
        self.deadline = deadline.map(|at| u64::try_from(at.0.as_millis()).unwrap_or(u64::MAX));
    }

    /// Whether they must be dead now.
    pub fn has_lapsed(&self, now: Moment) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }
}

/// The file.
#[derive(Debug, Clone)]
pub struct GuardFile {
    directory: PathBuf,
}

impl GuardFile {
    /// Below `path.run`.
    pub fn new(run: &Path) -> Result<Self, Error> {
        let directory = run.join("lease");
        fs::create_dir_all(&directory).map_err(|source| failed("create", &directory, source))?;
        Ok(Self { directory })
    }

    /// Its directory, which is the watchdog's as well.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self) -> PathBuf {
        self.directory.join("guard.json")
    }

    /// What stands there for this boot; nothing where nothing usable does.
    pub fn read(&self, boot: &str) -> Option<Guard> {
        let text = fs::read(self.path()).ok()?;
        serde_json::from_slice(&text).ok().filter(|guard: &Guard| guard.boot == boot)
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Replaces it. Not flushed: it need not outlive the boot.
    pub fn write(&self, guard: &Guard) -> Result<(), Error> {
        let (path, fresh) = (self.path(), self.directory.join("guard.json.new"));
        let text = serde_json::to_vec(guard).map_err(|e| failed("write", &path, e.into()))?;
        let options = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
        options.and_then(|mut file| file.write_all(&text)).map_err(|e| failed("write", &fresh, e))?;
        fs::rename(&fresh, &path).map_err(|e| failed("rename", &fresh, e))
    }

    /// Takes it away: there is nothing to guard any more, and the watchdog ends.
    pub fn remove(&self) -> Result<(), Error> {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &self.path(), error)),
            _ => Ok(()),
        }
    }
}

fn failed(operation: &str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { operation: format!("{operation} {}", path.display()), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_good_for_one_boot() {
        let dir = tempfile::tempdir().unwrap();
        let file = GuardFile::new(dir.path()).unwrap();
        assert_eq!(file.read("b"), None);
        let mut guard = Guard { boot: "b".to_owned(), deadline: None, file: None };
        guard.set_deadline(Some(Moment(Duration::from_millis(1500))));
        file.write(&guard).unwrap();
        assert_eq!(file.read("b"), Some(guard.clone()));
        assert_eq!(file.read("c"), None);
        assert!(guard.has_lapsed(Moment(Duration::from_secs(2))));
        assert!(!guard.has_lapsed(Moment(Duration::from_secs(1))));
        file.remove().unwrap();
        file.remove().unwrap();
        assert!(!file.exists());
    }
}
