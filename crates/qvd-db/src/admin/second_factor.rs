//! Second factors of administrators.

use secrecy::{ExposeSecret, SecretString};

use crate::vault::{Place, Vault};
use crate::{Error, Session, Sql};

const FIND: Sql = Sql::new(
    "read the second factor",
    "SELECT secret, confirmed, cardinality(recovery) AS recovery FROM second_factors WHERE administrator_id = $1",
);
const BEGIN: Sql = Sql::new(
    "begin a second factor",
    "INSERT INTO second_factors AS f (administrator_id, secret) VALUES ($1, $2) ON CONFLICT (administrator_id) \
     DO UPDATE SET secret = excluded.secret WHERE NOT f.confirmed",
);
const CONFIRM: Sql = Sql::new(
    "confirm the second factor",
    "UPDATE second_factors SET confirmed = true, last_step = $2, recovery = $3 \
     WHERE administrator_id = $1 AND NOT confirmed",
);
const TAKE_STEP: Sql = Sql::new(
    "take a code of the second factor",
    "UPDATE second_factors SET last_step = $2 WHERE administrator_id = $1 AND last_step < $2",
);
const TAKE_RECOVERY: Sql = Sql::new(
    "take a recovery code",
    "UPDATE second_factors SET recovery = array_remove(recovery, $2::text) \
     WHERE administrator_id = $1 AND $2 = ANY (recovery)",
);
const REMOVE: Sql =
    Sql::new("remove the second factor", "DELETE FROM second_factors WHERE administrator_id = $1");

pub(crate) const ALL: &[Sql] = &[FIND, BEGIN, CONFIRM, TAKE_STEP, TAKE_RECOVERY, REMOVE];

/// The second factor of an administrator.
#[derive(Debug, Clone)]
pub struct Factor {
    /// Its secret, in base32.
    pub secret: SecretString,
    /// Whether a code of it was seen, so that logins ask for one.
    pub confirmed: bool,
    /// Recovery codes that are left.
    pub recovery: i32,
}

/// The second factor of an administrator, if there is one.
pub async fn find(
    vault: &Vault,
    session: &impl Session,
    administrator: i32,
) -> Result<Option<Factor>, Error> {
    let Some(row) = FIND.query_opt(session, &[&administrator]).await? else { return Ok(None) };
    let stored: String = FIND.column(&row, "secret")?;
    let secret = vault.open(Place::SecondFactor(administrator), &stored)?.into();
    Ok(Some(Factor {
        secret,
        confirmed: FIND.column(&row, "confirmed")?,
        recovery: FIND.column(&row, "recovery")?,
    }))
}

/// Keeps a secret that is to be confirmed; `false` if there is a confirmed one.
pub async fn begin(
    vault: &Vault,
    session: &impl Session,
    administrator: i32,
    secret: &SecretString,
) -> Result<bool, Error> {
    let sealed = vault.seal(Place::SecondFactor(administrator), secret.expose_secret())?;
    BEGIN.execute(session, &[&administrator, &sealed]).await.map(|count| count > 0)
}

/// Puts it in force, with the step whose code was seen and the digests of recovery codes; `false` if it was already.
pub async fn confirm(
    session: &impl Session,
    administrator: i32,
    step: i64,
    recovery: &[String],
) -> Result<bool, Error> {
    CONFIRM.execute(session, &[&administrator, &step, &recovery]).await.map(|count| count > 0)
}

/// Takes the code of a step; `false` if it, or a later one, was taken before.
pub async fn take_step(session: &impl Session, administrator: i32, step: i64) -> Result<bool, Error> {
    TAKE_STEP.execute(session, &[&administrator, &step]).await.map(|count| count > 0)
}

/// Takes a recovery code; `false` if there is no such code any more.
pub async fn take_recovery(session: &impl Session, administrator: i32, digest: &str) -> Result<bool, Error> {
    TAKE_RECOVERY.execute(session, &[&administrator, &digest]).await.map(|count| count > 0)
}

/// Removes it; `false` if there was none.
pub async fn remove(session: &impl Session, administrator: i32) -> Result<bool, Error> {
    REMOVE.execute(session, &[&administrator]).await.map(|count| count > 0)
}
