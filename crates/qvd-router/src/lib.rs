//! L7R, the Level-7 Router that users connect to.
//!
//! One task per connection: TLS, the HTTP dialect of `qvd-wire`, login, and for `connect_to_vm` the machine
//! of `qvd_logic::session`. A connection that has reached its desktop leaves HTTP for good and goes on as a
//! small task that only copies. The database is where routers, nodes and the API meet; while it is away,
//! sessions go on and requests get an answer that says so.
//!
//! A router that is replaced retires: its successor accepts on the same socket, while it keeps what it has,
//! under its own name in the rows, until the last session has ended.

mod accept;
mod bridge;
mod cause;
mod connect;
mod connection;
mod counting;
mod ended;
mod endpoints;
mod error;
mod instance;
mod login;
mod refusal;
mod router;
mod rows;
mod sessions;
mod settings;
mod stop;
mod stream;
mod tickets;
mod watch;
mod work;

use qvd_db::attempts::Attempts;
use qvd_db::{Database, Listener, Settings};
use qvd_runtime::signals::Orders;
use qvd_runtime::{Config, Drain};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use error::Error;
use router::{Parts, Router};

/// Pause between attempts to reach the database at start.
const DATABASE_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Runs the router until it is told to end, on the socket of the supervisor or on `l7r.address` and `l7r.port`.
///
/// # Errors
/// Everything that keeps the router from serving.
pub async fn run(config: Config, orders: Orders) -> Result<(), Error> {
    let inherited = qvd_relay::sockets::inherited("l7r")?;
    let Some(prepared) = prepare(&config, &orders.stop).await? else { return Ok(()) };
    let listener = match inherited {
        Some(socket) => accept::adopt(socket)?,
        None => accept::bind(&config.now()).await?,
    };
    serve(config, prepared, listener, orders).await
}

/// Runs the router until it is told to end, on this socket.
///
/// # Errors
/// Everything that keeps the router from serving.
pub async fn run_on(config: Config, listener: TcpListener, orders: impl Into<Orders>) -> Result<(), Error> {
    let orders = orders.into();
    let Some(prepared) = prepare(&config, &orders.stop).await? else { return Ok(()) };
    serve(config, prepared, listener, orders).await
}

struct Prepared {
    database: Database,
    settings: Settings,
}

/// Waits for the database and reads the configuration rows. `None`: asked to stop meanwhile.
async fn prepare(config: &Config, stop: &CancellationToken) -> Result<Option<Prepared>, Error> {
    let values = config.now();
    let settings = Settings::from_keys(|key| values.optional(key).map_err(Error::from))?;
    let database = Database::new(&settings)?;
    loop {
        match database.check_schema().await {
            Ok(()) => break,
            Err(error) if error.is_away() => warn!("waiting for the database: {error}"),
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(DATABASE_PAUSE) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
    watch::load_rows(&database, config).await?;
    Ok(Some(Prepared { database, settings }))
}

async fn serve(config: Config, prepared: Prepared, socket: TcpListener, orders: Orders) -> Result<(), Error> {
    let Orders { stop, retire } = orders;
    let Prepared { database, settings } = prepared;
    let loops = Drain::new(CancellationToken::new());
    let (listener, listening) = Listener::new(&settings, loops.token().clone());
    let (attempts, counting) = Attempts::new(database.clone(), loops.token().clone());
    let parts = Parts { config, database, listener, attempts, connections: Drain::new(stop.clone()) };
    let router = Router::new(parts).await?;
    loops.spawn(listening);
    loops.spawn(counting);
    watch::start(&router, &loops);
    watch::forget_dead(&router).await;
    info!(instance = router.instance.id(), address = ?socket.local_addr().ok(), "serving");
    qvd_runtime::ready::notify();

    tokio::select! {
        () = accept::accept(&router, socket, &stop) => {}
        () = retire.cancelled() => run_out(&router).await,
    }
    let limit = settings::drain(&router.config.now());
    info!(connections = router.connections.len(), ?limit, "draining");
    if !router.connections.finish(limit).await {
        router.ending.cancel();
        if !router.connections.finish(settings::LAST_WORDS).await {
            warn!(connections = router.connections.len(), "some connections did not end in time");
        }
    }
    router.counting.flush(&router).await;
    if !loops.finish(settings::LAST_WORDS).await {
        warn!("some tasks did not end in time");
    }
    info!("stopped");
    Ok(())
}

/// Lets connections and sessions go on until they end, the time for it is over, or the router is told to stop.
async fn run_out(router: &Router) {
    let limit = settings::retirement(&router.config.now());
    info!(connections = router.connections.len(), ?limit, "replaced; what there is goes on");
    tokio::select! {
        () = router.connections.idle() => {}
        () = router.connections.stopping() => {}
        () = tokio::time::sleep(limit) => {}
    }
}
