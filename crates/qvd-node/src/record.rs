//! What this node knows about a VM of its own, kept in `path.run/vm/<id>/record.json`.
//!
//! Written before each irreversible step, so that a daemon that comes back finds what runs and can undo what
//! was half done (`spec/node.md` 15.2).

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use qvd_hypervisor::lxc;
use qvd_model::{DiId, Generation, OsfId, UserId, VmId};
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// One start of one VM: all that its steps and their undoing need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which boot of the machine it belongs to; process ids mean nothing in another one.
    pub boot: String,
    /// The VM.
    pub vm: VmId,
    /// Its name, which is also the host name of the desktop.
    pub name: String,
    /// The ownership under which it was started.
    pub generation: Generation,
    /// The user it belongs to.
    pub user: UserId,
    /// The user's login.
    pub login: String,
    /// The flavour.
    pub osf: OsfId,
    /// The image.
    pub di: DiId,
    /// File name of the image below `path.storage.images`.
    pub image: String,
    /// SHA-256 of the image as registered, in hex; unknown for images of older versions.
    pub sha256: Option<String>,
    /// Memory limit in MB.
    pub memory: u32,
    /// Whether what it writes there is kept for the next start.
    pub persistent: bool,
    /// Whether it has a home.
    pub home: bool,
    /// One home per login instead of per VM.
    pub home_per_user: bool,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its hardware address.
    pub mac: String,
    /// What router and daemon show to the agent.
    pub secret: String,
    /// The hypervisor's process, once it runs.
    pub process: Option<Process>,
}

/// A process that cannot be mistaken for a later one with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id on the node.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

impl From<lxc::Process> for Process {
    fn from(process: lxc::Process) -> Self {
        Self { pid: process.pid, started: process.started }
    }
}

impl From<Process> for lxc::Process {
    fn from(process: Process) -> Self {
        Self { pid: process.pid, started: process.started }
    }
}

/// A record that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refuses.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What stands in the file is not a record of ours.
    #[error("{} is not a record of this version: {problem}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
}

/// A record that was looked for: the VM whose directory it is in, and what is there.
pub type Found = (VmId, Result<Record, RecordError>);

/// The records of a node.
#[derive(Debug, Clone)]
pub struct Records {
    directory: PathBuf,
}

/// What stands in the file.
#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u32,
    #[serde(flatten)]
    record: Record,
}

impl Records {
    /// Records below `path.run`.
    pub fn new(run: &Path) -> Result<Self, RecordError> {
        let directory = run.join("vm");
        fs::create_dir_all(&directory).map_err(io("create", &directory))?;
        Ok(Self { directory })
    }

    /// Writes a record so that it is complete or not there, whatever happens.
    pub fn write(&self, record: &Record) -> Result<(), RecordError> {
        let directory = self.directory.join(record.vm.to_string());
        fs::create_dir_all(&directory).map_err(io("create", &directory))?;
        let path = directory.join("record.json");
        let fresh = directory.join("record.json.new");
        let text = serde_json::to_vec_pretty(&Versioned { version: VERSION, record: record.clone() })
            .map_err(|e| RecordError::Foreign { path: path.clone(), problem: e.to_string() })?;
        let mut file = private(&fresh).map_err(io("create", &fresh))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(io("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(io("rename", &fresh))?;
        File::open(&directory).and_then(|d| d.sync_all()).map_err(io("flush", &directory))
    }

    /// Forgets a VM; one without a record is no error.
    pub fn remove(&self, vm: VmId) -> Result<(), RecordError> {
        let directory = self.directory.join(vm.to_string());
        let removed = match fs::remove_dir_all(&directory) {
            // Whatever lies where a VM's directory should be would be found again and again.
            Err(error) if error.kind() == ErrorKind::NotADirectory => fs::remove_file(&directory),
            removed => removed,
        };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io("remove", &directory)(error)),
            _ => Ok(()),
        }
    }

    /// Every record found, and beside each VM whose record cannot be used, why.
    pub fn read_all(&self) -> Result<Vec<Found>, RecordError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(io("read", &self.directory))? {
            let entry = entry.map_err(io("read", &self.directory))?;
            let Ok(vm) = entry.file_name().to_string_lossy().parse::<VmId>() else {
                tracing::warn!(path = %entry.path().display(), "not a directory of ours; left alone");
                continue;
            };
            found.push((vm, read(vm, &entry.path().join("record.json"))));
        }
        Ok(found)
    }
}

fn read(vm: VmId, path: &Path) -> Result<Record, RecordError> {
    let foreign = |problem: String| RecordError::Foreign { path: path.to_owned(), problem };
    let bytes = fs::read(path).map_err(io("read", path))?;
    let Versioned { version, record } = serde_json::from_slice(&bytes).map_err(|e| foreign(e.to_string()))?;
    if version != VERSION {
        return Err(foreign(format!("it has version {version}")));
    }
    if record.vm != vm {
        return Err(foreign(format!("it is about VM {}", record.vm)));
    }
    Ok(record)
}

fn private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(vm: i32) -> Record {
        Record {
            boot: "b".to_owned(),
            vm: VmId(vm),
            name: "TestVM".to_owned(),
            generation: Generation(3),
            user: UserId(1),
            login: "test".to_owned(),
            osf: OsfId(1),
            di: DiId(2),
            image: "2-image.tar.gz".to_owned(),
            sha256: None,
            memory: 256,
            persistent: false,
            home: true,
            home_per_user: false,
            address: Ipv4Addr::new(10, 0, 0, 100),
            mac: "54:52:00:00:00:64".to_owned(),
            secret: "s".to_owned(),
            process: None,
        }
    }

    #[test]
    fn a_record_is_read_back_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path()).unwrap();
        records.write(&record(7)).unwrap();
        let again = Record { process: Some(Process { pid: 9, started: 10 }), ..record(7) };
        records.write(&again).unwrap();
        let mut found = records.read_all().unwrap();
        assert_eq!(found.pop().map(|(vm, r)| (vm, r.unwrap())), Some((VmId(7), again)));
        records.remove(VmId(7)).unwrap();
        records.remove(VmId(7)).unwrap();
        assert!(records.read_all().unwrap().is_empty());
    }

    #[test]
    fn corrupt_old_and_misplaced_records_are_reported_with_their_vm() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path()).unwrap();
        records.write(&record(1)).unwrap();
        let path = |vm: i32| dir.path().join(format!("vm/{vm}/record.json"));
        let text = fs::read_to_string(path(1)).unwrap();
        for (vm, text) in
            [(2, "{".to_owned()), (3, text.replace("\"version\": 1", "\"version\": 99")), (4, text.clone())]
        {
            fs::create_dir_all(path(vm).parent().unwrap()).unwrap();
            fs::write(path(vm), text).unwrap();
        }
        fs::create_dir_all(dir.path().join("vm/notes")).unwrap();
        fs::write(dir.path().join("vm/5"), "no directory").unwrap();
        let mut found = records.read_all().unwrap();
        found.sort_by_key(|(vm, _)| *vm);
        let problems: Vec<_> = found.iter().map(|(vm, r)| (vm.0, r.is_ok())).collect();
        assert_eq!(problems, [(1, true), (2, false), (3, false), (4, false), (5, false)]);
        for (vm, _) in found {
            records.remove(vm).unwrap();
        }
        assert!(records.read_all().unwrap().is_empty() && dir.path().join("vm/notes").exists());
    }
}
