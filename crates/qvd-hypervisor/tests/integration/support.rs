//! A storage in a temporary directory, and archives to put into it.

use std::fs;
use std::path::{Path, PathBuf};

use qvd_hypervisor::Error;
use qvd_hypervisor::storage::{Directories, Limits, Progress, Tree, Unpacking, prepare_base};
use tempfile::TempDir;
use tokio::sync::watch;

pub struct Storage {
    pub directories: Directories,
    pub root: TempDir,
}

impl Storage {
    pub fn new() -> Self {
        let root = TempDir::new().unwrap();
        let at = |name: &str| root.path().join(name);
        let directories = Directories {
            images: at("images"),
            basefs: at("basefs"),
            overlayfs: at("overlayfs"),
            rootfs: at("rootfs"),
            homefs: at("homefs"),
        };
        fs::create_dir(&directories.images).unwrap();
        Self { directories, root }
    }

    pub fn image(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.directories.images.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub async fn unpack(&self, name: &str) -> Result<Tree, Error> {
        self.unpack_as(wanted(name)).await
    }

    pub async fn unpack_as(&self, wanted: Unpacking) -> Result<Tree, Error> {
        prepare_base(&self.directories, wanted, watch::Sender::new(Progress::default())).await
    }

    /// What is in the directory of base trees, locks aside.
    pub fn bases(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.directories.basefs) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with("lock.")).collect();
        names.sort();
        names
    }
}

pub fn wanted(name: &str) -> Unpacking {
    Unpacking { file: name.to_owned(), sha256: None, limits: Limits::default(), redirect: false }
}

/// An archive in the making.
pub struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// One that is an image as far as it goes.
    pub fn image() -> Self {
        let mut archive = Self::new();
        archive.entry(tar::EntryType::Directory, "sbin", "", b"");
        archive
    }

    /// Adds an entry whose names are written as they are, however wrong.
    pub fn entry(&mut self, kind: tar::EntryType, path: &str, link: &str, content: &[u8]) -> &mut Self {
        let mut header = header(kind, path, link);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub fn file(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.entry(tar::EntryType::Regular, path, "", content)
    }

    pub fn header(&mut self, header: &mut tar::Header) -> &mut Self {
        header.set_cksum();
        self.0.append(header, std::io::empty()).unwrap();
        self
    }

    pub fn builder(&mut self) -> &mut tar::Builder<Vec<u8>> {
        &mut self.0
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub fn header(kind: tar::EntryType, path: &str, link: &str) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    let fields = header.as_gnu_mut().unwrap();
    fields.name[..path.len()].copy_from_slice(path.as_bytes());
    fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header
}

/// Everything below a directory.
pub fn listing(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            found.extend(listing(&entry.path()));
        }
    }
    found
}
