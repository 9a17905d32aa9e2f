//! The administration API.
//!
//! A request passes the same stations whatever it asks for: [`envelope`] (how it arrives), [`session`] (who
//! asks), [`check`] (may it, and is it well-formed — decided by the registry in `qvd_model::action`), `execute`
//! (one transaction per object, with its events, its audit row and its notifications), and `http` (how the answer
//! looks). Another dialect needs only other first and last stations.

#![forbid(unsafe_code)]

mod app;
pub mod caller;
mod change;
pub mod check;
pub mod clock;
pub mod envelope;
mod error;
mod execute;
mod feed;
mod fetch;
mod http;
mod images;
mod record;
pub mod refusal;
mod second_factor;
mod serve;
pub mod session;
mod targets;
pub mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::unistd::{AccessFlags, access};
use qvd_db::{Database, Listener, Settings};
use qvd_model::notify;
use qvd_runtime::privileges::Identity;
use qvd_runtime::{Config, Drain, Values};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::app::App;
pub use crate::error::Error;
pub use crate::http::v2::openapi::document as openapi;
use crate::serve::Listeners;

/// How long requests and imports may take to end when the service stops.
const DRAIN: Duration = Duration::from_secs(20);
/// How often the database is tried while it is away at the start.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);
/// A notification that got lost is made up for after this time.
const SWEEP: Duration = Duration::from_secs(60);
/// How often what interrupted uploads left is looked at.
const TIDYING: Duration = Duration::from_secs(3600);

/// Runs the API until `stop` is cancelled and everything is drained, or until a fatal error.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let (bound, _) = oneshot::channel();
    run_announced(config, stop, bound).await
}

/// The same; tells where it listens, for whoever configured port 0.
pub async fn run_announced(
    config: Config,
    stop: CancellationToken,
    bound: oneshot::Sender<SocketAddr>,
) -> Result<(), Error> {
    let values = config.now();
    let settings = Settings::from_keys(|key| values.optional(key).map_err(Error::from))?;
    let database = Database::new(&settings)?;
    // Looked up before anything listens: a wrong name must not leave a socket behind.
    let identity = Identity::named(&values.text("api.user")?, &values.text("api.group")?)?;
    let proxies = values.text("api.trusted-proxies")?.parse::<qvd_logic::proxies::Proxies>()?;
    let listeners = Listeners::open(&values)?;
    if !identity.is_root() {
        identity.assume()?;
        look_after_files(&values)?;
    }
    let tasks = Drain::new(stop.child_token());
    let (listener, listening) = Listener::new(&settings, tasks.token().clone());
    tasks.spawn(listening);
    let app = Arc::new(App::new(config, database, listener, tasks.clone(), proxies));
    if !reach(&app, &stop).await? {
        return Ok(());
    }
    tasks.spawn(follow_configuration(app.clone()));
    // Before it serves: a stream that begins now must not miss what is written before the first reading.
    let position = qvd_db::admin::changes::position(&app.database.client().await?).await?;
    tasks.spawn(feed::follow(app.clone(), position));
    tasks.spawn(tidy(app.clone()));
    if let Err(problem) = images::sweep::sweep(&app).await {
        warn!("interrupted imports not looked after: {problem}");
    }
    let address =
        listeners.address().map_err(|source| Error::Listen { place: "api.url".to_owned(), source })?;
    info!(%address, "the API serves");
    qvd_runtime::ready::notify();
    // Nobody may be interested.
    let _ = bound.send(address);
    listeners.serve(http::router(&app), tasks.clone()).await;
    if !tasks.finish(DRAIN).await {
        warn!("some requests did not end in time");
    }
    Ok(())
}

/// Says which files cannot be used by the user that this process is now.
fn look_after_files(values: &Values) -> Result<(), Error> {
    let needed = [
        ("path.api.ssl.cert", AccessFlags::R_OK, "its renewal will not be noticed"),
        ("path.api.ssl.key", AccessFlags::R_OK, "its renewal will not be noticed"),
        ("path.storage.images", AccessFlags::W_OK | AccessFlags::X_OK, "images cannot be imported"),
        (
            "path.storage.staging",
            AccessFlags::R_OK | AccessFlags::X_OK,
            "images cannot be imported from there",
        ),
    ];
    for (key, mode, effect) in needed {
        let path = values.path(key)?;
        if let Err(problem) = access(&path, mode) {
            warn!("{key}: {}: {problem} for api.user: {effect}", path.display());
        }
    }
    Ok(())
}

/// Waits for the database and reads the configuration from it. `false`: asked to stop meanwhile.
async fn reach(app: &App, stop: &CancellationToken) -> Result<bool, Error> {
    loop {
        let reached = match app.database.check_schema().await {
            Ok(()) => app.load_rows().await,
            Err(error) => Err(error),
        };
        match reached {
            Ok(()) => return Ok(true),
            Err(error) if error.is_away() => warn!("waiting for the database: {error}"),
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(DATABASE_PAUSE) => {}
            () = stop.cancelled() => return Ok(false),
        }
    }
}

/// Looks after imports whose process is gone, and removes what nobody goes on with.
async fn tidy(app: Arc<App>) {
    let mut tidied = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = app.tasks.stopping() => return,
        }
        let swept = if tidied.elapsed() < TIDYING {
            images::sweep::sweep_rows(&app).await
        } else {
            tidied = Instant::now();
            if let Err(problem) = forget_requests(&app).await {
                warn!("old requests not forgotten: {problem}");
            }
            images::sweep::sweep(&app).await
        };
        if let Err(problem) = swept {
            warn!("interrupted imports not looked after: {problem}");
        }
    }
}

/// Forgets requests that may be carried out again.
async fn forget_requests(app: &App) -> Result<(), Error> {
    let hours = app.config.now().int("api.repeat.keep")?;
    let client = app.database.client().await?;
    qvd_db::admin::repeats::forget(&client, hours).await?;
    Ok(())
}

/// Reads the configuration again whenever somebody changes it.
async fn follow_configuration(app: Arc<App>) {
    let mut bell = app.listener.subscribe(notify::CONFIG_CHANGED);
    loop {
        tokio::select! {
            () = bell.rung() => {}
            () = tokio::time::sleep(SWEEP) => {}
            () = app.tasks.stopping() => return,
        }
        if let Err(problem) = app.load_rows().await {
            warn!("configuration not read: {problem}");
        }
    }
}
