//! Roles, what they grant, and who holds them.

use std::collections::BTreeMap;

use qvd_logic::roles::{Entry, Role, Roles};
use qvd_model::RoleId;

use crate::{Error, Session, Sql};

const ROLES: Sql =
    Sql::new("read the roles", "SELECT id, name, tenant_id, fixed OR internal AS locked FROM roles");
const ENTRIES: Sql = Sql::new(
    "read the ACLs of the roles",
    "SELECT own.role_id, acls.name, own.positive FROM acl_role_relations AS own JOIN acls ON acls.id = own.acl_id",
);
const EDGES: Sql =
    Sql::new("read what roles inherit", "SELECT inheritor_id, inherited_id FROM role_role_relations");
const ACLS: Sql =
    Sql::new("read the ACLs", "SELECT id, name, coalesce(description, '') AS description FROM acls");
const HELD: Sql = Sql::new(
    "read the roles of the administrator",
    "SELECT role_id FROM role_administrator_relations WHERE administrator_id = $1",
);
const FORGET: Sql = Sql::new(
    "remove an ACL of the role",
    "DELETE FROM acl_role_relations WHERE role_id = $1 AND acl_id = $2",
);
const ENTER: Sql = Sql::new(
    "write an ACL of the role",
    "INSERT INTO acl_role_relations (role_id, acl_id, positive) VALUES ($1, $2, $3) \
     ON CONFLICT (role_id, acl_id) DO UPDATE SET positive = excluded.positive",
);
const INHERIT: Sql = Sql::new(
    "let the role inherit",
    "INSERT INTO role_role_relations (inheritor_id, inherited_id) VALUES ($1, $2)",
);
const DISINHERIT: Sql = Sql::new(
    "let the role inherit no more",
    "DELETE FROM role_role_relations WHERE inheritor_id = $1 AND inherited_id = $2",
);
const HOLD: Sql = Sql::new(
    "give the role to the administrator",
    "INSERT INTO role_administrator_relations (administrator_id, role_id) VALUES ($1, $2)",
);
const RELEASE: Sql = Sql::new(
    "take the role from the administrator",
    "DELETE FROM role_administrator_relations WHERE administrator_id = $1 AND role_id = $2",
);

pub(crate) const ALL: &[Sql] =
    &[ROLES, ENTRIES, EDGES, ACLS, HELD, FORGET, ENTER, INHERIT, DISINHERIT, HOLD, RELEASE];

/// What a role is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its tenant.
    pub tenant: i32,
    /// Whether it is part of the installation.
    pub locked: bool,
}

/// An ACL of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// Its number.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// What it permits.
    pub description: String,
}

/// Every role: what it is called, and what it grants.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// By number.
    pub names: BTreeMap<RoleId, Named>,
    /// What they grant.
    pub roles: Roles,
    /// What each says and inherits itself.
    pub own: BTreeMap<RoleId, Role>,
}

/// Reads every role.
pub async fn known(session: &impl Session) -> Result<Known, Error> {
    let mut known = Known::default();
    for row in ROLES.query(session, &[]).await? {
        let id = RoleId(ROLES.column(&row, "id")?);
        let named = Named {
            name: ROLES.column(&row, "name")?,
            tenant: ROLES.column(&row, "tenant_id")?,
            locked: ROLES.column(&row, "locked")?,
        };
        known.names.insert(id, named);
        known.own.insert(id, Role::default());
    }
    for row in ENTRIES.query(session, &[]).await? {
        let entry = if ENTRIES.column(&row, "positive")? { Entry::Positive } else { Entry::Negative };
        let role = known.own.entry(RoleId(ENTRIES.column(&row, "role_id")?)).or_default();
        role.entries.insert(ENTRIES.column(&row, "name")?, entry);
    }
    for row in EDGES.query(session, &[]).await? {
        let role = known.own.entry(RoleId(EDGES.column(&row, "inheritor_id")?)).or_default();
        role.inherits.insert(RoleId(EDGES.column(&row, "inherited_id")?));
    }
    known.roles = known.own.clone().into_iter().collect();
    Ok(known)
}

/// Reads every ACL.
pub async fn acls(session: &impl Session) -> Result<Vec<Acl>, Error> {
    let rows = ACLS.query(session, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Acl {
                id: ACLS.column(row, "id")?,
                name: ACLS.column(row, "name")?,
                description: ACLS.column(row, "description")?,
            })
        })
        .collect()
}

/// The roles that an administrator holds.
pub async fn held(session: &impl Session, administrator: i32) -> Result<Vec<RoleId>, Error> {
    let rows = HELD.query(session, &[&administrator]).await?;
    rows.iter().map(|row| Ok(RoleId(HELD.column(row, "role_id")?))).collect()
}

/// What a role says of an ACL itself; `None` for nothing.
pub async fn set_entry(
    session: &impl Session,
    role: RoleId,
    acl: i32,
    entry: Option<Entry>,
) -> Result<(), Error> {
    match entry {
        None => FORGET.execute(session, &[&role.0, &acl]).await.map(drop),
        Some(entry) => ENTER.execute(session, &[&role.0, &acl, &(entry == Entry::Positive)]).await.map(drop),
    }
}

/// Lets a role inherit from another.
pub async fn inherit(session: &impl Session, inheritor: RoleId, inherited: RoleId) -> Result<(), Error> {
    INHERIT.execute(session, &[&inheritor.0, &inherited.0]).await.map(drop)
}

/// Lets a role inherit from another no more; it need not have.
pub async fn disinherit(session: &impl Session, inheritor: RoleId, inherited: RoleId) -> Result<(), Error> {
    DISINHERIT.execute(session, &[&inheritor.0, &inherited.0]).await.map(drop)
}

/// Gives a role to an administrator.
pub async fn hold(session: &impl Session, administrator: i32, role: RoleId) -> Result<(), Error> {
    HOLD.execute(session, &[&administrator, &role.0]).await.map(drop)
}

/// Takes a role from an administrator, who need not have it.
pub async fn release(session: &impl Session, administrator: i32, role: RoleId) -> Result<(), Error> {
    RELEASE.execute(session, &[&administrator, &role.0]).await.map(drop)
}
