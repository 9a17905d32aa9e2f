//! Lists.

use qvd_db::admin::select::{self, List, Marks, Paging};
use qvd_model::action::{Entity, Kind, Object, Status, entity};
use qvd_model::filter::Filter;

use super::{Reply, Request, log, reached};
use crate::app::App;
use crate::envelope::Pages;
use crate::record::event_kind;
use crate::refusal::Refusal;
use crate::session::internal;

pub(super) async fn list(app: &App, request: &Request) -> Result<Reply, Refusal> {
    let checked = &request.checked;
    let object = checked.action.object;
    let narrower = match object {
        Object::Event => Some(kinds(request)),
        Object::Token | Object::Session => reached(&request.circumstances.caller),
        Object::Log => log::kinds(request).map(|kinds| Filter::any_of("qvd_object", kinds)),
        Object::ConsoleSetup => Some(Filter::any_of("id", [request.circumstances.caller.tenant])),
        _ => None,
    };
    let narrowed = narrower.map(|narrower| checked.filter.clone().and(narrower));
    let filter = narrowed.as_ref().unwrap_or(&checked.filter);
    let place = match &checked.paging {
        Pages::Numbered => None,
        Pages::After { row, .. } => {
            row.as_deref().map(|row| place(row, checked.entity, &checked.order)).transpose()?
        }
    };
    let paging = match checked.paging {
        Pages::Numbered => Paging::Counted,
        Pages::After { count, .. } => Paging::After { row: place.as_deref(), count },
    };
    let values = app.config.now();
    let mac_prefix = values.text("vm.network.mac.prefix").map_err(internal)?;
    let marks = Marks {
        mac_prefix: &mac_prefix,
        own_session: &request.circumstances.session,
        longest_session: values.int("api.session.max-life").map_err(internal)?,
    };
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
        paging,
        marks,
    };
    let client = app.database.client().await?;
    let rows = select::list(&client, &list).await?;
    Ok(match rows.total {
        Some(total) if matches!(checked.paging, Pages::Numbered) => Reply::Rows { rows: rows.rows, total },
        total => Reply::Page { rows: rows.rows, total, last: rows.last },
    })
}

/// The place behind which a page begins, checked like any other value: a client could have made it up.
fn place(row: &[Option<String>], entity: &Entity, order: &[&str]) -> Result<Vec<Option<String>>, Refusal> {
    let wrong = || Refusal::about(Status::WrongFilterValue, "cursor");
    if row.len() != order.len() + 1 {
        return Err(wrong());
    }
    let kinds =
        order.iter().chain(&["id"]).map(|name| entity.field(name).map_or(Kind::Text(4096), |f| f.kind));
    kinds
        .zip(row)
        .map(|(kind, value)| match value {
            None => Ok(None),
            // As long as it may be: what is stored may be longer than what is taken now.
            Some(text) if kind.is_text() => {
                Kind::Text(1 << 20).canonical(text).map(Some).map_err(|_| wrong())
            }
            Some(text) => kind.canonical(text).map(Some).map_err(|_| wrong()),
        })
        .collect()
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
