//! Choosing a host and giving the start command, in one transaction.

use std::time::Duration;

use qvd_logic::cluster::Limits;
use qvd_logic::placement::{self, Candidate, Unfit, Weights};
use qvd_model::event::ObjectKind;
use qvd_model::{Failure, FailureCode, HostId, VmCommand, VmId, VmState, notify};
use rand::Rng;

use crate::events::{self, Actor, Event};
use crate::{Conflict, Database, Error, Session, Sql};

const VM: Sql = Sql::new(
    "read the VM to start",
    "SELECT vms.name, vms.osf_id, r.vm_state, r.vm_cmd, r.host_id, coalesce(r.blocked, false) AS blocked FROM vms \
     JOIN vm_runtimes AS r ON r.vm_id = vms.id WHERE vms.id = $1 FOR UPDATE OF r",
);
const HYPERVISOR: Sql = Sql::new(
    "read the hypervisor of the OSF",
    "SELECT p.value FROM osf_properties AS p JOIN qvd_object_properties_list AS q ON q.id = p.property_id \
     JOIN properties_list AS l ON l.id = q.property_id WHERE p.osf_id = $1 AND l.key = 'vm.hypervisor' \
     ORDER BY l.tenant_id DESC LIMIT 1",
);
const CANDIDATES: Sql = Sql::new(
    "read the hosts",
    "SELECT h.id, h.name, h.backend, r.blocked, r.state, r.hypervisors, \
     r.beat_seconds, extract(epoch FROM now() AT TIME ZONE 'UTC' - r.ok_ts)::double precision AS age, \
     coalesce(r.usable_ram, 0)::double precision AS ram, coalesce(r.usable_cpu, 0)::double precision AS cpu, \
     (SELECT count(*) FROM vm_runtimes AS v WHERE v.host_id = h.id)::integer AS vms \
     FROM hosts AS h JOIN host_runtimes AS r ON r.host_id = h.id ORDER BY h.id",
);
const ASSIGN: Sql = Sql::new(
    "assign and start the VM",
    "UPDATE vm_runtimes SET host_id = $2, vm_cmd = 'start', generation = generation + 1, failure_code = NULL, \
     failure_text = NULL, failure_ts = NULL WHERE vm_id = $1 AND vm_state = 'stopped'",
);

pub(crate) const ALL: &[Sql] = &[VM, HYPERVISOR, CANDIDATES, ASSIGN];

/// Why a VM was not told to start.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such VM.
    #[error("there is no VM {0}")]
    Unknown(VmId),
    /// An administrator blocked it.
    #[error("VM {0} is blocked")]
    Blocked(VmId),
    /// It is not stopped.
    #[error("VM {vm} is {state}, not stopped")]
    NotStopped {
        /// The VM.
        vm: VmId,
        /// Its state.
        state: VmState,
    },
    /// No host can take it.
    #[error("no host can take VM {vm}: {}", list(hosts))]
    NoHost {
        /// The VM.
        vm: VmId,
        /// Why each host cannot.
        hosts: Vec<(String, Unfit)>,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Error),
}

impl Conflict for Refusal {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_conflict())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::Unknown(_) => FailureCode::UnknownVm,
            Refusal::Blocked(_) => FailureCode::VmBlocked,
            Refusal::NotStopped { .. } => FailureCode::Cancelled,
            Refusal::NoHost { .. } => FailureCode::NoHost,
            Refusal::Database(error) if error.is_away() => FailureCode::DatabaseAway,
            Refusal::Database(_) => FailureCode::Internal,
        };
        Self::new(code, refusal.to_string())
    }
}

fn list(hosts: &[(String, Unfit)]) -> String {
    if hosts.is_empty() {
        return "no host is registered".to_owned();
    }
    hosts.iter().map(|(name, why)| format!("{name} {why}")).collect::<Vec<_>>().join(", ")
}

/// What placement needs besides the VM.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The hypervisor that the host must offer, unless the OSF names another.
    pub hypervisor: String,
    /// Configured weights.
    pub weights: Weights,
    /// Whether a blocked VM is started all the same: administrators may, users may not.
    pub start_blocked: bool,
}

/// The hypervisor that an OSF names by its property `vm.hypervisor`; none if that of the installation is meant.
pub async fn hypervisor_of(session: &impl Session, osf: i32) -> Result<Option<String>, Error> {
    let row = HYPERVISOR.query_opt(session, &[&osf]).await?;
    let named = row.map(|row| HYPERVISOR.column::<Option<String>>(&row, "value")).transpose()?.flatten();
    Ok(named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()))
}

/// Assigns a stopped VM to the best host and tells it to start. A VM that was told before keeps its host, unless that
/// can take no VMs any more.
pub async fn start_vm(
    database: &Database,
    actor: &Actor,
    vm: VmId,
    policy: &Policy,
) -> Result<HostId, Refusal> {
    let (actor, policy) = (actor.clone(), policy.clone());
    database
        .transaction("start a VM", move |tx| {
            let (actor, policy) = (actor.clone(), policy.clone());
            Box::pin(async move { start_in(tx, &actor, vm, &policy).await })
        })
        .await
}

/// The same inside a transaction of the caller.
pub async fn start_in(
    session: &impl Session,
    actor: &Actor,
    vm: VmId,
    policy: &Policy,
) -> Result<HostId, Refusal> {
    let row = VM.query_opt(session, &[&vm.0]).await?.ok_or(Refusal::Unknown(vm))?;
    let name: String = VM.column(&row, "name")?;
    let state: VmState = VM.word(&row, "vm_state")?;
    let command: Option<&str> = VM.column(&row, "vm_cmd")?;
    let host: Option<i32> = VM.column(&row, "host_id")?;
    if VM.column::<bool>(&row, "blocked")? && !policy.start_blocked {
        return Err(Refusal::Blocked(vm));
    }
    if !state.accepts(VmCommand::Start) {
        return Err(Refusal::NotStopped { vm, state });
    }
    let own = hypervisor_of(session, VM.column(&row, "osf_id")?).await?;
    let hypervisor = own.as_deref().unwrap_or(&policy.hypervisor);
    let candidates = candidates(session).await?;
    if let (Some(host), Some("start")) = (host.map(HostId), command) {
        // A host that died in between will not take the command; if it wakes up, it finds another generation.
        let waits = candidates.iter().find(|candidate| candidate.host == host);
        if waits.is_some_and(|candidate| candidate.fits(hypervisor).is_ok()) {
            return Ok(host);
        }
    }
    let chosen = {
        let mut rng = rand::rng();
        placement::choose(&candidates, hypervisor, policy.weights, |_| rng.random_range(0.0..1.0))
    };
    let host = chosen.map_err(|hosts| Refusal::NoHost { vm, hosts })?;
    ASSIGN.execute(session, &[&vm.0, &host.0]).await?;
    let on = candidates.iter().find(|c| c.host == host).map_or("", |c| c.name.as_str());
    let text = format!("told to start on host {on}");
    let event = Event {
        kind: ObjectKind::Vm,
        id: vm.0,
        name: &name,
        from: None,
        to: None,
        code: "start",
        text: &text,
    };
    events::record(session, actor, event).await?;
    crate::commands::announce(session, &notify::vm_command(host)).await?;
    Ok(host)
}

async fn candidates(session: &impl Session) -> Result<Vec<Candidate>, Error> {
    let rows = CANDIDATES.query(session, &[]).await?;
    rows.iter()
        .map(|row| {
            let age: Option<f64> = CANDIDATES.column(row, "age")?;
            let hypervisors: Option<String> = CANDIDATES.column(row, "hypervisors")?;
            let vms: i32 = CANDIDATES.column(row, "vms")?;
            let period: Option<f64> = CANDIDATES.column(row, "beat_seconds")?;
            let period = period.and_then(|period| Duration::try_from_secs_f64(period).ok());
            Ok(Candidate {
                host: HostId(CANDIDATES.column(row, "id")?),
                name: CANDIDATES.column(row, "name")?,
                backend: CANDIDATES.column(row, "backend")?,
                blocked: CANDIDATES.column(row, "blocked")?,
                state: CANDIDATES.word(row, "state")?,
                // A clock that jumped back makes the heartbeat lie in the future: it is fresh.
                heartbeat_age: age.map(|age| Duration::try_from_secs_f64(age).unwrap_or_default()),
                suspect_after: period.map_or(placement::SUSPECT_AFTER, Limits::suspect_after),
                hypervisors: hypervisors.map(|list| list.split(',').map(|h| h.trim().to_owned()).collect()),
                ram: CANDIDATES.column(row, "ram")?,
                cpu: CANDIDATES.column(row, "cpu")?,
                vms: u32::try_from(vms).unwrap_or(0),
            })
        })
        .collect()
}
