//! Changes: each selected object in its own transaction.

use std::sync::Arc;

use qvd_db::admin::select::Identity;
use qvd_db::admin::{identity, tokens, write};
use qvd_db::{Session, Transaction};
use qvd_model::action::{Change as Part, Field, Kind, Object, Status};
use qvd_model::config;

use super::{Reply, Request, properties, roles, selected, summed_up};
use crate::app::App;
use crate::change::{Change, state_of};
use crate::execute::create::{address_plan, check_address, check_tenant, hash_passwords, number_flags};
use crate::images::tags;
use crate::refusal::{Doing, Refusal};

type Values = Vec<(&'static Field, Option<String>)>;

pub(super) async fn update(app: &App, request: Arc<Request>) -> Result<Reply, Refusal> {
    let objects = selected(app, &request).await?;
    if objects.is_empty() {
        return Err(Refusal::new(Status::NothingMatched));
    }
    let mut values = request.checked.values.clone();
    check_tenant(app, request.checked.action.object, &values)?;
    hash_passwords(app, &mut values).await?;
    number_flags(&mut values);
    if request.checked.action.object == Object::Vm && values.iter().any(|(field, _)| field.name == "ip") {
        check_address(&address_plan(app)?, &values)?;
    }
    let values = Arc::new(values);
    let mut outcomes = Vec::new();
    for object in objects {
        let (shared, new, target) = (request.clone(), values.clone(), object.clone());
        let changed = app
            .database
            .transaction("update", move |tx| {
                let (request, values, object) = (shared.clone(), new.clone(), target.clone());
                Box::pin(async move { update_in(tx, &request, &values, &object).await })
            })
            .await;
        outcomes.push((object, changed));
    }
    summed_up(app, &request, Doing::Writing, outcomes).await
}

async fn update_in(
    tx: &Transaction<'_>,
    request: &Request,
    values: &Values,
    object: &Identity,
) -> Result<(), Refusal> {
    let kind = request.checked.action.object;
    request.precondition.check(tx, request, object).await?;
    let before = state_of(tx, kind, object.id).await?;
    if kind == Object::Role {
        roles::check_changeable(tx, object).await?;
    }
    if kind == Object::Property
        && let Some((_, Some(key))) = values.iter().find(|(f, _)| f.name == "key")
    {
        let tenant = object.tenant.unwrap_or(request.circumstances.caller.tenant);
        properties::check_key(tx, Some(object.id), key, tenant).await?;
    }
    let columns: Vec<_> = values.iter().map(|(f, v)| (f.name, v.as_deref())).collect();
    if !write::update(tx, kind, object.id, &columns).await? {
        return Err(Refusal::new(Status::NothingMatched));
    }
    if values.iter().any(|(field, _)| field.kind == Kind::Password)
        && matches!(kind, Object::Administrator | Object::OwnAdministrator)
    {
        // Whoever knew the old password is out.
        identity::revoke(tx, object.id, &request.circumstances.session).await?;
        let own = request.circumstances.caller.token.as_ref().map(|token| token.id);
        tokens::revoke(tx, object.id, own).await?;
    }
    if kind == Object::Tenant && values.iter().any(|(field, value)| is_unblocked(field, value.as_deref())) {
        // Nobody who was shut out comes in again without a password.
        identity::revoke_tenant(tx, object.id).await?;
    }
    if kind == Object::Vm {
        check_expiration(tx, object.id).await?;
    }
    for (operation, values) in &request.checked.nested {
        match operation.change {
            Part::AddTags => tags::add(tx, object.id, values).await?,
            Part::RemoveTags => tags::remove(tx, object.id, values).await?,
            // Only a part of creations.
            Part::AssignProperty => {}
            Part::AssignAcls | Part::UnassignAcls | Part::AssignRoles | Part::UnassignRoles => {
                roles::change(tx, request, object, operation.change, values).await?;
            }
            // These come in a list of their own.
            Part::SetProperties | Part::RemoveProperties => {}
        }
    }
    properties::store(tx, request, object).await?;
    request.circumstances.tell(tx, object, &told(request, values)).await?;
    let change = Change::between(before, state_of(tx, kind, object.id).await?);
    request.circumstances.done(tx, object, &change).await?;
    Ok(())
}

fn is_unblocked(field: &Field, value: Option<&str>) -> bool {
    field.name == "blocked" && value == Some("false")
}

/// A VM must not be restarted before its user is asked to leave.
pub(crate) async fn check_expiration(session: &impl Session, vm: i32) -> Result<(), Refusal> {
    if write::expires_in_order(session, vm).await? {
        Ok(())
    } else {
        Err(Refusal::about(Status::SoftAfterHard, "expiration_soft"))
    }
}

/// What a change looks like in a story; passwords and secrets are only named.
fn told(request: &Request, values: &Values) -> String {
    let fields = values.iter().map(|(field, value)| match (field.kind, value) {
        (Kind::Password, _) => format!("{} changed", field.name),
        (_, Some(value)) => format!("{} = {}", field.name, value.chars().take(120).collect::<String>()),
        (_, None) => format!("{} emptied", field.name),
    });
    let nested = request.checked.nested.iter().map(|(operation, values)| {
        let verb = match operation.change {
            Part::AddTags => "tagged",
            Part::RemoveTags => "untagged",
            Part::AssignProperty => "assigned",
            Part::AssignAcls => "with ACLs",
            Part::UnassignAcls => "without ACLs",
            Part::AssignRoles => "with roles",
            Part::UnassignRoles => "without roles",
            Part::SetProperties => "with",
            Part::RemoveProperties => "without",
        };
        format!("{verb} {}", values.join(", "))
    });
    let properties = request.checked.properties.iter().map(|(key, value)| match value {
        Some(_) if config::sounds_secret(key) => format!("{key} changed"),
        Some(value) => format!("{key} = {}", value.chars().take(120).collect::<String>()),
        None => format!("{key} removed"),
    });
    fields.chain(nested).chain(properties).collect::<Vec<_>>().join("; ")
}
