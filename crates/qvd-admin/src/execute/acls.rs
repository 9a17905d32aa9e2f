//! Lists of ACLs: every one of the catalogue that is not hidden, with whether it is in force and where it comes from
//! (`spec/api.md` 4.15 and 5.7).

use std::collections::{BTreeMap, BTreeSet};

use qvd_db::admin::{identity, roles};
use qvd_logic::roles::Holder;
use qvd_model::RoleId;
use qvd_model::action::{Object, Status};
use qvd_model::filter::{Filter, Operand, Operator};
use serde_json::{Map, Value, json};

use super::matching::holds;
use super::{Reply, Request};
use crate::app::App;
use crate::caller::{RECOVERY, holder_of};
use crate::refusal::Refusal;

/// One ACL of an administrator or a role.
struct Row {
    acl: roles::Acl,
    /// Names of the roles that it comes from.
    roles: BTreeMap<i32, String>,
    operative: bool,
    /// Whose it is.
    of: i32,
}

/// The list of an administrator or a role.
pub(super) async fn list(app: &App, request: &Request) -> Result<Reply, Refusal> {
    let checked = &request.checked;
    let mut rows = rows(app, request).await?;
    rows.retain(|row| holds(&checked.filter, &|field| row.text(field)));
    let rank = |row: &Row| {
        let order: Vec<String> = checked.order.iter().map(|field| row.sort_key(field)).collect();
        (order, row.acl.id)
    };
    rows.sort_by_cached_key(rank);
    if checked.descending {
        rows.reverse();
    }
    let read = |row: &[Option<String>]| {
        let mut texts = row.iter().cloned().collect::<Option<Vec<String>>>()?;
        let id = texts.pop()?.parse::<i32>().ok()?;
        (texts.len() == checked.order.len()).then_some((texts, id))
    };
    let texts =
        |(order, id): (Vec<String>, i32)| order.into_iter().chain([id.to_string()]).map(Some).collect();
    let show = |row: &Row| Value::Object(row.members(&checked.fields)).to_string();
    Reply::page(rows, checked, rank, read, texts, show)
}

/// How many ACLs fit each pattern, and how many of those are in force.
pub(super) async fn counts(app: &App, request: &Request) -> Result<Reply, Refusal> {
    let rows = rows(app, request).await?;
    let mut members = Map::new();
    for pattern in patterns(&request.checked.filter)? {
        let fitting = || rows.iter().filter(|row| fits(&pattern, &row.acl.name));
        let effective = fitting().filter(|row| row.operative).count();
        members.insert(pattern.clone(), json!({"total": fitting().count(), "effective": effective}));
    }
    Ok(Reply::Members(members))
}

/// Answers name patterns beside the members that every answer has.
const MAX_PATTERNS: usize = 1000;

fn patterns(filter: &Filter) -> Result<Vec<String>, Refusal> {
    let wrong = || Refusal::about(Status::WrongFilterValue, "acl_pattern");
    let mut patterns = Vec::new();
    for test in filter.tests().into_iter().filter(|test| test.field == "acl_pattern") {
        match (&test.operand, test.operator) {
            (Operand::One(Some(one)), Operator::Equal) => patterns.push(one.clone()),
            (Operand::Many(several), Operator::Equal) => {
                patterns.extend(several.iter().flatten().cloned());
            }
            _ => return Err(wrong()),
        }
    }
    if patterns.len() > MAX_PATTERNS {
        return Err(wrong().because(format!("at most {MAX_PATTERNS} patterns at once")));
    }
    if patterns.is_empty() {
        patterns.push("%".to_owned());
    }
    Ok(patterns)
}

/// Whether a name holds the parts between `%` in this order.
fn fits(pattern: &str, name: &str) -> bool {
    let mut rest = name;
    pattern.split('%').all(|part| match rest.split_once(part) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

/// The ACLs of whom the filter names.
async fn rows(app: &App, request: &Request) -> Result<Vec<Row>, Refusal> {
    match request.checked.action.object {
        Object::RoleAcl => of_role(app, request).await,
        _ => of_administrator(app, request).await,
    }
}

async fn of_administrator(app: &App, request: &Request) -> Result<Vec<Row>, Refusal> {
    let caller = &request.circumstances.caller;
    let own = caller.id.unwrap_or(RECOVERY);
    let id = one(&request.checked.filter, "admin_id")?.unwrap_or(own);
    let client = app.database.client().await?;
    let who = identity::by_id(&client, id).await?;
    // Of another tenant, or the recovery administrator, who is not seen: as if it were not there.
    let who = who.filter(|who| id == own || (caller.reaches(who.tenant) && id != RECOVERY));
    let who = who.ok_or_else(|| Refusal::about(Status::ForeignReference, "admin_id"))?;
    let holder = holder_of(id, who.tenant);
    let known = roles::known(&client).await?;
    let held = roles::held(&client, id).await?;
    let granted = known.roles.granted(held.iter().copied());
    let operative = request.acl_rules.operative(holder, granted.iter().copied());
    catalogue(&client, request, holder, id, &known, held, &operative).await
}

async fn of_role(app: &App, request: &Request) -> Result<Vec<Row>, Refusal> {
    let caller = &request.circumstances.caller;
    let id = one(&request.checked.filter, "role_id")?
        .ok_or_else(|| Refusal::about(Status::MissingFilter, "role_id"))?;
    let client = app.database.client().await?;
    let known = roles::known(&client).await?;
    let role = RoleId(id);
    let reachable = known.names.get(&role).is_some_and(|r| r.tenant == -1 || caller.reaches(r.tenant));
    let own = known.own.get(&role).filter(|_| reachable);
    let own = own.ok_or_else(|| Refusal::about(Status::WrongRole, id.to_string()))?;
    let operative = known.roles.effective(role);
    let holder = caller.id.map_or(Holder::Super, |id| holder_of(id, caller.tenant));
    let below = own.inherits.iter().copied().collect();
    catalogue(&client, request, holder, id, &known, below, &operative).await
}

/// The one value that a filter must be equal to, if it is about that field at all.
fn one(filter: &Filter, field: &str) -> Result<Option<i32>, Refusal> {
    let tests: Vec<_> = filter.tests().into_iter().filter(|test| test.field == field).collect();
    let value = match tests.as_slice() {
        [] => return Ok(None),
        [test] if test.operator == Operator::Equal => match &test.operand {
            Operand::One(Some(value)) => Some(value),
            Operand::Many(values) => match values.as_slice() {
                [Some(value)] => Some(value),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    let number = value.and_then(|value| value.parse().ok());
    number.map(Some).ok_or_else(|| Refusal::about(Status::NotOne, field))
}

async fn catalogue(
    client: &impl qvd_db::Session,
    request: &Request,
    holder: Holder,
    of: i32,
    known: &roles::Known,
    sources: Vec<RoleId>,
    operative: &BTreeSet<&str>,
) -> Result<Vec<Row>, Refusal> {
    let granted: Vec<_> = sources.into_iter().map(|role| (role, known.roles.effective(role))).collect();
    let name = |role: &RoleId| known.names.get(role).map(|n| n.name.clone()).unwrap_or_default();
    let all = roles::acls(client).await?.into_iter();
    let shown = all.filter(|acl| !request.acl_rules.hides(holder, &acl.name));
    Ok(shown
        .map(|acl| {
            let from = granted.iter().filter(|(_, acls)| acls.contains(acl.name.as_str()));
            let roles = from.map(|(role, _)| (role.0, name(role))).collect();
            let operative = operative.contains(acl.name.as_str());
            Row { acl, roles, operative, of }
        })
        .collect())
}

impl Row {
    fn text(&self, field: &str) -> Option<String> {
        match field {
            "id" => Some(self.acl.id.to_string()),
            "name" | "acl_name" => Some(self.acl.name.clone()),
            "operative" => Some(self.operative.to_string()),
            "description" => Some(self.acl.description.clone()),
            "admin_id" | "role_id" => Some(self.of.to_string()),
            _ => None,
        }
    }

    /// Numbers sort as numbers.
    fn sort_key(&self, field: &str) -> String {
        if field == "id" { format!("{:010}", self.acl.id) } else { self.text(field).unwrap_or_default() }
    }

    fn members(&self, fields: &[&str]) -> Map<String, Value> {
        let member = |field: &&str| {
            let value = match *field {
                "id" => json!(self.acl.id),
                "operative" => json!(u8::from(self.operative)),
                "roles" => json!(self.roles),
                other => json!(self.text(other)),
            };
            ((*field).to_owned(), value)
        };
        fields.iter().map(member).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_found_anywhere_and_dots_are_dots() {
        for (pattern, name, expected) in [
            ("%", "vm.see-main.", true),
            ("vm.%", "vm.see-main.", true),
            ("see", "vm.see-main.", true),
            ("vm.%.state", "vm.see.vm-list-state", false),
            ("%.see.%", "vm.see.state", true),
            ("v.", "vm.see", false),
            ("see%vm", "vm.see", false),
            ("_", "vm.see", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
