//! The login call: who the caller is, what it may do, and how its console is set up (`spec/api.md` 2.4).

use qvd_db::admin::identity;
use qvd_model::action::Status;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{Reply, Request};
use crate::app::App;
use crate::refusal::Refusal;

pub(super) async fn current_administrator(app: &App, request: &Request) -> Result<Reply, Refusal> {
    let caller = &request.circumstances.caller;
    // Root has no row; its console is that of the recovery administrator.
    let id = caller.id.unwrap_or(crate::caller::RECOVERY);
    let client = app.database.client().await?;
    let setup = identity::setup(&client, id, caller.tenant).await?;
    let views = identity::views(&client, id, caller.tenant).await?;
    let views = views
        .iter()
        .map(|view| serde_json::from_str(view))
        .collect::<Result<Vec<Value>, _>>()
        .map_err(|e| Refusal::new(Status::Internal).because(e.to_string()))?;
    let members = json!({
        "admin_id": id,
        "admin_name": caller.name,
        "tenant_id": caller.tenant,
        "tenant_name": caller.tenant_name,
        "admin_language": setup.admin_language.unwrap_or_else(|| "default".to_owned()),
        "admin_block": setup.admin_block.unwrap_or(0),
        "tenant_language": setup.tenant_language.unwrap_or_else(|| "auto".to_owned()),
        "tenant_block": setup.tenant_block.unwrap_or(10),
        "acls": caller.acls,
        "views": views,
        "server_datetime": server_datetime(),
    });
    let Value::Object(members) = members else { return Ok(Reply::Members(Map::new())) };
    Ok(Reply::Members(members))
}

/// A moment as lists show it.
pub(super) fn moment(moment: OffsetDateTime) -> String {
    let moment = moment.to_offset(time::UtcOffset::UTC);
    let (hour, minute, second) = moment.to_hms();
    format!("{}T{hour:02}:{minute:02}:{second:02}", moment.date())
}

/// The time in the layout of C's `asctime`, UTC.
pub(crate) fn server_datetime() -> String {
    let now = OffsetDateTime::now_utc();
    let day = now.weekday().to_string();
    let month = now.month().to_string();
    let (hour, minute, second) = now.to_hms();
    format!(
        "{} {} {:2} {hour:02}:{minute:02}:{second:02} {}",
        day.get(..3).unwrap_or_default(),
        month.get(..3).unwrap_or_default(),
        now.day(),
        now.year()
    )
}
