//! What nodes see of each other, and how the VMs of a lost one are given free.

use std::time::Duration;

use qvd_logic::cluster::{Peer, Promise, RowMark};
use qvd_model::event::{EndReason, ObjectKind};
use qvd_model::{Failure, FailureCode, HostId, HostState, UserState, VmId, VmState};

use crate::events::{self, Actor, End, Event};
use crate::{Database, Error, Session, Sql};

const PEERS: Sql = Sql::new(
    "read the other hosts",
    "SELECT h.id, h.name, r.state, r.incarnation, (extract(epoch FROM r.ok_ts) * 1000000)::bigint AS beat, \
     r.lease_seconds, r.storage, r.state IN ('starting', 'running', 'stopping') \
     OR EXISTS (SELECT FROM vm_runtimes AS v WHERE v.host_id = h.id) \
     OR EXISTS (SELECT FROM vm_runtimes AS v WHERE v.l7r_host_id = h.id AND v.user_state <> 'disconnected') \
     AS concern FROM hosts AS h JOIN host_runtimes AS r ON r.host_id = h.id WHERE h.id <> $1 ORDER BY h.id",
);
const SEEN: Sql = Sql::new(
    "look at the host once more",
    "SELECT h.name, r.state, r.incarnation, (extract(epoch FROM r.ok_ts) * 1000000)::bigint AS beat \
     FROM host_runtimes AS r JOIN hosts AS h ON h.id = r.host_id WHERE r.host_id = $1 FOR UPDATE OF r",
);
const LOSE: Sql = Sql::new(
    "give the host up",
    "UPDATE host_runtimes SET state = 'lost', cmd = NULL WHERE host_id = $1 AND state <> 'lost'",
);
// `$2` failure code, `$3` text.
const FREE_VMS: Sql = Sql::new(
    "give the VMs of a lost host free",
    "UPDATE vm_runtimes AS r SET vm_state = 'stopped', vm_state_ts = extract(epoch FROM now())::integer, \
     generation = r.generation + 1, host_id = NULL, vm_cmd = NULL, vm_pid = NULL, vm_address = NULL, \
     vm_vma_port = NULL, vm_x_port = NULL, vm_ssh_port = NULL, vm_vnc_port = NULL, vm_serial_port = NULL, \
     vm_mon_port = NULL, current_di_id = NULL, current_osf_id = NULL, vma_ok_ts = NULL, vma_secret = NULL, \
     vm_expiration_soft = NULL, vm_expiration_hard = NULL, restart = false, start_step = NULL, failure_code = $2, \
     failure_text = $3, failure_ts = extract(epoch FROM now())::integer \
     FROM vm_runtimes AS old JOIN vms ON vms.id = old.vm_id WHERE old.vm_id = r.vm_id AND r.host_id = $1 \
     RETURNING r.vm_id, old.vm_state, vms.name",
);
const FREE_SESSIONS: Sql = Sql::new(
    "release the sessions of a lost host",
    "UPDATE vm_runtimes AS r SET user_state = 'disconnected', \
     user_state_ts = extract(epoch FROM now())::integer, user_cmd = NULL, l7r_host_id = NULL, l7r_pid = NULL, \
     l7r_instance = NULL, session_id = NULL FROM vm_runtimes AS old JOIN vms ON vms.id = old.vm_id \
     WHERE old.vm_id = r.vm_id AND r.l7r_host_id = $1 AND r.user_state <> 'disconnected' \
     RETURNING r.vm_id, old.user_state, old.session_id, vms.name",
);

pub(crate) const ALL: &[Sql] = &[PEERS, SEEN, LOSE, FREE_VMS, FREE_SESSIONS];

/// Another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbor {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: HostState,
    /// What an observer looks at.
    pub peer: Peer,
}

/// What was given free.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reclaimed {
    /// VMs that may be started on other hosts.
    pub vms: Vec<VmId>,
    /// VMs whose sessions were released.
    pub sessions: Vec<VmId>,
}

/// Every host but this one.
pub async fn neighbors(database: &Database, own: HostId) -> Result<Vec<Neighbor>, Error> {
    let client = database.client().await?;
    let rows = PEERS.query(&client, &[&own.0]).await?;
    rows.iter()
        .map(|row| {
            let lease: Option<f64> = PEERS.column(row, "lease_seconds")?;
            let storage: Option<String> = PEERS.column(row, "storage")?;
            let lease = lease.and_then(|lease| Duration::try_from_secs_f64(lease).ok());
            Ok(Neighbor {
                name: PEERS.column(row, "name")?,
                state: PEERS.word(row, "state")?,
                peer: Peer {
                    host: HostId(PEERS.column(row, "id")?),
                    mark: mark(&PEERS, row)?,
                    promise: Promise { lease, file: storage.is_some() },
                    storage,
                    is_of_concern: PEERS.column(row, "concern")?,
                },
            })
        })
        .collect()
}

fn mark(sql: &Sql, row: &tokio_postgres::Row) -> Result<RowMark, Error> {
    Ok(RowMark { incarnation: sql.column(row, "incarnation")?, beat: sql.column(row, "beat")? })
}

/// Gives up a host whose row still shows the heartbeat that was seen: what it had is free for others, with the reason.
/// `None`: it came back meanwhile.
pub async fn reclaim(
    database: &Database,
    actor: &Actor,
    host: HostId,
    seen: RowMark,
) -> Result<Option<Reclaimed>, Error> {
    let why = match seen.incarnation {
        0 => "it never ran",
        _ => "its heartbeats stopped for longer than its lease, so its VMs ended by themselves",
    };
    let actor = actor.clone();
    database
        .transaction("reclaim a host", move |tx| {
            let actor = actor.clone();
            Box::pin(async move {
                let Some(row) = SEEN.query_opt(tx, &[&host.0]).await? else { return Ok(None) };
                if mark(&SEEN, &row)? != seen {
                    return Ok(None);
                }
                free(tx, &actor, host, &row, why).await.map(Some)
            })
        })
        .await
}

/// Gives up a host because somebody says that it is off. `None`: there is no such host.
pub async fn give_up(database: &Database, actor: &Actor, host: HostId) -> Result<Option<Reclaimed>, Error> {
    let actor = actor.clone();
    database
        .transaction("give a host up", move |tx| {
            let actor = actor.clone();
            Box::pin(async move {
                let Some(row) = SEEN.query_opt(tx, &[&host.0]).await? else { return Ok(None) };
                let why = "an administrator says that it is off";
                free(tx, &actor, host, &row, why).await.map(Some)
            })
        })
        .await
}

/// The transaction of both; `row` is locked.
async fn free(
    session: &impl Session,
    actor: &Actor,
    host: HostId,
    row: &tokio_postgres::Row,
    why: &str,
) -> Result<Reclaimed, Error> {
    let name: String = SEEN.column(row, "name")?;
    let state: HostState = SEEN.word(row, "state")?;
    if LOSE.execute(session, &[&host.0]).await? > 0 {
        let event = Event {
            kind: ObjectKind::Host,
            id: host.0,
            name: &name,
            from: Some(state.as_str()),
            to: Some(HostState::Lost.as_str()),
            code: FailureCode::NodeLost.as_str(),
            text: why,
        };
        events::record(session, actor, event).await?;
    }
    let failure = Failure::new(FailureCode::NodeLost, format!("host {name} was given up: {why}"));
    let (code, text) = (failure.code.as_str(), failure.to_string());
    let mut reclaimed = Reclaimed::default();
    for row in FREE_VMS.query(session, &[&host.0, &code, &text]).await? {
        let (vm, from): (i32, VmState) = (FREE_VMS.column(&row, "vm_id")?, FREE_VMS.word(&row, "vm_state")?);
        let event = Event {
            kind: ObjectKind::Vm,
            id: vm,
            name: FREE_VMS.column(&row, "name")?,
            from: Some(from.as_str()),
            to: Some(VmState::Stopped.as_str()),
            code,
            text: &text,
        };
        events::record(session, actor, event).await?;
        reclaimed.vms.push(VmId(vm));
    }
    for row in FREE_SESSIONS.query(session, &[&host.0]).await? {
        let vm: i32 = FREE_SESSIONS.column(&row, "vm_id")?;
        let from: UserState = FREE_SESSIONS.word(&row, "user_state")?;
        let end = End {
            vm: VmId(vm),
            vm_name: FREE_SESSIONS.column(&row, "name")?,
            session: FREE_SESSIONS.column(&row, "session_id")?,
            from: Some(from),
            reason: EndReason::NodeLost,
            text: &format!("host {name}, whose router had the session, was given up"),
        };
        events::record_end(session, actor, end).await?;
        reclaimed.sessions.push(VmId(vm));
    }
    reclaimed.vms.sort();
    reclaimed.sessions.sort();
    Ok(reclaimed)
}
