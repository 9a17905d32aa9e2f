//! From path, query and body to the envelope that every dialect has.
//!
//! ```text
//! name=x          the field is equal        name[ne]=x  name[lt]=x  name[le]=x  name[gt]=x  name[ge]=x
//! name=x&name=y   it is one of these        name[like]=x%            name[null]=true
//! filter={…}      the JSON form of filters (`spec/api.md` 3.4), beside the others
//! fields=a,b      sort=a,b   sort=-a        limit=50   cursor=…      total=true
//! ```

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use qvd_model::TenantId;
use qvd_model::action::{Method, Object, Operation, Status, Subject, Target, Verb, entity};
use serde_json::{Map, Value, json};

use super::super::parameters;
use super::cursor::Cursor;
use super::images::Offer;
use crate::envelope::{Envelope, Pages};
use crate::refusal::Refusal;

/// Rows of a page when the request does not say.
pub(super) const LIMIT: i64 = 100;
/// Rows of a page at most.
pub(super) const MAX_LIMIT: i64 = 1000;

/// Names of parameters that are not fields.
pub(super) const RESERVED: [&str; 6] = ["filter", "fields", "sort", "limit", "cursor", "total"];

/// Comparisons by the word in brackets.
pub(super) const COMPARISONS: [(&str, &str); 6] =
    [("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("like", "~")];

/// What is asked.
pub(super) struct Question {
    pub(super) envelope: Envelope,
    /// The tenant of a setting, if the address says it.
    pub(super) tenant: Option<TenantId>,
    /// The members of the body.
    pub(super) given: Map<String, Value>,
    /// The file of a new image.
    pub(super) offer: Option<Offer>,
    /// What is wrong, for those who may ask.
    pub(super) flaw: Option<Refusal>,
}

impl Question {
    pub(super) fn read(
        operation: &Operation,
        subject: Option<&Subject>,
        parts: &Parts,
        body: &[u8],
    ) -> Result<Self, Refusal> {
        let mut envelope = Envelope { offset: 1, ..Envelope::default() };
        envelope.source = source(&parts.headers);
        envelope.arguments = arguments(operation, &parts.headers, body)?;
        let given = envelope.arguments.clone();
        let (mut offer, mut flaw) = (None, None);
        if (operation.action.object, operation.action.verb) == (Object::Di, Verb::Create) {
            match Offer::take(&mut envelope.arguments) {
                Ok(found) => offer = Some(found),
                Err(refusal) => flaw = Some(refusal),
            }
        }
        let parameters = parameters(&parts.uri, &[]);
        let mut filters = Vec::new();
        let mut tenant = None;
        match subject {
            Some(Subject::Number(id)) => filters.extend([json!("id"), json!(id)]),
            Some(Subject::Key(key)) if operation.method == Method::Put => {
                flaw = given_by_address(&mut envelope.arguments, "key", key);
            }
            Some(Subject::Key(key)) => filters.extend([json!("key"), json!(key)]),
            None => {}
        }
        let mut page = Page::default();
        for (name, text) in &parameters {
            let list = operation.action.verb == Verb::List;
            match name.as_str() {
                "fields" if list => envelope.fields.extend(words(text)),
                "sort" | "limit" | "cursor" | "total" if list && operation.target == Target::Selection => {
                    page.read(name, text)?;
                }
                "filter" if operation.target == Target::Selection => {
                    let filter =
                        serde_json::from_str(text).map_err(|_| Refusal::about(Status::NotJson, "filter"))?;
                    filters.extend([json!("-and"), filter]);
                }
                "tenant_id" if matches!(subject, Some(Subject::Key(_))) => {
                    let wrong = || Refusal::about(Status::WrongFilterValue, "tenant_id");
                    tenant = Some(TenantId(text.parse().map_err(|_| wrong())?));
                    if operation.method == Method::Put {
                        flaw = given_by_address(&mut envelope.arguments, "tenant_id", text).or(flaw);
                    } else {
                        filters.extend([json!("tenant_id"), json!(text)]);
                    }
                }
                name if operation.target == Target::Selection && !RESERVED.contains(&name) => {}
                _ => return Err(Refusal::about(Status::UnknownFilter, name.as_str())),
            }
        }
        if operation.target == Target::Selection {
            filters.extend(comparisons(&parameters)?);
        }
        if !filters.is_empty() {
            envelope.filters = Value::Array(filters);
        }
        if operation.action.verb == Verb::List {
            page.finish(operation, &mut envelope)?;
        }
        Ok(Self { envelope, tenant, given, offer, flaw })
    }
}

/// Adds an argument that stands in the address, and that the body may repeat but not contradict.
fn given_by_address(arguments: &mut Map<String, Value>, name: &str, text: &str) -> Option<Refusal> {
    let same = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned) == text;
    let before = arguments.insert(name.to_owned(), json!(text));
    let contradicts = before.is_some_and(|value| !same(&value));
    contradicts.then(|| Refusal::about(Status::UnknownArgument, name).because("the address says another one"))
}

/// The arguments in a body.
fn arguments(operation: &Operation, headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let action = operation.action;
    let takes = match action.verb {
        Verb::Create | Verb::CreateOrUpdate | Verb::Update => true,
        Verb::Execute(order) => {
            entity(action.object).fields.iter().any(|field| field.orders.contains(&order))
        }
        _ => false,
    };
    if !takes || operation.method == Method::Get {
        let nothing =
            body.is_empty() || matches!(serde_json::from_slice(body), Ok(Value::Object(m)) if m.is_empty());
        return if nothing {
            Ok(Map::new())
        } else {
            Err(Refusal::about(Status::UnknownArgument, "body").because("this operation takes none"))
        };
    }
    object_of(headers, body)
}

/// The JSON object in a body.
pub(super) fn object_of(headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // A form of a strange page cannot say so.
    if !matches!(kind.as_str(), "application/json" | "application/merge-patch+json") {
        return Err(Refusal::new(Status::NotThisType));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Refusal::new(Status::NotJson).because("the body has to be an object")),
        Err(problem) => Err(Refusal::new(Status::NotJson).because(problem.to_string())),
    }
}

/// The client, as it calls itself.
fn source(headers: &HeaderMap) -> Option<String> {
    let agent = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(agent.chars().take(80).collect())
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned)
}

/// The comparisons of fields among parameters, as the flat list of a filter.
fn comparisons(parameters: &[(String, String)]) -> Result<Vec<Value>, Refusal> {
    let mut equal: Map<String, Value> = Map::new();
    let mut flat = Vec::new();
    for (name, text) in parameters.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())) {
        let Some((field, word)) = name.strip_suffix(']').and_then(|name| name.split_once('[')) else {
            let values = equal.entry(name.as_str()).or_insert_with(|| json!([]));
            if let Value::Array(values) = values {
                values.push(json!(text));
            }
            continue;
        };
        let value = match (word, text.as_str()) {
            ("null", "true") => json!({"=": null}),
            ("null", "false") => json!({"!=": null}),
            _ => match COMPARISONS.iter().find(|(known, _)| *known == word) {
                Some((_, operator)) => json!({ *operator: text }),
                None => return Err(Refusal::about(Status::UnknownFilter, name.as_str())),
            },
        };
        flat.extend([json!(field), value]);
    }
    let equal = equal.into_iter().map(|(field, values)| match values {
        Value::Array(mut one) if one.len() == 1 => (field, one.remove(0)),
        several => (field, several),
    });
    flat.extend(equal.flat_map(|(field, value)| [json!(field), value]));
    Ok(flat)
}

/// Which page of which order.
#[derive(Default)]
struct Page {
    order: Vec<(String, bool)>,
    limit: Option<i64>,
    cursor: Option<String>,
    total: bool,
}

impl Page {
    fn read(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        match name {
            "sort" => self.order.extend(words(text).map(|word| match word.strip_prefix('-') {
                Some(field) => (field.to_owned(), true),
                None => (word, false),
            })),
            "limit" => {
                let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                let wrong =
                    || Refusal::about(Status::WrongFilterValue, "limit").because(format!("1 to {MAX_LIMIT}"));
                self.limit = Some(limit.ok_or_else(wrong)?);
            }
            "cursor" => self.cursor = Some(text.to_owned()),
            _ => {
                let wrong = || Refusal::about(Status::WrongFilterValue, "total").because("true or false");
                self.total = text.parse().map_err(|_| wrong())?;
            }
        }
        Ok(())
    }

    fn finish(self, operation: &Operation, envelope: &mut Envelope) -> Result<(), Refusal> {
        let entity = qvd_model::action::entity(operation.action.object);
        let descending = self.order.first().is_some_and(|(_, descending)| *descending);
        if self.order.iter().any(|(_, other)| *other != descending) {
            return Err(Refusal::new(Status::UnknownDirection).because("all of one order go the same way"));
        }
        envelope.order = self.order.iter().map(|(field, _)| entity.resolve(field).to_owned()).collect();
        envelope.direction = descending.then(|| "-desc".to_owned());
        envelope.block = self.limit.unwrap_or(LIMIT);
        let read = |text: String| {
            let order =
                if envelope.order.is_empty() { default_order(operation) } else { envelope.order.clone() };
            Cursor::read(&text, operation.action.object, &order, descending)
        };
        envelope.pages = Pages::After { row: self.cursor.map(read).transpose()?, count: self.total };
        Ok(())
    }
}

/// The order of lists that are asked for without one.
fn default_order(operation: &Operation) -> Vec<String> {
    vec![crate::check::default_order(operation.action.object).to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_is_called_like_another_parameter() {
        for object in Object::ALL {
            let entity = entity(*object);
            for name in RESERVED {
                assert!(entity.fields.iter().all(|field| field.name != name), "{object}: {name}");
                assert!(entity.aliases.iter().all(|(alias, _)| *alias != name), "{object}: {name}");
            }
        }
    }

    #[test]
    fn parameters_are_comparisons() {
        let query = "state=running&state=stopped&name[like]=lab%25&id[ge]=3&host_id[null]=true&limit=7";
        let parameters: Vec<(String, String)> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let filter = Value::Array(comparisons(&parameters).unwrap());
        let expected = json!(["name", {"~": "lab%"}, "id", {">=": "3"}, "host_id", {"=": null},
            "state", ["running", "stopped"]]);
        assert_eq!(filter, expected);
        for bad in ["name[is]=x", "name[null]=perhaps"] {
            let parameters: Vec<(String, String)> =
                form_urlencoded::parse(bad.as_bytes()).into_owned().collect();
            assert!(comparisons(&parameters).is_err(), "{bad}");
        }
    }
}
