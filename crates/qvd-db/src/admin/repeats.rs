//! Requests that are sent again: what was done for the first one.

use crate::{Error, Session, Sql};

const REMEMBER: Sql = Sql::new(
    "remember the request",
    "INSERT INTO api_repeats (caller, key, digest, object_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
);
const FIND: Sql =
    Sql::new("find the request", "SELECT digest, object_id FROM api_repeats WHERE caller = $1 AND key = $2");
const FORGET: Sql = Sql::new(
    "forget old requests",
    "DELETE FROM api_repeats WHERE time < now() - make_interval(hours => $1)",
);

pub(crate) const ALL: &[Sql] = &[REMEMBER, FIND, FORGET];

/// A request that can be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// Who sends it.
    pub caller: String,
    /// Its name among those of the caller.
    pub key: String,
    /// Stands for what it asks.
    pub digest: String,
}

/// What was done for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Stands for what was asked.
    pub digest: String,
    /// The object that was made, or got an order.
    pub object: i32,
}

/// Remembers what is done for a request, in the transaction that does it. `false`: it was done before.
pub async fn remember(session: &impl Session, repeat: &Repeat, object: i32) -> Result<bool, Error> {
    let Repeat { caller, key, digest } = repeat;
    Ok(REMEMBER.execute(session, &[caller, key, digest, &object]).await? == 1)
}

/// What was done for the request of this name.
pub async fn find(session: &impl Session, repeat: &Repeat) -> Result<Option<Done>, Error> {
    let row = FIND.query_opt(session, &[&repeat.caller, &repeat.key]).await?;
    row.map(|row| Ok(Done { digest: FIND.column(&row, "digest")?, object: FIND.column(&row, "object_id")? }))
        .transpose()
}

/// Forgets requests that are older than so many hours.
pub async fn forget(session: &impl Session, hours: i32) -> Result<u64, Error> {
    FORGET.execute(session, &[&hours]).await
}
