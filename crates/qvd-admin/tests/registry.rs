//! Permissions of fields, generated from the registry: each field with and without its ACL, in every place where it
//! can stand.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use qvd_admin::caller::Caller;
use qvd_admin::check::{Rules, check};
use qvd_admin::clock::Clock;
use qvd_admin::envelope::Envelope;
use qvd_model::acl::ACLS;
use qvd_model::action::{ACTIONS, Access, Action, Change, Field, Kind, Show, Verb, acl_matches, entity};
use serde_json::{Map, Value, json};

/// The status of a check, 0 if it passes.
fn status(action: &'static Action, acls: &[&str], request: Value) -> u16 {
    let caller = Caller {
        id: Some(2),
        name: "admin".to_owned(),
        tenant: 1,
        tenant_name: "default".to_owned(),
        acls: acls.iter().map(|a| (*a).to_owned()).collect(),
        token: None,
    };
    let midnight = time::macros::datetime!(2026-01-31 00:00);
    let clock = Clock::at(midnight, qvd_runtime::zone::Zone::utc());
    let envelope = Envelope::from_json(request.to_string().as_bytes()).unwrap();
    match check(&envelope, action, &caller, &Rules { case_sensitive: false, clock }, &[]) {
        Ok(_) => 0,
        Err(refusal) => {
            let text = format!("{refusal}");
            qvd_model::action::Status::ALL
                .iter()
                .filter(|s| text.starts_with(s.message()))
                .max_by_key(|s| s.message().len())
                .map_or(1, |s| s.code())
        }
    }
}

fn examples(patterns: &[&str]) -> Option<&'static str> {
    ACLS.iter().map(|a| a.name).find(|acl| patterns.iter().any(|p| acl_matches(p, acl)))
}

/// A value that a field takes.
fn fitting(field: &Field) -> &'static str {
    if field.kind == Kind::Moment { "2031-01-01" } else { "10.0.0.7" }
}

/// A request of each kind that uses one field, with the status that refuses it and the ACLs that admit it.
fn uses(action: &Action, field: &'static Field) -> Vec<(Value, u16, &'static [&'static str])> {
    let mut uses: Vec<(Value, u16, &'static [&'static str])> = Vec::new();
    let mandatory = entity(action.object).mandatory_filters(action).first();
    let filters: Map<String, Value> =
        mandatory.map(|name| ((*name).to_owned(), json!(1))).into_iter().collect();
    if action.verb == Verb::List {
        if field.show == Show::Always {
            uses.push((json!({"fields": [field.name], "filters": filters}), 4250, field.see));
        }
        if field.filter && field.show != Show::Super && field.name != "tenant_id" {
            let mut filters = filters.clone();
            filters.insert(field.name.to_owned(), Value::Null);
            uses.push((json!({ "filters": filters }), 4220, field.see));
        }
        if field.order && field.show == Show::Always {
            uses.push((json!({"order_by": {"field": field.name}, "filters": filters}), 4260, field.see));
        }
    }
    let selects = matches!(action.verb, Verb::Update | Verb::Delete | Verb::Execute(_));
    if selects && entity(action.object).selectors.contains(&field.name) && field.show != Show::Super {
        let mut filters = filters.clone();
        filters.insert(field.name.to_owned(), Value::Null);
        uses.push((json!({ "filters": filters }), 4220, field.see));
    }
    if action.verb == Verb::Update
        && let Some(acls) = field.update
    {
        let request = json!({"filters": filters, "arguments": {field.name: null}});
        uses.push((request, 4230, acls));
    }
    if action.verb == Verb::Create && field.create == Access::Optional {
        let required = entity(action.object).fields.iter().filter(|f| f.create == Access::Required);
        let mut arguments: Map<String, Value> =
            required.map(|f| (f.name.to_owned(), json!(fitting(f)))).collect();
        for id in entity(action.object).fields.iter().filter(|f| f.named_by.is_some()) {
            arguments.insert(id.name.to_owned(), json!(7));
        }
        arguments.insert(field.name.to_owned(), Value::Null);
        uses.push((json!({ "arguments": arguments }), 4230, field.create_acls));
    }
    uses
}

#[test]
fn a_field_is_used_only_with_its_acl() {
    let mut refused = 0;
    for action in ACTIONS {
        let admitting: Vec<&str> = examples(action.acls).into_iter().collect();
        for field in entity(action.object).fields {
            for (request, code, acls) in uses(action, field) {
                let place = format!("{} {}: {request}", action.name, field.name);
                let enough =
                    acls.is_empty() || admitting.iter().any(|a| acls.iter().any(|p| acl_matches(p, a)));
                let without = status(action, &admitting, request.clone());
                assert_eq!(without == code, !enough, "{place} gives {without}");
                refused += u32::from(!enough);
                let with: Vec<&str> = admitting.iter().copied().chain(examples(acls)).collect();
                let with = status(action, &with, request);
                // Emptying a field that must have a value is another mistake.
                assert!(matches!(with, 0 | 6410), "{place} gives {with} with its ACL");
            }
        }
    }
    assert!(refused > 100, "only {refused} refusals: the registry is not walked");
}

#[test]
fn nested_operations_need_their_acl_and_their_action() {
    for action in ACTIONS {
        for nested in entity(action.object).nested {
            let value = match nested.change {
                Change::SetProperties => json!({"x": "y"}),
                _ => json!(["x"]),
            };
            let request = json!({"filters": {"id": 1}, "arguments": {nested.name: value}});
            let admitting: Vec<&str> = examples(action.acls).into_iter().collect();
            // What permits the change of the object may permit this part of it as well.
            let enough = admitting.iter().any(|a| nested.acls.iter().any(|p| acl_matches(p, a)));
            let without = if enough { 0 } else { 4230 };
            let with: Vec<&str> = admitting.iter().copied().chain(examples(nested.acls)).collect();
            match action.verb {
                verb if verb == nested.verb && verb == Verb::Update => {
                    assert_eq!(status(action, &admitting, request.clone()), without, "{}", nested.name);
                    assert_eq!(status(action, &with, request), 0, "{}", nested.name);
                }
                Verb::Update => assert_eq!(status(action, &with, request), 6230, "{}", nested.name),
                _ => {}
            }
        }
    }
}
