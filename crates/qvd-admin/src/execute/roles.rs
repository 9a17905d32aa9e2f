//! Roles of administrators, and ACLs and roles of roles (`spec/api.md` 3.5 and 5.7).

use std::collections::BTreeSet;

use qvd_db::Session;
use qvd_db::admin::roles::{self, Acl, Known};
use qvd_db::admin::select::Identity;
use qvd_logic::roles::{Entry, Holder};
use qvd_model::RoleId;
use qvd_model::action::{Change, Object, Status};

use super::Request;
use crate::caller::holder_of;
use crate::refusal::Refusal;
use crate::session::internal;

/// The tenant of global things: its roles may be used everywhere.
const GLOBAL: i32 = -1;

/// The tenant of super-administrators.
const ABOVE: i32 = 0;

/// Refuses to touch a role that is part of the installation.
pub(super) async fn check_changeable(session: &impl Session, role: &Identity) -> Result<(), Refusal> {
    let known = roles::known(session).await?;
    match known.names.get(&RoleId(role.id)) {
        Some(named) if named.locked => Err(Refusal::about(Status::ArgumentNotAllowed, named.name.as_str())
            .because("the role is part of the installation; make one that inherits from it")),
        Some(_) => Ok(()),
        None => Err(Refusal::new(Status::NothingMatched)),
    }
}

/// Gives ACLs or roles to a role, or roles to an administrator, or takes them away.
pub(super) async fn change(
    session: &impl Session,
    request: &Request,
    target: &Identity,
    change: Change,
    values: &[String],
) -> Result<(), Refusal> {
    let known = roles::known(session).await?;
    let catalogue = roles::acls(session).await?;
    if matches!(change, Change::AssignAcls | Change::UnassignAcls) {
        let role = RoleId(target.id);
        for acl in acls_meant(&catalogue, values)? {
            if change == Change::AssignAcls {
                check_grant(request, target, [acl.name.as_str()].into())?;
                assign_acl(session, role, acl).await?;
            } else {
                unassign_acl(session, role, acl).await?;
            }
        }
        return Ok(());
    }
    let of_administrator = request.checked.action.object == Object::Administrator;
    for role in roles_meant(request, target, &known, values)? {
        if change == Change::AssignRoles {
            check_grant(request, target, known.roles.effective(role))?;
        }
        match (change, of_administrator) {
            (Change::AssignRoles, true) => hold(session, target.id, role, &known).await?,
            (_, true) => roles::release(session, target.id, role).await?,
            (Change::AssignRoles, false) => inherit(session, RoleId(target.id), role, &catalogue).await?,
            (_, false) => disinherit(session, RoleId(target.id), role, &catalogue).await?,
        }
    }
    Ok(())
}

/// Nobody grants what it does not have. What holders of that tenant never have does not count.
fn check_grant(request: &Request, target: &Identity, granted: BTreeSet<&str>) -> Result<(), Refusal> {
    let caller = &request.circumstances.caller;
    let holder = match (request.checked.action.object, target.tenant) {
        (Object::Administrator, tenant) => holder_of(target.id, tenant.unwrap_or(caller.tenant)),
        (_, Some(GLOBAL | ABOVE)) => Holder::Super,
        _ => Holder::Tenant,
    };
    let granted = granted.into_iter().filter(|acl| !request.acl_rules.hides(holder, acl));
    let missing = granted.into_iter().find(|acl| !caller.acls.iter().any(|own| own == acl));
    match missing {
        None => Ok(()),
        Some(acl) => Err(Refusal::about(Status::ArgumentNotAllowed, acl)
            .because("administrators can only grant ACLs that they have themselves")),
    }
}

/// Whether values are numbers; they must not be mixed with names.
fn are_numbers(values: &[String]) -> Result<bool, Refusal> {
    let numbers = values.iter().filter(|v| v.bytes().all(|b| b.is_ascii_digit())).count();
    if numbers == 0 || numbers == values.len() {
        Ok(numbers > 0)
    } else {
        Err(Refusal::new(Status::WrongAcl).because("numbers and names are mixed"))
    }
}

fn acls_meant<'c>(catalogue: &'c [Acl], values: &[String]) -> Result<Vec<&'c Acl>, Refusal> {
    let by_number = are_numbers(values)?;
    values
        .iter()
        .map(|value| {
            let found = catalogue
                .iter()
                .find(|acl| if by_number { acl.id.to_string() == *value } else { acl.name == *value });
            found.ok_or_else(|| Refusal::about(Status::WrongAcl, value.as_str()))
        })
        .collect()
}

/// The roles that values name: of the target's tenant, global ones, and for those above also their own.
fn roles_meant(
    request: &Request,
    target: &Identity,
    known: &Known,
    values: &[String],
) -> Result<Vec<RoleId>, Refusal> {
    let caller = &request.circumstances.caller;
    let by_number = are_numbers(values)?;
    let tenant = target.tenant.unwrap_or(caller.tenant);
    let usable = |of: i32| of == tenant || of == GLOBAL || (of == ABOVE && caller.is_super());
    values
        .iter()
        .map(|value| {
            let meant = known.names.iter().filter(|(id, named)| {
                let same = if by_number { id.0.to_string() == *value } else { named.name == *value };
                same && usable(named.tenant)
            });
            match meant.map(|(id, _)| *id).collect::<Vec<_>>().as_slice() {
                [one] => Ok(*one),
                [] => Err(Refusal::about(Status::WrongRole, value.as_str())),
                _ => Err(Refusal::about(Status::WrongRole, value.as_str())
                    .because("several roles are called so; give the number instead")),
            }
        })
        .collect()
}

async fn assign_acl(session: &impl Session, role: RoleId, acl: &Acl) -> Result<(), Refusal> {
    let known = roles::known(session).await?;
    if known.roles.effective(role).contains(acl.name.as_str()) {
        return Ok(());
    }
    let refused = known.own.get(&role).and_then(|r| r.entries.get(&acl.name)) == Some(&Entry::Negative);
    if refused {
        roles::set_entry(session, role, acl.id, None).await?;
        // What it refused may have come from nowhere.
        let known = roles::known(session).await?;
        if known.roles.effective(role).contains(acl.name.as_str()) {
            return Ok(());
        }
    }
    Ok(roles::set_entry(session, role, acl.id, Some(Entry::Positive)).await?)
}

async fn unassign_acl(session: &impl Session, role: RoleId, acl: &Acl) -> Result<(), Refusal> {
    let known = roles::known(session).await?;
    if !known.roles.effective(role).contains(acl.name.as_str()) {
        return Ok(());
    }
    roles::set_entry(session, role, acl.id, None).await?;
    let known = roles::known(session).await?;
    if known.roles.effective(role).contains(acl.name.as_str()) {
        roles::set_entry(session, role, acl.id, Some(Entry::Negative)).await?;
    }
    Ok(())
}

async fn hold(
    session: &impl Session,
    administrator: i32,
    role: RoleId,
    known: &Known,
) -> Result<(), Refusal> {
    if roles::held(session, administrator).await?.contains(&role) {
        let name = known.names.get(&role).map(|named| named.name.clone()).unwrap_or_default();
        return Err(Refusal::about(Status::RoleAssigned, name));
    }
    Ok(roles::hold(session, administrator, role).await?)
}

async fn inherit(
    session: &impl Session,
    inheritor: RoleId,
    inherited: RoleId,
    catalogue: &[Acl],
) -> Result<(), Refusal> {
    let known = roles::known(session).await?;
    let name = known.names.get(&inherited).map(|named| named.name.clone()).unwrap_or_default();
    if known.roles.inherits_from(inherited, inheritor) {
        return Err(Refusal::about(Status::CircularRoles, name));
    }
    let own = known.own.get(&inheritor).ok_or_else(|| Refusal::new(Status::NothingMatched))?;
    if own.inherits.contains(&inherited) {
        return Err(Refusal::about(Status::RoleAssigned, name));
    }
    roles::inherit(session, inheritor, inherited).await?;
    // What it now inherits it need neither grant nor refuse itself.
    for acl in known.roles.effective(inherited).into_iter().filter(|acl| own.entries.contains_key(*acl)) {
        roles::set_entry(session, inheritor, number(catalogue, acl)?, None).await?;
    }
    Ok(())
}

async fn disinherit(
    session: &impl Session,
    inheritor: RoleId,
    inherited: RoleId,
    catalogue: &[Acl],
) -> Result<(), Refusal> {
    roles::disinherit(session, inheritor, inherited).await?;
    let known = roles::known(session).await?;
    let Some(own) = known.own.get(&inheritor) else { return Ok(()) };
    let inherited = known.roles.granted(own.inherits.iter().copied());
    let idle = own
        .entries
        .iter()
        .filter(|(acl, entry)| **entry == Entry::Negative && !inherited.contains(acl.as_str()));
    for (acl, _) in idle {
        roles::set_entry(session, inheritor, number(catalogue, acl)?, None).await?;
    }
    Ok(())
}

fn number(catalogue: &[Acl], name: &str) -> Result<i32, Refusal> {
    catalogue.iter().find(|acl| acl.name == name).map(|acl| acl.id).ok_or_else(|| internal(name))
}
