//! The addresses of the image generator of older installations, an external service that this one does without: they
//! say so, after the checks that they always made, instead of not being there (`spec/api.md` 1.6).

use std::sync::Arc;

use axum::extract::{Path, Request as HttpRequest, State};
use axum::response::Response;
use qvd_model::action::{Object, Status};
use serde_json::json;

use super::{admit, answer, read};
use crate::app::App;
use crate::change::state_of;
use crate::execute::osf_of;
use crate::refusal::Refusal;
use crate::session;

/// What a caller needs beside the permission to make images.
const GENERATE: &str = "di.create.generation";

fn no_generator() -> Refusal {
    Refusal::about(Status::NotConfigured, "api.proxy.dig.address").because(
        "no image generator takes part in this installation; images come from the staging directory, by upload or by \
         download",
    )
}

/// Would have an image made of the definition of an OSF.
pub(super) async fn generate(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let outcome = async {
        let mut call = read(request).await?;
        // The generator chooses the name.
        call.envelope.arguments.entry("disk_image").or_insert(json!("generated"));
        let (request, _) = admit(&app, &call, Some(super::images::creation()?)).await?;
        if !request.circumstances.caller.may(&[GENERATE]) {
            return Err(Refusal::about(Status::ActionNotAllowed, "generate"));
        }
        let osf = osf_of(&app, &request).await?;
        let client = app.database.client().await?;
        let state = state_of(&client, Object::Osf, osf).await?.unwrap_or_default();
        if state.get("osd_id").is_none_or(serde_json::Value::is_null) {
            return Err(Refusal::about(Status::NoDefinition, "osd_id"));
        }
        Err(no_generator())
    };
    answer::respond(outcome.await)
}

/// Where the generator would tell how far it is.
pub(super) async fn notify() -> Response {
    answer::respond(Err(no_generator()))
}

/// Would pass a request on to a service behind the API.
pub(super) async fn proxy(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    request: HttpRequest,
) -> Response {
    let outcome = async {
        let call = read(request).await?;
        let known = session::recognize(&app, &call.envelope, call.cookie.as_deref(), &call.origin).await?;
        let code = path.split('/').next().unwrap_or_default();
        if !known.caller.may(&[GENERATE]) {
            return Err(Refusal::about(Status::ActionNotAllowed, code));
        }
        Err(Refusal::about(Status::NoSuchService, code)
            .because("the API passes nothing on to other services"))
    };
    answer::respond(outcome.await)
}
