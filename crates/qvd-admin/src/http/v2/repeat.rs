//! Requests that may be sent again (`Idempotency-Key`): what was done for the first is not done for the next.
//!
//! What is remembered is written by the transaction that does it, so it is there exactly if that is done. A refusal has
//! done nothing and is not remembered.

use axum::http::HeaderName;
use axum::http::request::Parts;
use qvd_db::admin::repeats::{self, Repeat};
use qvd_model::action::{Method, Object, Operation, Status, Target, Verb};
use serde_json::{Map, Value};

use crate::app::App;
use crate::caller::Caller;
use crate::execute::{Reply, Request};
use crate::refusal::Refusal;
use qvd_model::config::masked;

/// The field.
pub(super) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The characters of a key at most.
const LONGEST: usize = 128;

/// Whether an operation can be named: one that is carried out as a whole, and whose answer holds no secret.
pub(super) fn is_repeatable(operation: &Operation) -> bool {
    operation.method == Method::Post
        && operation.target != Target::Selection
        && operation.action.object != Object::Token
}

/// The name that a request has, and what stands for what it asks.
pub(super) fn named(
    operation: &Operation,
    parts: &Parts,
    arguments: &Map<String, Value>,
) -> Result<Option<(String, String)>, Refusal> {
    let Some(field) = parts.headers.get(KEY) else { return Ok(None) };
    let wrong = |why: &str| Err(Refusal::about(Status::UnknownArgument, "Idempotency-Key").because(why));
    if !is_repeatable(operation) {
        return wrong(match (operation.method, operation.action.object) {
            (Method::Post, Object::Token) => "the secret of a token is told once",
            (Method::Post, _) => "several objects are changed one by one",
            _ => "only POST needs it",
        });
    }
    let text = field.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let plain = key.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    if key.is_empty() || key.len() > LONGEST || !plain {
        return wrong("1 to 128 characters without blanks and quotes");
    }
    // Without secrets: a digest of something short could be guessed.
    let asked = format!("{} {} {}", parts.method, parts.uri, masked(&Value::Object(arguments.clone())));
    Ok(Some((key.to_owned(), qvd_auth::token_digest(asked.as_bytes()))))
}

/// A named request of a caller.
pub(in crate::http) fn of((key, digest): (String, String), caller: &Caller) -> Repeat {
    // Tokens of one administrator may belong to different programs.
    let token = caller.token.as_ref().map(|token| format!(" token {}", token.id)).unwrap_or_default();
    let caller = caller.id.map_or_else(|| "root".to_owned(), |id| format!("administrator {id}"));
    Repeat { caller: format!("{caller}{token}"), key, digest }
}

/// What was done for the request before, if it was sent before.
pub(super) async fn answered(
    app: &App,
    operation: &Operation,
    request: &Request,
) -> Result<Option<Reply>, Refusal> {
    let Some(repeat) = &request.circumstances.repeat else { return Ok(None) };
    let client = app.database.client().await?;
    let Some(done) = repeats::find(&client, repeat).await? else { return Ok(None) };
    if done.digest != repeat.digest {
        return Err(Refusal::about(Status::KeyReused, repeat.key.as_str()));
    }
    Ok(Some(match operation.action.verb {
        Verb::Create => Reply::created(done.object),
        _ => Reply::Done(1),
    }))
}
