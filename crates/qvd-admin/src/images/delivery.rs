//! A file that is sent for an image whose row is there already and tells how far it is: `uploading` while it comes,
//! `upload_stalled` when it does not, `verifying` when all of it is there.

use std::path::Path;
use std::sync::Arc;

use axum::body::Bytes;
use futures_util::Stream;
use qvd_db::admin::images as rows;
use qvd_db::admin::select::Identity;
use qvd_model::action::Status;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::warn;

use super::files;
use super::import::{self, Image, settle, tell_progress, verifying};
use super::incoming::{Announced, Held, Place};
use super::prepare::prepare;
use super::upload::{self, hold, logged};
use crate::app::App;
use crate::execute::{Request, osf_of};
use crate::record::Circumstances;
use crate::refusal::Refusal;
use crate::session::internal;

/// An upload that ends with its creation unless that comes to an end.
struct Begun(Option<Held>);

impl Begun {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(held) = self.0.take() {
            held.discard();
        }
    }
}

/// Makes an image whose file will be sent; its number.
pub(crate) async fn announce(
    app: &Arc<App>,
    request: Arc<Request>,
    arguments: Map<String, Value>,
    length: u64,
    sha256: Option<String>,
) -> Result<i32, Refusal> {
    let checked = async {
        let name = import::disk_image(&request)?;
        files::check_name(&name)?;
        osf_of(app, &request).await?;
        let images = files::images(app).await?;
        upload::check_length(app, &name, length)?;
        files::check_room(&images, &name, length)?;
        Ok(name)
    };
    let name = logged(app, &request, checked.await).await?;
    let administrator = request.circumstances.caller.id;
    let claim = move |images: &Path, image: &Identity| {
        let place = Place::of_image(images, image.id);
        let held = place.hold()?.ok_or_else(|| std::io::Error::other("somebody else has the upload"))?;
        let announced = Announced {
            id: place.fresh_id(),
            administrator,
            arguments: arguments.clone(),
            length,
            sha256: sha256.clone(),
            image: Some(image.id),
        };
        let begun = Begun(Some(held));
        if let Some(held) = &begun.0 {
            held.begin(Some(&announced))?;
        }
        Ok(begun)
    };
    let (image, begun) = import::create(app, request, &name, claim).await?;
    begun.keep();
    Ok(image.identity.id)
}

/// Takes the next bytes; how many are there then. What is done with all of them goes on by itself.
pub(crate) async fn go_on<E: std::fmt::Display>(
    app: &Arc<App>,
    request: &Request,
    place: &Place,
    id: i32,
    offset: u64,
    bytes: impl Stream<Item = Result<Bytes, E>>,
) -> Result<u64, Refusal> {
    let held = hold(place, &import::disk_image(request)?)?;
    let client = app.database.client().await?;
    let row = rows::image(&client, id).await?.filter(rows::Image::is_importing);
    let (Some(announced), Some(row)) = (place.announced(), row) else {
        held.discard();
        return Err(Refusal::new(Status::UploadUnknown));
    };
    let there = held.received().map_err(internal)?;
    if offset != there {
        return Err(Refusal::new(Status::WrongOffset).because(format!("byte {there} is next")));
    }
    rows::set_import(&client, id, "uploading", None, None).await?;
    drop(client);
    #[allow(clippy::cast_precision_loss, reason = "a share that is shown")]
    let share = move |there: u64| (there as f32 / announced.length.max(1) as f32).min(1.0);
    let (done, progress) = watch::channel(share(there));
    let teller = tell_progress(app.clone(), id, progress);
    let received = async {
        let done = done;
        let told = |there| {
            done.send_replace(share(there));
        };
        held.append(bytes, announced.length, told).await
    };
    let (received, ()) = tokio::join!(received, teller);
    match received {
        Ok(there) if there == announced.length => {
            verifying(app, id).await?;
            let identity = import::identity(app, id).await?;
            let identity = identity.ok_or_else(|| Refusal::new(Status::UploadUnknown))?;
            let image = Image { identity, osf: row.osf };
            let circumstances = request.circumstances.clone();
            app.tasks.spawn(finish(app.clone(), circumstances, held, image, announced.sha256));
            Ok(there)
        }
        Ok(there) => Ok(there),
        Err(refusal) => {
            stalled(app, id, &refusal.to_string()).await?;
            Err(refusal)
        }
    }
}

/// Notes that the file does not come.
pub(super) async fn stalled(app: &App, id: i32, why: &str) -> Result<(), Refusal> {
    let client = app.database.client().await?;
    Ok(rows::set_import(&client, id, "upload_stalled", None, Some(why)).await?)
}

/// Looks at a file that is all there, and publishes the image.
pub(super) async fn finish(
    app: Arc<App>,
    circumstances: Circumstances,
    held: Held,
    image: Image,
    sha256: Option<String>,
) {
    let Image { identity, osf } = &image;
    let outcome = async {
        verifying(&app, identity.id).await?;
        let images = files::images(&app).await?;
        let checked = prepare(&app, *osf, held.part(), &identity.name, sha256.as_deref(), |_| ()).await?;
        let other = checked.is_other();
        let placed = checked.place(&images.join(&identity.name), |target| held.place(target));
        Ok((placed.map_err(|error| import::copy_refusal(&identity.name, &error))?, other))
    };
    let outcome: Result<_, Refusal> = outcome.await;
    // The file is kept where that is of use: the next process goes on by itself, and a full disk can be helped.
    let waits = match &outcome {
        Err(_) if app.tasks.token().is_cancelled() => true,
        Err(refusal) if refusal.status() == Status::DatabaseAway => true,
        Err(refusal) if refusal.status() == Status::NoSpace => {
            let why = format!("{refusal}; make room, and send an empty piece");
            if let Err(problem) = stalled(&app, identity.id, &why).await {
                warn!(image = identity.id, "state not written: {problem}");
            }
            true
        }
        _ => false,
    };
    if waits {
        return;
    }
    let spent = matches!(&outcome, Ok((_, true)) | Err(_));
    settle(&app, &circumstances, identity, outcome.map(|(placed, _)| placed)).await;
    if spent {
        held.discard();
    }
}

/// Removes what is there of the file of an image that is gone.
pub(crate) async fn forget(app: &App, id: i32) {
    let Ok(images) = files::images(app).await else { return };
    Place::of_image(&images, id).remove();
}
