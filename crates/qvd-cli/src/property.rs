//! Custom properties (`spec/cli.md` 1.10).

use qvd_model::action::{self, Object, Status, Verb as Does};
use qvd_model::filter::{Filter, Operator};
use serde_json::{Map, Value as Json, json};

use crate::api::Call;
use crate::command::Assignment;
use crate::error::Error;
use crate::noun::Noun;
use crate::output::{Column, Listing};
use crate::run::{Context, write};

/// `property SELECTION assign|unassign KIND, …`: which kinds of objects may have the property.
pub(crate) async fn assign(
    context: &mut Context<'_>,
    noun: &'static Noun,
    selection: Option<Filter>,
    kinds: &[String],
    does: Does,
) -> Result<(), Error> {
    let lists = kinds.iter().map(|kind| list_of(kind)).collect::<Result<Vec<_>, Error>>()?;
    let property = the_only(context, noun, selection).await?;
    if context.options.dry_run {
        return write(context.out, &format!("would change property {property}: {}\n", kinds.join(", ")));
    }
    let mut total = 0;
    for list in lists {
        let mut call = Call::new(list, does)?;
        if does == Does::Delete {
            call.filter = Some(Filter::any_of("property_id", [property]));
        } else {
            call.arguments = Map::from_iter([("property_id".to_owned(), json!(property))]);
        }
        total += context.api.call(&call).await?.total;
    }
    context.print_total(total)
}

fn list_of(kind: &str) -> Result<Object, Error> {
    let object = Object::WITH_PROPERTIES.iter().find(|object| object.as_str() == kind);
    object.and_then(|o| o.properties()).ok_or_else(|| {
        Error::Usage(format!("`{kind}` has no properties; expected vm, user, host, osf or di"))
    })
}

/// The number of the one object that is meant.
pub(crate) async fn the_only(
    context: &mut Context<'_>,
    noun: &Noun,
    selection: Option<Filter>,
) -> Result<i64, Error> {
    let key = action::entity(noun.object).key;
    let answer = context.api.call(&Call::list(noun.object, selection, &["id", key])?).await?;
    match answer.rows.as_slice() {
        [one] => one.get("id").and_then(Json::as_i64).ok_or_else(|| Error::Usage("no number".to_owned())),
        [] => Err(Error::refused(Status::NothingMatched, noun.title)),
        several => Err(Error::Usage(format!("{} {} match; select one", several.len(), noun.title))),
    }
}

/// `get property [KEY, …]`: one row for each stored value.
pub(crate) async fn get(
    context: &mut Context<'_>,
    noun: &Noun,
    selection: Option<Filter>,
    keys: &[String],
) -> Result<(), Error> {
    let name = action::entity(noun.object).key;
    let objects = context.api.call(&Call::list(noun.object, selection, &[name, "properties"])?).await?;
    let mut rows = Vec::new();
    for object in objects.rows {
        let Some(Json::Object(properties)) = object.get("properties") else { continue };
        for property in properties.values() {
            let key = property.get("key").and_then(Json::as_str).unwrap_or_default();
            if keys.is_empty() || keys.iter().any(|wanted| wanted == key) {
                rows.push(Map::from_iter([
                    (noun.word.to_owned(), object.get(name).cloned().unwrap_or(Json::Null)),
                    ("key".to_owned(), json!(key)),
                    ("value".to_owned(), property.get("value").cloned().unwrap_or(Json::Null)),
                ]));
            }
        }
    }
    let columns = [noun.word, "key", "value"].map(Column::plain).to_vec();
    let total = rows.len() as u64;
    context.print(Listing { columns, rows, total })
}

/// Before `set property`: makes properties known in the tenants of the selected objects, and assigns them to
/// their kind, where that is missing.
pub(crate) async fn register(
    context: &mut Context<'_>,
    noun: &Noun,
    selection: Option<Filter>,
    assignments: &[Assignment],
) -> Result<(), Error> {
    let Some(list) = noun.object.properties() else { return Ok(()) };
    // Nothing may happen before the question whether all objects are meant: properties must be known then.
    if context.options.dry_run || (selection.is_none() && !context.options.force) {
        return Ok(());
    }
    for tenant in tenants(context, noun, selection).await? {
        for Assignment { name: key, .. } in assignments {
            register_one(context, noun, list, tenant, key).await?;
        }
    }
    Ok(())
}

/// The tenants of the selected objects; `None` is the own one.
async fn tenants(
    context: &mut Context<'_>,
    noun: &Noun,
    selection: Option<Filter>,
) -> Result<Vec<Option<i64>>, Error> {
    if !context.api.identity().await?.is_super() {
        return Ok(vec![None]);
    }
    if noun.object == Object::Host {
        return Ok(vec![Some(0)]);
    }
    let objects = context.api.call(&Call::list(noun.object, selection, &["tenant_id"])?).await?;
    let mut tenants: Vec<_> = objects.rows.iter().map(|row| row.get("tenant_id")?.as_i64()).collect();
    tenants.sort_unstable();
    tenants.dedup();
    Ok(tenants)
}

async fn register_one(
    context: &mut Context<'_>,
    noun: &Noun,
    list: Object,
    tenant: Option<i64>,
    key: &str,
) -> Result<(), Error> {
    let mut known = Filter::test("key", Operator::Equal, key);
    if let Some(tenant) = tenant {
        known = known.and(Filter::any_of("tenant_id", [tenant, 0]));
    }
    let assigned = format!("in_{}", noun.object);
    let found = context.api.call(&Call::list(Object::Property, Some(known), &["id", &assigned])?).await?;
    let is_assigned = |row: &Map<String, Json>| row.get(&assigned).and_then(Json::as_i64).unwrap_or(0) != 0;
    if found.rows.iter().any(is_assigned) {
        return Ok(());
    }
    let mut arguments = Map::new();
    let call = match found.rows.first().and_then(|row| row.get("id")) {
        Some(id) => {
            arguments.insert("property_id".to_owned(), id.clone());
            Call { arguments, ..Call::new(list, Does::Create)? }
        }
        None => {
            arguments.insert("key".to_owned(), json!(key));
            arguments.insert("__property_assign__".to_owned(), json!([noun.object.as_str()]));
            arguments.extend(tenant.map(|tenant| ("tenant_id".to_owned(), json!(tenant))));
            Call { arguments, ..Call::new(Object::Property, Does::Create)? }
        }
    };
    match context.api.call(&call).await {
        // One of all tenants, which only those above see; it may be assigned.
        Err(Error::Refused { code, .. }) if code == Status::PropertyDefinedAbove.code() => Ok(()),
        other => other.map(drop),
    }
}
