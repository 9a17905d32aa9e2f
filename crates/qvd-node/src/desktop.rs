//! The means of one VM: carries out what its lifecycle machine asks for.

use std::future::Future;
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qvd_db::node::{self, Ownership, Place, Written};
use qvd_db::placement::Policy;
use qvd_hypervisor::lxc::{Container, Process};
use qvd_hypervisor::storage::{self, Home, HomeOwner, Overlay, Tree, Unpacking};
use qvd_logic::lifecycle::{Event, Step, Timer, Undo};
use qvd_logic::placement::Weights;
use qvd_model::{Failure, FailureCode, Generation, VmId, VmState};
use qvd_rpc::{Agent, AgentError};
use qvd_runtime::Values;
use qvd_runtime::config::ConfigError;
use rand::RngCore;
use secrecy::SecretString;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::{info, warn};

use crate::container;
use crate::node::Node;
use crate::owner::{retry_pause, timer_key};
use crate::plan::{choose_image, configuration, draw_up};
use crate::record::{self, Record, RecordError};

/// How long unmounting may take before the VM counts as not cleaned.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(30);
/// How long killed processes may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// How long `lxc-stop` may take to pass the word on.
const HALT_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two attempts to write a state while the database is away.
const PERSIST_PAUSE: Duration = Duration::from_secs(1);
/// Limit of a state whose own limit cannot be read.
const FALLBACK_LIMIT: Duration = Duration::from_secs(60);

/// The row belongs to somebody else now.
#[derive(Debug)]
pub struct RowLost;

/// One VM on this node.
pub struct Desktop {
    /// The node.
    pub node: Arc<Node>,
    /// The VM.
    pub vm: VmId,
    own: Ownership,
    inner: Mutex<Inner>,
}

/// What changes while the VM lives. Locked only for moments, never across an await.
struct Inner {
    step: Option<Step>,
    record: Option<Record>,
    /// The public state that the row is known to have.
    persisted: VmState,
    slot: Option<OwnedSemaphorePermit>,
    tree: Option<Tree>,
    overlay: Option<Overlay>,
    home: Option<Home>,
    /// The `lxc-start` that the VM's life is tied to.
    monitor: Option<Process>,
    /// The same as our child, if we started it.
    child: Option<Container>,
    /// Whether its agent ever answered.
    booted: bool,
}

impl Desktop {
    /// A VM of which nothing is here yet.
    pub fn new(node: Arc<Node>, vm: VmId, generation: Generation) -> Self {
        let own = node.ownership(vm, generation);
        let inner = Inner {
            step: None,
            record: None,
            persisted: VmState::Starting,
            slot: None,
            tree: None,
            overlay: None,
            home: None,
            monitor: None,
            child: None,
            booted: false,
        };
        Self { node, vm, own, inner: Mutex::new(inner) }
    }

    /// Goes on with what an earlier daemon knew.
    pub fn resume(&self, record: Record, was: VmState) {
        let mut inner = self.inner();
        inner.monitor = record.process.map(Process::from).filter(|process| process.is_alive());
        inner.record = Some(record);
        inner.persisted = was;
        inner.booted = was != VmState::Starting;
    }

    /// Whether a VM with a silent agent is kept for inspection.
    pub fn keeps_silent(&self) -> bool {
        self.node.config.now().flag("internal.vm.debug.enable").unwrap_or(false)
    }

    /// The step that runs or ran last.
    pub fn step(&self) -> Option<Step> {
        self.inner().step
    }

    /// Whether the hypervisor's process is known.
    pub fn runs(&self) -> bool {
        self.inner().monitor.is_some()
    }

    /// The limit that a timer stands for.
    pub fn limit(&self, timer: Timer) -> Duration {
        let configured = self.node.config.now().seconds(timer_key(timer)).unwrap_or(FALLBACK_LIMIT);
        match timer {
            Timer::Retry(attempt) => retry_pause(attempt, configured),
            _ => configured,
        }
    }

    /// Gives the start slot back.
    pub fn release_slot(&self) {
        self.inner().slot = None;
    }

    /// Writes the public state, however long the database is away.
    pub async fn persist(&self, state: VmState) -> Result<(), RowLost> {
        loop {
            let (from, name, pid) = {
                let inner = self.inner();
                let pid = inner.monitor.map(|monitor| monitor.pid);
                (inner.persisted, inner.record.as_ref().map_or_else(String::new, |r| r.name.clone()), pid)
            };
            let node = &self.node;
            match node::set_state(&node.database, &node.actor, self.own, &name, (from, state), pid).await {
                Ok(Written::Yes) => {
                    {
                        let mut inner = self.inner();
                        inner.persisted = state;
                        inner.booted |= state == VmState::Running;
                    }
                    if state == VmState::Running
                        && let Ok(link) = container::link(self.vm, &node.config.now())
                    {
                        node.network.isolate(&link).await;
                    }
                    return Ok(());
                }
                Ok(Written::Moved(found)) => self.inner().persisted = found,
                Ok(Written::Lost) => return Err(RowLost),
                Err(error) => {
                    warn!(vm = self.vm.0, %state, "not written, trying again: {error}");
                    tokio::time::sleep(PERSIST_PAUSE).await;
                }
            }
        }
    }

    /// Carries out a step of the start.
    pub async fn perform(&self, step: Step) -> Result<(), Failure> {
        self.inner().step = Some(step);
        if !self.node.holds() {
            let detail = "its host is cut off and may not start VMs";
            return Err(Failure::new(FailureCode::Fenced, detail));
        }
        let values = self.node.config.now();
        match step {
            Step::Plan => self.plan(&values).await,
            Step::Sweep => self.sweep(&values).await,
            Step::Unpack => self.unpack(&values).await,
            Step::Slot => self.take_slot().await,
            Step::Overlay => self.overlay(&values).await,
            Step::Mount => self.mount(&values).await,
            Step::Home => self.furnish(&values).await,
            Step::Network => self.connect(&values).await,
            Step::Define => self.define(&values),
            Step::Launch => self.launch(&values),
        }
    }

    async fn plan(&self, values: &Values) -> Result<(), Failure> {
        let database = &self.node.database;
        let facts = node::start_facts(database, self.vm).await.map_err(database_failure)?;
        let facts = facts
            .ok_or_else(|| Failure::new(FailureCode::UnknownVm, format!("there is no VM {}", self.vm)))?;
        let images = node::tagged_images(database, facts.osf, &facts.tag).await.map_err(database_failure)?;
        let image = choose_image(&facts, images)?;
        let made = (self.node.boot.clone(), new_secret());
        let record = draw_up(self.vm, self.own.generation, facts, image, made, values)?;
        let ports = || -> Result<_, ConfigError> {
            let display: u16 = values.int("internal.nxagent.display")?;
            Ok((values.int("internal.vm.port.vma")?, display + 4000, values.int("internal.vm.port.ssh")?))
        };
        let (agent_port, nx_port, ssh_port) = ports().map_err(configuration)?;
        let place = Place {
            address: record.address,
            agent_port,
            nx_port,
            ssh_port,
            di: record.di,
            osf: record.osf,
            secret: &record.secret,
        };
        if !node::publish(database, self.own, &place).await.map_err(database_failure)? {
            return Err(Failure::new(FailureCode::Fenced, "the VM was given to another host"));
        }
        info!(vm = self.vm.0, name = record.name, user = record.login, image = record.image, "starting");
        self.write_record(record)
    }

    /// Removes what an earlier life of the VM may have left on this node.
    async fn sweep(&self, values: &Values) -> Result<(), Failure> {
        let lxc = container::lxc(values)?;
        lxc.end_processes(self.vm, KILL_LIMIT).await?;
        self.disconnect(values).await?;
        let directories = container::directories(values).map_err(configuration)?;
        storage::unmount_below(&directories.root(self.vm), UNMOUNT_LIMIT).await?;
        Ok(lxc.undefine(self.vm)?)
    }

    async fn unpack(&self, values: &Values) -> Result<(), Failure> {
        let record = self.record()?;
        let directories = container::directories(values).map_err(configuration)?;
        let wanted = Unpacking {
            file: record.image.clone(),
            sha256: record.sha256.clone(),
            limits: storage::Limits::default(),
            redirect: values.flag("vm.lxc.redirect.allow").map_err(configuration)?,
        };
        let (progress, mut seen) = watch::channel(storage::Progress::default());
        let unpacking = storage::prepare_base(&directories, wanted, progress);
        tokio::pin!(unpacking);
        let tree = tokio::select! {
            tree = &mut unpacking => tree?,
            // The row only tells of an unpacking that really happens: the usual start finds the base there.
            Ok(_) = seen.changed() => {
                self.tell_step(Step::Unpack).await;
                unpacking.await?
            }
        };
        self.inner().tree = Some(tree);
        Ok(())
    }

    async fn tell_step(&self, step: Step) {
        if let Err(error) = node::set_step(&self.node.database, self.own, step.as_str()).await {
            warn!(vm = self.vm.0, "progress not written: {error}");
        }
    }

    async fn take_slot(&self) -> Result<(), Failure> {
        let slot = self.node.slots.clone().acquire_owned().await;
        let slot = slot.map_err(|_| Failure::new(FailureCode::Cancelled, "the node is stopping"))?;
        self.inner().slot = Some(slot);
        Ok(())
    }

    async fn overlay(&self, values: &Values) -> Result<(), Failure> {
        let record = self.record()?;
        let directories = container::directories(values).map_err(configuration)?;
        let overlay = storage::prepare_overlay(&directories, record.di, self.vm, record.persistent).await?;
        self.inner().overlay = Some(overlay);
        Ok(())
    }

    async fn mount(&self, values: &Values) -> Result<(), Failure> {
        let directories = container::directories(values).map_err(configuration)?;
        let (lower, overlay) = {
            let inner = self.inner();
            let tree = inner.tree.as_ref().map(|tree| tree.root.clone());
            (tree.ok_or_else(out_of_order)?, inner.overlay.clone().ok_or_else(out_of_order)?)
        };
        Ok(storage::mount_root(&lower, &overlay, &directories.root(self.vm)).await?)
    }

    /// Makes the home, and puts into the root what differs from desktop to desktop.
    async fn furnish(&self, values: &Values) -> Result<(), Failure> {
        let record = self.record()?;
        let home = self.home(values).await?;
        let directories = container::directories(values).map_err(configuration)?;
        let seed = container::seed(&record, home.as_ref(), values).map_err(configuration)?;
        storage::seed_root(&directories.root(self.vm), seed).await?;
        self.inner().home = home;
        Ok(())
    }

    async fn home(&self, values: &Values) -> Result<Option<Home>, Failure> {
        let record = self.record()?;
        if !record.home {
            return Ok(None);
        }
        let directories = container::directories(values).map_err(configuration)?;
        let owner =
            if record.home_per_user { HomeOwner::User(record.login.clone()) } else { HomeOwner::Vm(self.vm) };
        Ok(Some(storage::prepare_home(&directories, owner).await?))
    }

    async fn connect(&self, values: &Values) -> Result<(), Failure> {
        let record = self.record()?;
        let link = container::link(self.vm, values).map_err(configuration)?;
        self.node.network.connect(&link, &record).await
    }

    async fn disconnect(&self, values: &Values) -> Result<(), Failure> {
        let link = container::link(self.vm, values).map_err(configuration)?;
        self.node.network.disconnect(self.vm, &link).await
    }

    fn define(&self, values: &Values) -> Result<(), Failure> {
        let record = self.record()?;
        let (tree, home) = {
            let inner = self.inner();
            (inner.tree.clone().ok_or_else(out_of_order)?, inner.home.clone())
        };
        let definition = container::definition(&record, &tree, home, &self.node.network.plan, values);
        container::lxc(values)?.define(&definition.map_err(configuration)?)?;
        Ok(())
    }

    fn launch(&self, values: &Values) -> Result<(), Failure> {
        let mut record = self.record()?;
        let started = container::lxc(values)?.start(self.vm)?;
        record.process = Some(record::Process::from(started.monitor));
        {
            let mut inner = self.inner();
            inner.monitor = Some(started.monitor);
            inner.child = Some(started);
        }
        self.write_record(record)
    }

    /// Undoes a step; `failure` says why the VM stopped, if not by request.
    pub async fn undo(&self, undo: Undo, failure: Option<FailureCode>) -> Result<(), Failure> {
        let values = self.node.config.now();
        let directories = container::directories(&values).map_err(configuration)?;
        match undo {
            Undo::Slot => self.release_slot(),
            Undo::Processes => self.kill().await?,
            Undo::Define => container::lxc(&values)?.undefine(self.vm)?,
            Undo::Network => self.disconnect(&values).await?,
            Undo::Mount => storage::unmount_below(&directories.root(self.vm), UNMOUNT_LIMIT).await?,
            // What it wrote may be that of another node by now.
            Undo::Overlay if failure == Some(FailureCode::Fenced) || self.node.is_fenced() => {}
            Undo::Overlay => {
                let (persistent, booted) = {
                    let inner = self.inner();
                    // What nobody knows of may be somebody's work; the next start decides.
                    (inner.record.as_ref().is_none_or(|r| r.persistent), inner.booted)
                };
                // What a failed start wrote may tell why it failed.
                storage::discard_overlay(&directories, self.vm, persistent, failure.is_some() && !booted)
                    .await?;
            }
        }
        Ok(())
    }

    /// Asks the agent to power off; only a failure to ask is one.
    pub async fn power_off(&self) -> Result<(), Failure> {
        let limit = self.rpc_limit();
        match self.agent()?.poweroff(limit).await {
            // Agents of existing images report an error although they do it.
            Ok(()) | Err(AgentError::Failed { .. }) => Ok(()),
            Err(error) => Err(Failure::new(FailureCode::AgentSilent, error.to_string())),
        }
    }

    /// Tells the container's init to power off, for desktops whose agent does not.
    pub async fn halt(&self) -> Result<(), Failure> {
        Ok(container::lxc(&self.node.config.now())?.power_off(self.vm, HALT_LIMIT).await?)
    }

    /// Kills every process of the VM and waits until none is left.
    pub async fn kill(&self) -> Result<(), Failure> {
        Ok(container::lxc(&self.node.config.now())?.end_processes(self.vm, KILL_LIMIT).await?)
    }

    /// Clears the row and forgets the VM.
    pub async fn clear(&self, failure: Option<Failure>) -> Result<(), Failure> {
        let name = self.record().map(|record| record.name).unwrap_or_default();
        let node = &self.node;
        let again = policy(&node.config.now());
        if let Err(error) = &again {
            warn!(vm = self.vm.0, "it will not be started again: {error}");
        }
        let (failed, again) = (failure.as_ref(), again.as_ref().ok());
        let cleared = node::clear(&node.database, &node.actor, self.own, &name, failed, again).await;
        if !cleared.map_err(database_failure)? {
            info!(vm = self.vm.0, "the row is not ours any more; nothing to clear");
        }
        match &failure {
            Some(failure) => warn!(vm = self.vm.0, name, code = %failure.code, "stopped: {failure}"),
            None => info!(vm = self.vm.0, name, "stopped"),
        }
        node.records.remove(self.vm).map_err(|error| record_failure(&error))
    }

    /// Resolves when the container has ended, with what it wrote last. Its `lxc-start` dies by a signal only if somebody
    /// else kills it, or the kernel for want of memory.
    pub async fn ended(&self) -> Event {
        let (child, monitor) = {
            let mut inner = self.inner();
            (inner.child.take(), inner.monitor)
        };
        let status = match (child, monitor) {
            (Some(mut child), _) => child.ended().await,
            (None, Some(monitor)) => monitor.ended().await.map(|()| None),
            (None, None) => std::future::pending().await,
        };
        self.inner().monitor = None;
        let lxc = container::lxc(&self.node.config.now());
        let killed = matches!(&status, Ok(Some(status)) if status.signal().is_some());
        let text = match (status, lxc) {
            (Ok(status), Ok(lxc)) => lxc.exited(self.vm, status).to_string(),
            (Err(error), _) => error.to_string(),
            (_, Err(failure)) => failure.to_string(),
        };
        if killed { Event::Crashed(text) } else { Event::Ended(text) }
    }

    /// Pings the agent after a pause, and gives up what is not connected within `way`.
    pub fn ping_after(
        self: Arc<Self>,
        pause: Duration,
        way: Option<Duration>,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            let agent = self.agent().map_err(|failure| failure.to_string())?;
            let agent = match way {
                Some(way) => agent.within(way),
                None => agent,
            };
            agent.ping(self.rpc_limit()).await.map_err(|error| error.to_string())
        })
    }

    fn agent(&self) -> Result<Agent, Failure> {
        let record = self.record()?;
        let port = self.node.config.now().int("internal.vm.port.vma").map_err(configuration)?;
        Ok(Agent::new(record.address, port, Some(SecretString::from(record.secret))))
    }

    fn rpc_limit(&self) -> Duration {
        self.node.config.now().seconds("internal.hkd.agent.rpc.timeout").unwrap_or(Duration::from_secs(3))
    }

    fn write_record(&self, record: Record) -> Result<(), Failure> {
        self.node.records.write(&record).map_err(|error| record_failure(&error))?;
        self.inner().record = Some(record);
        Ok(())
    }

    fn record(&self) -> Result<Record, Failure> {
        self.inner().record.clone().ok_or_else(out_of_order)
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a VM that is to start again is placed: as if its user had asked for it.
fn policy(values: &Values) -> Result<Policy, ConfigError> {
    Ok(Policy {
        hypervisor: values.text("vm.hypervisor")?,
        weights: Weights::read(|key| values.number(key))?,
        start_blocked: false,
    })
}

fn new_secret() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The machine runs the steps in order, so this is a fault of ours.
fn out_of_order() -> Failure {
    Failure::new(FailureCode::Internal, "a step ran before the one it needs")
}

fn record_failure(error: &RecordError) -> Failure {
    Failure::new(FailureCode::StorageFailed, error.to_string())
}

fn database_failure(error: qvd_db::Error) -> Failure {
    let code = if error.is_away() { FailureCode::DatabaseAway } else { FailureCode::Internal };
    Failure::new(code, error.to_string())
}
