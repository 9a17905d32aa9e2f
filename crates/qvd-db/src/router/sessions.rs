//! Which client has a VM. Every write is one compare-and-set on the session's id.

use qvd_model::event::{EndReason, ObjectKind};
use qvd_model::{HostId, UserId, VmId, VmState, notify};
use secrecy::{ExposeSecret, SecretString};

use super::tickets::Return;
use super::vms::{Desktop, desktop_of};
use crate::events::{self, Actor, End, Event};
use crate::sql::Parameters;
use crate::{Database, Error, Sql};

const CLAIM: Sql = Sql::new(
    "claim the session",
    "UPDATE vm_runtimes AS r SET user_state = 'connecting', user_state_ts = extract(epoch FROM now())::integer, \
     user_cmd = NULL, l7r_host_id = $2, l7r_pid = $3, l7r_instance = $4, session_id = $5, real_user_id = $6 \
     FROM vms WHERE r.vm_id = $1 AND r.user_state = 'disconnected' AND vms.id = r.vm_id \
     RETURNING r.xmin::text::bigint AS version, vms.name, vms.user_id, coalesce(r.blocked, false) AS blocked, \
     r.vm_state, r.vm_cmd, r.start_step, r.failure_code, r.failure_text, r.vm_address, r.vm_vma_port, r.vm_x_port, \
     r.vma_secret, coalesce((SELECT h.state = 'running' AND extract(epoch FROM now() AT TIME ZONE 'UTC' - h.ok_ts) \
     <= 3 * coalesce(h.beat_seconds, 5) FROM host_runtimes AS h WHERE h.host_id = r.host_id), false) AS alive",
);
const CONTENDER: Sql = Sql::new(
    "read who has the session",
    "SELECT user_state, l7r_host_id, l7r_instance, session_id FROM vm_runtimes WHERE vm_id = $1",
);
const TAKE_OVER: Sql = Sql::new(
    "take the session over",
    "UPDATE vm_runtimes SET user_cmd = 'abort' WHERE vm_id = $1 AND user_state <> 'disconnected' \
     AND user_cmd IS NULL RETURNING l7r_host_id",
);
const FORGET: Sql = Sql::new(
    "forget sessions of dead routers",
    "WITH dead AS (SELECT vm_id, session_id FROM vm_runtimes WHERE l7r_host_id = $1 \
         AND user_state <> 'disconnected' AND coalesce(l7r_instance, '') = ANY ($2) FOR UPDATE), \
     released AS (UPDATE vm_runtimes AS r SET user_state = 'disconnected', \
         user_state_ts = extract(epoch FROM now())::integer, \
         user_cmd = NULL, l7r_host_id = NULL, l7r_pid = NULL, l7r_instance = NULL, session_id = NULL \
         FROM dead WHERE r.vm_id = dead.vm_id RETURNING r.vm_id, dead.session_id) \
     INSERT INTO events (kind, object_id, object_name, actor, to_state, code, text, session_id) \
         SELECT 'vm', vm_id, '', $3::text, 'disconnected', 'link_lost', 'the router of the session died', session_id \
         FROM released RETURNING object_id",
);
const INSTANCES: Sql = Sql::new(
    "read the routers of the host",
    "SELECT DISTINCT coalesce(l7r_instance, '') AS instance FROM vm_runtimes \
     WHERE l7r_host_id = $1 AND user_state <> 'disconnected'",
);
const ESTABLISH: Sql = Sql::new(
    "establish the session",
    "WITH established AS (UPDATE vm_runtimes SET user_state = 'connected', \
         user_state_ts = extract(epoch FROM now())::integer \
         WHERE vm_id = $1 AND session_id = $2 AND user_state = 'connecting' AND user_cmd IS NULL RETURNING vm_id), \
     given AS (INSERT INTO user_tokens (token, user_id, vm_id, expiration, auth_params_id, multi_use, ticket) \
         SELECT $5::text, $6::integer, vm_id, extract(epoch FROM now())::integer + $7::integer, $8::integer, false, \
         true FROM established \
         WHERE $5::text IS NOT NULL ON CONFLICT (vm_id, ticket) WHERE ticket DO UPDATE SET token = excluded.token, \
         user_id = excluded.user_id, expiration = excluded.expiration, auth_params_id = excluded.auth_params_id), \
     ended AS (DELETE FROM user_tokens AS t USING established AS e WHERE $9::boolean AND t.ticket AND t.vm_id = e.vm_id) \
     INSERT INTO events (kind, object_id, object_name, actor, from_state, to_state, code, text) \
         SELECT 'vm', vm_id, $3::text, $4::text, 'connecting', 'connected', 'connected', \
         'the client is connected to its desktop' FROM established",
);
const CONSUME: Sql = Sql::new(
    "consume the token",
    "UPDATE user_tokens SET expiration = 0 WHERE token = $1 AND expiration > 0 AND NOT multi_use",
);
const RELEASE: Sql = Sql::new(
    "release the session",
    "WITH released AS (UPDATE vm_runtimes SET user_state = 'disconnected', \
         user_state_ts = extract(epoch FROM now())::integer, \
         user_cmd = NULL, l7r_host_id = NULL, l7r_pid = NULL, l7r_instance = NULL, session_id = NULL \
         WHERE vm_id = $1 AND session_id = $2 RETURNING vm_id, $2::bigint AS session_id), \
     ended AS (DELETE FROM user_tokens WHERE token = $8 AND ticket) \
     INSERT INTO events (kind, object_id, object_name, actor, from_state, to_state, code, text, session_id) \
         SELECT 'vm', vm_id, $3::text, $4::text, $5::text, 'disconnected', $6::text, $7::text, session_id FROM released",
);
const SEIZE: Sql = Sql::new(
    "seize the session",
    "UPDATE vm_runtimes SET user_state = 'disconnected', user_state_ts = extract(epoch FROM now())::integer, \
     user_cmd = NULL, l7r_host_id = NULL, l7r_pid = NULL, l7r_instance = NULL, session_id = NULL \
     WHERE vm_id = $1 AND user_state <> 'disconnected' AND user_cmd = 'abort' \
     AND session_id IS NOT DISTINCT FROM $2",
);
const KEPT: Sql = Sql::new(
    "read the own sessions",
    "SELECT r.vm_id, r.session_id, r.vm_state, r.failure_code IS NOT NULL AS failed, \
     coalesce(r.failure_code = 'node_lost', false) AS lost, r.user_state = 'connected' AS connected, r.user_cmd IS NOT NULL AS told, \
     CASE WHEN r.user_cmd IS NULL THEN NULL ELSE (SELECT e.code FROM events AS e WHERE e.kind = 'vm' \
         AND e.object_id = r.vm_id AND e.code IN ('abort', 'takeover') ORDER BY e.id DESC LIMIT 1) END AS told_by, \
     CASE WHEN r.vm_state <> 'stopped' THEN NULL ELSE (SELECT e.code FROM events AS e WHERE e.kind = 'vm' \
         AND e.object_id = r.vm_id AND (e.code IN ('stop', 'expired') OR e.to_state = 'starting') \
         ORDER BY e.id DESC LIMIT 1) END AS stopped_by \
     FROM vm_runtimes AS r WHERE r.l7r_host_id = $1 AND r.l7r_instance = $2",
);

pub(super) const ALL: &[Sql] =
    &[CLAIM, CONTENDER, TAKE_OVER, FORGET, INSTANCES, ESTABLISH, CONSUME, RELEASE, SEIZE, KEPT];

/// The event code of a takeover, as the displaced router reads it.
const TAKEOVER: &str = "takeover";

/// One client's claim on a VM.
#[derive(Debug, Clone)]
pub struct Session {
    /// The VM.
    pub vm: VmId,
    /// Its name, for events.
    pub vm_name: String,
    /// The user at the other end.
    pub user: UserId,
    /// The router's host.
    pub host: HostId,
    /// Positive and unique among the sessions of the host, where a process id stood (`spec/protocol.md` 9.2).
    pub number: i32,
    /// The router's process; see its lock file.
    pub instance: String,
    /// Unique everywhere.
    pub id: i64,
    /// Who acts.
    pub actor: Actor,
}

/// Who has a session that somebody else wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    /// The host of its router.
    pub host: Option<HostId>,
    /// The process of its router.
    pub instance: Option<String>,
    /// The session.
    pub session: Option<i64>,
}

/// What became of a claim.
#[derive(Debug, Clone)]
pub enum Claim {
    /// The session is ours, in state connecting. The VM as it was then, and the version of its row.
    Acquired(Box<Desktop>, i64),
    /// Another client has it.
    Contended(Contender),
    /// The VM is gone.
    Gone,
}

/// The end of a session, for its row and its story.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The state that it leaves.
    pub from: qvd_model::UserState,
    /// Why.
    pub reason: EndReason,
    /// A sentence for people.
    pub text: String,
    /// The digest of the client's ticket, if it may not come back with it.
    pub ticket: Option<Box<str>>,
}

/// A session of this process as its row shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The session.
    pub id: i64,
    /// What its VM is doing.
    pub state: VmState,
    /// Whether the VM failed.
    pub failed: bool,
    /// Whether it did because its host was given up.
    pub lost: bool,
    /// Why it stopped, if it has, and has not failed.
    pub stopped: EndReason,
    /// Whether bytes flow.
    pub connected: bool,
    /// Whether, and why, its connection is to end.
    pub told: Option<EndReason>,
}

/// Claims a VM that nobody has.
pub async fn claim(database: &Database, session: &Session) -> Result<Claim, Error> {
    let client = database.client().await?;
    let Session { vm, user, host, number, instance, id, .. } = session;
    let values: Parameters<'_> = &[&vm.0, &host.0, number, instance, id, &user.0];
    if let Some(row) = CLAIM.query_opt(&client, values).await? {
        let desktop = desktop_of(database, *vm, CLAIM, &row)?;
        return Ok(Claim::Acquired(Box::new(desktop), CLAIM.column(&row, "version")?));
    }
    let Some(row) = CONTENDER.query_opt(&client, &[&vm.0]).await? else { return Ok(Claim::Gone) };
    Ok(Claim::Contended(Contender {
        host: CONTENDER.column::<Option<i32>>(&row, "l7r_host_id")?.map(HostId),
        instance: CONTENDER.column(&row, "l7r_instance")?,
        session: CONTENDER.column(&row, "session_id")?,
    }))
}

/// Tells whoever has the VM to let go. `false`: it was told before, or has let go.
pub async fn take_over(database: &Database, session: &Session) -> Result<bool, Error> {
    let mut client = database.client().await?;
    let during = Error::during(TAKE_OVER.name);
    let tx = client.build_transaction().start().await.map_err(&during)?;
    let Some(row) = TAKE_OVER.query_opt(&tx, &[&session.vm.0]).await? else { return Ok(false) };
    let event = Event {
        kind: ObjectKind::Vm,
        id: session.vm.0,
        name: &session.vm_name,
        from: None,
        to: None,
        code: TAKEOVER,
        text: "another client of the user wants the session",
    };
    events::record(&tx, &session.actor, event).await?;
    if let Some(host) = TAKE_OVER.column::<Option<i32>>(&row, "l7r_host_id")? {
        crate::commands::announce(&tx, &notify::user_command(HostId(host))).await?;
    }
    tx.commit().await.map_err(during)?;
    Ok(true)
}

/// Releases the sessions of this host's routers that are dead: of which `lives` says so, given the name of the
/// process, or none where the row has none.
pub async fn forget_dead(
    database: &Database,
    host: HostId,
    lives: impl Fn(&str) -> bool,
    actor: &Actor,
) -> Result<Vec<VmId>, Error> {
    let client = database.client().await?;
    let rows = INSTANCES.query(&client, &[&host.0]).await?;
    let named = rows.iter().map(|row| INSTANCES.column::<String>(row, "instance"));
    let named: Vec<String> = named.collect::<Result<_, _>>()?;
    let dead: Vec<String> = named.into_iter().filter(|id| !lives(id)).collect();
    if dead.is_empty() {
        return Ok(Vec::new());
    }
    let rows = FORGET.query(&client, &[&host.0, &dead, &actor.as_str()]).await?;
    rows.iter().map(|row| Ok(VmId(FORGET.column(row, "object_id")?))).collect()
}

/// From connecting to connected, unless the session was told to end or is no longer ours. A single-use token
/// is consumed with it; if somebody else was faster, nothing happens.
pub async fn establish(
    database: &Database,
    session: &Session,
    token: Option<&SecretString>,
    comes_back: &Return,
) -> Result<bool, Error> {
    let mut client = database.client().await?;
    let Some(token) = token else { return establish_in(&client, session, comes_back).await };
    let during = Error::during(ESTABLISH.name);
    let tx = client.build_transaction().start().await.map_err(&during)?;
    if !establish_in(&tx, session, comes_back).await?
        || CONSUME.execute(&tx, &[&token.expose_secret()]).await? == 0
    {
        return Ok(false);
    }
    tx.commit().await.map_err(during)?;
    Ok(true)
}

async fn establish_in(
    connection: &impl crate::Session,
    session: &Session,
    comes_back: &Return,
) -> Result<bool, Error> {
    let Session { vm, vm_name, user, id, actor, .. } = session;
    let ticket = match comes_back {
        Return::Ticket(ticket) => Some(ticket),
        Return::Password | Return::Renewed => None,
    };
    let (digest, seconds) = (ticket.map(|t| &t.digest), ticket.map(|t| t.seconds));
    let parameters = ticket.and_then(|t| t.parameters);
    let ends = *comes_back == Return::Password;
    let actor = actor.as_str();
    let values: Parameters<'_> =
        &[&vm.0, id, vm_name, &actor, &digest, &user.0, &seconds, &parameters, &ends];
    Ok(ESTABLISH.execute(connection, values).await? > 0)
}

/// Ends a session in its row, with its event and the ticket that goes with it. `false`: it was not ours any more.
pub async fn release(database: &Database, session: &Session, ending: &Ending) -> Result<bool, Error> {
    let client = database.client().await?;
    let Session { vm, vm_name, id, actor, .. } = session;
    let Ending { from, reason, text, ticket } = ending;
    let (actor, from, reason) = (actor.as_str(), from.as_str(), reason.as_str());
    let values: Parameters<'_> = &[&vm.0, id, vm_name, &actor, &from, &reason, text, ticket];
    Ok(RELEASE.execute(&client, values).await? > 0)
}

/// Takes the VM from a session whose router was told to let go and does not react: it died with its node, hangs, or
/// cannot read the row. `false`: it has let go meanwhile. The desktop admits one client, so the other one is shut out.
pub async fn seize(database: &Database, session: &Session, other: Option<i64>) -> Result<bool, Error> {
    let mut client = database.client().await?;
    let during = Error::during(SEIZE.name);
    let tx = client.build_transaction().start().await.map_err(&during)?;
    let seized = SEIZE.execute(&tx, &[&session.vm.0, &other]).await? > 0;
    if seized {
        let end = End {
            vm: session.vm,
            vm_name: &session.vm_name,
            session: other,
            from: None,
            reason: EndReason::TakenOver,
            text: "another client of the user took the session from a router that did not react",
        };
        events::record_end(&tx, &session.actor, end).await?;
    }
    tx.commit().await.map_err(during)?;
    Ok(seized)
}

/// The sessions of a router's process.
pub async fn kept(database: &Database, host: HostId, instance: &str) -> Result<Vec<Kept>, Error> {
    let client = database.client().await?;
    let rows = KEPT.query(&client, &[&host.0, &instance]).await?;
    rows.iter()
        .map(|row| {
            let told_by: Option<&str> = KEPT.column(row, "told_by")?;
            let told = KEPT.column::<bool>(row, "told")?.then_some(match told_by {
                Some(TAKEOVER) => EndReason::TakenOver,
                _ => EndReason::Admin,
            });
            Ok(Kept {
                id: KEPT.column::<Option<i64>>(row, "session_id")?.unwrap_or_default(),
                state: KEPT.word(row, "vm_state")?,
                failed: KEPT.column(row, "failed")?,
                lost: KEPT.column(row, "lost")?,
                stopped: match KEPT.column(row, "stopped_by")? {
                    Some("expired") => EndReason::Expired,
                    _ => EndReason::VmStopped,
                },
                connected: KEPT.column(row, "connected")?,
                told,
            })
        })
        .collect()
}
