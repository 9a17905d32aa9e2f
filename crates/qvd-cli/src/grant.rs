//! Roles and ACLs: who gets them, and what somebody may do with them.

use qvd_model::action::{Object, Status};
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
    let (object, holder) = if noun.object == Object::Administrator {
        (Object::AdministratorAcl, "admin_id")
    } else {
        (Object::RoleAcl, "role_id")
    };
    if selection.is_none() {
        return Err(Error::refused(Status::NothingMatched, &format!("{} NAME can", noun.word)));
    }
    let id = the_only(context, noun, selection).await?;
    let mut filter = Filter::any_of(holder, [id]).and(Filter::test("operative", Operator::Equal, "1"));
    if let Some(pattern) = pattern {
        filter = filter.and(Filter::test("acl_name", Operator::Like, pattern));
    }
    let fields = ["id", "name"];
    let mut call = Call::list(object, Some(filter), &fields)?;
    call.order = Some((vec!["name".to_owned()], false));
    let columns = fields.map(Column::plain).to_vec();
    if let Some(pages) = context.pages.clone() {
        return pages.show(context, call, columns).await;
    }
    let answer = context.api.call(&call).await?;
    context.print(Listing { columns, rows: answer.rows, total: answer.total })
}
