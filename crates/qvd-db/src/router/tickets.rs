//! Tickets: with what a client that lost its connection comes back to its VM, once each.
//!
//! A ticket is a row of `user_tokens` that belongs to one VM and one user. It is stored as a digest, and a VM has one at
//! most, that of the client that was connected last. Triggers take it away when the VM stops, or when user or tenant are
//! blocked or the password changes.

use qvd_model::VmId;

use super::identity::{Token, User, user_of};
use crate::events::Actor;
use crate::sql::Parameters;
use crate::{Database, Error, Sql};

const REDEEM: Sql = Sql::new(
    "redeem the ticket",
    "WITH redeemed AS (UPDATE user_tokens AS t SET token = $3, expiration = extract(epoch FROM now())::integer + $4::integer \
         FROM users AS u, tenants AS n WHERE t.token = $1 AND t.ticket AND t.vm_id = $2 \
         AND t.expiration >= extract(epoch FROM now())::integer AND u.id = t.user_id AND n.id = u.tenant_id \
         AND u.tenant_id > 0 AND NOT u.blocked AND NOT coalesce(n.blocked, false) \
         RETURNING t.vm_id, t.auth_params_id, u.id, u.login, u.tenant_id), \
     recorded AS (INSERT INTO events (kind, object_id, object_name, actor, code, text) \
         SELECT 'user', id, login, $5::text, 'login', 'came back with a ticket' FROM redeemed) \
     SELECT r.vm_id, r.auth_params_id, p.parameters::text AS parameters, r.id, r.login, r.tenant_id, \
         false AS blocked, NULL::text AS password \
     FROM redeemed AS r LEFT JOIN user_auth_parameters AS p ON p.id = r.auth_params_id",
);
const WHY: Sql = Sql::new(
    "see why the ticket is refused",
    "SELECT t.vm_id, t.expiration >= extract(epoch FROM now())::integer AS fresh, u.id, u.login, u.tenant_id, \
         u.blocked OR coalesce(n.blocked, false) AS blocked, NULL::text AS password \
     FROM user_tokens AS t JOIN users AS u ON u.id = t.user_id JOIN tenants AS n ON n.id = u.tenant_id \
     WHERE t.token = $1 AND t.ticket",
);

pub(super) const ALL: &[Sql] = &[REDEEM, WHY];

/// A ticket that is to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTicket {
    /// What is stored in its place.
    pub digest: String,
    /// How many seconds it is good for.
    pub seconds: i32,
    /// The row of `user_auth_parameters` with what plug-ins said at the login that it continues.
    pub parameters: Option<i32>,
}

/// What a client that has reached its desktop may come back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Return {
    /// With its password only; a ticket of whoever was there before ends.
    Password,
    /// With a new ticket.
    Ticket(NewTicket),
    /// With the ticket that it got when it redeemed the one it came with.
    Renewed,
}

/// Why a ticket is refused.
#[derive(Debug, Clone)]
pub enum Refused {
    /// There is none like it: it was redeemed before, was taken away, or never was.
    Unknown,
    /// It is for another VM of this user.
    OtherVm(User),
    /// It is too old.
    Expired(User),
    /// The user, or the tenant, is blocked.
    Blocked(User),
    /// It was good a moment ago: somebody else redeemed it, or it was renewed.
    Spent(User),
}

/// Redeems a ticket for its VM and puts a new one in its place, in one statement, with the event. Whoever is faster has
/// it. `vm` is the VM that is asked for, `ticket` what comes in place of `digest`.
pub async fn redeem(
    database: &Database,
    digest: &str,
    vm: VmId,
    ticket: &NewTicket,
    actor: &Actor,
) -> Result<Result<Token, Refused>, Error> {
    let client = database.client().await?;
    let actor = actor.as_str();
    let values: Parameters<'_> = &[&digest, &vm.0, &ticket.digest, &ticket.seconds, &actor];
    if let Some(row) = REDEEM.query_opt(&client, values).await? {
        return Ok(Ok(Token {
            user: user_of(REDEEM, &row)?,
            key: ticket.digest.clone().into(),
            vm: REDEEM.column::<Option<i32>>(&row, "vm_id")?.map(VmId),
            multi_use: true,
            parameters_id: REDEEM.column(&row, "auth_params_id")?,
            parameters: REDEEM.column(&row, "parameters")?,
        }));
    }
    let Some(row) = WHY.query_opt(&client, &[&digest]).await? else { return Ok(Err(Refused::Unknown)) };
    let user = user_of(WHY, &row)?;
    let of = WHY.column::<Option<i32>>(&row, "vm_id")?;
    Ok(Err(if user.blocked {
        Refused::Blocked(user)
    } else if !WHY.column::<bool>(&row, "fresh")? {
        Refused::Expired(user)
    } else if of != Some(vm.0) {
        Refused::OtherVm(user)
    } else {
        Refused::Spent(user)
    }))
}
