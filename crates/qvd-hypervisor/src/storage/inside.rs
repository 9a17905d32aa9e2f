//! Touching files of a foreign tree without being led out of it.
//!
//! A tree that came out of an image is not trusted: any of its directories may be a symbolic link to `/etc`.
//! [`Inside`] resolves every path as a process would that has the tree as its root (`openat2` with
//! `RESOLVE_IN_ROOT`), and works on the last component without following it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmod, fchmodat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::Error;

/// A tree that paths cannot leave.
#[derive(Debug)]
pub struct Inside {
    root: OwnedFd,
    path: PathBuf,
}

impl Inside {
    /// Opens the tree at `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(path, flags, Mode::empty()).map_err(Error::storage("open", path))?;
        Ok(Self { root, path: path.to_owned() })
    }

    /// Where the tree is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A handle of an existing directory; links on the way stay inside.
    pub(crate) fn directory(&self, path: &Path) -> nix::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.root, path, how)
    }

    /// Whether there is a directory of this name, possibly through links inside.
    pub fn has_directory(&self, path: impl AsRef<Path>) -> bool {
        self.directory(path.as_ref()).is_ok()
    }

    /// Opens an existing plain file for reading; links on the way stay inside.
    pub fn open_file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        // O_NONBLOCK: the image may hold a FIFO of this name.
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = File::from(openat2(&self.root, path.as_ref(), how)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::from(Errno::EINVAL)) }
    }

    /// The path a name leads to, links resolved, relative to the tree.
    pub fn resolve(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        use std::os::fd::AsRawFd;
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let found = openat2(&self.root, path.as_ref(), how)?;
        let place = |fd: BorrowedFd<'_>| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let root = place(self.root.as_fd())?;
        let found = place(found.as_fd())?;
        found.strip_prefix(&root).map(Path::to_owned).map_err(|_| io::Error::from(Errno::EXDEV))
    }

    /// A handle of a directory that is made with its parents, root-owned and 0755, where it is missing.
    pub fn make_directory(&self, path: impl AsRef<Path>) -> Result<OwnedFd, Error> {
        let path = relative(path.as_ref());
        let report = |source: Errno| Error::Storage {
            operation: "create",
            path: self.path.join(&path),
            source: source.into(),
        };
        let mut made = PathBuf::new();
        let mut handle = self.directory(Path::new("")).map_err(report)?;
        for component in path.components() {
            made.push(component);
            handle = match self.directory(&made) {
                Ok(found) => found,
                Err(Errno::ENOENT) => {
                    match mkdirat(&handle, component.as_os_str(), Mode::from_bits_truncate(0o755)) {
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(error) => return Err(report(error)),
                    }
                    let flags = FchmodatFlags::FollowSymlink;
                    let found = self.directory(&made).map_err(report)?;
                    fchmodat(&found, ".", Mode::from_bits_truncate(0o755), flags).map_err(report)?;
                    found
                }
                Err(error) => return Err(report(error)),
            };
        }
        Ok(handle)
    }

    /// Puts a file there, whatever was there before, with exactly this mode, owned by root.
    pub fn write(&self, path: impl AsRef<Path>, content: &[u8], mode: u32) -> Result<(), Error> {
        let path = relative(path.as_ref());
        let report =
            |source: io::Error| Error::Storage { operation: "write", path: self.path.join(&path), source };
        let parent = self.make_directory(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().ok_or_else(|| report(Errno::EISDIR.into()))?;
        let mut temporary = name.to_owned();
        temporary.push(".qvd-new");
        replace(&parent, &temporary, name, content, mode).map_err(report)
    }

    /// Removes a file or link if it is there.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = relative(path.as_ref());
        let found = self.directory(path.parent().unwrap_or(Path::new("")));
        let name = path.file_name().unwrap_or(OsStr::new("."));
        match found.and_then(|parent| unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir)) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(Error::storage("remove", self.path.join(&path))(error)),
        }
    }
}

fn replace(parent: &OwnedFd, temporary: &OsStr, name: &OsStr, content: &[u8], mode: u32) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(mode);
    match unlinkat(parent, temporary, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(parent, temporary, flags, mode)?);
    fchmod(&file, mode)?;
    file.write_all(content)?;
    renameat(parent, temporary, parent, name)?;
    Ok(())
}

/// A path below the tree, whether it was written absolute or not.
fn relative(path: &Path) -> PathBuf {
    path.components().filter(|c| matches!(c, Component::Normal(_))).collect()
}

/// Whether `name` in `parent` is a directory itself, no link.
pub(crate) fn is_directory(parent: &OwnedFd, name: &OsStr) -> bool {
    fstatat(parent, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// Whether bytes are usable as one path component.
pub(crate) fn is_component(name: &OsStr) -> bool {
    !matches!(name.as_bytes(), b"" | b"." | b"..")
}
