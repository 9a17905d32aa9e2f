//! A file that is all there, made ready to be an image: looked at, and flattened if it is that of a container.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qvd_hypervisor::storage::{self, Examined, Limits};
use qvd_model::action::Status;

use super::files;
use super::import::{copy_refusal, refusal};
use crate::app::App;
use crate::refusal::Refusal;
use crate::session::internal;

/// A file that is an image.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) examined: Examined,
    /// What was made of a container image; otherwise it is the file itself.
    made: Option<Made>,
}

/// A file that is removed unless it is put into its place. It is locked: whoever cleans up lets it be.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    _lock: File,
    placed: bool,
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.placed {
            // Whoever cleans up later finds it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Looks at the file `part`, whose users know it as `name`. With `sha256` it has to be the file of that checksum.
/// `done` is told how much of a longer conversion is done.
pub(super) async fn prepare(
    app: &App,
    part: &Path,
    name: &str,
    sha256: Option<&str>,
    done: impl Fn(f32) + Send + 'static,
) -> Result<Prepared, Refusal> {
    let known = |error| renamed(refusal(error), name);
    let compare = |found: &str| match sha256 {
        Some(wanted) if wanted != found => Err(Refusal::about(Status::ChecksumDiffers, name)
            .because(format!("its sha256 is {found}, and {wanted} was announced"))),
        _ => Ok(()),
    };
    if !storage::is_container_image(part).await.map_err(known)? {
        let examined = storage::verify(part).await.map_err(known)?;
        compare(&examined.image.sha256)?;
        boots(app, &examined, name)?;
        return Ok(Prepared { examined, made: None });
    }
    if sha256.is_some() {
        compare(&storage::inspect(part).await.map_err(known)?.sha256)?;
    }
    let images = files::images(app).await?;
    let path = files::part(&images, &format!("flat-{:016x}", rand::random::<u64>()));
    let out = File::create_new(&path).map_err(|error| copy_refusal(name, &error))?;
    let lock = out.try_clone().map_err(|error| copy_refusal(name, &error))?;
    lock.try_lock().map_err(internal)?;
    let made = Made { path, _lock: lock, placed: false };
    let stopped = Arc::new(AtomicBool::new(false));
    let mut flattening =
        std::pin::pin!(storage::flatten(part, out, Limits::default(), stopped.clone(), done));
    let flattened = tokio::select! {
        flattened = flattening.as_mut() => flattened,
        () = app.tasks.stopping() => {
            stopped.store(true, Ordering::Relaxed);
            flattening.await
        }
    };
    flattened.map_err(known)?;
    let examined = storage::verify(&made.path).await.map_err(known)?;
    boots(app, &examined, name)?;
    Ok(Prepared { examined, made: Some(made) })
}

/// Whether the hypervisor of the installation boots it.
fn boots(app: &App, examined: &Examined, name: &str) -> Result<(), Refusal> {
    let hypervisor = app.config.now().text("vm.hypervisor").map_err(internal)?;
    let format = examined.image.kind.as_str();
    let problem = match (hypervisor.as_str(), &examined.root) {
        ("lxc", None) => {
            format!("it is a disk ({format}), and containers boot archives of root file systems")
        }
        ("kvm", Some(_)) => format!("it is an archive ({format}), and virtual machines boot disks"),
        _ => return Ok(()),
    };
    Err(Refusal::about(Status::NotAnImage, name)
        .because(format!("{problem} (vm.hypervisor is {hypervisor})")))
}

impl Prepared {
    /// Whether another file was made of it.
    pub(super) const fn is_other(&self) -> bool {
        self.made.is_some()
    }

    /// Puts the image into its place, for good; `place` does that with the file itself, when that is it.
    pub(super) fn place(
        mut self,
        target: &Path,
        place: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<Examined> {
        match &mut self.made {
            None => place(target)?,
            Some(made) => {
                put(&made.path, target)?;
                made.placed = true;
            }
        }
        Ok(self.examined)
    }
}

/// Renames a file that is on the disk, so that it is there after a crash of the machine, too.
pub(super) fn put(part: &Path, target: &Path) -> io::Result<()> {
    fs::rename(part, target)?;
    match target.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// The part has a name of its own; people know the file by another.
fn renamed(refusal: Refusal, name: &str) -> Refusal {
    match refusal {
        Refusal::Known { status, info, .. } => Refusal::Known { status, object: Some(name.to_owned()), info },
        other => other,
    }
}
