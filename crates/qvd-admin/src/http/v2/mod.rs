//! `/api/v2`: the same actions as operations on resources, with the statuses of HTTP (`spec/api.md` 13).
//!
//! [`question`] makes an envelope of path, query and body, by the table of operations in `qvd_model::action`; from
//! there on everything is the code of the older dialect. [`reply`] and [`problem`] say the outcome.

mod changes;
mod cursor;
mod export;
mod images;
mod logins;
pub(crate) mod openapi;
pub(super) mod problem;
mod question;
pub(super) mod repeat;
mod reply;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, Method as HttpMethod, header};
use axum::response::Response;
use axum::routing::{any, delete, get, post};
use qvd_model::action::{Inquiry, Method, Object, Operation, Status, Subject, Target, Verb, operations_at};

use super::{Call, admit_bound, body_of, cookie, execute, origin};
use crate::app::App;
use crate::execute::{Precondition, Reply, precondition};
use crate::refusal::{Doing, Refusal};
use question::Question;

/// Where the resources are.
const BASE: &str = "/api/v2";

/// The routes.
pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v2/session", post(logins::open).merge(delete(logins::close)).fallback(logins::neither))
        .route("/api/v2/changes", get(changes::open))
        .route("/api/v2/images/{id}/file", get(images::tell).patch(images::add).fallback(images::neither))
        .route("/api/v2/openapi.json", get(openapi::serve))
        .route("/api/v2/{*path}", any(dispatch))
}

async fn dispatch(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    match answer(&app, request).await {
        Ok(response) => response,
        Err(refusal) => problem::respond(&refusal.while_doing(Doing::Reading)),
    }
}

async fn answer(app: &Arc<App>, request: HttpRequest) -> Result<Response, Refusal> {
    let path = request.uri().path().strip_prefix(BASE).unwrap_or_default().to_owned();
    let (operations, subject) = operations_at(&path);
    let id = subject.as_ref().and_then(Subject::number);
    let method = request.method().clone();
    if operations.is_empty() {
        return Err(Refusal::about(Status::UnknownAction, path));
    }
    let Some(operation) = operations.iter().find(|operation| http(operation.method) == method) else {
        return Ok(problem::wrong_method(operations.iter().map(|operation| operation.method)));
    };
    let (parts, body) = request.into_parts();
    let body = body_of(body).await?;
    let Question { envelope, given, offer, flaw, tenant } =
        Question::read(operation, subject.as_ref(), &parts, &body)?;
    let named = repeat::named(operation, &parts, &given)?;
    let arguments = offer.as_ref().map(|_| envelope.arguments.clone()).unwrap_or_default();
    let call = Call {
        envelope,
        cookie: cookie(&parts.headers),
        origin: origin(&parts.headers, &parts.extensions),
        method: parts.method.clone(),
        live: false,
        repeat: named,
    };
    let bound = condition(operation, &parts.headers)?;
    let admitted = admit_bound(app, &call, Some(operation.action), bound).await;
    let (request, session) = match (admitted, flaw) {
        // Whoever may not ask learns only that.
        (Err(refusal), Some(_)) if matches!(refusal.status().http(), 401 | 403 | 429 | 503) => {
            return Err(refusal);
        }
        (_, Some(flaw)) => return Err(flaw),
        (admitted, None) => admitted?,
    };
    if export::is_asked(operation, &parts.headers, &parts.uri)? {
        return export::respond(app, request).await;
    }
    // Before the row: a tag that is too old only makes a change ask again.
    let object = operation.action.object;
    let caller = &request.circumstances.caller;
    let tag = match (&subject, operation.method) {
        (Some(Subject::Key(key)), Method::Get) => {
            let client = app.database.client().await?;
            let tenant = execute::config::place(app, caller, tenant)?;
            Some(precondition::tag_of_setting(&client, tenant, key).await?)
        }
        _ => None,
    };
    let tag = match id.or_else(|| precondition::own(object, &request.circumstances.caller)) {
        Some(id) if operation.method == Method::Get && has_tag(operation) => {
            let client = app.database.client().await?;
            precondition::tag(&client, object, id, &request.checked.scope).await?
        }
        _ => tag,
    };
    let outcome = match repeat::answered(app, operation, &request).await? {
        Some(answered) => answered,
        None => {
            let outcome = match offer {
                Some(offer) => offer.make(app, request.clone(), arguments).await,
                None => execute::execute(app, request.clone()).await,
            };
            // The same request may have been carried out at the same time.
            let again = match &outcome {
                Err(_) | Ok(Reply::Partial(_)) => repeat::answered(app, operation, &request).await?,
                Ok(_) => None,
            };
            again.map_or(outcome, Ok)?
        }
    };
    let mut response = reply::respond(operation, id, &request.checked, &parts.uri, outcome)?;
    if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(&format!("\"{tag}\"")).ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    if let Some(session) = session {
        super::answer::keep(&mut response, &session);
    }
    Ok(response)
}

/// Whether the object of an operation has a tag: one that can be read and changed.
fn has_tag(operation: &Operation) -> bool {
    let object = operation.action.object;
    let has = |verb| qvd_model::action::action_for(object, verb).is_some();
    let one = operation.target == Target::Item || object.is_own();
    if object == Object::Config {
        return operation.target == Target::Item;
    }
    one && has(Verb::Update) && (has(Verb::List) || has(Verb::Inquire(Inquiry::CurrentAdministrator)))
}

/// What the object must still be like.
fn condition(operation: &Operation, headers: &HeaderMap) -> Result<Precondition, Refusal> {
    let Some(field) = headers.get(header::IF_MATCH) else { return Ok(Precondition::None) };
    let wrong = |why: &str| Err(Refusal::about(Status::UnknownArgument, "If-Match").because(why));
    if !operation.action.verb.changes() || !has_tag(operation) {
        return wrong("only changes of one object are bound to its tag");
    }
    match field.to_str().ok().and_then(Precondition::parse) {
        Some(condition) => Ok(condition),
        None => wrong("it is not a list of tags such as \"0f3a\""),
    }
}

/// The method as HTTP's.
fn http(method: Method) -> HttpMethod {
    match method {
        Method::Get => HttpMethod::GET,
        Method::Post => HttpMethod::POST,
        Method::Put => HttpMethod::PUT,
        Method::Patch => HttpMethod::PATCH,
        Method::Delete => HttpMethod::DELETE,
    }
}
