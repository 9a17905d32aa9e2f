//! From an envelope to a request that may be carried out: names, permissions, types (`spec/api.md` 3.6).
//!
//! The order of the checks is the documented one, because clients show the first that fails. Everything here is
//! decided by the registry and the caller; the database is not asked.

use qvd_auth::normalize;
use qvd_db::admin::select::Scope;
use qvd_model::action::{
    Access, Action, Change, Entity, Field, Kind, Nested, Object, Order, PROPERTY_VALUE, Show, Status,
    Tenancy, Verb, entity, typed,
};
use qvd_model::config;
use qvd_model::filter::{Filter, Operand, json};
use serde_json::Value;

use crate::caller::Caller;
use crate::clock::Clock;
use crate::envelope::{Envelope, Pages};
use crate::refusal::Refusal;

/// A request whose every part is known, permitted and of the right type.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What is asked for.
    pub action: &'static Action,
    /// On what.
    pub entity: &'static Entity,
    /// Which rows.
    pub filter: Filter,
    /// Which members of them.
    pub fields: Vec<&'static str>,
    /// What is written; `None` empties the field.
    pub values: Vec<(&'static Field, Option<String>)>,
    /// Ids that are given by names.
    pub named: Vec<(&'static Field, String)>,
    /// Nested operations with their values, removals first.
    pub nested: Vec<(&'static Nested, Vec<String>)>,
    /// Custom properties that are shown beside them, by key.
    pub columns: Vec<String>,
    /// Custom properties that get a value, or lose it; what is removed goes first.
    pub properties: Vec<(String, Option<String>)>,
    /// By which fields.
    pub order: Vec<&'static str>,
    /// From high to low.
    pub descending: bool,
    /// Rows to leave out.
    pub skip: i64,
    /// Rows of a page.
    pub limit: Option<i64>,
    /// How pages follow each other.
    pub paging: Pages,
    /// Whose rows.
    pub scope: Scope,
}

/// Settings that change what names mean.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Whether logins differ by case.
    pub case_sensitive: bool,
    /// The clock by which times such as `5pm tomorrow` are read.
    pub clock: Clock,
}

/// Whether a request names something that the registry does not know, such as a custom property.
pub(crate) fn names_beyond(envelope: &Envelope, entity: &Entity) -> bool {
    let unknown = |name: &str| !name.starts_with("__") && entity.field(name).is_none();
    let filter = json::parse(&envelope.filters);
    envelope.fields.iter().any(|f| unknown(f))
        || envelope.arguments.keys().any(|a| unknown(a))
        || filter.is_ok_and(|f| f.tests().iter().any(|t| unknown(&t.field)))
}

/// Checks a request of a caller. `keys` are those of the custom properties that the objects may have.
pub fn check(
    envelope: &Envelope,
    action: &'static Action,
    caller: &Caller,
    rules: &Rules,
    keys: &[String],
) -> Result<Checked, Refusal> {
    let entity = entity(action.object);
    if !caller.may(action.acls) {
        return Err(Refusal::about(Status::ActionNotAllowed, action.name));
    }
    let (fields, columns) = if action.verb == Verb::List {
        fields(envelope, entity, caller, keys)?
    } else {
        (Vec::new(), Vec::new())
    };
    let filter = filter(envelope, action, entity, caller, rules, keys)?;
    let Arguments { values, named, nested, properties } =
        arguments(envelope, action, entity, caller, rules, keys)?;
    let (order, descending) = order(envelope, action, entity, caller)?;
    if !caller.is_super() && filter.mentions("tenant_id") {
        return Err(Refusal::about(Status::FilterNotAllowed, "tenant_id"));
    }
    let limit = (envelope.block > 0).then_some(envelope.block);
    let skip = limit.map_or(0, |block| envelope.offset.max(1).saturating_sub(1).saturating_mul(block));
    Ok(Checked {
        action,
        entity,
        filter,
        fields,
        values,
        named,
        nested,
        order,
        descending,
        skip,
        limit,
        paging: envelope.pages.clone(),
        columns,
        properties,
        scope: caller.scope(),
    })
}

fn may_see(field: &Field, caller: &Caller) -> bool {
    caller.may(field.see)
}

fn is_listed(field: &Field, caller: &Caller) -> bool {
    match field.show {
        Show::Always => true,
        Show::Super => caller.is_super(),
        Show::Never => false,
    }
}

/// Whether the caller may see custom properties of these objects.
fn may_see_properties(entity: &Entity, caller: &Caller) -> bool {
    entity.field("properties").is_some_and(|f| may_see(f, caller))
}

fn fields(
    envelope: &Envelope,
    entity: &Entity,
    caller: &Caller,
    keys: &[String],
) -> Result<(Vec<&'static str>, Vec<String>), Refusal> {
    let mut columns: Vec<String> = Vec::new();
    if envelope.fields.is_empty() {
        let shown = entity.fields.iter().filter(|f| is_listed(f, caller) && may_see(f, caller));
        return Ok((shown.map(|f| f.name).collect(), columns));
    }
    let mut names = Vec::new();
    for name in &envelope.fields {
        if entity.field(name).is_none() && keys.contains(name) {
            if !may_see_properties(entity, caller) {
                return Err(Refusal::about(Status::FieldNotAllowed, name));
            }
            if !columns.contains(name) {
                columns.push(name.clone());
            }
            continue;
        }
        let field = entity
            .field(name)
            .filter(|f| is_listed(f, caller))
            .ok_or_else(|| Refusal::about(Status::UnknownField, name))?;
        if !may_see(field, caller) {
            return Err(Refusal::about(Status::FieldNotAllowed, name));
        }
        if !names.contains(&field.name) {
            names.push(field.name);
        }
    }
    Ok((names, columns))
}

fn filter(
    envelope: &Envelope,
    action: &Action,
    entity: &Entity,
    caller: &Caller,
    rules: &Rules,
    keys: &[String],
) -> Result<Filter, Refusal> {
    if entity.object == Object::ConsoleSetup {
        // There is one for each caller; the console sends filters all the same.
        return Ok(Filter::all());
    }
    let parsed = json::parse(&envelope.filters)
        .map_err(|problem| Refusal::new(Status::WrongFilterValue).because(problem.to_string()))?
        .rename(&|name| Some(entity.resolve(name).to_owned()));
    let known = |name: &str| entity.field(name).filter(|f| entity.accepts_filter(action, f));
    let is_property =
        |name: &String| action.verb == Verb::List && entity.field(name).is_none() && keys.contains(name);
    for test in parsed.tests() {
        if is_property(&test.field) {
            // Comparing would tell it, one character after the other.
            if config::sounds_secret(&test.field) && test.operand != Operand::One(None) {
                return Err(Refusal::about(Status::FilterNotAllowed, test.field.as_str())
                    .because("it is a secret, which is not compared"));
            }
            continue;
        }
        let field =
            known(&test.field).ok_or_else(|| Refusal::about(Status::UnknownFilter, test.field.as_str()))?;
        // Names of tenants are for those who stand above them.
        if field.show == Show::Super && field.name != "tenant_id" && !caller.is_super() {
            return Err(Refusal::about(Status::FilterNotAllowed, field.name));
        }
    }
    for test in parsed.tests() {
        let allowed = if is_property(&test.field) {
            may_see_properties(entity, caller)
        } else {
            known(&test.field).is_some_and(|f| may_see(f, caller))
        };
        if !allowed {
            return Err(Refusal::about(Status::FilterNotAllowed, test.field.as_str()));
        }
    }
    let mandatory = entity.mandatory_filters(action);
    if let Some(first) = mandatory.first()
        && !mandatory.iter().any(|name| parsed.mentions(name))
    {
        return Err(Refusal::about(Status::MissingFilter, *first));
    }
    typed(parsed, entity, &|login| normalize(login, rules.case_sensitive))
        .map_err(|e| Refusal::about(Status::WrongFilterValue, e.value.clone()).because(e.to_string()))
}

type Values = Vec<(&'static Field, Option<String>)>;
type Named = Vec<(&'static Field, String)>;
type Operations = Vec<(&'static Nested, Vec<String>)>;
type Properties = Vec<(String, Option<String>)>;

/// The arguments of a request.
#[derive(Default)]
struct Arguments {
    values: Values,
    named: Named,
    nested: Operations,
    properties: Properties,
}

fn arguments(
    envelope: &Envelope,
    action: &Action,
    entity: &'static Entity,
    caller: &Caller,
    rules: &Rules,
    keys: &[String],
) -> Result<Arguments, Refusal> {
    if let Verb::Execute(order) = action.verb {
        return of_order(envelope, order, entity);
    }
    let creates = matches!(action.verb, Verb::Create | Verb::CreateOrUpdate);
    let updates = matches!(action.verb, Verb::Update);
    if !creates && !updates {
        return Ok(Arguments::default());
    }
    let mut plain = Vec::new();
    let mut nested = Vec::new();
    for (name, value) in &envelope.arguments {
        if name.starts_with("__") {
            flatten(name, value, &mut nested);
        } else {
            plain.push((entity.resolve(name), value));
        }
    }
    if creates {
        let given = |name: &str| plain.iter().any(|(n, value)| *n == name && !is_empty(value));
        for field in entity.fields.iter().filter(|f| f.create == Access::Required) {
            // The tenant of other administrators is always their own.
            let own = field.name == "tenant_id" && !caller.is_super();
            if !own && !given(field.name) && !field.named_by.is_some_and(given) {
                let empty = plain.iter().any(|(name, value)| *name == field.name && *value == "");
                let status = if empty { Status::NoValue } else { Status::MissingArgument };
                return Err(Refusal::about(status, field.name));
            }
        }
    }
    let mut values: Values = Vec::new();
    let mut named: Named = Vec::new();
    let (nested, mut properties) = operations(&nested, action, entity, caller)?;
    for (name, value) in plain {
        if updates && entity.field(name).is_none() && keys.iter().any(|key| key == name) {
            if !caller.may(property_acls(entity)) {
                return Err(Refusal::about(Status::ArgumentNotAllowed, name));
            }
            properties.push((name.to_owned(), property_value(name, value)?));
            continue;
        }
        let unknown = || Refusal::about(Status::UnknownArgument, name);
        let by_name = if creates { entity.named_by(name) } else { None };
        let field = match (by_name, entity.field(name)) {
            (Some(field), _) => field,
            (None, Some(field)) if creates && field.create != Access::No => field,
            (None, Some(field)) if updates && field.update.is_some() => field,
            _ => return Err(unknown()),
        };
        let acls = if creates { field.create_acls } else { field.update.unwrap_or_default() };
        if !caller.may(acls) {
            return Err(Refusal::about(Status::ArgumentNotAllowed, name));
        }
        if field.name == "tenant_id" && !caller.is_super() {
            continue;
        }
        let text = scalar(field, value)?;
        match (by_name, text) {
            (Some(field), Some(text)) => named.push((field, name_of(entity, field, text, rules))),
            (Some(_), None) => {}
            (None, text) => values.push((field, written(field, text, rules)?)),
        }
    }
    if creates && entity.tenancy == Tenancy::Own && !caller.is_super() {
        let field = entity.field("tenant_id").ok_or_else(|| Refusal::new(Status::Internal))?;
        values.push((field, Some(caller.tenant.to_string())));
    }
    Ok(Arguments { values, named, nested, properties })
}

/// What has to come with an order. Old clients send arguments with those that take none.
fn of_order(envelope: &Envelope, order: Order, entity: &'static Entity) -> Result<Arguments, Refusal> {
    let mut arguments = Arguments::default();
    let taken: Vec<_> = entity.fields.iter().filter(|field| field.orders.contains(&order)).collect();
    if taken.is_empty() {
        return Ok(arguments);
    }
    if let Some(name) = envelope.arguments.keys().find(|name| taken.iter().all(|field| field.name != *name)) {
        return Err(Refusal::about(Status::UnknownArgument, name.as_str()));
    }
    for field in taken {
        let missing = || Refusal::about(Status::MissingArgument, field.name);
        let given = envelope.arguments.get(field.name).ok_or_else(missing)?;
        let text = scalar(field, given)?.ok_or_else(missing)?;
        // The value may be a secret that was nearly right.
        let wrong = |_| Refusal::about(Status::WrongArgumentValue, field.name).because(field.kind.describe());
        arguments.values.push((field, Some(field.kind.canonical(&text).map_err(wrong)?)));
    }
    Ok(arguments)
}

/// The ACLs of changing custom properties of these objects.
fn property_acls(entity: &Entity) -> &'static [&'static str] {
    let setting = |n: &&Nested| n.verb == Verb::Update && n.change == Change::SetProperties;
    entity.nested.iter().find(setting).map_or(&[], |n| n.acls)
}

/// The value of a custom property; nothing takes it away.
fn property_value(key: &str, value: &Value) -> Result<Option<String>, Refusal> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(on) => u8::from(*on).to_string(),
        _ => return Err(Refusal::about(Status::WrongProperty, key)),
    };
    let canonical = PROPERTY_VALUE.canonical(&text);
    canonical.map(Some).map_err(|e| Refusal::about(Status::WrongProperty, key).because(e.to_string()))
}

/// Logins and names of tenants are compared as they are stored.
fn name_of(entity: &Entity, id: &Field, text: String, rules: &Rules) -> String {
    match id.named_by.and_then(|by| entity.field(by)).map(|f| f.kind) {
        Some(Kind::Login(_)) => normalize(&text, rules.case_sensitive),
        _ => text,
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

/// The text of a value; empty text means nothing.
fn scalar(field: &Field, value: &Value) -> Result<Option<String>, Refusal> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(on) => Ok(Some(u8::from(*on).to_string())),
        _ => Err(Refusal::about(Status::WrongArgumentValue, field.name)),
    }
}

fn written(field: &'static Field, text: Option<String>, rules: &Rules) -> Result<Option<String>, Refusal> {
    let Some(text) = text else {
        // A password that is emptied would be the hash of nothing.
        let needed = field.create == Access::Required || field.kind == Kind::Password;
        return if needed { Err(Refusal::about(Status::NoValue, field.name)) } else { Ok(None) };
    };
    let text = match field.kind {
        Kind::Login(_) => normalize(&text, rules.case_sensitive),
        _ => text,
    };
    if text.is_empty() {
        return Err(Refusal::about(Status::NoValue, field.name));
    }
    if field.kind == Kind::Moment && field.kind.canonical(&text).is_err() {
        // Not the form that old clients send, which is in UTC.
        let moment = rules.clock.moment(&text);
        return moment
            .map_err(|e| Refusal::about(Status::WrongArgumentValue, field.name).because(e.to_string()));
    }
    let canonical = field.kind.canonical(&text).map_err(|problem| {
        let info = if field.kind == Kind::Password { field.kind.describe() } else { problem.to_string() };
        Refusal::about(Status::WrongArgumentValue, field.name).because(info)
    })?;
    Ok(Some(canonical))
}

/// `{"__x__": {"a": …}}` is `__x__a`; both spellings are accepted.
fn flatten<'v>(name: &str, value: &'v Value, into: &mut Vec<(String, &'v Value)>) {
    match value {
        Value::Object(members) if name.ends_with("_changes__") => {
            into.extend(members.iter().map(|(member, value)| (format!("{name}{member}"), value)));
        }
        other => into.push((name.to_owned(), other)),
    }
}

fn operations(
    given: &[(String, &Value)],
    action: &Action,
    entity: &'static Entity,
    caller: &Caller,
) -> Result<(Operations, Properties), Refusal> {
    let nested: &'static [Nested] = entity.nested;
    let find = |name: &str| nested.iter().find(|n| n.name == name && n.verb == action.verb);
    for (name, _) in given {
        find(name).ok_or_else(|| {
            // Of an operation that there is, only the member is unknown.
            let operation = name.split_once("_changes__").map(|(front, _)| format!("{front}_changes__"));
            let known = operation.is_some_and(|operation| {
                nested.iter().any(|n| n.verb == action.verb && n.name.starts_with(&operation))
            });
            let status = if known { Status::UnknownMember } else { Status::UnknownArgument };
            Refusal::about(status, name)
        })?;
    }
    let mut operations = Vec::new();
    let mut properties = Vec::new();
    // The order of the registry: what is removed goes first.
    for operation in nested.iter().filter(|n| n.verb == action.verb) {
        let Some((name, value)) = given.iter().find(|(name, _)| name == operation.name) else { continue };
        if !caller.may(operation.acls) {
            return Err(Refusal::about(Status::ArgumentNotAllowed, name));
        }
        if operation.change == Change::SetProperties {
            let Value::Object(members) = value else {
                return Err(Refusal::about(Status::WrongProperty, name));
            };
            for (key, value) in members {
                properties.push((key.clone(), property_value(key, value)?));
            }
            continue;
        }
        let wrong = || Refusal::about(operation.change.wrong_value(), name);
        let values = match value {
            Value::Null => continue,
            Value::String(one) => vec![one.clone()],
            Value::Array(several) => several
                .iter()
                .map(|v| match v {
                    Value::String(text) => Ok(text.clone()),
                    Value::Null => Err(Refusal::about(operation.change.no_value(), name)),
                    // Roles and ACLs also have numbers.
                    Value::Number(n) if operation.change.takes_numbers() => Ok(n.to_string()),
                    _ => Err(wrong()),
                })
                .collect::<Result<Vec<_>, _>>()?,
            _ => return Err(wrong()),
        };
        let values: Vec<String> = values.into_iter().filter(|v| !v.is_empty()).collect();
        if values.iter().any(|v| v.chars().count() > 1024 || v.contains('\0')) {
            return Err(wrong());
        }
        if operation.change == Change::RemoveProperties {
            properties.extend(values.into_iter().map(|key| (key, None)));
        } else {
            operations.push((operation, values));
        }
    }
    Ok((operations, properties))
}

fn order(
    envelope: &Envelope,
    action: &Action,
    entity: &Entity,
    caller: &Caller,
) -> Result<(Vec<&'static str>, bool), Refusal> {
    let descending = match envelope.direction.as_deref() {
        None | Some("" | "-asc") => false,
        Some("-desc") => true,
        Some(other) => return Err(Refusal::about(Status::UnknownDirection, other)),
    };
    if action.verb != Verb::List {
        return Ok((Vec::new(), descending));
    }
    let mut names = Vec::new();
    for name in &envelope.order {
        let field = entity
            .field(name)
            .filter(|f| f.order && (f.show != Show::Super || caller.is_super()))
            .ok_or_else(|| Refusal::about(Status::UnknownOrder, name))?;
        if !may_see(field, caller) {
            return Err(Refusal::about(Status::OrderNotAllowed, name));
        }
        names.push(field.name);
    }
    if names.is_empty() {
        names.push(default_order(entity.object));
    }
    Ok((names, descending))
}

/// By what lists are ordered that are asked for without an order.
pub(crate) fn default_order(object: Object) -> &'static str {
    if object == Object::Config { "key" } else { "id" }
}
