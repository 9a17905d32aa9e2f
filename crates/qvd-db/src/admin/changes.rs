//! What changed, line by line, in a way that no line is missed.
//!
//! Numbers of lines are given out before transactions commit, so a lower one may appear later. A position in the story
//! is therefore a transaction: all of those before it are over, and what they wrote was seen. Going on from a position
//! repeats a few lines and misses none.

use crate::{Error, Session, Sql};

const POSITION: Sql = Sql::new(
    "read the position in the changes",
    "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS next",
);
const SINCE: Sql = Sql::new(
    "read the changes",
    "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS next, \
     pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS latest, f.transaction::text::bigint AS forgotten, \
     c.id, c.transaction::text::bigint AS written, c.kind, c.object_id, c.tenant_id, c.operation \
     FROM changes_forgotten AS f LEFT JOIN LATERAL (SELECT * FROM changes \
     WHERE transaction >= $1::bigint::text::xid8 \
     AND NOT EXISTS (SELECT 1 FROM unnest($3::bigint[]) AS seen WHERE seen = changes.id) \
     ORDER BY id LIMIT $2) AS c ON true ORDER BY c.id",
);
const FORGET: Sql = Sql::new(
    "forget old changes",
    "WITH old AS (DELETE FROM changes WHERE time < now() - interval '1 hour' RETURNING transaction), \
     last AS (SELECT transaction FROM old ORDER BY transaction DESC LIMIT 1) \
     UPDATE changes_forgotten AS f SET transaction = last.transaction FROM last WHERE f.transaction < last.transaction",
);

pub(crate) const ALL: &[Sql] = &[POSITION, SINCE, FORGET];

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub id: i64,
    /// The transaction that wrote it.
    pub written: i64,
    /// The kind of object, a word of the registry.
    pub kind: String,
    /// The object; settings have no number.
    pub object: Option<i32>,
    /// The tenant of the object, if it has one.
    pub tenant: Option<i32>,
    /// `created`, `changed` or `deleted`.
    pub operation: String,
}

/// Lines from a position on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The lines, by number.
    pub lines: Vec<Change>,
    /// Where to go on.
    pub next: i64,
    /// Whether lines behind the position are lost, or it is not one of this database.
    pub lost: bool,
}

/// The position of now.
pub async fn position(session: &impl Session) -> Result<i64, Error> {
    let row = POSITION.query_one(session, &[]).await?;
    POSITION.column(&row, "next")
}

/// The lines from a position on, `limit` at most and without those of these numbers.
pub async fn since(
    session: &impl Session,
    position: i64,
    limit: i64,
    seen: &[i64],
) -> Result<Changes, Error> {
    let rows = SINCE.query(session, &[&position, &limit, &seen]).await?;
    let mut changes = Changes { lines: Vec::new(), next: position, lost: false };
    for row in &rows {
        changes.next = SINCE.column(row, "next")?;
        let (forgotten, latest): (i64, i64) = (SINCE.column(row, "forgotten")?, SINCE.column(row, "latest")?);
        changes.lost = position <= forgotten || position > latest;
        let Some(id) = SINCE.column(row, "id")? else { continue };
        changes.lines.push(Change {
            id,
            written: SINCE.column(row, "written")?,
            kind: SINCE.column(row, "kind")?,
            object: SINCE.column(row, "object_id")?,
            tenant: SINCE.column(row, "tenant_id")?,
            operation: SINCE.column(row, "operation")?,
        });
    }
    Ok(changes)
}

/// Forgets lines that are older than an hour.
pub async fn forget(session: &impl Session) -> Result<(), Error> {
    FORGET.execute(session, &[]).await.map(drop)
}
