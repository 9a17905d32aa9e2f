//! Uploads that can be gone on with. They are begun by announcing the file to `/api/di/upload`; what follows is the
//! core of tus 1.0: `HEAD` tells how much is there, `PATCH` adds to it, `DELETE` gives it up. Here HTTP statuses tell
//! what happened; the bodies are those of the rest of the API.

use std::sync::Arc;
use std::time::Duration;

use axum::body::BodyDataStream;
use axum::extract::{Path, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt;
use qvd_model::action::Status;
use serde_json::{Map, json};

use super::{Call, Outcome, admit, answer, cookie, origin, parameters};
use crate::app::App;
use crate::envelope::Envelope;
use crate::execute::{Reply, Request};
use crate::images::incoming::{Announced, Place};
use crate::images::{files, upload};
use crate::refusal::Refusal;

const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const PIECE: &str = "application/offset+octet-stream";
/// How long the rest of a refused piece is read, so that its sender gets to see the reason.
const PATIENCE: Duration = Duration::from_secs(30);

/// Announces a file: the answer says where its bytes are sent to.
pub(super) async fn begin(app: &Arc<App>, call: Call) -> Response {
    let begun = async {
        let (request, session) = admit(app, &call, Some(super::images::creation()?)).await?;
        let Some(length) = call.envelope.length else {
            return Err(Refusal::new(Status::NoFilePart).because(
                "send it as the part `file` of a form, or announce its `length` and send it in pieces",
            ));
        };
        let Envelope { arguments, sha256, .. } = call.envelope;
        let (announced, there, known) = upload::begin(app, &request, arguments, length, sha256).await?;
        Ok((announced, there, known, session))
    };
    match begun.await {
        Ok((announced, there, known, session)) => {
            let location = format!("/api/di/upload/{}", announced.id);
            let members = json!({"location": location, "offset": there, "length": announced.length});
            let mut response = answer::respond(Ok((Reply::Members(object(members)), session)));
            *response.status_mut() = if known { StatusCode::OK } else { StatusCode::CREATED };
            let mut response = measured(response, there, Some(announced.length));
            if let Ok(location) = HeaderValue::from_str(&location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Err(refusal) => answer::respond(Err(refusal)),
    }
}

fn object(value: serde_json::Value) -> Map<String, serde_json::Value> {
    match value {
        serde_json::Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// An upload and the request that goes on with it.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) announced: Announced,
    pub(super) request: Arc<Request>,
    session: Option<answer::SessionCookie>,
}

/// What tells who asks for an upload; the older dialect knows a session by a parameter, too.
fn asker(asked: &HttpRequest) -> Result<Call, Refusal> {
    let sid = parameters(asked.uri(), &[]).into_iter().filter(|(name, _)| name == "sid");
    Ok(Call { envelope: Envelope::from_parameters(sid)?, ..asker_by_headers(asked) })
}

/// What tells who asks for an upload.
pub(super) fn asker_by_headers(asked: &HttpRequest) -> Call {
    Call {
        envelope: Envelope::default(),
        cookie: cookie(asked.headers()),
        origin: origin(asked.headers(), asked.extensions()),
        // It is part of the creation, which is a POST; no page of others can send the methods of pieces unasked.
        method: Method::POST,
        live: false,
        repeat: None,
    }
}

/// Finds the upload of an id, if it is the caller's and it may still make images.
async fn find(app: &Arc<App>, id: &str, call: Result<Call, Refusal>) -> Result<Found, Refusal> {
    let images = files::images(app).await?;
    find_at(app, Place::with_id(&images, id), |announced| announced.id == id, call?).await
}

/// The same at a place, if it is the one that is meant.
pub(super) async fn find_at(
    app: &Arc<App>,
    place: Option<Place>,
    is_meant: impl Fn(&Announced) -> bool,
    mut call: Call,
) -> Result<Found, Refusal> {
    let unknown = || Refusal::new(Status::UploadUnknown);
    let known = place.and_then(|place| place.announced().map(|announced| (place, announced)));
    let Some((place, announced)) = known.filter(|(_, announced)| is_meant(announced)) else {
        // Whoever is not logged in learns only that.
        crate::session::recognize(app, &call.envelope, call.cookie.as_deref(), &call.origin).await?;
        return Err(unknown());
    };
    call.envelope.arguments = announced.arguments.clone();
    let (request, session) = admit(app, &call, Some(super::images::creation()?)).await?;
    if !announced.is_of(&request.circumstances.caller) {
        return Err(unknown());
    }
    Ok(Found { place, announced, request, session })
}

/// How much is there.
pub(super) async fn tell(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: HttpRequest,
) -> Response {
    match find(&app, &id, asker(&asked)).await {
        Ok(Found { place, announced, session, .. }) => {
            let there = place.received();
            let members = object(json!({"offset": there, "length": announced.length}));
            measured(answer::respond(Ok((Reply::Members(members), session))), there, Some(announced.length))
        }
        Err(refusal) => refused(refusal, None),
    }
}

/// Gives it up.
pub(super) async fn give_up(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: HttpRequest,
) -> Response {
    let asker = asker(&asked);
    let given_up = async {
        let Found { place, request, .. } = find(&app, &id, asker).await?;
        upload::give_up(&request, &place)
    };
    match given_up.await {
        Ok(()) => empty(),
        Err(refusal) => refused(refusal, None),
    }
}

/// Takes the next bytes; the answer to the last ones is that of the creation.
pub(super) async fn add(State(app): State<Arc<App>>, Path(id): Path<String>, asked: HttpRequest) -> Response {
    let asker = asker(&asked);
    let (parts, body) = asked.into_parts();
    let mut bytes = body.into_data_stream();
    let added = async {
        let early = |refusal| (refusal, None);
        let Found { place, announced, request, session } = find(&app, &id, asker).await.map_err(early)?;
        let offset = offset(&parts.headers).map_err(early)?;
        match upload::go_on(&app, request, &place, &id, offset, &mut bytes).await {
            Ok(progress) => Ok((progress, announced.length, session)),
            Err(refusal) => Err((refusal, Some(place.received()))),
        }
    };
    let (refusal, there) = match added.await {
        Ok((upload::Progress::Partial(there), length, _)) => return measured(empty(), there, Some(length)),
        Ok((upload::Progress::Done(reply), length, session)) => {
            return measured(answer::respond(Ok((reply, session))), length, Some(length));
        }
        Err(refusal) => refusal,
    };
    read_away(bytes).await;
    refused(refusal, there)
}

/// Reads what a sender still sends, so that it gets to see why that is refused.
pub(super) async fn read_away(mut bytes: BodyDataStream) {
    let rest = async { while let Some(Ok(_)) = bytes.next().await {} };
    // Whoever has not finished by then has to do without the reason.
    let _ = tokio::time::timeout(PATIENCE, rest).await;
}

/// Where a piece belongs.
pub(super) fn offset(headers: &HeaderMap) -> Result<u64, Refusal> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(&header::CONTENT_TYPE) != Some(PIECE) {
        return Err(Refusal::about(Status::WrongType, "Content-Type").because(PIECE));
    }
    let offset = text(&OFFSET).and_then(|value| value.parse().ok());
    offset.ok_or_else(|| {
        Refusal::about(Status::WrongType, OFFSET.as_str()).because("the number of the first byte")
    })
}

pub(super) fn empty() -> Response {
    let mut response =
        answer::respond(Ok((Reply::Done(0), None)) as Outcome).map(|_| axum::body::Body::empty());
    response.headers_mut().remove(header::CONTENT_TYPE);
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Adds how much is there, of how much.
pub(super) fn measured(mut response: Response, there: u64, length: Option<u64>) -> Response {
    let headers = response.headers_mut();
    headers.insert(RESUMABLE, HeaderValue::from_static("1.0.0"));
    headers.insert(OFFSET, HeaderValue::from(there));
    if let Some(length) = length {
        headers.insert(LENGTH, HeaderValue::from(length));
    }
    response
}

fn refused(refusal: Refusal, there: Option<u64>) -> Response {
    let status = StatusCode::from_u16(refusal.status().http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer::respond(Err(refusal));
    *response.status_mut() = status;
    match there {
        Some(there) => measured(response, there, None),
        None => {
            response.headers_mut().insert(RESUMABLE, HeaderValue::from_static("1.0.0"));
            response
        }
    }
}
