//! What the router does by itself: it follows its host's row, its sessions' rows, and the configuration.

use std::sync::Arc;
use std::time::Duration;

use qvd_db::{Database, configs, router};
use qvd_model::event::EndReason;
use qvd_model::{VmState, notify};
use qvd_runtime::config::Row;
use qvd_runtime::{Config, Drain};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::counting;
use crate::router::Router;
use crate::rows;

/// Covers a notification that got lost.
const SWEEP: Duration = Duration::from_secs(30);
/// However many VMs of the installation change, the own sessions are not read more often.
const SESSIONS_PAUSE: Duration = Duration::from_millis(200);
/// Nor for more than a tenth of the time, of which there may be thousands.
const SHARE: u32 = 9;
/// Somebody blocked or unblocked a host.
const HOST_BLOCKED: &str = "host_blocked_or_unblocked";

/// Starts the tasks; they end with `loops`.
pub(crate) fn start(router: &Arc<Router>, loops: &Drain) {
    let until = |work| {
        let stop = loops.token().clone();
        async move {
            stop.run_until_cancelled_owned(work).await;
        }
    };
    loops.spawn(until(Box::pin(follow_host(router.clone())) as Loop));
    loops.spawn(until(Box::pin(follow_commands(router.clone())) as Loop));
    loops.spawn(until(Box::pin(rows::follow(router.clone())) as Loop));
    loops.spawn(until(Box::pin(follow_configuration(router.clone())) as Loop));
    loops.spawn(until(Box::pin(write_counters(router.clone())) as Loop));
}

type Loop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

async fn follow_host(router: Arc<Router>) {
    let mut changed = router.listener.subscribe(notify::HOST_CHANGED);
    let mut blocked = router.listener.subscribe(HOST_BLOCKED);
    let mut connected = router.listener.connected();
    loop {
        tokio::select! {
            () = changed.rung() => {}
            () = blocked.rung() => {}
            Ok(()) = connected.changed() => {}
            () = tokio::time::sleep(SWEEP) => {}
        }
        let before = router.host_id();
        router.look_at_host().await;
        if before.is_none() && router.host_id().is_some() {
            forget_dead(&router).await;
        }
    }
}

/// Ends the sessions that were told to, whose VM is down, or that somebody took out of their row.
async fn follow_commands(router: Arc<Router>) {
    let mut vms = router.listener.subscribe(notify::VM_CHANGED);
    let mut rested = Instant::now();
    loop {
        let Some(host) = router.host_id() else {
            tokio::time::sleep(SESSIONS_PAUSE).await;
            continue;
        };
        let mut commands = router.listener.subscribe(notify::user_command(host));
        while router.host_id() == Some(host) {
            tokio::select! {
                () = commands.rung() => {}
                () = async { vms.rung().await; tokio::time::sleep_until(rested).await } => {}
                () = tokio::time::sleep(SWEEP) => {}
            }
            let begun = Instant::now();
            look_at_sessions(&router, host).await;
            rested = Instant::now() + SESSIONS_PAUSE.max(begun.elapsed() * SHARE);
        }
    }
}

async fn look_at_sessions(router: &Router, host: qvd_model::HostId) {
    let open = router.sessions.ids();
    if open.is_empty() {
        return;
    }
    let kept = match router::kept(&router.database, host, router.instance.id()).await {
        Ok(kept) => kept,
        Err(error) => return debug!("sessions go on unseen: {error}"),
    };
    for row in &kept {
        router.sessions.found(row.id);
        let down = matches!(row.state, VmState::Stopped | VmState::Zombie);
        if let Some(reason) = row.told {
            router.sessions.tell(row.id, reason);
        } else if down && row.connected {
            let reason = match (row.failed, row.lost) {
                (_, true) => EndReason::NodeLost,
                (true, false) => EndReason::VmFailed,
                (false, false) => row.stopped,
            };
            router.sessions.tell(row.id, reason);
        }
    }
    for id in open {
        if !kept.iter().any(|row| row.id == id) {
            router.sessions.missed(id);
        }
    }
}

async fn follow_configuration(router: Arc<Router>) {
    let mut changed = router.listener.subscribe(notify::CONFIG_CHANGED);
    loop {
        changed.rung().await;
        if let Err(error) = load_rows(&router.database, &router.config).await {
            warn!("the configuration stays as it is: {error}");
            continue;
        }
        router.reload_tls().await;
    }
}

/// Writes counters, and gives back the memory that logins took once nobody logs in any more.
async fn write_counters(router: Arc<Router>) {
    let mut busy = false;
    loop {
        tokio::time::sleep(counting::INTERVAL).await;
        let counted = router.counting.flush(&router).await;
        if busy && !counted {
            // It ends with the process if that ends first.
            drop(tokio::task::spawn_blocking(qvd_runtime::memory::trim));
        }
        busy = counted;
    }
}

/// Puts the rows of the database into the configuration.
pub(crate) async fn load_rows(database: &Database, config: &Config) -> Result<(), qvd_db::Error> {
    let rows = configs::rows(database).await?;
    config.set_rows(rows.into_iter().map(|(tenant, key, value)| Row { tenant, key, value }));
    Ok(())
}

/// Releases the sessions of this host's routers that died.
pub(crate) async fn forget_dead(router: &Router) {
    let Some(host) = router.host_id() else { return };
    let lives = |id: &str| router.instance.lives(id);
    match router::forget_dead(&router.database, host, lives, &router.actor()).await {
        Ok(vms) if vms.is_empty() => {}
        Ok(vms) => info!(sessions = vms.len(), "released the sessions of a router that died"),
        Err(error) => warn!("sessions of dead routers are not released: {error}"),
    }
}
