//! The audit log: one row for each object and change, and for each request that was refused.

use super::select::Scope;
use crate::{Error, Session, Sql};

const RECORD: Sql = Sql::new(
    "write the audit log",
    "INSERT INTO log (administrator_id, administrator_name, tenant_id, tenant_name, action, type_of_action, \
     arguments, qvd_object, object_id, object_name, time, status, source, ip, superadmin, before, after, user_agent) \
     VALUES ($1, $2, $3, coalesce((SELECT name FROM tenants WHERE id = $3), $4), $5, $6, $7, $8, $9, \
     left($10, 80), now() AT TIME ZONE 'UTC', $11, left($12, 80), $13, $14, $15, $16, left($17, 200))",
);

const SOURCES: Sql = Sql::new(
    "read the sources of the log",
    "SELECT DISTINCT source FROM log WHERE source IS NOT NULL AND ($1::integer IS NULL OR tenant_id = $1) \
     AND ($2::text[] IS NULL OR qvd_object = ANY ($2)) ORDER BY source",
);

pub(crate) const ALL: &[Sql] = &[RECORD, SOURCES];

/// One row of the log.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Who, unless nobody was recognized or it is root.
    pub administrator: Option<i32>,
    /// Its name, or the one that was tried.
    pub administrator_name: Option<&'a str>,
    /// The tenant of the object, else of the administrator.
    pub tenant: Option<i32>,
    /// A tenant that is only known by name.
    pub tenant_name: Option<&'a str>,
    /// The action.
    pub action: &'a str,
    /// `create`, `update`, …
    pub verb: &'a str,
    /// The arguments as JSON, without secrets.
    pub arguments: &'a str,
    /// What kind of object.
    pub object: &'a str,
    /// Which one.
    pub object_id: Option<i32>,
    /// Its name.
    pub object_name: Option<&'a str>,
    /// The outcome.
    pub status: i32,
    /// The client, as it calls itself.
    pub source: Option<&'a str>,
    /// Where the request came from.
    pub address: Option<&'a str>,
    /// Whether it was a super-administrator.
    pub superadmin: Option<bool>,
    /// What was there before and is no more, as a JSON object without secrets.
    pub before: Option<&'a str>,
    /// What is there instead, likewise.
    pub after: Option<&'a str>,
    /// The program, as its requests say.
    pub user_agent: Option<&'a str>,
}

/// Writes a row; in the transaction of the change where there is one.
pub async fn record(session: &impl Session, record: &Record<'_>) -> Result<(), Error> {
    RECORD
        .execute(
            session,
            &[
                &record.administrator,
                &record.administrator_name,
                &record.tenant,
                &record.tenant_name,
                &record.action,
                &record.verb,
                &record.arguments,
                &record.object,
                &record.object_id,
                &record.object_name,
                &record.status,
                &record.source,
                &record.address,
                &record.superadmin,
                &record.before,
                &record.after,
                &record.user_agent,
            ],
        )
        .await
        .map(drop)
}

/// The clients that the log knows, in a tenant or in all, of some kinds of objects or of all.
pub async fn sources(
    session: &impl Session,
    scope: &Scope,
    kinds: Option<&[&str]>,
) -> Result<Vec<String>, Error> {
    let rows = SOURCES.query(session, &[&scope.tenant(), &kinds]).await?;
    rows.iter().map(|row| SOURCES.column(row, "source")).collect()
}
