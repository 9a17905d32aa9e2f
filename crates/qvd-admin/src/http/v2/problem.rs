//! Refusals as RFC 9457 says them.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use qvd_model::action::{Method, Status};
use serde_json::{Value, json};

use crate::refusal::Refusal;

/// The members of a problem.
pub(super) fn members(refusal: &Refusal) -> Value {
    let status = refusal.status();
    let (object, reason) = refusal.particulars();
    json!({
        "type": format!("urn:qvd:status:{}", status.code()),
        "title": status.message(),
        "status": status.http(),
        "detail": refusal_text(refusal),
        "code": status.code(),
        "object": object,
        "reason": if reason.is_empty() { None } else { Some(reason) },
    })
}

/// Everything in a sentence; nothing of what the database said.
fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Known { .. } => refusal.to_string(),
        Refusal::Database(_) | Refusal::Race(_) => refusal.status().message().to_owned(),
    }
}

/// The answer to a request that was refused.
pub(in crate::http) fn respond(refusal: &Refusal) -> Response {
    let status = refusal.status();
    let mut response = Response::new(Body::from(members(refusal).to_string()));
    *response.status_mut() = StatusCode::from_u16(status.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if matches!(status, Status::NotAuthenticated | Status::SessionExpired) {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"qvd\""));
    }
    if let Some(seconds) = refusal.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The answer to a method that an address does not take.
pub(super) fn wrong_method(taken: impl Iterator<Item = Method>) -> Response {
    let taken = taken.map(|method| method.as_str()).collect::<Vec<_>>().join(", ");
    let mut response = respond(&Refusal::new(Status::NotThisMethod).because(format!("it takes {taken}")));
    if let Ok(taken) = HeaderValue::from_str(&taken) {
        response.headers_mut().insert(header::ALLOW, taken);
    }
    response
}
