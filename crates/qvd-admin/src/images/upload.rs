//! Receiving an image: as a whole, or in pieces that can be gone on with.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::multipart::Field;
use futures_util::Stream;
use qvd_model::action::Status;
use serde_json::{Map, Value};

use super::files;
use super::import;
use super::incoming::{Announced, Held, Place};
use super::prepare::prepare;
use crate::app::App;
use crate::execute::{Reply, Request, osf_of};
use crate::refusal::Refusal;
use crate::session::internal;

/// What becomes of an upload after a piece of it.
pub(crate) enum Progress {
    /// So much is there.
    Partial(u64),
    /// All of it was there, and is an image now.
    Done(Reply),
}

/// What an upload is about.
struct Subject {
    name: String,
    place: Place,
    /// Bytes that the file may have.
    limit: u64,
}

impl Subject {
    async fn of(app: &App, request: &Request) -> Result<Self, Refusal> {
        let name = import::disk_image(request)?;
        files::check_name(&name)?;
        let images = files::images(app).await?;
        let limit: u64 = app.config.now().int("api.upload.max").map_err(internal)?;
        let osf = osf_of(app, request).await?;
        Ok(Self { place: Place::of(&images, osf, &name), limit: limit << 20, name })
    }
}

/// Writes a refusal to the log.
pub(super) async fn logged<T>(
    app: &App,
    request: &Request,
    outcome: Result<T, Refusal>,
) -> Result<T, Refusal> {
    if let Err(refusal) = &outcome {
        crate::execute::log_failure(app, request, refusal).await?;
    }
    outcome
}

/// Receives the whole file of a permitted request, looks at it, and makes an image of it.
pub(crate) async fn receive(
    app: &Arc<App>,
    request: Arc<Request>,
    file: Field<'_>,
    sha256: Option<String>,
) -> Result<Reply, Refusal> {
    let received = async {
        let Subject { name, place, limit } = Subject::of(app, &request).await?;
        let held = hold(&place, &name)?;
        held.begin(None).map_err(internal)?;
        match held.append(file, limit, |_| ()).await {
            Ok(_) => Ok((held, name)),
            Err(refusal) => {
                held.discard();
                Err(refusal)
            }
        }
    };
    let (held, name) = logged(app, &request, received.await).await?;
    finish(app, request, held, name, sha256).await
}

/// Begins an upload in pieces, or finds the one that was begun with the same file. The second value tells how much
/// of it is there, the third whether it was begun before.
pub(crate) async fn begin(
    app: &Arc<App>,
    request: &Request,
    arguments: Map<String, Value>,
    length: u64,
    sha256: Option<String>,
) -> Result<(Announced, u64, bool), Refusal> {
    let begun = async {
        let Subject { name, place, .. } = Subject::of(app, request).await?;
        check_length(app, &name, length)?;
        let administrator = request.circumstances.caller.id;
        let announced =
            Announced { id: place.fresh_id(), administrator, arguments, length, sha256, image: None };
        let held = hold(&place, &name)?;
        let there = held.received().map_err(internal)?;
        if let Some(known) = place.announced().filter(|known| known.is_same(&announced) && there <= length) {
            return Ok((known, there, true));
        }
        if let Err(refusal) = files::check_room(held.part(), &name, length.saturating_sub(there)) {
            if place.announced().is_none() {
                held.discard();
            }
            return Err(refusal);
        }
        held.begin(Some(&announced)).map_err(|error| super::incoming::not_written(&error))?;
        Ok((announced, 0, false))
    };
    logged(app, request, begun.await).await
}

/// Goes on with an upload at `offset`; when all of it is there, makes an image of it.
pub(crate) async fn go_on<E: std::fmt::Display>(
    app: &Arc<App>,
    request: Arc<Request>,
    place: &Place,
    id: &str,
    offset: u64,
    bytes: impl Stream<Item = Result<Bytes, E>>,
) -> Result<Progress, Refusal> {
    let name = import::disk_image(&request)?;
    let held = hold(place, &name)?;
    // Somebody may have finished, given up or replaced it while this one waited for the lock.
    let announced = place.announced().filter(|known| known.id == id);
    let Some(announced) = announced else {
        if place.announced().is_none() {
            held.discard();
        }
        return Err(Refusal::new(Status::UploadUnknown));
    };
    let there = held.received().map_err(internal)?;
    if offset != there {
        return Err(Refusal::new(Status::WrongOffset).because(format!("byte {there} is next")));
    }
    let there = held.append(bytes, announced.length, |_| ()).await?;
    if there < announced.length {
        return Ok(Progress::Partial(there));
    }
    Ok(Progress::Done(finish(app, request, held, name, announced.sha256).await?))
}

/// Removes what is there of an upload.
pub(crate) fn give_up(request: &Request, place: &Place) -> Result<(), Refusal> {
    hold(place, &import::disk_image(request)?)?.discard();
    Ok(())
}

/// Looks at a file that is all there, and makes an image of it. That goes on when the sender has gone.
async fn finish(
    app: &Arc<App>,
    request: Arc<Request>,
    held: Held,
    name: String,
    sha256: Option<String>,
) -> Result<Reply, Refusal> {
    let inner = app.clone();
    let work = app.tasks.spawn(async move {
        let osf = osf_of(&inner, &request).await?;
        let checked = prepare(&inner, osf, held.part(), &name, sha256.as_deref(), |_| ()).await;
        match logged(&inner, &request, checked).await {
            Ok(checked) => import::from_upload(&inner, request, held, &name, checked).await,
            Err(refusal) => {
                // Where room is made it need not be sent again.
                if refusal.status() != Status::NoSpace || held.is_nameless() {
                    held.discard();
                }
                Err(refusal)
            }
        }
    });
    work.await.map_err(internal)?
}

/// Refuses what is too long, or nothing.
pub(super) fn check_length(app: &App, name: &str, length: u64) -> Result<(), Refusal> {
    let limit: u64 = app.config.now().int("api.upload.max").map_err(internal)?;
    if length > limit << 20 {
        return Err(Refusal::new(Status::TooLarge).because(format!("at most {limit} MB (api.upload.max)")));
    }
    if length == 0 {
        return Err(Refusal::about(Status::NotAnImage, name).because("it is empty"));
    }
    Ok(())
}

pub(super) fn hold(place: &Place, name: &str) -> Result<Held, Refusal> {
    let held = place.hold().map_err(|error| super::incoming::not_written(&error))?;
    held.ok_or_else(|| {
        Refusal::about(Status::UploadBusy, name)
            .because("wait until it has arrived, or call this one otherwise")
    })
}
