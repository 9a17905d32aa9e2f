//! What custom properties need besides the rules for all objects (`spec/api.md` 5.9).

use qvd_db::Session;
use qvd_db::admin::select::Identity;
use qvd_db::admin::{properties, write};
use qvd_model::action::{Object, Status, entity};
use qvd_model::config::{self, MASK};

use super::Request;
use crate::caller::Caller;
use crate::refusal::Refusal;

/// Sealed it still has to fit into its column.
const MAX_SECRET: usize = 24_000;

/// The tenant of super-administrators: its properties are those of all tenants.
const ABOVE: i32 = 0;

/// Checks the key of a property that is new, or of the one that has it already.
pub(super) async fn check_key(
    session: &impl Session,
    own: Option<i32>,
    key: &str,
    tenant: i32,
) -> Result<(), Refusal> {
    if tenant < ABOVE {
        return Err(Refusal::new(Status::PropertyOfNobody));
    }
    // It would be read as the field that is built in, or as a nested operation.
    let taken = Object::WITH_PROPERTIES.iter().any(|object| entity(*object).field(key).is_some());
    if taken || key.starts_with("__") {
        return Err(Refusal::about(Status::WrongArgumentValue, key).because("the name is built in"));
    }
    let others = properties::tenants_of_key(session, key, own).await?;
    if others.contains(&tenant) || (tenant == ABOVE && !others.is_empty()) {
        return Err(Refusal::about(Status::PropertyDefined, key));
    }
    if others.contains(&ABOVE) {
        return Err(Refusal::about(Status::PropertyDefinedAbove, key));
    }
    Ok(())
}

/// Hosts have no tenant: who stands above the tenants gives them properties, and only those from there.
pub(super) fn check_host(caller: &Caller, tenant: Option<i32>) -> Result<(), Refusal> {
    match tenant {
        _ if !caller.is_super() => Err(Refusal::new(Status::HostPropertyAssignment)),
        Some(ABOVE) => Ok(()),
        _ => Err(Refusal::new(Status::HostPropertyTenant)),
    }
}

/// Lets kinds of objects have a new property.
pub(super) async fn assign(
    session: &impl Session,
    request: &Request,
    property: i32,
    tenant: Option<i32>,
    kinds: &[String],
) -> Result<(), Refusal> {
    let caller = &request.circumstances.caller;
    for kind in kinds {
        let object = Object::WITH_PROPERTIES.iter().find(|o| o.as_str() == kind);
        let Some(list) = object.and_then(|o| o.properties()) else {
            return Err(Refusal::about(Status::WrongProperty, kind.as_str())
                .because("properties are for vm, user, osf, host and di"));
        };
        if list == Object::HostProperty {
            check_host(caller, tenant)?;
        }
        let id = property.to_string();
        write::insert(session, list, &[("property_id", Some(&id))], &caller.creator()).await?;
    }
    Ok(())
}

/// Gives an object the values of properties that the request has, and takes others away.
pub(super) async fn store(
    session: &impl Session,
    request: &Request,
    target: &Identity,
) -> Result<(), Refusal> {
    let object = request.checked.action.object;
    let wanted = &request.checked.properties;
    if object == Object::Host && !wanted.is_empty() && !request.circumstances.caller.is_super() {
        return Err(Refusal::new(Status::HostPropertyValue));
    }
    for (key, value) in wanted {
        let secret = config::sounds_secret(key);
        // A form that was filled with what lists show sends it back.
        if secret && value.as_deref() == Some(MASK) {
            continue;
        }
        if secret && value.as_ref().is_some_and(|value| value.len() > MAX_SECRET) {
            return Err(Refusal::about(Status::WrongProperty, key.as_str())
                .because(format!("a secret may have {MAX_SECRET} bytes")));
        }
        if value.as_deref().is_some_and(|value| value.starts_with(qvd_db::vault::PREFIX)) {
            return Err(Refusal::about(Status::WrongProperty, key.as_str())
                .because(format!("a value must not begin with {}", qvd_db::vault::PREFIX)));
        }
        let tenant = target.tenant.unwrap_or(ABOVE);
        let found = properties::assignment(session, object, key, tenant).await?;
        let assignment = found.ok_or_else(|| {
            Refusal::about(Status::WrongProperty, key.as_str())
                .because(format!("objects of kind {object} have no such property"))
        })?;
        let (vault, property) = (&request.vault, (assignment, key.as_str()));
        properties::store(vault, session, object, target.id, property, value.as_deref()).await?;
    }
    Ok(())
}
