//! How an unpacked image is laid out (`spec/node.md` 6.2, step 3).

use std::fs;
use std::path::{Path, PathBuf};

use super::inside::Inside;
use crate::Error;

/// Where in a base tree the root of the desktop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The base is the root.
    Basic,
    /// The root is in `rootfs`, beside hooks and container settings.
    Extended,
}

/// What the desktop boots with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// systemd, which has to mount.
    Systemd,
    /// Anything smaller.
    Other,
}

/// A base tree that desktops can be made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The unpacked image.
    pub base: PathBuf,
    /// The desktop's root in it: the lower layer of overlays.
    pub root: PathBuf,
    /// How it is laid out.
    pub layout: Layout,
    /// What it boots with.
    pub init: Init,
}

impl Tree {
    /// Classifies an unpacked image. `redirect` allows a link of that name to stand for another tree
    /// (`vm.lxc.redirect.allow`); it is followed once.
    pub fn classify(image: &Path, base: PathBuf, redirect: bool) -> Result<Self, Error> {
        let invalid = |found: String| Error::ImageInvalid { image: image.to_owned(), found };
        let (base, layout) = match layout(&base)? {
            Some(layout) => (base, layout),
            None => {
                let link = base.join("redirect");
                if !fs::symlink_metadata(&link).is_ok_and(|found| found.is_symlink()) {
                    return Err(invalid("it has neither `sbin` nor `rootfs/sbin`".to_owned()));
                }
                if !redirect {
                    let found = "it redirects to another tree, which vm.lxc.redirect.allow does not allow";
                    return Err(invalid(found.to_owned()));
                }
                let target = fs::canonicalize(&link).map_err(Error::storage("follow", &link))?;
                match layout(&target)? {
                    Some(layout) if target != Path::new("/") => (target, layout),
                    _ => {
                        return Err(invalid(format!(
                            "it redirects to {}, which is no image",
                            target.display()
                        )));
                    }
                }
            }
        };
        let root = match layout {
            Layout::Basic => base.clone(),
            Layout::Extended => base.join("rootfs"),
        };
        let init = Inside::open(&root)?.resolve("sbin/init");
        let systemd = init.is_ok_and(|path| path.file_name().is_some_and(|name| name == "systemd"));
        Ok(Self { base, root, layout, init: if systemd { Init::Systemd } else { Init::Other } })
    }

    /// Settings that an extended image adds to its container, if it has them.
    pub fn extra(&self) -> Option<PathBuf> {
        self.metadata("lxc/config-extra")
    }

    /// Mounts that an extended image adds to its container, if it has them.
    pub fn fstab(&self) -> Option<PathBuf> {
        self.metadata("lxc/fstab")
    }

    /// The hook of this name in an extended image (`prestart`, `poststart`, `poststop`), if it has one.
    pub fn hook(&self, name: &str) -> Option<PathBuf> {
        super::directories::single_name("hook", name).ok()?;
        self.metadata(&format!("hooks/{name}"))
    }

    /// A plain file of the metadata; never one that a link leads to.
    fn metadata(&self, name: &str) -> Option<PathBuf> {
        if self.layout == Layout::Basic {
            return None;
        }
        let found = Inside::open(&self.base).ok()?.resolve(name).ok()?;
        let path = self.base.join(&found);
        (found == Path::new(name) && path.is_file()).then_some(path)
    }
}

fn layout(base: &Path) -> Result<Option<Layout>, Error> {
    if Inside::open(base)?.has_directory("sbin") {
        return Ok(Some(Layout::Basic));
    }
    let rootfs = base.join("rootfs");
    if fs::symlink_metadata(&rootfs).is_ok_and(|found| found.is_dir())
        && Inside::open(&rootfs)?.has_directory("sbin")
    {
        return Ok(Some(Layout::Extended));
    }
    Ok(None)
}
