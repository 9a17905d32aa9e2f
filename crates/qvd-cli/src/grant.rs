//! Roles and ACLs: who gets them, and what somebody may do with them.

use std::collections::BTreeSet;

use qvd_model::action::{Object, Status, entity};
use qvd_model::filter::lexer::quote;
use qvd_model::filter::{Filter, Operator};
use serde_json::{Map, Value as Json, json};

use crate::api::Call;
use crate::command::Grant;
use crate::error::Error;
use crate::noun::Noun;
use crate::output::{Column, Listing};
use crate::property::the_only;
use crate::run::Context;

/// The arguments of `assign` and `unassign`.
pub(crate) fn arguments(what: Grant, names: &[String], undo: bool) -> Map<String, Json> {
    let (group, kind) = match what {
        Grant::Roles => ("__roles_changes__", "roles"),
        Grant::Acls => ("__acls_changes__", "acls"),
    };
    let member = format!("{}_{kind}", if undo { "unassign" } else { "assign" });
    Map::from_iter([(group.to_owned(), json!({ member: names }))])
}

/// `can`: the ACLs that a role or an administrator has in the end.
pub(crate) async fn can(
    context: &mut Context<'_>,
    noun: &'static Noun,
    selection: Option<Filter>,
    pattern: Option<String>,
) -> Result<(), Error> {
    if selection.is_none() {
        return Err(Error::refused(Status::NothingMatched, &format!("{} NAME can", noun.word)));
    }
    let id = the_only(context, noun, selection).await?;
    let call = held(noun, id, pattern)?;
    let columns = HELD.map(Column::plain).to_vec();
    if let Some(pages) = context.pages.clone() {
        return pages.show(context, call, columns).await;
    }
    let answer = context.api.call(&call).await?;
    context.print(Listing { columns, rows: answer.rows, total: answer.total })
}

/// `diff`: the ACLs that only one of two roles or administrators has.
pub(crate) async fn diff(
    context: &mut Context<'_>,
    noun: &'static Noun,
    selection: Option<Filter>,
    other: &str,
) -> Result<(), Error> {
    if selection.is_none() {
        return Err(Error::Usage(format!("which two? {} NAME diff {}", noun.word, quote(other))));
    }
    let key = entity(noun.object).key;
    let mut held_by = Vec::new();
    for chosen in [selection, Some(Filter::any_of(key, [other]))] {
        let id = the_only(context, noun, chosen).await?;
        let list = Call::list(noun.object, Some(Filter::any_of("id", [id])), &[key])?;
        let found = context.api.call(&list).await?;
        let name = found.rows.first().and_then(|row| row.get(key)?.as_str()).unwrap_or(other).to_owned();
        let acls = context.api.call(&held(noun, id, None)?).await?.rows;
        let acls: BTreeSet<String> =
            acls.iter().filter_map(|row| Some(row.get("name")?.as_str()?.to_owned())).collect();
        held_by.push((name, acls));
    }
    let mut rows = Vec::new();
    if let [(one, first), (two, second)] = held_by.as_slice() {
        for acl in first.symmetric_difference(second) {
            let only = if first.contains(acl) { one } else { two };
            rows.push(Map::from_iter([("name".to_owned(), json!(acl)), ("only".to_owned(), json!(only))]));
        }
    }
    let total = rows.len() as u64;
    context.print(Listing { columns: ["name", "only"].map(Column::plain).to_vec(), rows, total })
}

/// What is shown of an ACL that somebody has.
const HELD: [&str; 2] = ["id", "name"];

/// The list of the ACLs that one has in the end.
fn held(noun: &Noun, id: i64, pattern: Option<String>) -> Result<Call, Error> {
    let (object, holder) = if noun.object == Object::Administrator {
        (Object::AdministratorAcl, "admin_id")
    } else {
        (Object::RoleAcl, "role_id")
    };
    let mut filter = Filter::any_of(holder, [id]).and(Filter::test("operative", Operator::Equal, "1"));
    if let Some(pattern) = pattern {
        filter = filter.and(Filter::test("acl_name", Operator::Like, pattern));
    }
    let mut call = Call::list(object, Some(filter), &HELD)?;
    call.order = Some((vec!["name".to_owned()], false));
    Ok(call)
}
