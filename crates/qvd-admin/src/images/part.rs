//! A file that is on its way to be an image.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that is removed unless it is put into its place. It is locked, there too: whoever cleans up lets it be for as
/// long as this lives.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    file: File,
    placed: bool,
}

impl Part {
    /// Makes it, empty.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        loop {
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            file.lock()?;
            // Between the two steps whoever cleans up may have taken it for abandoned.
            if is_at(&file, &path)? {
                return Ok(Self { path, file, placed: false });
            }
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// To write to.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Puts it into its place, for good.
    pub(super) fn place(&mut self, target: &Path) -> io::Result<()> {
        put(&self.path, target)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.placed {
            // Whoever cleans up later finds it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a path leads to the file that is open.
pub(super) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    let there = fs::symlink_metadata(path);
    Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())))
}

/// Whether a running process has the file.
pub(super) fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock_shared().is_err())
}

/// Renames a file that is on the disk, so that it is there after a crash of the machine, too.
pub(super) fn put(part: &Path, target: &Path) -> io::Result<()> {
    fs::rename(part, target)?;
    match target.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_until_it_is_dropped_and_stays_only_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join(".a.part"), dir.path().join("a"));
        let part = Part::create(path.clone()).unwrap();
        assert!(is_held(&path));
        assert!(Part::create(path.clone()).is_err(), "a second one");
        drop(part);
        assert!(!path.exists() && !is_held(&path));
        let mut part = Part::create(path.clone()).unwrap();
        part.place(&target).unwrap();
        assert!(is_held(&target) && !path.exists());
        drop(part);
        assert!(!is_held(&target) && target.exists());
    }
}
