//! Answers as clients read them (`spec/api.md` 6.1).

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use qvd_model::action::Status;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::Outcome;
use crate::execute::Reply;

/// The session of an answer.
pub(super) struct SessionCookie {
    pub(super) sid: Zeroizing<String>,
    pub(super) life: i64,
}

/// An answer, ready to be sent.
pub(super) struct Answer {
    pub(super) text: String,
    /// The database did not answer.
    pub(super) away: bool,
    /// After how many seconds it is worth trying again.
    pub(super) retry_after: Option<u64>,
    pub(super) session: Option<SessionCookie>,
}

/// The HTTP answer to an outcome.
pub(super) fn respond(outcome: Outcome) -> Response {
    let outcome = outcome.map_err(|r| r.while_doing(crate::refusal::Doing::Reading));
    let answer = Answer::of(outcome);
    let mut response = Response::new(Body::from(answer.text));
    if answer.away {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(session) = answer.session {
        keep(&mut response, &session);
    }
    response
}

/// Tells the client to keep its session.
pub(super) fn keep(response: &mut Response, SessionCookie { sid, life }: &SessionCookie) {
    let cookie =
        format!("sid={}; Max-Age={life}; Path=/api; Secure; HttpOnly; SameSite=Strict", sid.as_str());
    if let Ok(mut value) = HeaderValue::from_str(&cookie) {
        value.set_sensitive(true);
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}

/// Tells the client to forget its session.
pub(super) fn without_cookie(mut response: Response) -> Response {
    let expired = "sid=; Max-Age=0; Path=/api; Secure; HttpOnly; SameSite=Strict";
    response.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_static(expired));
    response
}

/// The text of a reply. Rows come from the database as JSON and are not parsed again.
pub(super) fn text(reply: &Reply) -> String {
    let message = Status::Done.message();
    match reply {
        Reply::Rows { rows, total } => format!(
            "{{\"status\":0,\"message\":\"{message}\",\"total\":{total},\"rows\":[{}]}}",
            rows.join(",")
        ),
        Reply::Page { rows, total, .. } => {
            let total = total.unwrap_or_else(|| i64::try_from(rows.len()).unwrap_or(i64::MAX));
            format!(
                "{{\"status\":0,\"message\":\"{message}\",\"total\":{total},\"rows\":[{}]}}",
                rows.join(",")
            )
        }
        Reply::Done(total) => {
            json!({"status": 0, "message": message, "total": total, "rows": []}).to_string()
        }
        Reply::Members(members) => {
            let mut all = Map::new();
            all.insert("status".to_owned(), json!(0));
            all.insert("message".to_owned(), json!(message));
            all.extend(members.clone());
            Value::Object(all).to_string()
        }
        Reply::Set(members) => {
            let mut all = members.clone();
            for (name, value) in
                [("status", json!(0)), ("message", json!(message)), ("total", json!(1)), ("rows", json!([]))]
            {
                all.insert(name.to_owned(), value);
            }
            Value::Object(all).to_string()
        }
        Reply::Partial(failures) => {
            let failures: Map<String, Value> =
                failures.iter().map(|(id, refusal)| (id.to_string(), refusal.members())).collect();
            json!({
                "status": Status::PartialFailure.code(),
                "message": Status::PartialFailure.message(),
                "additional_info": "",
                "failures": failures,
            })
            .to_string()
        }
    }
}
