//! Rows that arguments refer to.

use qvd_model::action::Object;

use crate::{Error, Session, Sql};

const USER: Sql = Sql::new("find the user", "SELECT id, tenant_id FROM users WHERE id = $1");
const USERS: Sql = Sql::new("find the user by name", "SELECT id, tenant_id FROM users WHERE login = $1");
const OSF: Sql = Sql::new("find the OSF", "SELECT id, tenant_id FROM osfs WHERE id = $1");
const OSFS: Sql = Sql::new("find the OSF by name", "SELECT id, tenant_id FROM osfs WHERE name = $1");
const TENANT: Sql = Sql::new("find the tenant", "SELECT id, id AS tenant_id FROM tenants WHERE id = $1");
const TENANTS: Sql =
    Sql::new("find the tenant by name", "SELECT id, id AS tenant_id FROM tenants WHERE name = $1");
const PROPERTY: Sql =
    Sql::new("find the property", "SELECT id, tenant_id FROM properties_list WHERE id = $1");
const PROPERTIES: Sql =
    Sql::new("find the property by key", "SELECT id, tenant_id FROM properties_list WHERE key = $1");

pub(crate) const ALL: &[Sql] = &[USER, USERS, OSF, OSFS, TENANT, TENANTS, PROPERTY, PROPERTIES];

/// A row that is referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// Its id.
    pub id: i32,
    /// Its tenant.
    pub tenant: i32,
}

/// The row of an id.
pub async fn by_id(session: &impl Session, object: Object, id: i32) -> Result<Option<Reference>, Error> {
    let sql = match object {
        Object::User => USER,
        Object::Osf => OSF,
        Object::Property => PROPERTY,
        _ => TENANT,
    };
    let row = sql.query_opt(session, &[&id]).await?;
    row.map(|row| reference(sql, &row)).transpose()
}

/// The rows of a name, of all tenants.
pub async fn by_name(session: &impl Session, object: Object, name: &str) -> Result<Vec<Reference>, Error> {
    let sql = match object {
        Object::User => USERS,
        Object::Osf => OSFS,
        Object::Property => PROPERTIES,
        _ => TENANTS,
    };
    let rows = sql.query(session, &[&name]).await?;
    rows.iter().map(|row| reference(sql, row)).collect()
}

fn reference(sql: Sql, row: &tokio_postgres::Row) -> Result<Reference, Error> {
    Ok(Reference { id: sql.column(row, "id")?, tenant: sql.column(row, "tenant_id")? })
}
