//! HKD, the House Keeping Daemon: runs the desktops of one node.
//!
//! It takes commands from QVD-DB by notification, gives each VM an owner task that runs its lifecycle machine,
//! writes the heartbeat, and reconciles rows with what really runs. Its end ends no desktop: the next daemon
//! adopts them (`spec/node.md` 15.1 and 15.2).

mod checks;
mod clock;
mod container;
mod desktop;
mod error;
mod expiry;
mod figures;
mod guard;
mod housekeeping;
mod keeper;
mod monitor;
mod network;
mod node;
mod owner;
mod plan;
mod pulse;
mod reconcile;
mod record;
mod routers;
mod watchdog;
mod witness;

use std::fs::Permissions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use qvd_db::hosts::{self, Beat, Capacity, Host, Incarnation};
use qvd_db::{Database, Listener, Settings};
use qvd_logic::cluster::{Lease, Limits};
use qvd_model::{HostState, notify};
use qvd_runtime::config::Row;
use qvd_runtime::{Config, Drain, Values};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use error::Error;
use figures::Figures;
use guard::{Guard, GuardFile};
use keeper::Keeper;
use network::Network;
use node::{End, Node, Parts};
use record::{Record, Records};
pub use watchdog::{Watch, run as watch};
use witness::Witness;

/// Pause between attempts to reach the database at start.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);
/// How long tasks that only read and write rows may take to end.
const LOOPS_LIMIT: Duration = Duration::from_secs(5);
/// How long the storage may take to show its heartbeat files.
const STORAGE_LIMIT: Duration = Duration::from_secs(10);
/// The hypervisors that this daemon offers.
const HYPERVISORS: &str = "lxc";

/// Runs the node until `stop`.
///
/// # Errors
/// Everything that keeps the node from serving, with [`Error::exit_code`] for the supervisor.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let values = config.now();
    let name = values.text("nodename")?;
    let _lock = lock(&values.path("internal.hkd.lock.path")?)?;
    let settings = Settings::from_keys(|key| values.optional(key).map_err(Error::from))?;
    let database = Database::new(&settings)?;
    let (guards, boot) = (GuardFile::new(&values.path("path.run")?)?, boot_id()?);
    if !reach(&database, (&guards, &boot, &values), &stop).await? {
        return Ok(());
    }
    load_rows(&database, &config).await?;
    let values = config.now();
    let host = hosts::find(&database, &name).await?;
    let Some(host) = host else {
        let finding =
            format!("there is no host named `{name}`; create it: qa4 host new name={name},address=…");
        return Err(Error::Unfit(vec![finding]));
    };
    let mut findings = checks::findings(&values, &host);
    let limits = keeper::limits(&values).map_err(|problem| findings.push(problem));
    let (Ok(limits), true) = (limits, findings.is_empty()) else { return Err(Error::Unfit(findings)) };
    keeper::warn_of_hurry(&limits);
    allow_watches();
    let records = Records::new(&values.path("path.run")?)?;
    let network = Network::set_up(&values, &known_desktops(&records, &values)?).await?;
    let registered = register(&database, &host, &values, (&boot, limits, &guards)).await?;
    let node = Node::new(Parts {
        database: database.clone(),
        name: name.clone(),
        own: registered.own,
        boot,
        records,
        starting: values.int("hkd.vm.starting.max")?,
        network,
        config: config.clone(),
    });
    serve(&node, &settings, registered, guards, &stop).await
}

/// The desktops that an earlier daemon left running, with the names of their links.
fn known_desktops(records: &Records, values: &Values) -> Result<Vec<(String, Record)>, Error> {
    let found = records.read_all()?.into_iter().filter_map(|(_, record)| record.ok());
    found.map(|record| Ok((container::link(record.vm, values)?, record))).collect()
}

/// A node that has just registered.
struct Registered {
    own: Incarnation,
    lease: Lease,
    guard: Guard,
    witness: Option<Witness>,
}

/// Registers the node, whose promise is kept by the watchdog from before it is made.
async fn register(
    database: &Database,
    host: &Host,
    values: &Values,
    (boot, limits, guards): (&str, Limits, &GuardFile),
) -> Result<Registered, Error> {
    let no_row =
        || Error::Unfit(vec![format!("host {} has no runtime row; delete and create it again", host.id)]);
    let standing = hosts::standing(database, host.id).await?.ok_or_else(no_row)?;
    let lapsed = guards.read(boot).is_some_and(|guard| guard.has_lapsed(clock::now()));
    if lapsed || hosts::state(database, host.id).await? == Some(HostState::Lost) {
        // What still runs here may run elsewhere.
        keeper::kill_all(values).await;
    }
    let witness = open_witness(values).await?;
    let shared = match (&witness, keeper::shared_by_key(values)?) {
        (None, _) => false,
        (Some(witness), None) => witness.is_on_network(),
        (Some(_), Some(shared)) => shared,
    };
    let (guard, promise) = keeper::bind(guards, boot, &limits, standing, shared)?;
    let figures = Figures::measure()
        .map_err(|source| Error::Io { operation: "measure memory and processors".to_owned(), source })?;
    let capacity = Capacity { ram: figures.ram, cpu: figures.cpu, hypervisors: HYPERVISORS };
    let storage = witness.as_ref().map(Witness::storage);
    let beat = Beat { pid: keeper::own_pid(), promise, storage, period: limits.beat() };
    let sent = clock::now();
    let (own, peers) = hosts::claim(database, host.id, beat, capacity).await?.ok_or_else(no_row)?;
    let lease = Lease::registered(limits, sent, promise, peers, shared);
    Ok(Registered { own, lease, guard, witness })
}

/// The heartbeat files of the storage. A storage that does not answer keeps the node from starting VMs anyway.
async fn open_witness(values: &Values) -> Result<Option<Witness>, Error> {
    let root = values.path("path.storage.root")?;
    let opening = tokio::task::spawn_blocking(move || Witness::open(&root));
    let problem = match tokio::time::timeout(STORAGE_LIMIT, opening).await {
        Ok(Ok(Ok(witness))) => return Ok(Some(witness)),
        Ok(Ok(Err(problem))) => problem.to_string(),
        Ok(Err(problem)) => problem.to_string(),
        Err(_) => format!("it does not answer within {} s", STORAGE_LIMIT.as_secs()),
    };
    warn!("no heartbeats in path.storage.root until the daemon is started again: {problem}");
    Ok(None)
}

async fn serve(
    node: &Arc<Node>,
    settings: &Settings,
    registered: Registered,
    guards: GuardFile,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let values = node.config.now();
    let loops = Drain::new(stop.child_token());
    let (listener, listening) = Listener::new(settings, loops.token().clone());
    loops.spawn(listening);
    // The lease is kept until the last VM has stopped.
    let lease = Drain::default();
    let (shares, shared) = watch::channel(false);
    let Registered { lease: held, guard, witness, .. } = registered;
    let bell = listener.subscribe(notify::host_command(node.own.host));
    let keeper = Keeper::new(node.clone(), held, guard, guards.clone(), witness.clone());
    lease.spawn(keeper.run(bell, shared, stop.clone(), lease.token().clone()));
    reconcile::adopt(node).await?;
    hosts::set_state(&node.database, node.own, &node.name, HostState::Running).await?;
    info!(host = node.name, id = node.own.host.0, "running");
    let watch = Watch { run: values.path("path.run")?, cgroup: values.text("internal.hkd.cgroup")? };
    let cluster = housekeeping::Cluster {
        witness,
        shares: keeper::shared_by_key(&values)?.is_none().then_some(shares),
        watch: Arc::new(watch),
    };
    housekeeping::start(node, &listener, &loops, cluster);
    let pause = values.seconds("internal.hkd.agent.dhcpdhandler.delay")?;
    node.network.serve_addresses(pause, &loops);
    qvd_runtime::ready::notify();
    stop.cancelled().await;

    if let Some(end) = node.ended() {
        loops.finish(LOOPS_LIMIT).await;
        let host = node.name.clone();
        return Err(match end {
            // Whose the desktops are is for the next daemon to find out; this one may not even write.
            End::Superseded => Error::Superseded { host },
            End::Fenced => Error::Fenced { host },
        });
    }
    let keep = node.config.now().text("hkd.stop.vms").map_or(true, |word| word == "keep");
    let leaves = !keep || node.is_told_to_stop();
    let state = async |state| {
        if let Err(error) = hosts::set_state(&node.database, node.own, &node.name, state).await {
            warn!(%state, "not written: {error}");
        }
    };
    state(HostState::Stopping).await;
    if leaves {
        reconcile::stop_all(node).await;
        node.network.tear_down().await;
        match container::lxc(&node.config.now()) {
            Ok(lxc) => lxc.cgroups.remove_parent(),
            Err(failure) => warn!("control groups not removed: {failure}"),
        }
    }
    if !loops.finish(LOOPS_LIMIT).await || !lease.finish(LOOPS_LIMIT).await {
        warn!("some tasks did not end in time");
    }
    state(HostState::Stopped).await;
    if leaves && let Err(error) = guards.remove() {
        warn!("the watchdog goes on: {error}");
    }
    info!(host = node.name, "stopped");
    Ok(())
}

/// Only one daemon may run on a node; the lock ends with the process, however it ends.
fn lock(path: &Path) -> Result<Flock<std::fs::File>, Error> {
    let io = |source| Error::Io { operation: format!("open the lock {}", path.display()), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(io)?;
    }
    // Whoever can open it can hold it: nobody else may.
    let file = std::fs::File::options().create(true).append(true).mode(0o600).open(path).map_err(io)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(io)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| Error::Locked { path: path.display().to_string() })
}

/// Desktops have the node's user ids, so the agents and buses of all of them share the limits of root, which the
/// kernel sets for one desktop.
fn allow_watches() {
    for (name, enough) in [("max_user_instances", 65_536_u64), ("max_user_watches", 1 << 20)] {
        let path = format!("/proc/sys/fs/inotify/{name}");
        let now = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        if now.is_some_and(|now| now < enough)
            && let Err(error) = std::fs::write(&path, enough.to_string())
        {
            warn!("{path} is too low for many desktops and stays so: {error}");
        }
    }
}

/// Waits for the database, and goes on writing the heartbeat file where that counts. `false`: the daemon was asked to
/// stop meanwhile.
async fn reach(
    database: &Database,
    (guards, boot, values): (&GuardFile, &str, &Values),
    stop: &CancellationToken,
) -> Result<bool, Error> {
    loop {
        match database.check_schema().await {
            Ok(()) => return Ok(true),
            Err(error) if error.is_away() => {
                warn!("waiting for the database: {error}");
                if let Ok(limits) = keeper::limits(values) {
                    keeper::bridge(guards, boot, &limits, values).await?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(DATABASE_PAUSE) => {}
            () = stop.cancelled() => return Ok(false),
        }
    }
}

async fn load_rows(database: &Database, config: &Config) -> Result<(), qvd_db::Error> {
    let rows = qvd_db::configs::rows(database).await?;
    config.set_rows(rows.into_iter().map(|(tenant, key, value)| Row { tenant, key, value }));
    Ok(())
}

/// Names the boot of the machine: process ids and mounts of another one are gone.
fn boot_id() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    let read = std::fs::read_to_string(path);
    read.map(|id| id.trim().to_owned())
        .map_err(|source| Error::Io { operation: format!("read {path}"), source })
}
