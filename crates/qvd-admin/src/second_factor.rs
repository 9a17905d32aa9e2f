//! Second factors of administrators at a login: whether one is in force, and whether a code is right.

use qvd_auth::{Code, SecondFactor};
use qvd_db::Session;
use qvd_db::admin::second_factor::{self as rows, Factor};
use qvd_db::vault::Vault;
use secrecy::ExposeSecret;
use time::OffsetDateTime;

use crate::app::App;
use crate::refusal::Refusal;
use crate::session::internal;

/// Whether logins of an administrator need a code.
pub(crate) async fn is_in_force(app: &App, administrator: i32) -> Result<bool, Refusal> {
    let client = app.database.client().await?;
    let factor = rows::find(app.database.vault(), &client, administrator).await?;
    Ok(factor.is_some_and(|factor| factor.confirmed))
}

/// Whether a code is right; it is none any more then.
pub(crate) async fn takes(
    vault: &Vault,
    session: &impl Session,
    administrator: i32,
    code: &Code<'_>,
) -> Result<bool, Refusal> {
    let Some(factor) = rows::find(vault, session, administrator).await? else { return Ok(false) };
    Ok(match code {
        Code::Recovery(digest) => rows::take_recovery(session, administrator, digest).await?,
        Code::Now(code) => match step(&factor, code)? {
            Some(step) => rows::take_step(session, administrator, step).await?,
            None => false,
        },
    })
}

/// The step of time whose code this is.
pub(crate) fn step(factor: &Factor, code: &str) -> Result<Option<i64>, Refusal> {
    let factor = SecondFactor::new(factor.secret.expose_secret()).map_err(internal)?;
    let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or_default();
    Ok(factor.step(code, now))
}
