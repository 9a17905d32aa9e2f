//! Outcomes as HTTP says them.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use qvd_model::action::{Operation, Status, Target, Verb};
use serde_json::{Map, Value, json};

use super::cursor::Cursor;
use super::problem;
use crate::check::Checked;
use crate::execute::Reply;
use crate::refusal::Refusal;

/// The answer to a request that was carried out.
pub(super) fn respond(
    operation: &Operation,
    id: Option<i32>,
    checked: &Checked,
    uri: &Uri,
    reply: Reply,
) -> Result<Response, Refusal> {
    let nothing = || Refusal::new(Status::NothingMatched);
    Ok(match (reply, operation.action.verb) {
        (Reply::Page { rows, .. } | Reply::Rows { rows, .. }, Verb::List)
            if operation.target != Target::Selection =>
        {
            json_text(StatusCode::OK, rows.into_iter().next().ok_or_else(nothing)?)
        }
        (Reply::Page { rows, total, last }, _) => {
            let next = last.map(|row| {
                Cursor::new(checked.action.object, &checked.order, checked.descending, row).write()
            });
            let mut members = format!("{{\"items\":[{}],\"next\":{}", rows.join(","), json!(next));
            if let Some(total) = total {
                members.push_str(&format!(",\"total\":{total}"));
            }
            let mut response = json_text(StatusCode::OK, format!("{members}}}"));
            if let Some(link) = next.and_then(|next| HeaderValue::from_str(&following(uri, &next)).ok()) {
                response.headers_mut().insert(header::LINK, link);
            }
            response
        }
        (Reply::Rows { rows, .. }, Verb::Create) => {
            let row = rows.into_iter().next().unwrap_or_else(|| "{}".to_owned());
            let made: Map<String, Value> = serde_json::from_str(&row).unwrap_or_default();
            let mut response = json_text(StatusCode::CREATED, row);
            if let Some(id) = made.get("id").and_then(Value::as_i64) {
                let place = format!("{}{}/{id}", super::BASE, operation.path);
                if let Ok(place) = HeaderValue::from_str(&place) {
                    response.headers_mut().insert(header::LOCATION, place);
                }
            }
            response
        }
        (Reply::Rows { rows, .. }, Verb::CreateOrUpdate | Verb::Execute(_)) => {
            match rows.into_iter().next() {
                Some(row) => json_text(StatusCode::OK, row),
                None => empty(),
            }
        }
        (Reply::Rows { total, .. }, Verb::Delete) => json(StatusCode::OK, &json!({ "processed": total })),
        (Reply::Rows { rows, .. }, _) => {
            json_text(StatusCode::OK, format!("{{\"items\":[{}],\"next\":null}}", rows.join(",")))
        }
        (Reply::Members(members) | Reply::Set(members), _) => json(StatusCode::OK, &Value::Object(members)),
        (Reply::Done(0), _) if id.is_some() => return Err(nothing()),
        (Reply::Done(_), _) if operation.target != Target::Selection => empty(),
        (Reply::Done(processed), _) => json(StatusCode::OK, &json!({ "processed": processed })),
        (Reply::Partial(failures), _) => several(operation, failures)?,
    })
}

/// Of one object the refusal is the answer; of several each has its own.
fn several(operation: &Operation, mut failures: Vec<(i32, Refusal)>) -> Result<Response, Refusal> {
    if operation.target != Target::Selection
        && let Some((_, refusal)) = failures.pop()
    {
        return Err(refusal);
    }
    let failures: Map<String, Value> =
        failures.iter().map(|(id, refusal)| (id.to_string(), problem::members(refusal))).collect();
    Ok(json(StatusCode::MULTI_STATUS, &json!({ "failures": failures })))
}

/// The field `Link` of the next page.
fn following(uri: &Uri, cursor: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let old = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    query.extend_pairs(old.filter(|(name, _)| name != "cursor"));
    query.append_pair("cursor", cursor);
    format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish())
}

fn empty() -> Response {
    let mut response = json_text(StatusCode::NO_CONTENT, String::new());
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    json_text(status, value.to_string())
}

fn json_text(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
