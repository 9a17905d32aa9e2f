//! Tokens by which programs of an administrator are known.

use crate::{Error, Session, Sql};

const INSERT: Sql = Sql::new(
    "make the token",
    "INSERT INTO api_tokens (administrator_id, name, digest, read_only, scope, manages_tokens, expiration) \
     VALUES ($1, $2, $3, $4, $5, $6, $7::text::timestamp) RETURNING id",
);
const FIND: Sql = Sql::new(
    "find the token",
    "SELECT id, administrator_id, name, read_only, scope, manages_tokens, \
     extract(epoch FROM expiration AT TIME ZONE 'UTC')::bigint AS ends, \
     to_char(expiration, 'YYYY-MM-DD HH24:MI:SS') AS expiration, \
     coalesce(expiration <= now() AT TIME ZONE 'UTC', false) AS expired, \
     coalesce(last_used < now() AT TIME ZONE 'UTC' - interval '1 minute', true) AS unnoticed \
     FROM api_tokens WHERE digest = $1",
);
const USED: Sql = Sql::new(
    "note the use of the token",
    "UPDATE api_tokens SET last_used = now() AT TIME ZONE 'UTC' WHERE id = $1",
);
const REVOKE: Sql = Sql::new(
    "revoke the tokens of the administrator",
    "DELETE FROM api_tokens WHERE administrator_id = $1 AND id <> $2",
);

pub(crate) const ALL: &[Sql] = &[INSERT, FIND, USED, REVOKE];

/// What a new token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct New {
    /// Whose it is.
    pub administrator: i32,
    /// What it is called.
    pub name: String,
    /// What stands for it.
    pub digest: String,
    /// Whether it only reads.
    pub read_only: bool,
    /// Names of the ACLs that it is limited to, with blanks between them; `None` for all of its administrator.
    pub scope: Option<String>,
    /// Whether it may make and remove tokens.
    pub manages_tokens: bool,
    /// When it ends, UTC; `None` for never.
    pub expiration: Option<String>,
}

/// A token that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub id: i32,
    /// Whose it is.
    pub administrator: i32,
    /// What it is called.
    pub name: String,
    /// Whether it only reads.
    pub read_only: bool,
    /// The ACLs that it is limited to.
    pub scope: Option<Vec<String>>,
    /// Whether it may make and remove tokens.
    pub manages_tokens: bool,
    /// When it ends, as seconds of the epoch and as text in UTC.
    pub expiration: Option<(i64, String)>,
    /// Whether it has ended.
    pub expired: bool,
    /// Whether its last use was written a while ago.
    pub unnoticed: bool,
}

/// Makes a token; the result is its number.
pub async fn insert(session: &impl Session, new: &New) -> Result<i32, Error> {
    let New { administrator, name, digest, read_only, scope, manages_tokens, expiration } = new;
    let row = INSERT
        .query_one(session, &[administrator, name, digest, read_only, scope, manages_tokens, expiration])
        .await?;
    INSERT.column(&row, "id")
}

/// The token that a digest stands for.
pub async fn find(session: &impl Session, digest: &str) -> Result<Option<Found>, Error> {
    let Some(row) = FIND.query_opt(session, &[&digest]).await? else { return Ok(None) };
    let scope: Option<String> = FIND.column(&row, "scope")?;
    let ends: Option<i64> = FIND.column(&row, "ends")?;
    Ok(Some(Found {
        id: FIND.column(&row, "id")?,
        administrator: FIND.column(&row, "administrator_id")?,
        name: FIND.column(&row, "name")?,
        read_only: FIND.column(&row, "read_only")?,
        scope: scope.map(|names| names.split(' ').map(str::to_owned).collect()),
        manages_tokens: FIND.column(&row, "manages_tokens")?,
        expiration: ends.zip(FIND.column(&row, "expiration")?),
        expired: FIND.column(&row, "expired")?,
        unnoticed: FIND.column(&row, "unnoticed")?,
    }))
}

/// Notes that a token is used now.
pub async fn used(session: &impl Session, id: i32) -> Result<(), Error> {
    USED.execute(session, &[&id]).await.map(drop)
}

/// Removes the tokens of an administrator, but not this one.
pub async fn revoke(session: &impl Session, administrator: i32, except: Option<i32>) -> Result<(), Error> {
    REVOKE.execute(session, &[&administrator, &except.unwrap_or_default()]).await.map(drop)
}
