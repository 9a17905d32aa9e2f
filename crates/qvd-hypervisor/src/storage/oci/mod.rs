//! Container images: archives in the layout of OCI, or as `docker save` writes them, made into one archive of a root
//! file system.
//!
//! Every layer is read twice and never held: once to learn what is left of it when all are laid over each other
//! ([`qvd_logic::layers`]), and once to copy that. Whatever an image names by a digest is compared with it.

mod archive;
mod flatten;
mod manifest;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use archive::Archive;

use super::image::{Compression, Kind, kind, open};
use super::unpack::Limits;
use crate::Error;
use crate::blocking::blocking;

/// Whether a file is a container image rather than the archive of a root file system.
///
/// # Errors
/// As [`super::recognize`].
pub async fn is_container_image(path: &Path) -> Result<bool, Error> {
    let path = path.to_owned();
    blocking("recognize a container image", move || {
        let mut file = open(&path)?;
        match kind(&mut file, &path)? {
            Kind::Tar(compression) => archive::is_container_image(file, compression, &path),
            Kind::Qcow2 | Kind::Raw => Ok(false),
        }
    })
    .await
}

/// Writes the root file system of a container image as a compressed archive to `out`, which is empty and open for
/// writing. `done` is told how much of it is done, from 0 to 1; when `cancelled` becomes true it ends with an error.
///
/// # Errors
/// [`Error::ImageInvalid`] when it holds no image for this machine or contradicts itself, [`Error::ImageDamaged`] when
/// something is not what its digest says, [`Error::Storage`] when a file cannot be read or written.
pub async fn flatten(
    image: &Path,
    out: File,
    limits: Limits,
    cancelled: Arc<AtomicBool>,
    done: impl Fn(f32) + Send + 'static,
) -> Result<(), Error> {
    let image = image.to_owned();
    blocking("flatten a container image", move || {
        let mut file = open(&image)?;
        let Kind::Tar(compression) = kind(&mut file, &image)? else {
            return Err(Error::ImageInvalid { image, found: "it is no container image".to_owned() });
        };
        let file = match compression {
            Compression::None => file,
            // Its parts are read in another order than they lie in.
            compression => archive::decompressed(file, compression, &image, limits)?,
        };
        let archive = Archive::index(file, &image, limits)?;
        let layers = manifest::layers(&archive)?;
        flatten::Flattening { archive: &archive, layers: &layers, limits, cancelled: &cancelled, done: &done }
            .write(out)
    })
    .await
}
