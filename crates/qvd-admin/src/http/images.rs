//! The endpoints of disk images (`spec/api.md` 1.6). Whatever action the client names, they create an image or
//! publish one, with the permissions of that.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::multipart::Field;
use axum::extract::{FromRequest, Multipart, Request as HttpRequest, State};
use axum::http::{Method, header};
use axum::response::Response;
use qvd_logic::fetching::Target;
use qvd_model::action::{Action, Object, Status, Verb, action_for};
use serde_json::json;

use super::{Call, MAX_ENVELOPE, Outcome, admit, answer, cookie, origin, parameters, pieces, read};
use crate::app::App;
use crate::envelope::Envelope;
use crate::execute::Reply;
use crate::images::{download as downloading, import, publish as publication, upload as receiving};
use crate::refusal::Refusal;
use crate::session::Origin;

/// How long the rest of a refused upload is read.
const KNOWN_PATIENCE: Duration = Duration::from_secs(600);
/// The same, when nobody knows who sends it.
const STRANGER_PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn creation() -> Result<&'static Action, Refusal> {
    action_for(Object::Di, Verb::Create).ok_or_else(|| Refusal::new(Status::Internal))
}

pub(super) async fn staging(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let outcome = async {
        let call = read(request).await?;
        let (request, session) = admit(&app, &call, Some(creation()?)).await?;
        let made = import::from_staging(&app, request, false, call.envelope.sha256).await?;
        Ok((Reply::created(made), session))
    };
    answer::respond(outcome.await)
}

/// Makes an image of that of a container, which lies in the staging directory as an archive.
pub(super) async fn docker(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let outcome = async {
        let call = read(request).await?;
        let (request, session) = admit(&app, &call, Some(creation()?)).await?;
        let made = import::from_staging(&app, request, true, call.envelope.sha256).await.map_err(|refusal| match refusal.status() {
            Status::NotInStaging | Status::WrongArgumentValue => refusal.because(
                "registries are not asked: save the image as an archive (docker save, or skopeo copy to oci-archive:) \
                 into the staging directory, and give the name of that file",
            ),
            _ => refusal,
        });
        Ok((Reply::created(made?), session))
    };
    answer::respond(outcome.await)
}

pub(super) async fn download(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let outcome = async {
        let mut call = read(request).await?;
        let url = call.envelope.url.clone().filter(|url| !url.is_empty());
        let url = url.ok_or_else(|| Refusal::about(Status::MissingArgument, "url"))?;
        // The last part of the address is its name, unless there is a better one.
        if let Some(name) = url.parse::<Target>().ok().as_ref().and_then(Target::file_name) {
            let named = call.envelope.arguments.get("disk_image").is_some_and(|given| given != "");
            if !named {
                call.envelope.arguments.insert("disk_image".to_owned(), json!(name));
            }
        }
        let (request, session) = admit(&app, &call, Some(creation()?)).await?;
        let made = downloading::from_url(&app, request, &url, call.envelope.sha256).await?;
        Ok((Reply::created(made), session))
    };
    answer::respond(outcome.await)
}

pub(super) async fn upload(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("application/json")) {
        return match read(request).await {
            Ok(call) => pieces::begin(&app, call).await,
            Err(refusal) => answer::respond(Err(refusal)),
        };
    }
    answer::respond(received(&app, request).await)
}

async fn received(app: &Arc<App>, request: HttpRequest) -> Outcome {
    let mut known = parameters(request.uri(), &[]);
    let origin = origin(request.headers(), request.extensions());
    let (cookie, method) = (cookie(request.headers()), request.method().clone());
    let broken = |e: String| Refusal::new(Status::NoFilePart).because(e);
    let mut form = Multipart::from_request(request, &()).await.map_err(|e| broken(e.to_string()))?;
    let mut room = MAX_ENVELOPE;
    while let Some(mut field) = form.next_field().await.map_err(|e| broken(e.to_string()))? {
        let name = field.name().unwrap_or_default().to_owned();
        if name != "file" {
            let mut text = Vec::new();
            while let Some(chunk) = field.chunk().await.map_err(|e| broken(e.to_string()))? {
                room = room.checked_sub(chunk.len()).ok_or_else(|| Refusal::new(Status::TooLarge))?;
                text.extend_from_slice(&chunk);
            }
            known.push((name, String::from_utf8(text).map_err(|_| Refusal::new(Status::NotJson))?));
            continue;
        }
        let outcome = admitted_file(app, known, Sender { cookie, origin, method }, field).await;
        if let Err(refusal) = &outcome {
            // A client that is still sending would see a broken connection instead of the reason. Strangers are
            // not listened to for long.
            let known = refusal.status() != Status::NotAuthenticated;
            let patience = if known { KNOWN_PATIENCE } else { STRANGER_PATIENCE };
            let rest = async { while let Ok(Some(_)) = form.next_field().await {} };
            // Whoever has not finished by then has to do without the reason.
            let _ = tokio::time::timeout(patience, rest).await;
        }
        return outcome;
    }
    Err(Refusal::new(Status::NoFilePart))
}

/// Where an upload comes from.
struct Sender {
    cookie: Option<String>,
    origin: Origin,
    method: Method,
}

/// Whatever decides about the request must come before the file, which may be large.
async fn admitted_file(
    app: &Arc<App>,
    known: Vec<(String, String)>,
    Sender { cookie, origin, method }: Sender,
    field: Field<'_>,
) -> Outcome {
    let envelope = Envelope::from_parameters(known)?;
    let sha256 = envelope.sha256.clone();
    let call = Call { envelope, cookie, origin, method, live: false, repeat: None };
    let (request, session) = admit(app, &call, Some(creation()?)).await?;
    Ok((receiving::receive(app, request, field, sha256).await?, session))
}

pub(super) async fn publish(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let outcome = async {
        let mut call = read(request).await?;
        let id = call.envelope.id.ok_or_else(|| Refusal::about(Status::ImageNotFound, "id"))?;
        call.envelope.filters = json!({ "id": id });
        call.envelope.arguments.clear();
        let action = action_for(Object::Di, Verb::Update).ok_or_else(|| Refusal::new(Status::Internal))?;
        let (request, session) = admit(&app, &call, Some(action)).await?;
        if !request.circumstances.caller.may(&["di.update.publish"]) {
            return Err(Refusal::about(Status::ActionNotAllowed, "publish"));
        }
        Ok((publication::publish(&app, request).await?, session))
    };
    answer::respond(outcome.await)
}
