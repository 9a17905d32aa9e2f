//! What there is, in numbers (`spec/api.md` 5.10).

use qvd_db::admin::statistics;
use qvd_model::action::COUNTERS;
use serde_json::{Map, Value};

use super::{Reply, Request};
use crate::app::App;
use crate::refusal::Refusal;
use crate::session::internal;

/// One member for each counter that the caller may see.
pub(super) async fn statistics(app: &App, request: &Request) -> Result<Reply, Refusal> {
    let client = app.database.client().await?;
    let mut members = Map::new();
    let caller = &request.circumstances.caller;
    for counter in COUNTERS.iter().filter(|counter| caller.may(&[counter.acl])) {
        let value = statistics::value(&client, counter.name, &request.checked.scope).await?;
        let value = value.ok_or_else(|| internal(counter.name))?;
        let value: Value = serde_json::from_str(&value).map_err(internal)?;
        members.insert(counter.name.to_owned(), value);
    }
    Ok(Reply::Members(members))
}
