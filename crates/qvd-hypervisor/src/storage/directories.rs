//! Where everything lies, and what it is called there.

use std::path::{Component, Path, PathBuf};

use qvd_model::{DiId, VmId};

use crate::Error;

/// The directories of the storage (`path.storage.*`).
#[derive(Debug, Clone)]
pub struct Directories {
    /// Registered images; the node only reads here.
    pub images: PathBuf,
    /// Unpacked images, shared by all VMs of an image.
    pub basefs: PathBuf,
    /// What VMs wrote over the base.
    pub overlayfs: PathBuf,
    /// Mount points of roots.
    pub rootfs: PathBuf,
    /// Homes.
    pub homefs: PathBuf,
}

/// Suffixes that the name of a base tree does not have.
const SUFFIXES: [&str; 9] =
    [".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar", ".tgz", ".tbz", ".txz", ".tzst"];

/// How the names of records beside base trees begin.
pub(super) const RECORD: &str = "record.";

/// The name of the base tree of an image file (`spec/node.md` 6.1).
pub fn base_name(file: &str) -> &str {
    SUFFIXES
        .iter()
        .find_map(|suffix| file.strip_suffix(suffix))
        .filter(|name| !name.is_empty())
        .unwrap_or(file)
}

/// Accepts only what names an entry of one directory.
pub(crate) fn single_name(what: &'static str, name: &str) -> Result<(), Error> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name && !name.contains('\0') => Ok(()),
        _ => Err(Error::Name { what, name: name.to_owned() }),
    }
}

impl Directories {
    /// The file of an image.
    pub fn image(&self, file: &str) -> Result<PathBuf, Error> {
        single_name("image", file)?;
        Ok(self.images.join(file))
    }

    /// The base tree of an image.
    pub fn base(&self, file: &str) -> Result<PathBuf, Error> {
        single_name("image", file)?;
        Ok(self.basefs.join(base_name(file)))
    }

    pub(crate) fn base_lock(&self, file: &str) -> PathBuf {
        self.basefs.join(format!("lock.{}", base_name(file)))
    }

    pub(crate) fn base_record(&self, file: &str) -> PathBuf {
        self.basefs.join(format!("{RECORD}{}", base_name(file)))
    }

    /// What a VM writes over the base of an image.
    pub fn overlay(&self, di: DiId, vm: VmId) -> PathBuf {
        self.overlayfs.join(format!("{di}-{vm}-overlayfs"))
    }

    /// The work directory that overlayfs needs beside the overlay.
    pub fn overlay_work(&self, vm: VmId) -> PathBuf {
        self.overlayfs.join(format!("{vm}-overlayfs-work"))
    }

    /// The mount point of a VM's root.
    pub fn root(&self, vm: VmId) -> PathBuf {
        self.rootfs.join(format!("{vm}-fs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_names_lose_their_archive_suffix() {
        for (file, base) in [
            ("12-debian.tar.gz", "12-debian"),
            ("12-debian.tgz", "12-debian"),
            ("12-a.tar.b.tar", "12-a.tar.b"),
            ("12-debian.tar.zst", "12-debian"),
            ("12-debian", "12-debian"),
            (".tar", ".tar"),
        ] {
            assert_eq!(base_name(file), base);
        }
    }

    #[test]
    fn names_never_lead_elsewhere() {
        for bad in ["", ".", "..", "a/b", "/a", "a/", "../a", "./a", "a\0b"] {
            assert!(single_name("image", bad).is_err(), "{bad:?}");
        }
        assert!(single_name("image", "12-a b.tar").is_ok());
    }
}
