//! What one VM writes over its base tree.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qvd_model::{DiId, VmId};

use super::base::{make_directory, make_private, remove_tree};
use super::directories::Directories;
use crate::Error;
use crate::blocking::blocking;

/// The two directories of an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// What the VM wrote.
    pub upper: PathBuf,
    /// Scratch of overlayfs, on the same file system.
    pub work: PathBuf,
    /// Whether what it wrote outlives a stop.
    pub persistent: bool,
}

/// Prepares a VM's overlay over an image. A persistent one is used again if there is one; another one always
/// starts empty.
pub async fn prepare_overlay(
    directories: &Directories,
    di: DiId,
    vm: VmId,
    persistent: bool,
) -> Result<Overlay, Error> {
    let overlay =
        Overlay { upper: directories.overlay(di, vm), work: directories.overlay_work(vm), persistent };
    let overlays = directories.overlayfs.clone();
    blocking("prepare an overlay", move || {
        make_private(&overlays)?;
        remove_tree(&overlay.work)?;
        make_directory(&overlay.work)?;
        if !persistent {
            remove_tree(&overlay.upper)?;
        }
        make_directory(&overlay.upper)?;
        Ok(overlay)
    })
    .await
}

/// Clears what a VM wrote, over whichever image, unless `persistent`; `keep` renames it to `deleteme-…`
/// instead, so that somebody can see why a start failed. The work directory goes in any case.
pub async fn discard_overlay(
    directories: &Directories,
    vm: VmId,
    persistent: bool,
    keep: bool,
) -> Result<(), Error> {
    let directories = directories.clone();
    blocking("discard an overlay", move || {
        remove_tree(&directories.overlay_work(vm))?;
        if persistent {
            return Ok(());
        }
        for (di, overlay) in overlays_of(&directories.overlayfs, vm)? {
            if keep {
                let kept = directories.overlayfs.join(format!("{DISCARDED}{di}-{vm}-{}", unique()));
                fs::rename(&overlay, &kept).map_err(Error::storage("rename", &overlay))?;
            } else {
                remove_tree(&overlay)?;
            }
        }
        Ok(())
    })
    .await
}

/// Removes kept overlays older than `age`.
pub async fn purge_discarded(directories: &Directories, age: Duration) -> Result<(), Error> {
    let overlays = directories.overlayfs.clone();
    blocking("purge overlays", move || {
        for (name, path) in entries(&overlays)? {
            // Its own time of change is that of the desktop's last write: renaming does not touch it, but
            // changes the inode.
            let changed = fs::symlink_metadata(&path).ok().and_then(|found| changed(&found));
            let old =
                changed.and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|a| a >= age);
            if name.starts_with(DISCARDED) && old {
                remove_tree(&path)?;
            }
        }
        Ok(())
    })
    .await
}

const DISCARDED: &str = "deleteme-";

fn unique() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{:x}", std::process::id(), now.as_nanos())
}

fn changed(metadata: &fs::Metadata) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt;
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime()).ok()?))
}

fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let found = match fs::read_dir(directory) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::storage("list", directory)(error)),
    };
    let named = |entry: fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.path());
    Ok(found.filter_map(Result::ok).map(named).collect())
}

/// A VM's overlays with the number of the image each is over.
fn overlays_of(directory: &Path, vm: VmId) -> Result<Vec<(DiId, PathBuf)>, Error> {
    let suffix = format!("-{vm}-overlayfs");
    let di = |name: &str| name.strip_suffix(&suffix).and_then(|di| di.parse::<DiId>().ok());
    Ok(entries(directory)?.into_iter().filter_map(|(name, path)| Some((di(&name)?, path))).collect())
}
