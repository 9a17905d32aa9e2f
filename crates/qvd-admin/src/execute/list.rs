//! Lists.

use qvd_db::admin::select::{self, List};
use qvd_model::action::{Object, entity};
use qvd_model::filter::Filter;

use super::{Reply, Request, log};
use crate::app::App;
use crate::record::event_kind;
use crate::refusal::Refusal;
use crate::session::internal;

pub(super) async fn list(app: &App, request: &Request) -> Result<Reply, Refusal> {
    let checked = &request.checked;
    let object = checked.action.object;
    let narrower = match object {
        Object::Event => Some(kinds(request)),
        Object::Log => log::kinds(request).map(|kinds| Filter::any_of("qvd_object", kinds)),
        Object::ConsoleSetup => Some(Filter::any_of("id", [request.circumstances.caller.tenant])),
        _ => None,
    };
    let narrowed = narrower.map(|narrower| checked.filter.clone().and(narrower));
    let filter = narrowed.as_ref().unwrap_or(&checked.filter);
    let mac_prefix = app.config.now().text("vm.network.mac.prefix").map_err(internal)?;
    let list = List {
        object,
        filter,
        scope: &checked.scope,
        fields: &checked.fields,
        properties: &checked.columns,
        order: &checked.order,
        descending: checked.descending,
        skip: checked.skip,
        limit: checked.limit,
        mac_prefix: &mac_prefix,
    };
    let client = app.database.client().await?;
    let rows = select::list(&client, &list).await?;
    Ok(Reply::Rows { rows: rows.rows, total: rows.total })
}

/// The kinds of objects whose story the caller may read: those that it may see.
fn kinds(request: &Request) -> Filter {
    let caller = &request.circumstances.caller;
    let kinds = Object::ALL.iter().filter(|object| {
        let pattern = format!("{}.see-main.*", entity(**object).object);
        event_kind(**object).is_some() && caller.may(&[pattern.as_str()])
    });
    Filter::any_of("kind", kinds)
}
