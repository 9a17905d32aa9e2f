//! `get`.

use qvd_model::action::{self, Show, acl_matches};
use qvd_model::filter::{Filter, Operator};
use serde_json::{Map, json};

use crate::api::{Answer, Call};
use crate::command::Order;
use crate::error::Error;
use crate::noun::Noun;
use crate::output::{Column, Listing};
use crate::run::Context;
use crate::session::Session;
use crate::watch::watch;

/// Lines of the log that are shown when nobody says how many.
const LOG_ROWS: u32 = 100;

/// Lists the selected objects.
pub(crate) async fn get(
    context: &mut Context<'_>,
    noun: &'static Noun,
    selection: Option<Filter>,
    fields: Vec<String>,
    order: Option<Order>,
) -> Result<(), Error> {
    let entity = action::entity(noun.object);
    let fields = if context.options.columns.is_empty() { fields } else { context.options.columns.clone() };
    let columns = match fields.as_slice() {
        [] => usual_columns(entity, &context.api.identity().await?),
        [all] if all == "*" => every_column(entity, &context.api.identity().await?),
        _ => fields.iter().map(|f| Column::of(entity, f)).collect(),
    };
    let mut call = Call::new(noun.object, action::Verb::List)?;
    call.filter = config_scope(context, noun, selection).await?;
    call.fields = columns.iter().map(|c| c.member.clone()).collect();
    call.order = order.map(|o| {
        let fields = o.fields.iter().map(|f| entity.resolve_read(f).to_owned()).collect();
        (fields, o.descending)
    });
    call.block = context.options.limit.unwrap_or(0);
    if noun.object == action::Object::Log {
        // It is read from its end, and it may be long.
        call.order.get_or_insert_with(|| (vec!["time".to_owned(), "id".to_owned()], true));
        let whole = context.pages.is_some() && !context.options.watch;
        if context.options.limit.is_none() && !whole {
            call.block = LOG_ROWS;
        }
    }
    if context.options.watch {
        return watch(context, noun, &call, &columns).await;
    }
    let paged = context.options.limit.is_none() && noun.object != action::Object::Config;
    if let Some(pages) = context.pages.clone().filter(|_| paged) {
        return pages.show(context, call, columns).await;
    }
    let answer = context.api.call(&call).await?;
    if context.options.limit.is_none() && answer.total > answer.rows.len() as u64 {
        context.remark(&format!(
            "the newest {} of {}; --limit N shows more",
            answer.rows.len(),
            answer.total
        ));
    }
    context.print(Listing { columns, rows: answer.rows, total: answer.total })
}

/// `di staging`: the files of the server that an image can be made of.
pub(crate) async fn staging(context: &mut Context<'_>) -> Result<(), Error> {
    let call = Call::new(action::Object::Di, action::Verb::Inquire(action::Inquiry::Staging))?;
    let answer = context.api.call(&call).await?;
    context.print(Listing { columns: vec![Column::plain("name")], rows: answer.rows, total: answer.total })
}

/// Counters, a row each.
pub(crate) fn statistics(answer: Answer, columns: &[String]) -> Result<Listing, Error> {
    let counters =
        answer.members.into_iter().filter(|(name, _)| !["status", "message"].contains(&name.as_str()));
    let row =
        |(name, value)| Map::from_iter([("counter".to_owned(), json!(name)), ("value".to_owned(), value)]);
    let rows: Vec<_> = counters.map(row).collect();
    let total = rows.len() as u64;
    let mut listing = Listing { columns: ["counter", "value"].map(Column::plain).to_vec(), rows, total };
    listing.choose(columns)?;
    Ok(listing)
}

fn usual_columns(entity: &action::Entity, who: &Session) -> Vec<Column> {
    let may_see = |c: &Column| entity.field(&c.member).is_some_and(|f| visible(f, who));
    entity.columns.iter().map(|name| Column::of(entity, name)).filter(may_see).collect()
}

fn every_column(entity: &action::Entity, who: &Session) -> Vec<Column> {
    entity.fields.iter().filter(|f| visible(f, who)).map(|f| Column::of(entity, f.name)).collect()
}

fn visible(field: &action::Field, who: &Session) -> bool {
    let shown = match field.show {
        Show::Always => true,
        Show::Super => who.is_super(),
        Show::Never => false,
    };
    let allowed =
        field.see.is_empty() || field.see.iter().any(|p| who.acls.iter().any(|acl| acl_matches(p, acl)));
    shown && allowed
}

/// Settings exist once per tenant: super-administrators mean the global ones unless they name a tenant, `*` for
/// all of them.
pub(crate) async fn config_scope(
    context: &mut Context<'_>,
    noun: &Noun,
    selection: Option<Filter>,
) -> Result<Option<Filter>, Error> {
    if noun.object != action::Object::Config || !context.api.identity().await?.is_super() {
        return Ok(selection);
    }
    let global = Filter::test("tenant_id", Operator::Equal, "-1");
    let every = Filter::test("tenant_name", Operator::Equal, "*");
    Ok(match selection {
        None => Some(global),
        Some(filter) if filter == every => None,
        Some(Filter::And(members)) if members.contains(&every) => {
            members.into_iter().filter(|member| *member != every).reduce(Filter::and)
        }
        Some(filter) if filter.mentions("tenant_id") || filter.mentions("tenant_name") => Some(filter),
        Some(filter) => Some(filter.and(global)),
    })
}
