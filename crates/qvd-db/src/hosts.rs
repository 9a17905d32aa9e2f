//! Host rows: registration, heartbeat, states.

use std::net::Ipv4Addr;
use std::time::Duration;

use qvd_logic::cluster::Promise;
use qvd_model::event::ObjectKind;
use qvd_model::{HostCommand, HostId, HostState, notify};

use crate::events::{self, Actor, Event};
use crate::{Database, Error, Session, Sql};

const BY_NAME: Sql = Sql::new("find the host row", "SELECT id, address FROM hosts WHERE name = $1");
const REGISTERED: Sql = Sql::new(
    "read the hosts",
    "SELECT h.name, h.address, \
     coalesce(r.state = 'running' AND r.ok_ts > now() AT TIME ZONE 'UTC' - interval '15 seconds', false) AS lives \
     FROM hosts AS h LEFT JOIN host_runtimes AS r ON r.host_id = h.id ORDER BY h.id",
);
const REGISTER: Sql = Sql::new(
    "register a host",
    "INSERT INTO hosts (name, address, frontend, backend) VALUES ($1, $2, true, true) RETURNING id",
);
const MOVE: Sql =
    Sql::new("set a host's address", "UPDATE hosts SET address = $2 WHERE id = $1 AND address <> $2");
const ADD_RUNTIME: Sql = Sql::new(
    "register a host",
    "INSERT INTO host_runtimes (host_id, state, blocked) VALUES ($1, 'stopped', false)",
);
const ADD_COUNTERS: Sql = Sql::new(
    "register a host",
    "INSERT INTO host_counters (host_id, http_requests, auth_attempts, auth_ok, nx_attempts, nx_ok, short_sessions) \
     VALUES ($1, 0, 0, 0, 0, 0, 0)",
);
const CLAIM: Sql = Sql::new(
    "claim the host row",
    "UPDATE host_runtimes SET incarnation = incarnation + 1, state = 'starting', ok_ts = now(), pid = $2, \
     lease_seconds = $3, storage = $4, beat_seconds = $5, usable_ram = $6, usable_cpu = $7, hypervisors = $8 \
     WHERE host_id = $1 RETURNING incarnation, \
     EXISTS (SELECT FROM host_runtimes AS o WHERE o.host_id <> $1 AND o.incarnation > 0) AS peers",
);
const STANDING: Sql = Sql::new(
    "read what the host row promises",
    "SELECT lease_seconds, \
     EXISTS (SELECT FROM host_runtimes AS o WHERE o.host_id <> $1 AND o.incarnation > 0) AS peers \
     FROM host_runtimes WHERE host_id = $1",
);
const HEARTBEAT: Sql = Sql::new(
    "write the heartbeat",
    "UPDATE host_runtimes SET ok_ts = now(), pid = $2, lease_seconds = $3, storage = $4, beat_seconds = $5 \
     WHERE host_id = $1 AND incarnation = $6 AND state <> 'lost' RETURNING blocked, cmd, \
     extract(epoch FROM now())::double precision AS now, \
     EXISTS (SELECT FROM host_runtimes AS o WHERE o.host_id <> $1 AND o.incarnation > 0) AS peers",
);
const IS_LOST: Sql = Sql::new(
    "read whether the host was given up",
    "SELECT state = 'lost' AND incarnation = $2 AS lost FROM host_runtimes WHERE host_id = $1",
);
const SET_STATE: Sql = Sql::new(
    "set the host's state",
    "UPDATE host_runtimes SET state = $3 WHERE host_id = $1 AND incarnation = $2 AND state <> 'lost' AND state <> $3",
);
const TAKE_COMMAND: Sql = Sql::new(
    "take the host's command",
    "UPDATE host_runtimes AS new SET cmd = NULL FROM host_runtimes AS old \
     WHERE new.host_id = $1 AND old.host_id = $1 AND old.cmd IS NOT NULL RETURNING old.cmd",
);

const GIVE_STOP: Sql = Sql::new(
    "tell the host to stop",
    "UPDATE host_runtimes SET cmd = 'stop' WHERE host_id = $1 AND state IN ('starting', 'running')",
);
const STATE: Sql = Sql::new("read the host's state", "SELECT state FROM host_runtimes WHERE host_id = $1");
const COUNTS: Sql = Sql::new(
    "count VMs by state",
    "SELECT vm_state, count(*) FROM vm_runtimes GROUP BY vm_state ORDER BY vm_state",
);
const HOSTS: Sql = Sql::new(
    "read how hosts are",
    "SELECT h.name, r.state, CASE WHEN r.state IN ('starting', 'running', 'stopping') \
     AND extract(epoch FROM now() AT TIME ZONE 'UTC' - r.ok_ts) > 3 * coalesce(r.beat_seconds, 5) \
     THEN extract(epoch FROM now() AT TIME ZONE 'UTC' - r.ok_ts)::bigint END AS silent \
     FROM hosts AS h JOIN host_runtimes AS r ON r.host_id = h.id ORDER BY h.id",
);
const FAILURES: Sql = Sql::new(
    "read what failed",
    "SELECT vms.name, r.failure_text FROM vm_runtimes AS r JOIN vms ON vms.id = r.vm_id \
     WHERE r.failure_text IS NOT NULL ORDER BY r.failure_ts DESC LIMIT 20",
);

pub(crate) const ALL: &[Sql] = &[
    BY_NAME,
    REGISTERED,
    REGISTER,
    MOVE,
    ADD_RUNTIME,
    ADD_COUNTERS,
    CLAIM,
    STANDING,
    HEARTBEAT,
    IS_LOST,
    SET_STATE,
    TAKE_COMMAND,
    GIVE_STOP,
    STATE,
    COUNTS,
    HOSTS,
    FAILURES,
];

/// A node as an administrator registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// Its address in the desktop network, as it stands in the row.
    pub address: String,
}

/// One life of a node's daemon: what it writes is conditioned on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    /// The host.
    pub host: HostId,
    /// Counts the daemon's starts.
    pub number: i64,
}

/// What a registration and each heartbeat write.
#[derive(Debug, Clone, Copy)]
pub struct Beat<'a> {
    /// The daemon's process.
    pub pid: i32,
    /// What the node promises about its VMs.
    pub promise: Promise,
    /// The storage with its heartbeat file; stored only where that counts.
    pub storage: Option<&'a str>,
    /// The period of heartbeats.
    pub period: Duration,
}

/// What a heartbeat found in the row.
#[derive(Debug, Clone, PartialEq)]
pub enum Heartbeat {
    /// It is still ours.
    Own {
        /// Whether an administrator blocked the host.
        blocked: bool,
        /// A command that waits.
        command: Option<HostCommand>,
        /// The database's clock, seconds since 1970.
        now: f64,
        /// Whether there are other hosts that ever ran.
        peers: bool,
    },
    /// Other nodes gave this one up.
    Lost,
    /// Another daemon registered under our name, or the host was deleted.
    Superseded,
}

/// What the row says before a node registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether an earlier life of the node promised to keep the deadlines of a lease.
    pub bound: bool,
    /// Whether there are other hosts that ever ran.
    pub peers: bool,
}

/// Capacity figures of a claim.
#[derive(Debug, Clone, Copy)]
pub struct Capacity<'a> {
    /// MB of memory.
    pub ram: f32,
    /// Bogomips of processors.
    pub cpu: f32,
    /// Hypervisors on offer, comma-separated.
    pub hypervisors: &'a str,
}

/// The host of this name.
pub async fn find(database: &Database, name: &str) -> Result<Option<Host>, Error> {
    let client = database.client().await?;
    let row = BY_NAME.query_opt(&client, &[&name]).await?;
    row.map(|row| {
        Ok(Host { id: HostId(BY_NAME.column(&row, "id")?), address: BY_NAME.column(&row, "address")? })
    })
    .transpose()
}

/// A host of the farm, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its name.
    pub name: String,
    /// Its address in the desktop network, as it stands in the row.
    pub address: String,
    /// Whether its daemon serves.
    pub lives: bool,
}

/// Every host of the farm.
pub async fn registered(database: &Database) -> Result<Vec<Registered>, Error> {
    let client = database.client().await?;
    let rows = REGISTERED.query(&client, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Registered {
                name: REGISTERED.column(row, "name")?,
                address: REGISTERED.column(row, "address")?,
                lives: REGISTERED.column(row, "lives")?,
            })
        })
        .collect()
}

/// Registers a host, or corrects the address of the one with this name. For `qvd up`.
pub async fn register(
    database: &Database,
    actor: &Actor,
    name: &str,
    address: Ipv4Addr,
) -> Result<HostId, Error> {
    let (name, actor) = (name.to_owned(), actor.clone());
    database
        .transaction("register a host", move |tx| {
            let (name, actor) = (name.clone(), actor.clone());
            Box::pin(async move {
                let address = address.to_string();
                if let Some(row) = BY_NAME.query_opt(tx, &[&name]).await? {
                    let id = BY_NAME.column::<i32>(&row, "id")?;
                    MOVE.execute(tx, &[&id, &address]).await?;
                    return Ok(HostId(id));
                }
                let row = REGISTER.query_one(tx, &[&name, &address]).await?;
                let id: i32 = REGISTER.column(&row, "id")?;
                ADD_RUNTIME.execute(tx, &[&id]).await?;
                ADD_COUNTERS.execute(tx, &[&id]).await?;
                let text = format!("registered with address {address}");
                let event = Event {
                    kind: ObjectKind::Host,
                    id,
                    name: &name,
                    from: None,
                    to: None,
                    code: "created",
                    text: &text,
                };
                events::record(tx, &actor, event).await?;
                Ok(HostId(id))
            })
        })
        .await
}

/// What the row of a host says before its node registers.
pub async fn standing(database: &Database, host: HostId) -> Result<Option<Standing>, Error> {
    let client = database.client().await?;
    let row = STANDING.query_opt(&client, &[&host.0]).await?;
    row.map(|row| {
        let lease: Option<f64> = STANDING.column(&row, "lease_seconds")?;
        Ok(Standing { bound: lease.is_some(), peers: STANDING.column(&row, "peers")? })
    })
    .transpose()
}

/// Takes the row for a new life of the daemon, in state `starting`, and tells whether there are other hosts. `None` if
/// the host has no runtime row.
pub async fn claim(
    database: &Database,
    host: HostId,
    beat: Beat<'_>,
    capacity: Capacity<'_>,
) -> Result<Option<(Incarnation, bool)>, Error> {
    let client = database.client().await?;
    let (lease, storage, period) = promised(beat);
    let Capacity { ram, cpu, hypervisors } = capacity;
    let row = CLAIM
        .query_opt(&client, &[&host.0, &beat.pid, &lease, &storage, &period, &ram, &cpu, &hypervisors])
        .await?;
    row.map(|row| {
        let own = Incarnation { host, number: CLAIM.column(&row, "incarnation")? };
        Ok((own, CLAIM.column(&row, "peers")?))
    })
    .transpose()
}

/// Writes the heartbeat.
pub async fn heartbeat(database: &Database, own: Incarnation, beat: Beat<'_>) -> Result<Heartbeat, Error> {
    let client = database.client().await?;
    let (lease, storage, period) = promised(beat);
    let (host, number) = (own.host.0, own.number);
    let row = HEARTBEAT.query_opt(&client, &[&host, &beat.pid, &lease, &storage, &period, &number]).await?;
    let Some(row) = row else {
        let row = IS_LOST.query_opt(&client, &[&host, &number]).await?;
        let lost = row.map_or(Ok(false), |row| IS_LOST.column(&row, "lost"))?;
        return Ok(if lost { Heartbeat::Lost } else { Heartbeat::Superseded });
    };
    let command: Option<&str> = HEARTBEAT.column(&row, "cmd")?;
    Ok(Heartbeat::Own {
        blocked: HEARTBEAT.column(&row, "blocked")?,
        command: command.and_then(|word| word.parse().ok()),
        now: HEARTBEAT.column(&row, "now")?,
        peers: HEARTBEAT.column(&row, "peers")?,
    })
}

/// A promise as columns.
fn promised(beat: Beat<'_>) -> (Option<f64>, Option<&str>, f64) {
    let lease = beat.promise.lease.map(|lease| lease.as_secs_f64());
    (lease, beat.storage.filter(|_| beat.promise.file), beat.period.as_secs_f64())
}

/// Writes the state of the node and its event.
pub async fn set_state(
    database: &Database,
    own: Incarnation,
    name: &str,
    state: HostState,
) -> Result<(), Error> {
    let client = database.client().await?;
    let to = state.as_str();
    if SET_STATE.execute(&client, &[&own.host.0, &own.number, &to]).await? > 0 {
        let event = Event {
            kind: ObjectKind::Host,
            id: own.host.0,
            name,
            from: None,
            to: Some(to),
            code: "state",
            text: "the node daemon changed its state",
        };
        events::record(&client, &Actor::node(name), event).await?;
    }
    Ok(())
}

/// Takes the command that waits for a host, if there is one.
pub async fn take_command(session: &impl Session, host: HostId) -> Result<Option<HostCommand>, Error> {
    let row = TAKE_COMMAND.query_opt(session, &[&host.0]).await?;
    row.map(|row| TAKE_COMMAND.word(&row, "cmd")).transpose()
}

/// Tells a host to stop with its VMs. `false`: it does not run.
pub async fn tell_to_stop(
    database: &Database,
    actor: &Actor,
    host: HostId,
    name: &str,
) -> Result<bool, Error> {
    let (name, actor) = (name.to_owned(), actor.clone());
    database
        .transaction("tell a host to stop", move |tx| {
            let (name, actor) = (name.clone(), actor.clone());
            Box::pin(async move {
                if GIVE_STOP.execute(tx, &[&host.0]).await? == 0 {
                    return Ok(false);
                }
                let event = Event {
                    kind: ObjectKind::Host,
                    id: host.0,
                    name: &name,
                    from: None,
                    to: None,
                    code: "stop",
                    text: "told to stop with its VMs",
                };
                events::record(tx, &actor, event).await?;
                crate::commands::announce(tx, &notify::host_command(host)).await?;
                Ok(true)
            })
        })
        .await
}

/// What a host's daemon says that it is doing.
pub async fn state(database: &Database, host: HostId) -> Result<Option<HostState>, Error> {
    let client = database.client().await?;
    let row = STATE.query_opt(&client, &[&host.0]).await?;
    row.map(|row| STATE.word(&row, "state")).transpose()
}

/// A host at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostGlance {
    /// Its name.
    pub name: String,
    /// What its daemon says, or others of it.
    pub state: HostState,
    /// For how many seconds it has had no heartbeat, if it is suspect.
    pub silent: Option<i64>,
}

impl HostGlance {
    /// Whether its daemon was heard of lately.
    pub fn is_alive(&self) -> bool {
        let serves = matches!(self.state, HostState::Starting | HostState::Running | HostState::Stopping);
        serves && self.silent.is_none()
    }
}

/// An installation at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Its hosts.
    pub hosts: Vec<HostGlance>,
    /// How many VMs are in each state.
    pub states: Vec<(String, i64)>,
    /// VMs that failed last, newest first: name, and why.
    pub failures: Vec<(String, String)>,
}

/// Tells how hosts are, counts VMs and tells which failed.
pub async fn census(database: &Database) -> Result<Census, Error> {
    let client = database.client().await?;
    let mut census = Census::default();
    for row in COUNTS.query(&client, &[]).await? {
        census.states.push((COUNTS.column(&row, "vm_state")?, COUNTS.column(&row, "count")?));
    }
    for row in HOSTS.query(&client, &[]).await? {
        census.hosts.push(HostGlance {
            name: HOSTS.column(&row, "name")?,
            state: HOSTS.word(&row, "state")?,
            silent: HOSTS.column(&row, "silent")?,
        });
    }
    for row in FAILURES.query(&client, &[]).await? {
        census.failures.push((FAILURES.column(&row, "name")?, FAILURES.column(&row, "failure_text")?));
    }
    Ok(census)
}
