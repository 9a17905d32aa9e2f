//! Unpacking an archive that nobody vouches for.
//!
//! Whatever the archive says, nothing outside the destination is read or changed: every path is resolved with
//! the destination as its root ([`Inside`]), `..` is refused, and last components are never followed. Devices
//! other than the harmless ones are left out (`/dev` of a container is its own), as are attributes that would
//! steer overlayfs.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, mkfifoat, symlinkat, unlinkat};
use tar::{Entry, EntryType};
use xattr::FileExt;

use super::ahead::Ahead;
use super::image::{Compression, HEADERS, Hash, Metered, decoder, hashed};
use super::inside::{Inside, is_component, is_directory};
use crate::Error;

/// What an archive may at most hold, so that a small file cannot fill a disk.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files, directories, links.
    pub entries: u64,
    /// Bytes of the unpacked archive.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 5_000_000, bytes: 512 << 30 }
    }
}

/// Devices that give nothing away: type, major, minor.
pub(super) const HARMLESS: [(u32, u32); 7] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];

/// Prefix of extended attributes in PAX headers.
pub(super) const PAX_XATTR: &[u8] = b"SCHILY.xattr.";

/// Size of a piece that is copied at once, and left as a hole when it is all zeros.
const PIECE: usize = 64 * 1024;

/// What is told while unpacking: bytes of the image file that were read.
pub(super) type Told<'a> = &'a (dyn Fn(u64) + Sync);

/// What one unpacking is made of.
pub(super) struct Job<'a> {
    pub(super) image: &'a Path,
    pub(super) compression: Compression,
    pub(super) limits: Limits,
    pub(super) cancelled: &'a AtomicBool,
    pub(super) told: Told<'a>,
}

/// Unpacks `file` into the empty directory `destination` and returns the hash of the file.
pub(super) fn unpack(job: &Job<'_>, file: File, destination: &Path) -> Result<Hash, Error> {
    let (reader, hash) = hashed(Watched { inner: file, read: 0, job });
    // Decompressing and hashing take as long as making the files.
    let unpacked = std::thread::scope(|scope| {
        let inside = Ahead::start(scope, move || decoder(job.compression, Box::new(reader)));
        place_all(job, inside.map_err(|error| job.unreadable(error))?, destination)
    });
    unpacked.map(|()| hash)
}

fn place_all(job: &Job<'_>, inside: Ahead, destination: &Path) -> Result<(), Error> {
    let allowance = Rc::new(Cell::new(HEADERS));
    let reader = Metered { inner: inside.take(job.limits.bytes), allowance: allowance.clone() };
    let mut archive = tar::Archive::new(reader);
    let mut tree = Unpacked::new(job, destination)?;
    for entry in archive.entries().map_err(|error| job.unreadable(error))? {
        let mut entry = entry.map_err(|error| job.unreadable(error))?;
        allowance.set(u64::MAX);
        tree.add(&mut entry)?;
        io::copy(&mut entry, &mut io::sink()).map_err(|error| job.unreadable(error))?;
        allowance.set(HEADERS);
    }
    tree.finish()?;
    let mut reader = archive.into_inner().inner;
    // The hash is that of the whole file: archives end before their last padding.
    io::copy(&mut reader, &mut io::sink()).map_err(|error| job.unreadable(error))?;
    if reader.limit() == 0 {
        return Err(job.invalid(format!("it unpacks to more than {} bytes", job.limits.bytes)));
    }
    Ok(())
}

impl Job<'_> {
    fn invalid(&self, found: impl Into<String>) -> Error {
        Error::ImageInvalid { image: self.image.to_owned(), found: found.into() }
    }

    fn unreadable(&self, error: io::Error) -> Error {
        if self.cancelled.load(Ordering::Relaxed) || error.raw_os_error().is_some() {
            Error::Storage { operation: "read", path: self.image.to_owned(), source: error }
        } else {
            self.invalid(format!("it is damaged: {error}"))
        }
    }
}

/// The file, with progress, and an end when nobody waits any more.
struct Watched<'a> {
    inner: File,
    read: u64,
    job: &'a Job<'a>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.job.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("cancelled"));
        }
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        (self.job.told)(self.read);
        Ok(count)
    }
}

struct Unpacked<'a> {
    job: &'a Job<'a>,
    inside: Inside,
    entries: u64,
    skipped: u64,
    /// The last parent: archives list a directory's files one after the other.
    parent: Option<(PathBuf, Rc<OwnedFd>)>,
    /// Times of directories change while they fill, so they are set at the end.
    directories: Vec<(PathBuf, i64)>,
}

/// Owner, permissions and time of an entry.
struct Attributes {
    uid: Uid,
    gid: Gid,
    mode: Mode,
    mtime: i64,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Attributes {
    /// What a file is made with; whatever else it is gets it afterwards.
    fn permissions(&self) -> Mode {
        self.mode & (Mode::S_IRWXU | Mode::S_IRWXG | Mode::S_IRWXO)
    }
}

impl<'a> Unpacked<'a> {
    fn new(job: &'a Job<'a>, destination: &Path) -> Result<Self, Error> {
        let inside = Inside::open(destination)?;
        Ok(Self { job, inside, entries: 0, skipped: 0, parent: None, directories: Vec::new() })
    }

    fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > self.job.limits.entries {
            return Err(self.job.invalid(format!("it has more than {} entries", self.job.limits.entries)));
        }
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = self.path(&entry.path_bytes())?;
        let attributes = self.attributes(entry, &path)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return if kind == EntryType::Directory { self.root(&attributes) } else { Ok(()) };
        };
        let parent = self.parent(path.parent().unwrap_or(Path::new("")))?;
        if kind == EntryType::Directory {
            self.directory(path, &parent, &name, &attributes)
        } else {
            clear(&parent, &name).map_err(|error| self.failed(&path, error.into()))?;
            self.place(entry, kind, &path, &parent, &name, &attributes)
        }
    }

    /// The entry's path below the destination; `..` has no business in an image.
    fn path(&self, bytes: &[u8]) -> Result<PathBuf, Error> {
        let path = Path::new(OsStr::from_bytes(bytes));
        if bytes.contains(&0) || path.components().any(|c| c == Component::ParentDir) {
            return Err(self.job.invalid(format!("its entry `{}` leads out of it", path.display())));
        }
        Ok(path.components().filter(|c| matches!(c, Component::Normal(_))).collect())
    }

    fn parent(&mut self, path: &Path) -> Result<Rc<OwnedFd>, Error> {
        if let Some((known, handle)) = &self.parent
            && known == path
        {
            return Ok(handle.clone());
        }
        let handle = match self.inside.directory(path) {
            Ok(handle) => handle,
            Err(Errno::ENOENT) => self.inside.make_directory(path).map_err(|error| match error {
                Error::Storage { source, .. } => self.failed(path, source),
                other => other,
            })?,
            Err(error) => return Err(self.failed(path, error.into())),
        };
        let handle = Rc::new(handle);
        self.parent = Some((path.to_owned(), handle.clone()));
        Ok(handle)
    }

    fn root(&self, attributes: &Attributes) -> Result<(), Error> {
        let path = self.inside.path();
        let root = File::open(path).map_err(Error::storage("open", path))?;
        decorate(&root, attributes).map_err(Error::storage("set attributes of", path))
    }

    fn directory(
        &mut self,
        path: PathBuf,
        parent: &OwnedFd,
        name: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), Error> {
        let made = || -> io::Result<()> {
            if !is_directory(parent, name) {
                clear(parent, name)?;
                mkdirat(parent, name, attributes.permissions())?;
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            decorate(&File::from(openat(parent, name, flags, Mode::empty())?), attributes)
        };
        made().map_err(|error| self.failed(&path, error))?;
        self.directories.push((path, attributes.mtime));
        Ok(())
    }

    /// Makes what is not a directory.
    fn place<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        kind: EntryType,
        path: &Path,
        parent: &OwnedFd,
        name: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), Error> {
        let failed = |error: Errno| self.failed(path, error.into());
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let file = openat(parent, name, flags, attributes.permissions()).map_err(failed)?;
                let mut file = File::from(file);
                self.copy(entry, &mut file, path)?;
                decorate(&file, attributes).map_err(|error| self.failed(path, error))?;
            }
            EntryType::Symlink => {
                let target = self.target(entry, path)?;
                symlinkat(target.as_os_str(), parent, name).map_err(failed)?;
                let (uid, gid) = (Some(attributes.uid), Some(attributes.gid));
                fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
            }
            EntryType::Link => {
                let target = self.target(entry, path)?;
                let target = self.path(target.as_bytes())?;
                let source = target.file_name().filter(|name| is_component(name));
                let source = source.ok_or_else(|| self.failed(path, Errno::EINVAL.into()))?;
                let holder =
                    self.inside.directory(target.parent().unwrap_or(Path::new(""))).map_err(failed)?;
                linkat(&holder, source, parent, name, AtFlags::empty()).map_err(failed)?;
                return Ok(());
            }
            EntryType::Fifo => {
                mkfifoat(parent, name, Mode::from_bits_truncate(0o600)).map_err(failed)?;
                self.decorate_node(path, parent, name, attributes)?;
            }
            EntryType::Char if HARMLESS.contains(&device(entry)) => {
                let (major, minor) = device(entry);
                let number = makedev(u64::from(major), u64::from(minor));
                mknodat(parent, name, SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), number)
                    .map_err(failed)?;
                self.decorate_node(path, parent, name, attributes)?;
            }
            EntryType::Char | EntryType::Block => {
                self.skipped += 1;
                return Ok(());
            }
            other => {
                let found = format!("its entry `{}` is of unknown type {other:?}", path.display());
                return Err(self.job.invalid(found));
            }
        }
        let time = TimeSpec::new(attributes.mtime, 0);
        utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(|e| self.failed(path, e.into()))
    }

    fn copy<R: Read>(&self, entry: &mut Entry<'_, R>, file: &mut File, path: &Path) -> Result<(), Error> {
        let mut piece = vec![0; PIECE];
        loop {
            let mut filled = 0;
            while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                match entry.read(rest).map_err(|error| self.job.unreadable(error))? {
                    0 => break,
                    count => filled += count,
                }
            }
            let Some(bytes) = piece.get(..filled).filter(|bytes| !bytes.is_empty()) else { break };
            let hole = bytes.len() == PIECE && bytes.iter().all(|byte| *byte == 0);
            let written = if hole {
                file.seek(SeekFrom::Current(i64::try_from(PIECE).unwrap_or(0))).map(drop)
            } else {
                file.write_all(bytes)
            };
            written.map_err(|error| self.failed(path, error))?;
        }
        let end = file.stream_position().map_err(|error| self.failed(path, error))?;
        file.set_len(end).map_err(|error| self.failed(path, error))
    }

    fn target<R: Read>(&self, entry: &Entry<'_, R>, path: &Path) -> Result<OsString, Error> {
        let target = entry.link_name_bytes().map(|bytes| OsString::from_vec(bytes.into_owned()));
        target
            .filter(|target| !target.is_empty())
            .ok_or_else(|| self.job.invalid(format!("its link `{}` leads nowhere", path.display())))
    }

    fn attributes<R: Read>(&self, entry: &mut Entry<'_, R>, path: &Path) -> Result<Attributes, Error> {
        let mut xattrs = Vec::new();
        if let Some(extensions) = entry.pax_extensions().map_err(|error| self.job.unreadable(error))? {
            for extension in extensions.filter_map(Result::ok) {
                let Some(name) = extension.key_bytes().strip_prefix(PAX_XATTR) else { continue };
                if is_kept(name) {
                    xattrs.push((OsStr::from_bytes(name).to_owned(), extension.value_bytes().to_vec()));
                }
            }
        }
        let header = entry.header();
        let bad = |error| self.job.invalid(format!("its entry `{}` is damaged: {error}", path.display()));
        let id = |id: u64| u32::try_from(id).map_err(|error| bad(io::Error::other(error)));
        Ok(Attributes {
            uid: Uid::from_raw(id(header.uid().map_err(bad)?)?),
            gid: Gid::from_raw(id(header.gid().map_err(bad)?)?),
            mode: Mode::from_bits_truncate(header.mode().map_err(bad)?),
            mtime: i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0),
            xattrs,
        })
    }

    fn decorate_node(
        &self,
        path: &Path,
        parent: &OwnedFd,
        name: &OsStr,
        attributes: &Attributes,
    ) -> Result<(), Error> {
        let (uid, gid) = (Some(attributes.uid), Some(attributes.gid));
        fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
            .and_then(|()| fchmodat(parent, name, attributes.mode, FchmodatFlags::FollowSymlink))
            .map_err(|error| self.failed(path, error.into()))
    }

    fn finish(self) -> Result<(), Error> {
        for (path, mtime) in self.directories.iter().rev() {
            let (Some(name), Ok(parent)) =
                (path.file_name(), self.inside.directory(path.parent().unwrap_or(Path::new(""))))
            else {
                continue;
            };
            let time = TimeSpec::new(*mtime, 0);
            // A later entry may have replaced the directory.
            match utimensat(&parent, name, &time, &time, UtimensatFlags::NoFollowSymlink) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(self.failed(path, error.into())),
            }
        }
        if self.skipped > 0 {
            tracing::info!(image = %self.job.image.display(), devices = self.skipped, "left device nodes out");
        }
        Ok(())
    }

    /// Tells an archive that contradicts itself from a storage that fails.
    fn failed(&self, path: &Path, error: io::Error) -> Error {
        const CONTRADICTIONS: [Errno; 9] = [
            Errno::ENOENT,
            Errno::ELOOP,
            Errno::ENOTDIR,
            Errno::EISDIR,
            Errno::EEXIST,
            Errno::ENOTEMPTY,
            Errno::ENAMETOOLONG,
            Errno::EINVAL,
            Errno::EPERM,
        ];
        if error.raw_os_error().is_some_and(|code| CONTRADICTIONS.contains(&Errno::from_raw(code))) {
            self.job.invalid(format!("its entry `{}` cannot be made: {error}", path.display()))
        } else {
            Error::Storage { operation: "unpack", path: self.inside.path().join(path), source: error }
        }
    }
}

/// Removes what an earlier entry of the same name left; a directory only when it is empty.
fn clear(parent: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR) => unlinkat(parent, name, UnlinkatFlags::RemoveDir),
        Err(error) => Err(error),
    }
}

/// Owner first: the kernel takes set-user-id bits and capabilities away when it changes.
fn decorate(file: &File, attributes: &Attributes) -> io::Result<()> {
    // Most files are born right, and each change costs as much as making a file.
    let found = file.metadata()?;
    if (found.uid(), found.gid()) != (attributes.uid.as_raw(), attributes.gid.as_raw()) {
        fchown(file, Some(attributes.uid), Some(attributes.gid))?;
    }
    if file.metadata()?.mode() & 0o7777 != attributes.mode.bits() {
        fchmod(file, attributes.mode)?;
    }
    for (name, value) in &attributes.xattrs {
        match file.set_xattr(name, value) {
            // A storage without extended attributes still holds a usable desktop, just without capabilities.
            Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {
                tracing::debug!(attribute = %name.display(), "the storage keeps no such attribute");
            }
            other => other?,
        }
    }
    Ok(())
}

/// Attributes that belong to the desktop; `trusted.*` and overlayfs's own would act on the node.
pub(super) fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || name.starts_with(b"system.posix_acl_")
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

pub(super) fn device<R: Read>(entry: &Entry<'_, R>) -> (u32, u32) {
    let number = |found: io::Result<Option<u32>>| found.ok().flatten().unwrap_or(u32::MAX);
    (number(entry.header().device_major()), number(entry.header().device_minor()))
}
