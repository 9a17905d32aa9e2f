//! Whole lists as lines, each a row as JSON: for whoever keeps the log elsewhere, or counts with other tools.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use qvd_model::action::{Operation, Status, Target, Verb};

use super::super::parameters;
use super::question::MAX_LIMIT;
use crate::app::App;
use crate::check::Checked;
use crate::envelope::Pages;
use crate::execute::{self, Reply, Request};
use crate::refusal::Refusal;

/// The type of such an answer.
pub(super) const KIND: &str = "application/x-ndjson";

/// Whether a request asks for all rows as lines. Pages are then nothing that it could choose.
pub(super) fn is_asked(
    operation: &Operation,
    headers: &HeaderMap,
    uri: &axum::http::Uri,
) -> Result<bool, Refusal> {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kinds =
        accepted.flat_map(|kinds| kinds.split(',')).map(|kind| kind.split(';').next().unwrap_or_default());
    let listed = operation.action.verb == Verb::List && operation.target == Target::Selection;
    if !listed || !kinds.map(str::trim).any(|kind| kind.eq_ignore_ascii_case(KIND)) {
        return Ok(false);
    }
    match parameters(uri, &[]).iter().find(|(name, _)| ["limit", "cursor", "total"].contains(&name.as_str()))
    {
        Some((name, _)) => {
            Err(Refusal::about(Status::UnknownFilter, name.as_str()).because("all rows come, and no pages"))
        }
        None => Ok(true),
    }
}

/// The rows that are still to come.
struct Rest {
    app: Arc<App>,
    request: Arc<Request>,
    waiting: VecDeque<Bytes>,
    /// Behind which row the next page begins, if there is one.
    next: Option<Pages>,
}

/// The answer. The first page is there before it begins: whatever is refused is refused with a status.
pub(super) async fn respond(app: &Arc<App>, request: Arc<Request>) -> Result<Response, Refusal> {
    let first = Pages::After { row: None, count: false };
    let mut rest = Rest { app: app.clone(), request, waiting: VecDeque::new(), next: Some(first) };
    rest.read().await?;
    let lines = stream::try_unfold(rest, async |mut rest| {
        while rest.waiting.is_empty() && rest.next.is_some() {
            // Whoever reads sees that the end is missing.
            rest.read().await.map_err(std::io::Error::other)?;
        }
        Ok::<_, std::io::Error>(rest.waiting.pop_front().map(|lines| (lines, rest)))
    });
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(KIND));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

impl Rest {
    /// Reads the next page.
    async fn read(&mut self) -> Result<(), Refusal> {
        let Some(paging) = self.next.take() else { return Ok(()) };
        let Request { checked, circumstances, acl_rules, precondition, vault } = &*self.request;
        let page = Request {
            checked: Checked { paging, limit: Some(MAX_LIMIT), ..checked.clone() },
            circumstances: circumstances.clone(),
            acl_rules: *acl_rules,
            precondition: precondition.clone(),
            vault: vault.clone(),
        };
        if let Reply::Page { rows, last, .. } = execute::execute(&self.app, Arc::new(page)).await? {
            self.next = last.map(|row| Pages::After { row: Some(row), count: false });
            if !rows.is_empty() {
                self.waiting.push_back(Bytes::from(rows.join("\n") + "\n"));
            }
        }
        Ok(())
    }
}
