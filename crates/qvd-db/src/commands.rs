//! Commands to VMs and sessions, each with its event and its notification in one transaction.

use qvd_model::event::ObjectKind;
use qvd_model::{HostId, UserState, VmCommand, VmId, VmState, notify};

use crate::events::{self, Actor, Event};
use crate::{Conflict, Database, Error, Session, Sql};

const STATE: Sql = Sql::new(
    "read the VM to command",
    "SELECT vms.name, r.vm_state, r.vm_cmd, r.host_id, r.user_state, r.l7r_host_id FROM vms \
     JOIN vm_runtimes AS r ON r.vm_id = vms.id WHERE vms.id = $1 FOR UPDATE OF r",
);
const STOP: Sql = Sql::new(
    "tell the VM to stop",
    "UPDATE vm_runtimes SET vm_cmd = 'stop', restart = false WHERE vm_id = $1",
);
const STAY: Sql = Sql::new(
    "do not start the VM again",
    "UPDATE vm_runtimes SET restart = false WHERE vm_id = $1 AND restart",
);
const REVOKE: Sql = Sql::new(
    "revoke the start of the VM",
    "UPDATE vm_runtimes SET vm_cmd = NULL, host_id = NULL WHERE vm_id = $1 AND vm_state = 'stopped'",
);
const ABORT: Sql = Sql::new(
    "tell the session to end its connection",
    "UPDATE vm_runtimes SET user_cmd = 'abort' WHERE vm_id = $1",
);
const BLOCK: Sql = Sql::new(
    "block the host",
    "UPDATE host_runtimes SET blocked = $2 FROM hosts WHERE hosts.id = host_id AND host_id = $1 RETURNING hosts.name",
);
const NOTIFY: Sql = Sql::new("notify", "SELECT pg_notify($1, '')");

pub(crate) const ALL: &[Sql] = &[STATE, STOP, REVOKE, ABORT, BLOCK, NOTIFY];

/// Why a command was not given.
#[derive(Debug, thiserror::Error)]
pub enum CommandRefusal {
    /// There is no such VM.
    #[error("there is no VM {0}")]
    Unknown(VmId),
    /// Its state does not take the command.
    #[error("VM {vm} is {state}, which cannot be stopped")]
    NotRunning {
        /// The VM.
        vm: VmId,
        /// Its state.
        state: VmState,
    },
    /// Nobody is connected.
    #[error("no client is connected to VM {0}")]
    NotConnected(VmId),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Error),
}

impl Conflict for CommandRefusal {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_conflict())
    }
}

/// What became of a request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It was stopped already.
    AlreadyStopped,
    /// It was stopped; the start that waited is revoked.
    Revoked,
    /// Its node was told.
    Requested,
    /// It is on its way down.
    Underway,
}

/// Tells a VM to stop, or revokes the start that waits.
pub async fn stop_vm(database: &Database, actor: &Actor, vm: VmId) -> Result<Stop, CommandRefusal> {
    let actor = actor.clone();
    database
        .transaction("stop a VM", move |tx| {
            let actor = actor.clone();
            Box::pin(async move { stop_in(tx, &actor, vm).await })
        })
        .await
}

/// The same inside a transaction of the caller.
pub async fn stop_in(session: &impl Session, actor: &Actor, vm: VmId) -> Result<Stop, CommandRefusal> {
    let row = STATE.query_opt(session, &[&vm.0]).await?.ok_or(CommandRefusal::Unknown(vm))?;
    let name: String = STATE.column(&row, "name")?;
    let state: VmState = STATE.word(&row, "vm_state")?;
    let host: Option<i32> = STATE.column(&row, "host_id")?;
    let (stop, code, text) = match (state, host) {
        (VmState::Stopped, None) => return Ok(Stop::AlreadyStopped),
        (VmState::Stopped, Some(_)) => {
            REVOKE.execute(session, &[&vm.0]).await?;
            (Stop::Revoked, "revoked", "the start that waited was revoked")
        }
        (VmState::Stopping, _) => {
            if STAY.execute(session, &[&vm.0]).await? == 0 {
                return Ok(Stop::Underway);
            }
            (Stop::Requested, "revoked", "it will not be started again")
        }
        (state, Some(host)) if state.accepts(VmCommand::Stop) => {
            STOP.execute(session, &[&vm.0]).await?;
            announce(session, &notify::vm_command(HostId(host))).await?;
            (Stop::Requested, "stop", "told to stop")
        }
        (state, _) => return Err(CommandRefusal::NotRunning { vm, state }),
    };
    let event = Event { kind: ObjectKind::Vm, id: vm.0, name: &name, from: None, to: None, code, text };
    events::record(session, actor, event).await?;
    Ok(stop)
}

/// Tells the router of a session to end the client's connection; the session itself is suspended.
pub async fn disconnect(database: &Database, actor: &Actor, vm: VmId) -> Result<(), CommandRefusal> {
    let actor = actor.clone();
    database
        .transaction("disconnect a session", move |tx| {
            let actor = actor.clone();
            Box::pin(async move { disconnect_in(tx, &actor, vm).await })
        })
        .await
}

/// The same inside a transaction of the caller.
pub async fn disconnect_in(session: &impl Session, actor: &Actor, vm: VmId) -> Result<(), CommandRefusal> {
    let row = STATE.query_opt(session, &[&vm.0]).await?.ok_or(CommandRefusal::Unknown(vm))?;
    let name: String = STATE.column(&row, "name")?;
    let state: UserState = STATE.word(&row, "user_state")?;
    let router: Option<i32> = STATE.column(&row, "l7r_host_id")?;
    let Some(router) = router.filter(|_| state.accepts_abort()) else {
        return Err(CommandRefusal::NotConnected(vm));
    };
    ABORT.execute(session, &[&vm.0]).await?;
    announce(session, &notify::user_command(HostId(router))).await?;
    let event = Event {
        kind: ObjectKind::Vm,
        id: vm.0,
        name: &name,
        from: None,
        to: None,
        code: "abort",
        text: "the client's connection was told to end",
    };
    events::record(session, actor, event).await?;
    Ok(())
}

/// Lets a host take neither connections nor VMs, or again; `false` if it is not there.
pub async fn block_host_in(
    session: &impl Session,
    actor: &Actor,
    host: HostId,
    blocked: bool,
) -> Result<bool, Error> {
    let Some(row) = BLOCK.query_opt(session, &[&host.0, &blocked]).await? else { return Ok(false) };
    let name: String = BLOCK.column(&row, "name")?;
    let text = if blocked { "blocked" } else { "unblocked" };
    let event =
        Event { kind: ObjectKind::Host, id: host.0, name: &name, from: None, to: None, code: text, text };
    events::record(session, actor, event).await?;
    Ok(true)
}

/// Notifies a channel when the caller's transaction commits.
pub async fn announce(session: &impl Session, channel: &str) -> Result<(), Error> {
    NOTIFY.query_one(session, &[&channel]).await.map(drop)
}
