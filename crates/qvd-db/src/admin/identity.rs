//! Administrators, what they may do, and their sessions.

use crate::{Error, Session, Sql};

const BY_LOGIN: Sql = Sql::new(
    "find the administrator",
    "SELECT a.id, a.name, a.tenant_id, t.name AS tenant_name, coalesce(t.blocked, false) AS blocked, a.password \
     FROM administrators AS a JOIN tenants AS t ON t.id = a.tenant_id \
     WHERE a.name = $1 AND ($2::text IS NULL OR t.name = $2) ORDER BY a.id",
);
const BY_ID: Sql = Sql::new(
    "read the administrator",
    "SELECT a.id, a.name, a.tenant_id, t.name AS tenant_name, coalesce(t.blocked, false) AS blocked, a.password \
     FROM administrators AS a JOIN tenants AS t ON t.id = a.tenant_id WHERE a.id = $1",
);
const REHASH: Sql = Sql::new(
    "replace the hash of the administrator",
    "UPDATE administrators SET password = $2 WHERE id = $1 AND password = $3",
);
/// Follows the roles of one administrator downwards; the view of all roles would be computed as a whole. What a
/// role takes away is taken from everything below it, on this path only.
const ACLS: Sql = Sql::new(
    "read the permissions of the administrator",
    "WITH RECURSIVE reached (role, blocked) AS (\
     SELECT role_id, ARRAY[]::integer[] FROM role_administrator_relations WHERE administrator_id = $1 \
     UNION SELECT edge.inherited_id, ARRAY(SELECT DISTINCT id FROM (SELECT unnest(reached.blocked) AS id UNION ALL \
     SELECT acl_id FROM acl_role_relations WHERE role_id = reached.role AND NOT positive) AS taken ORDER BY id) \
     FROM reached JOIN role_role_relations AS edge ON edge.inheritor_id = reached.role) \
     SELECT DISTINCT acls.name FROM reached \
     JOIN acl_role_relations AS own ON own.role_id = reached.role AND own.positive \
     JOIN acls ON acls.id = own.acl_id WHERE own.acl_id <> ALL (reached.blocked) ORDER BY acls.name",
);
const SETUP: Sql = Sql::new(
    "read the console setup",
    "SELECT a.language AS admin_language, a.block AS admin_block, t.language AS tenant_language, \
     t.block AS tenant_block FROM (SELECT $1::integer AS admin, $2::integer AS tenant) AS who \
     LEFT JOIN wat_setups_by_administrators AS a ON a.administrator_id = who.admin \
     LEFT JOIN wat_setups_by_tenants AS t ON t.tenant_id = who.tenant",
);
const OPEN: Sql = Sql::new(
    "open a session",
    "INSERT INTO session (sid, administrator_id, address, user_agent, expires) \
     VALUES ($1, $2, $3, left($4::text, 200), $5)",
);
const FIND: Sql = Sql::new(
    "find the session",
    "SELECT administrator_id, address, extract(epoch FROM opened AT TIME ZONE 'UTC')::bigint AS opened, expires, \
     last_used < now() AT TIME ZONE 'UTC' - interval '1 minute' AS unnoticed FROM session WHERE sid = $1",
);
const EXTEND: Sql = Sql::new(
    "extend the session",
    "UPDATE session SET expires = $2, last_used = now() AT TIME ZONE 'UTC' WHERE sid = $1",
);
const CLOSE: Sql = Sql::new("close the session", "DELETE FROM session WHERE sid = $1");
const REVOKE: Sql = Sql::new(
    "end the sessions of the administrator",
    "DELETE FROM session WHERE administrator_id = $1 AND sid <> $2",
);
const REVOKE_TENANT: Sql = Sql::new(
    "end the sessions of the administrators of the tenant",
    "DELETE FROM session WHERE administrator_id IN (SELECT id FROM administrators WHERE tenant_id = $1)",
);
const PURGE: Sql = Sql::new("remove expired sessions", "DELETE FROM session WHERE expires < $1");
const SCHEMA: Sql =
    Sql::new("read the schema version", "SELECT version FROM versions WHERE component = 'schema'");
const VIEWS: Sql = Sql::new(
    "read the console views",
    "SELECT row_to_json(v)::text AS view FROM (\
     SELECT field, tenant_id, NULL::integer AS administrator_id, CASE WHEN visible THEN 1 ELSE 0 END AS visible, \
     view_type, device_type, property, qvd_object FROM operative_views_in_tenants AS t WHERE tenant_id = $2 \
     AND NOT EXISTS (SELECT 1 FROM operative_views_in_administrators AS a WHERE a.administrator_id = $1 \
     AND (a.field, a.view_type::text, a.device_type::text, a.qvd_object::text, a.property) = \
     (t.field, t.view_type::text, t.device_type::text, t.qvd_object::text, t.property)) \
     UNION ALL SELECT field, tenant_id, administrator_id, CASE WHEN visible THEN 1 ELSE 0 END, view_type, \
     device_type, property, qvd_object FROM operative_views_in_administrators WHERE administrator_id = $1) AS v",
);

pub(crate) const ALL: &[Sql] = &[
    BY_LOGIN,
    BY_ID,
    REHASH,
    ACLS,
    SETUP,
    OPEN,
    FIND,
    EXTEND,
    CLOSE,
    REVOKE,
    REVOKE_TENANT,
    PURGE,
    SCHEMA,
    VIEWS,
];

/// An administrator.
#[derive(Clone, PartialEq, Eq)]
pub struct Administrator {
    /// Its id.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Its tenant; 0 for super-administrators.
    pub tenant: i32,
    /// The name of its tenant.
    pub tenant_name: String,
    /// Whether the tenant is blocked.
    pub blocked: bool,
    /// The hash of its password.
    pub password: Option<String>,
}

impl std::fmt::Debug for Administrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The hash stays out of logs.
        f.debug_struct("Administrator")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn administrator(sql: Sql, row: &tokio_postgres::Row) -> Result<Administrator, Error> {
    Ok(Administrator {
        id: sql.column(row, "id")?,
        name: sql.column(row, "name")?,
        tenant: sql.column(row, "tenant_id")?,
        tenant_name: sql.column(row, "tenant_name")?,
        blocked: sql.column(row, "blocked")?,
        password: sql.column(row, "password")?,
    })
}

/// Administrators of this name, in this tenant or in any.
pub async fn by_login(
    session: &impl Session,
    name: &str,
    tenant: Option<&str>,
) -> Result<Vec<Administrator>, Error> {
    let rows = BY_LOGIN.query(session, &[&name, &tenant]).await?;
    rows.iter().map(|row| administrator(BY_LOGIN, row)).collect()
}

/// The administrator of an id.
pub async fn by_id(session: &impl Session, id: i32) -> Result<Option<Administrator>, Error> {
    let row = BY_ID.query_opt(session, &[&id]).await?;
    row.map(|row| administrator(BY_ID, &row)).transpose()
}

/// Puts a new hash in place of an old one, unless somebody was faster.
pub async fn replace_hash(session: &impl Session, id: i32, new: &str, old: &str) -> Result<(), Error> {
    REHASH.execute(session, &[&id, &new, &old]).await.map(drop)
}

/// The ACLs of the roles that an administrator holds.
pub async fn acls(session: &impl Session, administrator: i32) -> Result<Vec<String>, Error> {
    let rows = ACLS.query(session, &[&administrator]).await?;
    rows.iter().map(|row| ACLS.column(row, "name")).collect()
}

/// How the console of an administrator is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Language of the administrator.
    pub admin_language: Option<String>,
    /// Rows on a page, of the administrator.
    pub admin_block: Option<i32>,
    /// Language of the tenant.
    pub tenant_language: Option<String>,
    /// Rows on a page, of the tenant.
    pub tenant_block: Option<i32>,
}

/// Reads the setup of an administrator of a tenant.
pub async fn setup(session: &impl Session, administrator: i32, tenant: i32) -> Result<Setup, Error> {
    let row = SETUP.query_one(session, &[&administrator, &tenant]).await?;
    Ok(Setup {
        admin_language: SETUP.column(&row, "admin_language")?,
        admin_block: SETUP.column(&row, "admin_block")?,
        tenant_language: SETUP.column(&row, "tenant_language")?,
        tenant_block: SETUP.column(&row, "tenant_block")?,
    })
}

/// The view settings that are in force for an administrator, as JSON objects.
pub async fn views(session: &impl Session, administrator: i32, tenant: i32) -> Result<Vec<String>, Error> {
    let rows = VIEWS.query(session, &[&administrator, &tenant]).await?;
    rows.iter().map(|row| VIEWS.column(row, "view")).collect()
}

/// A new session.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Stands for its id.
    pub digest: &'a str,
    /// Whose it is.
    pub administrator: i32,
    /// From where.
    pub address: &'a str,
    /// By which program, as that calls itself.
    pub user_agent: Option<&'a str>,
    /// When it ends unless it is used, as seconds of the epoch.
    pub expires: i32,
}

/// Opens a session.
pub async fn open(session: &impl Session, new: Opening<'_>) -> Result<(), Error> {
    let Opening { digest, administrator, address, user_agent, expires } = new;
    OPEN.execute(session, &[&digest, &administrator, &address, &user_agent, &expires]).await.map(drop)
}

/// A session that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub administrator: i32,
    /// From where it was opened.
    pub address: String,
    /// When it was opened, as seconds of the epoch.
    pub opened: i64,
    /// When it ends unless it is used, as seconds of the epoch.
    pub expires: i32,
    /// Whether its last use was written a while ago.
    pub unnoticed: bool,
}

/// The session that a digest stands for.
pub async fn find(session: &impl Session, digest: &str) -> Result<Option<Found>, Error> {
    let Some(row) = FIND.query_opt(session, &[&digest]).await? else { return Ok(None) };
    Ok(Some(Found {
        administrator: FIND.column(&row, "administrator_id")?,
        address: FIND.column(&row, "address")?,
        opened: FIND.column(&row, "opened")?,
        expires: FIND.column(&row, "expires")?,
        unnoticed: FIND.column(&row, "unnoticed")?,
    }))
}

/// Notes that a session is used now, and moves its end; `false` if it is not there any more.
pub async fn extend(session: &impl Session, digest: &str, expires: i32) -> Result<bool, Error> {
    Ok(EXTEND.execute(session, &[&digest, &expires]).await? > 0)
}

/// Ends a session.
pub async fn close(session: &impl Session, digest: &str) -> Result<(), Error> {
    CLOSE.execute(session, &[&digest]).await.map(drop)
}

/// Ends the sessions of an administrator, but not the one of this digest.
pub async fn revoke(session: &impl Session, administrator: i32, except: &str) -> Result<(), Error> {
    REVOKE.execute(session, &[&administrator, &except]).await.map(drop)
}

/// Ends the sessions of all administrators of a tenant.
pub async fn revoke_tenant(session: &impl Session, tenant: i32) -> Result<(), Error> {
    REVOKE_TENANT.execute(session, &[&tenant]).await.map(drop)
}

/// Removes what expired before `now`.
pub async fn purge(session: &impl Session, now: i32) -> Result<(), Error> {
    PURGE.execute(session, &[&now]).await.map(drop)
}

/// The version of the schema.
pub async fn schema_version(session: &impl Session) -> Result<Option<String>, Error> {
    let row = SCHEMA.query_opt(session, &[]).await?;
    row.map(|row| SCHEMA.column(&row, "version")).transpose()
}
