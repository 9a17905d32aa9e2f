//! The second witness: a heartbeat file in the storage, which counts where the storage is shared.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, statfs};
use qvd_logic::cluster::{FileMark, Files};
use qvd_model::HostId;
use rand::RngCore;

/// File systems whose files other machines see: NFS, CIFS, SMB2, Ceph, OCFS2, GFS2, Lustre, AFS, 9P.
const SHARED: [u32; 9] = [
    0x6969,
    0xff53_4d42,
    0xfe53_4d42,
    0x00c3_6400,
    0x7461_636f,
    0x0116_1970,
    0x0bd0_0bd0,
    0x5346_414f,
    0x0102_1997,
];
/// What a heartbeat may be long.
const LENGTH: u64 = 128;

/// The heartbeat files of a storage.
#[derive(Debug, Clone)]
pub struct Witness {
    directory: PathBuf,
    storage: String,
}

impl Witness {
    /// Those below `path.storage.root`. Waits for a storage that does not answer.
    pub fn open(root: &Path) -> std::io::Result<Self> {
        let directory = root.join("heartbeats");
        fs::create_dir_all(&directory)?;
        let storage = storage_id(&directory)?;
        Ok(Self { directory, storage })
    }

    /// Which storage it is.
    pub fn storage(&self) -> &str {
        &self.storage
    }

    /// Whether the file system is one that several machines use.
    pub fn is_on_network(&self) -> bool {
        statfs(&self.directory)
            .is_ok_and(|found| SHARED.iter().any(|magic| is(found.filesystem_type(), *magic)))
    }

    /// Writes the heartbeat of a host so that others see the old or the new one.
    pub fn write(&self, host: HostId, mark: FileMark) -> std::io::Result<()> {
        let (path, fresh) =
            (self.directory.join(host.to_string()), self.directory.join(format!("{host}.new")));
        let mut file = File::create(&fresh)?;
        writeln!(file, "{} {}", mark.incarnation, mark.count)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(&self.directory)?.sync_all()
    }

    /// Every heartbeat in it.
    pub fn read(&self) -> std::io::Result<Files> {
        // Another storage, or none, may have been mounted here meanwhile.
        let storage = fs::read_to_string(self.directory.join(ID))?.trim().to_owned();
        let mut marks = BTreeMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let Ok(host) = entry.file_name().to_string_lossy().parse::<HostId>() else { continue };
            let mut text = String::new();
            let read = File::open(entry.path()).and_then(|file| file.take(LENGTH).read_to_string(&mut text));
            match read {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => marks.extend(parse(&text).map(|mark| (host, mark))),
            }
        }
        Ok(Files { storage, marks })
    }
}

fn is(found: FsType, magic: u32) -> bool {
    // The kernel's type differs in width and sign from machine to machine.
    u32::try_from(found.0 & 0xffff_ffff).is_ok_and(|number| number == magic)
}

fn parse(text: &str) -> Option<FileMark> {
    let (incarnation, count) = text.trim().split_once(' ')?;
    Some(FileMark { incarnation: incarnation.parse().ok()?, count: count.parse().ok()? })
}

const ID: &str = "storage-id";

/// Names the storage; the first node to come makes the name up.
fn storage_id(directory: &Path) -> std::io::Result<String> {
    let path = directory.join(ID);
    match fs::read_to_string(&path) {
        Ok(id) => return Ok(id.trim().to_owned()),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    let mut bytes = [0; 8];
    rand::rng().fill_bytes(&mut bytes);
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let fresh = directory.join(format!("{ID}.{id}"));
    let mut file = File::create(&fresh)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    // Of several that make one up at the same time, one wins.
    let linked = fs::hard_link(&fresh, &path);
    fs::remove_file(&fresh)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => fs::read_to_string(&path).map(|id| id.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_one_storage_see_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Witness::open(dir.path()).unwrap(), Witness::open(dir.path()).unwrap());
        assert_eq!(a.storage(), b.storage());
        assert!(!a.is_on_network());
        let mark = FileMark { incarnation: 3, count: 9 };
        a.write(HostId(1), mark).unwrap();
        a.write(HostId(1), FileMark { count: 10, ..mark }).unwrap();
        fs::write(dir.path().join("heartbeats/2"), "nonsense").unwrap();
        let files = b.read().unwrap();
        assert_eq!(files.storage, a.storage());
        assert_eq!(files.marks, BTreeMap::from([(HostId(1), FileMark { count: 10, ..mark })]));
        // What is not mounted any more is no storage.
        fs::remove_dir_all(dir.path().join("heartbeats")).unwrap();
        assert!(b.read().is_err());
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Witness::open(other.path()).unwrap().storage(), a.storage());
    }
}
