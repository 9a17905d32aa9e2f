//! Who may read which part of the audit log.

use qvd_db::admin::audit;
use qvd_model::action::Object;
use serde_json::json;

use super::{Reply, Request};
use crate::app::App;
use crate::refusal::Refusal;

/// The kinds of objects whose part of the log the caller may read; `None` for all of it.
pub(super) fn kinds(request: &Request) -> Option<Vec<&'static str>> {
    let caller = &request.circumstances.caller;
    if caller.may(&["log.see-main."]) {
        return None;
    }
    let kinds = Object::ALL.iter().map(|object| object.as_str());
    Some(kinds.filter(|kind| caller.may(&[format!("{kind}.see.log").as_str()])).collect())
}

/// The clients that made entries.
pub(super) async fn sources(app: &App, request: &Request) -> Result<Reply, Refusal> {
    let client = app.database.client().await?;
    let kinds = kinds(request);
    let names = audit::sources(&client, &request.checked.scope, kinds.as_deref()).await?;
    let total = i64::try_from(names.len()).unwrap_or(i64::MAX);
    let rows = names.iter().map(|name| json!({ "name": name }).to_string()).collect();
    Ok(Reply::Rows { rows, total })
}
