//! The supervisor: brings everything up in order, keeps it up, takes it down in reverse order.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use qvd_auth::Hasher;
use qvd_db::deploy::{Deployed, Deployment, ensure};
use qvd_db::events::Actor;
use qvd_db::{Database, Vault, hosts};
use qvd_runtime::Drain;
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::child::{Kept, Plan, START_LIMIT, supervise as keep};
use crate::control::{self, Orders};
use crate::database::{cluster, keep as keep_database, settings};
use crate::installation::Installation;
use crate::layout::{Daemon, Layout};
use crate::passwords::{Passwords, SECRETS};
use crate::report::Reporter;

/// How long API and router may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How long the desktops of the node may take to stop.
const DESKTOPS_LIMIT: Duration = Duration::from_secs(320);

/// Tells the caller of `qvd up`, over the pipe that is our standard output, what happens.
struct Caller(Option<std::io::Stdout>);

impl Caller {
    fn say(&mut self, kind: &str, text: &str) {
        info!("{text}");
        if let Some(out) = &mut self.0
            && writeln!(out, "{kind} {}", text.replace('\n', " ")).and_then(|()| out.flush()).is_err()
        {
            // Nobody listens any more; what was begun goes on.
            self.0 = None;
        }
    }
}

/// Runs the installation below `layout` until TERM.
pub async fn supervise(layout: Layout) -> Result<()> {
    let mut caller = Caller(Some(std::io::stdout()));
    let stop = qvd_runtime::signals::stop_token()?;
    let outcome = run(&layout, &mut caller, stop).await;
    if let Err(error) = &outcome {
        caller.say("error", &format!("{error:#}"));
    }
    outcome
}

async fn run(layout: &Layout, caller: &mut Caller, stop: CancellationToken) -> Result<()> {
    let _lock = lock(&layout.lock())?;
    let installation = Installation::read(layout)?.context("there is no installation here; use qvd up")?;
    if installation.farm.is_some() {
        let passwords = Passwords::known(layout)?;
        installation.lay_out(layout, &passwords)?;
        let database = Database::new(&installation.database(layout, Daemon::Api, &passwords)?)?;
        return with_database(layout, &installation, &database, caller, &stop).await;
    }
    let mut passwords = Passwords::keep(layout)?;
    installation.lay_out(layout, &passwords)?;
    passwords.set(SECRETS, &Vault::at(layout.secrets()).line()?);
    passwords.write(layout)?;

    caller.say("step", "starting PostgreSQL");
    let cluster = cluster(layout)?;
    let starting = cluster.clone();
    tokio::task::spawn_blocking(move || starting.start()).await??;
    let kept = Drain::new(CancellationToken::new());
    kept.spawn(keep_database(cluster.clone(), kept.token().clone()));
    let outcome = async {
        caller.say("step", "preparing the database");
        let database = deploy(layout, &passwords).await?;
        with_database(layout, &installation, &database, caller, &stop).await
    }
    .await;
    kept.finish(STOP_LIMIT).await;
    info!("stopping PostgreSQL");
    let stopped = tokio::task::spawn_blocking(move || cluster.stop()).await?;
    outcome.and(stopped.map_err(Into::into))
}

async fn with_database(
    layout: &Layout,
    installation: &Installation,
    database: &Database,
    caller: &mut Caller,
    stop: &CancellationToken,
) -> Result<()> {
    caller.say("step", "registering this node");
    hosts::register(database, &Actor::administrator("qvd up"), &installation.node, installation.address())
        .await?;
    store_certificate(layout, database).await?;

    caller.say("step", "preparing the desktop network");
    let network = crate::network::up(layout, installation).await?;
    let outcome = with_network(layout, installation, database, caller, stop).await;
    network.down(layout).await;
    outcome
}

async fn with_network(
    layout: &Layout,
    installation: &Installation,
    database: &Database,
    caller: &mut Caller,
    stop: &CancellationToken,
) -> Result<()> {
    let reporter = Reporter::new(layout, installation.daemons());
    let daemons = Drain::new(CancellationToken::new());
    let node_stop = CancellationToken::new();
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let mut orders = Orders::new();
    let mut problems = Vec::new();
    let mut mendable = false;
    for daemon in installation.daemons() {
        let plan = Arc::new(Plan {
            daemon,
            program: program.clone(),
            layout: layout.clone(),
            sockets: sockets(layout, installation, daemon)?,
            patience: if daemon == Daemon::Hkd { DESKTOPS_LIMIT } else { STOP_LIMIT },
        });
        let token = if daemon == Daemon::Hkd { node_stop.clone() } else { daemons.token().clone() };
        caller.say("step", &format!("starting {}", daemon.program()));
        let (order, taken) = mpsc::channel(1);
        orders.push((daemon, order));
        let (shown, tasks) = (reporter.clone(), daemons.clone());
        daemons.spawn(keep(Kept { plan, reporter: shown, orders: taken, tasks, stop: token }));
        let ready = tokio::time::timeout(START_LIMIT, reporter.wait_ready(daemon)).await;
        let ready = ready.unwrap_or_else(|_| {
            Err(anyhow::anyhow!("{} did not serve within {START_LIMIT:?}; see its log", daemon.program()))
        });
        match ready {
            Ok(()) => mendable |= daemon == Daemon::Api,
            // What it does not like may stand in the database, where only the API can mend it: it goes on being started.
            Err(error) if mendable => problems.push(format!("{error:#}")),
            Err(error) => {
                node_stop.cancel();
                daemons.finish(DESKTOPS_LIMIT).await;
                return Err(error);
            }
        }
    }
    let control = local_socket(&layout.control())?;
    daemons.spawn(control::serve(control, orders, daemons.token().clone()));
    if problems.is_empty() {
        caller.say("ready", "all daemons serve");
    } else {
        let problems = problems.join("; ");
        caller.say(
            "partly",
            &format!(
                "{problems}; what serves stays up, and what does not is tried again: \
                 mend its configuration with qa4, look with qvd status, or give up with qvd down"
            ),
        );
    }
    // From here on nobody reads the pipe.
    caller.0 = None;
    stop.cancelled().await;

    info!("stopping the desktops of this node");
    let told = tell_node_to_stop(database, installation).await;
    if let Err(error) = &told {
        warn!("the node could not be told to stop its desktops: {error}");
    }
    // A node that was told ends by itself when its desktops have; one that was not is ended now.
    if matches!(told, Ok(true)) {
        let ended = tokio::time::timeout(DESKTOPS_LIMIT, reporter.wait_ended(Daemon::Hkd)).await;
        if ended.is_err() {
            warn!("the desktops did not stop in {DESKTOPS_LIMIT:?}");
        }
    }
    node_stop.cancel();
    if !daemons.finish(DESKTOPS_LIMIT).await {
        warn!("some daemons did not end in time");
    }
    Ok(())
}

/// Ending the node daemon alone would leave its desktops running.
async fn tell_node_to_stop(database: &Database, installation: &Installation) -> Result<bool, qvd_db::Error> {
    let Some(host) = hosts::find(database, &installation.node).await? else { return Ok(false) };
    hosts::tell_to_stop(database, &Actor::administrator("qvd down"), host.id, &installation.node).await
}

async fn deploy(layout: &Layout, passwords: &Passwords) -> Result<Database> {
    qvd_db::deploy::create_database(&settings(layout, "postgres"), crate::DATABASE).await?;
    let settings = settings(layout, crate::DATABASE);
    let hasher = Hasher::new(1);
    let mut administrators = Vec::new();
    for name in ["superadmin", "admin"] {
        let hash = hasher.hash(passwords.of(name).as_bytes()).await?;
        administrators.push((name.to_owned(), SecretString::from(hash)));
    }
    let roles = Daemon::ALL
        .into_iter()
        .map(|daemon| (daemon.role().to_owned(), SecretString::from(passwords.of(daemon.role()))))
        .collect();
    let deployment = Deployment { force: false, administrators, roles };
    match ensure(&settings, &deployment).await? {
        Deployed::Created => info!("QVD-DB deployed"),
        Deployed::Migrated(names) if names.is_empty() => {}
        Deployed::Migrated(names) => info!("migrations applied to QVD-DB: {}", names.join(", ")),
        Deployed::TakenOver(taken) => info!("QVD-DB taken over from schema {}", taken.from),
    }
    Ok(Database::new(&settings)?)
}

/// The router reads its certificate from the database, like the routers of a farm.
async fn store_certificate(layout: &Layout, database: &Database) -> Result<()> {
    let client = database.client().await?;
    for (key, file) in [("l7r.ssl.cert", "cert.pem"), ("l7r.ssl.key", "key.pem")] {
        if qvd_db::configs::pem(database.vault(), &client, key).await?.is_none() {
            let path = layout.certificates().join(file);
            let pem =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            qvd_db::configs::set_pem(database.vault(), &client, key, &pem).await?;
        }
    }
    Ok(())
}

/// The listening sockets of a daemon: ours, so that they outlive it.
fn sockets(
    layout: &Layout,
    installation: &Installation,
    daemon: Daemon,
) -> Result<Vec<(&'static str, OwnedFd)>> {
    let tcp = |port| listen(installation.listen, port);
    Ok(match daemon {
        Daemon::Hkd => Vec::new(),
        Daemon::L7r => vec![("l7r", tcp(installation.port)?)],
        Daemon::Api => {
            let local = local_socket(&layout.api_socket())?;
            vec![("api", tcp(installation.api_port)?), ("api-local", local.into())]
        }
    })
}

fn listen(address: IpAddr, port: u16) -> Result<OwnedFd> {
    let address = SocketAddr::new(address, port);
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    Ok(listener.into())
}

/// A socket for root only, in place of what an earlier supervisor left.
fn local_socket(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => bail!("{}: {error}", path.display()),
        _ => {}
    }
    let socket = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

fn lock(path: &Path) -> Result<Flock<File>> {
    // Whoever can open it can hold it: nobody else may.
    let file = File::options().create(true).append(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| anyhow::anyhow!("already up"))
}
