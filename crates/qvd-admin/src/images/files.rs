//! Names and places of image files. A name never leads out of its directory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use qvd_model::action::Status;
use tokio::fs;
use tracing::{info, warn};

use crate::app::App;
use crate::refusal::Refusal;
use crate::session::internal;

/// The images directory, if it is one.
pub(crate) async fn images(app: &App) -> Result<PathBuf, Refusal> {
    directory(app, "path.storage.images", Status::ImagesMissing).await
}

/// The staging directory, if it is one.
pub(super) async fn staging(app: &App) -> Result<PathBuf, Refusal> {
    directory(app, "path.storage.staging", Status::StagingMissing).await
}

async fn directory(app: &App, key: &str, missing: Status) -> Result<PathBuf, Refusal> {
    let path = app.config.now().path(key).map_err(internal)?;
    match fs::metadata(&path).await {
        Ok(meta) if meta.is_dir() => Ok(path),
        Ok(_) => Err(Refusal::about(missing, path.display().to_string()).because("it is not a directory")),
        Err(error) => Err(Refusal::about(missing, path.display().to_string()).because(error.to_string())),
    }
}

/// Whether a name may become a file of the images directory.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && !name.contains(['/', '\\'])
        && !name.chars().any(char::is_control);
    if plain {
        return Ok(());
    }
    Err(Refusal::about(Status::WrongArgumentValue, "disk_image")
        .because("a file name without directory, not beginning with a dot, of at most 200 bytes"))
}

/// Where a file is while it is not complete.
pub(super) fn part(images: &Path, file: &str) -> PathBuf {
    images.join(format!(".{file}.part"))
}

/// Refuses what does not fit where it has to lie.
pub(super) fn check_room(place: &Path, name: &str, size: u64) -> Result<(), Refusal> {
    let free = statvfs(place).map_err(internal)?;
    #[allow(clippy::useless_conversion, reason = "their width depends on the machine")]
    let (blocks, unit) = (u64::from(free.blocks_available()), u64::from(free.fragment_size()));
    let room = blocks.saturating_mul(unit);
    if size <= room {
        return Ok(());
    }
    Err(Refusal::about(Status::NoSpace, name)
        .because(format!("{size} bytes are needed in the images directory, and {room} are free")))
}

/// Removes the file of an image that is gone. What cannot be a file of ours, like the reference of a registry, is
/// left alone.
pub(crate) async fn remove(app: &App, file: &str) {
    if check_name(file).is_err() || file.contains(':') {
        return;
    }
    let Ok(images) = images(app).await else { return };
    let path = images.join(file);
    match fs::remove_file(&path).await {
        Ok(()) => info!(file = %path.display(), "image file removed"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => warn!(file = %path.display(), "image file not removed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_directory() {
        for good in ["my_image.tar.gz", "a b", "ünï.qcow2", "a..b"] {
            check_name(good).unwrap();
        }
        for bad in ["", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a\0b", "a\nb", "a\\b"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
