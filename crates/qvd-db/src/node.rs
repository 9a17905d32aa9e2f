//! What the node daemon reads and writes about its VMs.
//!
//! Every write is conditioned on host *and* generation: a node that lost a VM cannot touch its row
//! (`spec/node.md` 15.3).

use std::net::Ipv4Addr;

use qvd_model::event::ObjectKind;
use qvd_model::{DiId, Failure, Generation, HostId, OsfId, TenantId, UserId, VmId, VmState};

use crate::events::{self, Actor, Event};
use crate::hosts::Incarnation;
use crate::placement::{self, Policy, Refusal};
use crate::{Database, Error, Session, Sql, Transaction, vault};

// Claims the pending starts of a host's stopped VMs, for the daemon that has the host row. `$1` host, `$2` incarnation.
const CLAIM_STARTS: Sql = Sql::new(
    "claim starts",
    "UPDATE vm_runtimes SET vm_cmd = NULL, vm_state = 'starting', \
    vm_state_ts = extract(epoch FROM now())::integer, failure_code = NULL, failure_text = NULL, failure_ts = NULL, \
    start_step = NULL FROM vms WHERE vms.id = vm_id AND host_id = $1 AND vm_cmd = 'start' AND vm_state = 'stopped' \
    AND EXISTS (SELECT FROM host_runtimes AS h WHERE h.host_id = $1 AND h.incarnation = $2 AND h.state <> 'lost') \
    RETURNING vm_id, generation, vms.name",
);

// Claims the pending stops of a host's VMs. `$1` host.
const CLAIM_STOPS: Sql = Sql::new(
    "claim stops",
    "UPDATE vm_runtimes SET vm_cmd = NULL \
    WHERE host_id = $1 AND vm_cmd = 'stop' RETURNING vm_id, generation",
);

// What a start needs to know. `$1` VM.
const START_FACTS: Sql = Sql::new(
    "read what a start needs",
    "SELECT vms.name, vms.user_id, users.login, users.tenant_id, vms.osf_id, osfs.name AS osf_name, \
    vms.di_tag, vms.ip, osfs.memory, osfs.use_overlay, osfs.user_storage_size FROM vms \
    JOIN users ON users.id = vms.user_id JOIN osfs ON osfs.id = vms.osf_id WHERE vms.id = $1",
);

// The images of an OSF with a tag. `$1` OSF, `$2` tag.
const TAGGED_IMAGES: Sql = Sql::new(
    "find the image",
    "SELECT DISTINCT dis.id, dis.path, dis.version, dis.blocked, \
    di_runtimes.state::text AS state, dis.sha256 FROM dis JOIN di_tags ON di_tags.di_id = dis.id \
    JOIN di_runtimes ON di_runtimes.di_id = dis.id WHERE dis.osf_id = $1 AND di_tags.tag = $2 ORDER BY dis.id",
);

// The files of all images.
const IMAGE_FILES: Sql = Sql::new("read the files of all images", "SELECT path FROM dis");

// Publishes where a starting VM will be. `$1` VM, `$2` host, `$3` generation, `$4` address, `$5` agent port,
// `$6` NX port, `$7` SSH port, `$8` image, `$9` OSF, `$10` secret.
const PUBLISH: Sql = Sql::new(
    "publish where the VM is",
    "UPDATE vm_runtimes SET vm_address = $4, vm_vma_port = $5, vm_x_port = $6, vm_ssh_port = $7, \
    vm_vnc_port = 0, vm_serial_port = 0, vm_mon_port = 0, current_di_id = $8, current_osf_id = $9, vma_secret = $10 \
    WHERE vm_id = $1 AND host_id = $2 AND generation = $3",
);

// Tells how far a start is. `$1` VM, `$2` host, `$3` generation, `$4` step.
const SET_STEP: Sql = Sql::new(
    "tell the step of the start",
    "UPDATE vm_runtimes SET start_step = $4 WHERE vm_id = $1 AND host_id = $2 AND generation = $3",
);

// Moves a VM from one public state to another. `$1` VM, `$2` host, `$3` generation, `$4` from, `$5` to, `$6` pid.
const SET_STATE: Sql = Sql::new(
    "set the state of the VM",
    "UPDATE vm_runtimes SET vm_state = $5, vm_state_ts = extract(epoch FROM now())::integer, \
    start_step = NULL, vm_pid = $6 WHERE vm_id = $1 AND host_id = $2 AND generation = $3 AND vm_state = $4",
);

// Clears the row of a VM that has stopped. `$1` VM, `$2` host, `$3` generation, `$4` failure code, `$5` text.
const CLEAR: Sql = Sql::new(
    "clear the row of the VM",
    "UPDATE vm_runtimes AS r SET vm_state = 'stopped', vm_state_ts = extract(epoch FROM now())::integer, \
    host_id = NULL, vm_cmd = NULL, vm_pid = NULL, vm_address = NULL, vm_vma_port = NULL, vm_x_port = NULL, \
    vm_ssh_port = NULL, vm_vnc_port = NULL, vm_serial_port = NULL, vm_mon_port = NULL, current_di_id = NULL, \
    current_osf_id = NULL, vma_ok_ts = NULL, vm_expiration_soft = NULL, vm_expiration_hard = NULL, vma_secret = NULL, \
    restart = false, start_step = NULL, failure_code = $4, failure_text = $5, \
    failure_ts = CASE WHEN $4::text IS NULL THEN NULL ELSE extract(epoch FROM now())::integer END \
    FROM vm_runtimes AS old WHERE old.vm_id = r.vm_id AND r.vm_id = $1 AND r.host_id = $2 AND r.generation = $3 \
    RETURNING old.restart",
);

// Who has a VM. `$1` VM.
const OWNERSHIP: Sql =
    Sql::new("read who has the VM", "SELECT host_id, generation, vm_state FROM vm_runtimes WHERE vm_id = $1");

// The VMs that a host has. `$1` host.
const OWN_VMS: Sql = Sql::new(
    "read the VMs of the host",
    "SELECT vm_id, generation, vm_state FROM vm_runtimes \
    WHERE host_id = $1 AND vm_state <> 'stopped' ORDER BY vm_id",
);

// Counts a start that was attempted. `$1` VM.
const COUNT_ATTEMPT: Sql =
    Sql::new("count a start", "UPDATE vm_counters SET run_attempts = run_attempts + 1 WHERE vm_id = $1");

// Counts a start that succeeded. `$1` VM.
const COUNT_SUCCESS: Sql =
    Sql::new("count a start", "UPDATE vm_counters SET run_ok = run_ok + 1 WHERE vm_id = $1");

/// A VM that a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// The VM.
    pub vm: VmId,
    /// Under which ownership.
    pub generation: Generation,
    /// Its public state.
    pub state: VmState,
}

/// The key of a conditional write: this VM, as this host owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// The VM.
    pub vm: VmId,
    /// The host.
    pub host: HostId,
    /// Which of the VM's owners.
    pub generation: Generation,
}

/// What a conditional write found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The row was ours and is written.
    Yes,
    /// The row is ours, but in another state.
    Moved(VmState),
    /// The row is not ours any more.
    Lost,
}

/// What a start reads about the VM, its user and its OSF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFacts {
    /// The VM's name.
    pub name: String,
    /// Its user.
    pub user: UserId,
    /// The user's login.
    pub login: String,
    /// The user's tenant.
    pub tenant: TenantId,
    /// Its flavour.
    pub osf: OsfId,
    /// The flavour's name.
    pub osf_name: String,
    /// The tag of the image it wants.
    pub tag: String,
    /// Its address; `None` if it has none that is IPv4.
    pub address: Option<Ipv4Addr>,
    /// Memory in MB.
    pub memory: Option<i32>,
    /// Whether it may write outside its home.
    pub overlay: bool,
    /// Home in MB: `None` without limit, 0 for none.
    pub home: Option<i32>,
}

/// An image that carries the wanted tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedImage {
    /// The image.
    pub di: DiId,
    /// File name below `path.storage.images`.
    pub path: String,
    /// Its version.
    pub version: String,
    /// Whether an administrator blocked it.
    pub blocked: bool,
    /// Publication state.
    pub state: String,
    /// SHA-256 in hex, if it was registered by us.
    pub sha256: Option<String>,
}

/// Where a starting VM will be.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// Its address.
    pub address: Ipv4Addr,
    /// Port of its agent.
    pub agent_port: u16,
    /// Port of its NX link.
    pub nx_port: u16,
    /// Port of its SSH server.
    pub ssh_port: u16,
    /// The image it runs.
    pub di: DiId,
    /// Its flavour.
    pub osf: OsfId,
    /// The secret of its agent.
    pub secret: &'a str,
}

// Forgets old events, a number of them at a time. `$1` days that they are kept, `$2` how many.
const FORGET: Sql = Sql::new(
    "forget old events",
    "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE time < now() - make_interval(days => $1) \
     ORDER BY time LIMIT $2)",
);

pub(crate) const ALL: &[Sql] = &[
    FORGET,
    CLAIM_STARTS,
    CLAIM_STOPS,
    START_FACTS,
    TAGGED_IMAGES,
    IMAGE_FILES,
    PUBLISH,
    SET_STEP,
    SET_STATE,
    CLEAR,
    OWNERSHIP,
    OWN_VMS,
    COUNT_ATTEMPT,
    COUNT_SUCCESS,
];

/// Takes the pending starts of a host: their rows are `starting` from now on.
pub async fn claim_starts(
    database: &Database,
    actor: &Actor,
    own: Incarnation,
) -> Result<Vec<(VmId, Generation)>, Error> {
    let mut client = database.client().await?;
    let during = Error::during("claim starts");
    let tx = client.build_transaction().start().await.map_err(&during)?;
    let rows = CLAIM_STARTS.query(&tx, &[&own.host.0, &own.number]).await?;
    let mut claims = Vec::with_capacity(rows.len());
    for row in &rows {
        let (vm, generation) = claimed(&CLAIM_STARTS, row)?;
        let event = Event {
            kind: ObjectKind::Vm,
            id: vm.0,
            name: CLAIM_STARTS.column(row, "name")?,
            from: Some(VmState::Stopped.as_str()),
            to: Some(VmState::Starting.as_str()),
            code: "state",
            text: "the node began to start the VM",
        };
        events::record(&tx, actor, event).await?;
        claims.push((vm, generation));
    }
    tx.commit().await.map_err(during)?;
    Ok(claims)
}

/// Takes the pending stops of a host.
pub async fn claim_stops(database: &Database, host: HostId) -> Result<Vec<(VmId, Generation)>, Error> {
    let client = database.client().await?;
    let rows = CLAIM_STOPS.query(&client, &[&host.0]).await?;
    rows.iter().map(|row| claimed(&CLAIM_STOPS, row)).collect()
}

fn claimed(sql: &Sql, row: &tokio_postgres::Row) -> Result<(VmId, Generation), Error> {
    Ok((VmId(sql.column(row, "vm_id")?), Generation(sql.column(row, "generation")?)))
}

/// Forgets events that are older than so many days, a short statement after the other; how many there were. Every node may
/// do so at any time: one that meets another at it leaves the rest to that.
pub async fn forget_events(database: &Database, days: i32) -> Result<u64, Error> {
    const AT_ONCE: i64 = 2000;
    let client = database.client().await?;
    let mut forgotten = 0;
    loop {
        let some = FORGET.execute(&client, &[&days, &AT_ONCE]).await?;
        forgotten += some;
        if some < AT_ONCE.unsigned_abs() {
            return Ok(forgotten);
        }
    }
}

/// The VMs that are a host's and not stopped.
pub async fn own_vms(database: &Database, host: HostId) -> Result<Vec<Owned>, Error> {
    let client = database.client().await?;
    let rows = OWN_VMS.query(&client, &[&host.0]).await?;
    rows.iter()
        .map(|row| {
            let (vm, generation) = claimed(&OWN_VMS, row)?;
            Ok(Owned { vm, generation, state: OWN_VMS.word(row, "vm_state")? })
        })
        .collect()
}

/// What a start needs to know, and how often it was tried before is counted. `None` if the VM is gone.
pub async fn start_facts(database: &Database, vm: VmId) -> Result<Option<StartFacts>, Error> {
    let client = database.client().await?;
    let Some(row) = START_FACTS.query_opt(&client, &[&vm.0]).await? else { return Ok(None) };
    let sql = &START_FACTS;
    let address: Option<&str> = sql.column(&row, "ip")?;
    let facts = StartFacts {
        name: sql.column(&row, "name")?,
        user: UserId(sql.column(&row, "user_id")?),
        login: sql.column(&row, "login")?,
        tenant: TenantId(sql.column(&row, "tenant_id")?),
        osf: OsfId(sql.column(&row, "osf_id")?),
        osf_name: sql.column(&row, "osf_name")?,
        tag: sql.column(&row, "di_tag")?,
        address: address.and_then(|text| text.parse().ok()),
        memory: sql.column(&row, "memory")?,
        overlay: sql.column(&row, "use_overlay")?,
        home: sql.column(&row, "user_storage_size")?,
    };
    COUNT_ATTEMPT.execute(&client, &[&vm.0]).await?;
    Ok(Some(facts))
}

/// The images of an OSF that carry a tag.
pub async fn tagged_images(database: &Database, osf: OsfId, tag: &str) -> Result<Vec<TaggedImage>, Error> {
    let client = database.client().await?;
    let rows = TAGGED_IMAGES.query(&client, &[&osf.0, &tag]).await?;
    let sql = &TAGGED_IMAGES;
    rows.iter()
        .map(|row| {
            Ok(TaggedImage {
                di: DiId(sql.column(row, "id")?),
                path: sql.column(row, "path")?,
                version: sql.column(row, "version")?,
                blocked: sql.column(row, "blocked")?,
                state: sql.column(row, "state")?,
                sha256: sql.column(row, "sha256")?,
            })
        })
        .collect()
}

/// The files of all images that there are.
pub async fn image_files(database: &Database) -> Result<Vec<String>, Error> {
    let client = database.client().await?;
    let rows = IMAGE_FILES.query(&client, &[]).await?;
    rows.iter().map(|row| IMAGE_FILES.column(row, "path")).collect()
}

/// Publishes where a starting VM will be. `false`: the row is not ours any more.
pub async fn publish(database: &Database, own: Ownership, place: &Place<'_>) -> Result<bool, Error> {
    let client = database.client().await?;
    let (agent, nx, ssh) = (i32::from(place.agent_port), i32::from(place.nx_port), i32::from(place.ssh_port));
    let address = place.address.to_string();
    let secret = database.vault().seal(vault::Place::Agent(own.vm), place.secret)?;
    let touched = PUBLISH
        .execute(
            &client,
            &[
                &own.vm.0,
                &own.host.0,
                &own.generation.0,
                &address,
                &agent,
                &nx,
                &ssh,
                &place.di.0,
                &place.osf.0,
                &secret,
            ],
        )
        .await?;
    Ok(touched > 0)
}

/// Tells how far a start is. `false`: the row is not ours any more.
pub async fn set_step(database: &Database, own: Ownership, step: &str) -> Result<bool, Error> {
    let client = database.client().await?;
    SET_STEP.execute(&client, &[&own.vm.0, &own.host.0, &own.generation.0, &step]).await.map(|n| n > 0)
}

/// Moves a VM from one public state to another, with its event.
pub async fn set_state(
    database: &Database,
    actor: &Actor,
    own: Ownership,
    name: &str,
    (from, to): (VmState, VmState),
    pid: Option<i32>,
) -> Result<Written, Error> {
    let mut client = database.client().await?;
    let during = Error::during("set the state of the VM");
    let tx = client.build_transaction().start().await.map_err(&during)?;
    let (old, new) = (from.as_str(), to.as_str());
    let touched =
        SET_STATE.execute(&tx, &[&own.vm.0, &own.host.0, &own.generation.0, &old, &new, &pid]).await?;
    if touched == 0 {
        return ownership(&tx, own).await.map(|found| match found {
            Some(state) if state == to => Written::Yes,
            Some(state) => Written::Moved(state),
            None => Written::Lost,
        });
    }
    if to == VmState::Running {
        COUNT_SUCCESS.execute(&tx, &[&own.vm.0]).await?;
    }
    let event = Event {
        kind: ObjectKind::Vm,
        id: own.vm.0,
        name,
        from: Some(old),
        to: Some(new),
        code: "state",
        text: "the node changed the state of the VM",
    };
    events::record(&tx, actor, event).await?;
    tx.commit().await.map_err(during)?;
    Ok(Written::Yes)
}

/// Clears the row of a VM that has stopped, with the reason if it did not stop by request. If it is to start `again`, it
/// is placed and told so in the same transaction; one that cannot, or without a policy, stays stopped.
/// `false`: the row is not ours any more, so there is nothing to clear.
pub async fn clear(
    database: &Database,
    actor: &Actor,
    own: Ownership,
    name: &str,
    failure: Option<&Failure>,
    again: Option<&Policy>,
) -> Result<bool, Error> {
    let given = (actor.clone(), name.to_owned(), failure.cloned(), again.cloned());
    database
        .transaction(CLEAR.name, move |tx| {
            let (actor, name, failure, again) = given.clone();
            Box::pin(async move { clear_in(tx, &actor, own, &name, failure.as_ref(), again.as_ref()).await })
        })
        .await
}

async fn clear_in(
    tx: &Transaction<'_>,
    actor: &Actor,
    own: Ownership,
    name: &str,
    failure: Option<&Failure>,
    again: Option<&Policy>,
) -> Result<bool, Error> {
    let code = failure.map(|f| f.code.as_str());
    let text = failure.map(Failure::to_string);
    let row = CLEAR.query_opt(tx, &[&own.vm.0, &own.host.0, &own.generation.0, &code, &text]).await?;
    let Some(row) = row else { return Ok(false) };
    let event =
        |to, code, text| Event { kind: ObjectKind::Vm, id: own.vm.0, name, from: None, to, code, text };
    let text = text.as_deref().unwrap_or("the VM has stopped");
    events::record(tx, actor, event(Some(VmState::Stopped.as_str()), code.unwrap_or("state"), text)).await?;
    if let (true, Some(policy)) = (CLEAR.column(&row, "restart")?, again) {
        match placement::start_in(tx, actor, own.vm, policy).await {
            Ok(_) => {}
            Err(Refusal::Database(error)) => return Err(error),
            Err(refusal) => {
                let text = format!("not started again: {refusal}");
                let code = Failure::from(refusal).code;
                events::record(tx, actor, event(None, code.as_str(), &text)).await?;
            }
        }
    }
    Ok(true)
}

/// The state of a VM if it is still ours.
async fn ownership(session: &impl Session, own: Ownership) -> Result<Option<VmState>, Error> {
    let row = OWNERSHIP.query_opt(session, &[&own.vm.0]).await?;
    let Some(row) = row else { return Ok(None) };
    let host: Option<i32> = OWNERSHIP.column(&row, "host_id")?;
    let generation: i64 = OWNERSHIP.column(&row, "generation")?;
    let ours = host == Some(own.host.0) && generation == own.generation.0;
    if ours { OWNERSHIP.word(&row, "vm_state").map(Some) } else { Ok(None) }
}
