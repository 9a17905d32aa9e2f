//! A file that is all there, made ready to be an image: looked at, and flattened if it is that of a container.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qvd_db::placement;
use qvd_hypervisor::storage::{self, Examined, Limits};
use qvd_model::action::Status;

use super::files;
use super::import::{copy_refusal, refusal};
use super::part::Part;
use crate::app::App;
use crate::refusal::Refusal;
use crate::session::internal;

/// A file that is an image.
#[derive(Debug)]
pub(super) struct Prepared {
    examined: Examined,
    /// What was made of a container image; otherwise it is the file itself.
    made: Option<Part>,
}

/// An image that is in its place. Whoever cleans up lets it be for as long as this lives.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) examined: Examined,
    _made: Option<Part>,
}

/// Looks at the file `part`, whose users know it as `name`. With `sha256` it has to be the file of that checksum.
/// It has to be one that VMs of the flavour `osf` boot. `done` is told how much of a longer conversion is done.
pub(super) async fn prepare(
    app: &App,
    osf: i32,
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
        boots(app, osf, &examined, name).await?;
        return Ok(Prepared { examined, made: None });
    }
    if sha256.is_some() {
        compare(&storage::inspect(part).await.map_err(known)?.sha256)?;
    }
    let images = files::images(app).await?;
    let path = files::part(&images, &format!("flat-{:016x}", rand::random::<u64>()));
    let made = Part::create(path).map_err(|error| copy_refusal(name, &error))?;
    let out = made.file().map_err(|error| copy_refusal(name, &error))?;
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
    let examined = storage::verify(made.path()).await.map_err(known)?;
    boots(app, osf, &examined, name).await?;
    Ok(Prepared { examined, made: Some(made) })
}

/// Whether the hypervisor of the flavour boots it.
async fn boots(app: &App, osf: i32, examined: &Examined, name: &str) -> Result<(), Refusal> {
    let own = placement::hypervisor_of(&app.database.client().await?, osf).await?;
    let (hypervisor, whose) = match own {
        Some(hypervisor) => (hypervisor, "of its OSF "),
        None => (app.config.now().text("vm.hypervisor").map_err(internal)?, ""),
    };
    let format = examined.image.kind.as_str();
    let problem = match (hypervisor.as_str(), &examined.root) {
        ("lxc", None) => {
            format!("it is a disk ({format}), and containers boot archives of root file systems")
        }
        ("kvm", Some(_)) => format!("it is an archive ({format}), and virtual machines boot disks"),
        _ => return Ok(()),
    };
    Err(Refusal::about(Status::NotAnImage, name)
        .because(format!("{problem} (vm.hypervisor {whose}is {hypervisor})")))
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
    ) -> io::Result<Placed> {
        match &mut self.made {
            None => place(target)?,
            Some(made) => made.place(target)?,
        }
        Ok(Placed { examined: self.examined, _made: self.made })
    }
}

impl Placed {
    /// An image that was found in its place.
    pub(super) const fn found(examined: Examined) -> Self {
        Self { examined, _made: None }
    }
}

/// The part has a name of its own; people know the file by another.
fn renamed(refusal: Refusal, name: &str) -> Refusal {
    match refusal {
        Refusal::Known { status, info, wait, .. } => {
            Refusal::Known { status, object: Some(name.to_owned()), info, wait }
        }
        other => other,
    }
}
