//! One router, many clients: what each costs, and how long all take to come back after it was killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use qvd_auth::Hasher;
use qvd_db::{Database, Settings, Tls, Vault};
use qvd_relay::certificate::{SelfSigned, self_signed};
use qvd_runtime::postgres::TemporaryCluster;
use rand::Rng;
use tokio::task::JoinSet;

use crate::daemon::Daemon;
use crate::peer::{self, Connected, Desktops, Login};
use crate::table::Table;
use crate::usage;

/// Whoever is refused or cut off tries again after at most this, then after at most twice as long, and so on: as our
/// client does.
const RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Nobody waits longer.
const LIMIT: Duration = Duration::from_secs(180);

/// Measures with this many clients, each the user of one VM that runs.
pub fn measure(table: &mut Table, clients: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(table, clients))
}

async fn run(table: &mut Table, clients: usize) -> Result<()> {
    let cluster = TemporaryCluster::start()?;
    let certificate = self_signed(&["localhost".to_owned()])?;
    let desktops = Desktops::start().await?;
    let settings = deploy(&cluster, &certificate, &desktops, clients).await?;
    let directory = tempfile::tempdir()?;
    let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let config = directory.path().join("l7r.conf");
    let text = format!(
        "nodename = node1\ndatabase.host = {}\ndatabase.name = {}\ndatabase.user = qvd_l7r\npath.run = {}\n\
         l7r.address = 127.0.0.1\nl7r.port = {port}\nlog.filename = {}\nlog.level = WARN\n",
        settings.hosts.join(","),
        settings.name,
        directory.path().display(),
        directory.path().join("l7r.log").display(),
    );
    std::fs::write(&config, text)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let tls = Arc::new(peer::client_config(&certificate, true)?);

    let router = Daemon::start("qvd-l7r", &config, address).await?;
    let empty = usage::own_memory(router.pid())?;
    table.row("router, nobody logged in", mebibytes(empty), "", "");
    let begun = Instant::now();
    let mut held = all(&tls, address, vec![Login::Password; clients]).await?;
    let first = begun.elapsed();
    // What logins take is given back when nobody has logged in for a while.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let full = usage::own_memory(router.pid())?;
    let each = full.saturating_sub(empty) / u64::try_from(clients)?.max(1);
    let what = format!("router with {clients} idle sessions, memory of each");
    let beside = format!("{} in all", mebibytes(full));
    table.row(&what, format!("{:.1} KiB", kibibytes(each)), beside, "≤ 16 KiB");

    let before = usage::process(router.pid())?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let idle = usage::process(router.pid())?.saturating_sub(before).as_secs_f64() / 10.0 * 100.0;
    table.row("router with these sessions, nobody moves", format!("{idle:.1} % of a core"), "", "");

    let router = storm(table, router, &config, address, &tls, &mut held, false).await?;
    drop(storm(table, router, &config, address, &tls, &mut held, true).await?);
    let first = first.as_secs_f64();
    table.row(&format!("{clients} clients log in for the first time"), format!("{first:.1} s"), "", "");
    Ok(())
}

/// Kills the router, and waits until everybody is back.
async fn storm(
    table: &mut Table,
    router: Daemon,
    config: &std::path::Path,
    address: SocketAddr,
    tls: &Arc<rustls::ClientConfig>,
    held: &mut Vec<Connected>,
    passwords: bool,
) -> Result<Daemon> {
    let clients = held.len();
    drop(router);
    let tickets = held.drain(..).map(|client| Login::Ticket(client.ticket));
    let logins = tickets.map(|ticket| if passwords { Login::Password } else { ticket }).collect();
    let begun = Instant::now();
    let router = Daemon::start("qvd-l7r", config, address).await?;
    *held = all(tls, address, logins).await?;
    let again = begun.elapsed().as_secs_f64();
    let cost = usage::process(router.pid())?.as_secs_f64();
    let (how, budget) = match passwords {
        true => ("with their passwords, as clients without tickets", ""),
        false => ("with tickets", "≤ 30 s (5,000, 2 cores)"),
    };
    let what = format!("{clients} clients reach their desktops after a router was killed, {how}");
    let beside = format!("{cost:.1} s of processor time in the router");
    table.row(&what, format!("{again:.1} s"), beside, budget);
    Ok(router)
}

#[allow(clippy::cast_precision_loss, reason = "a figure")]
fn kibibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", kibibytes(bytes) / 1024.0)
}

/// Everybody connects at once, and again whenever refused.
async fn all(
    tls: &Arc<rustls::ClientConfig>,
    router: SocketAddr,
    logins: Vec<Login>,
) -> Result<Vec<Connected>> {
    let mut tasks = JoinSet::new();
    for (user, mut login) in (1..).zip(logins) {
        let tls = tls.clone();
        tasks.spawn(async move {
            let begun = Instant::now();
            let [_, _, high, low] = u32::try_from(user).unwrap_or_default().to_be_bytes();
            let from = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0));
            let mut pause = RETRY;
            loop {
                let wait = pause.mul_f64(rand::rng().random_range(0.0..1.0));
                tokio::time::sleep(wait).await;
                pause = (pause * 2).min(LONGEST_RETRY);
                match peer::connect(tls.clone(), router, from, user, &login).await {
                    Ok(connected) => return Ok((user, connected)),
                    Err(error) if begun.elapsed() > LIMIT => return Err(error.context(format!("user{user}"))),
                    Err(error) => login = login.after(&error),
                }
            }
        });
    }
    let mut held = Vec::with_capacity(tasks.len());
    while let Some(done) = tasks.join_next().await {
        held.push(done??);
    }
    held.sort_by_key(|(user, _)| *user);
    Ok(held.into_iter().map(|(_, connected)| connected).collect())
}

async fn deploy(
    cluster: &TemporaryCluster,
    certificate: &SelfSigned,
    desktops: &Desktops,
    clients: usize,
) -> Result<Settings> {
    let settings = Settings {
        hosts: vec![cluster.socket_directory().display().to_string()],
        port: 5432,
        name: "postgres".to_owned(),
        user: "postgres".to_owned(),
        password: None,
        connect_timeout: Duration::from_secs(5),
        pool_size: 2,
        tls: Tls::default(),
        vault: Vault::default(),
    };
    qvd_db::deploy::deploy(&settings, &Default::default()).await?;
    let password = Hasher::new(1).hash(b"secret").await?;
    let rows = format!(
        "INSERT INTO ssl_configs VALUES ('l7r.ssl.cert', '{}'), ('l7r.ssl.key', '{}');
         INSERT INTO hosts (id, name, address, frontend, backend) VALUES (1, 'node1', '127.0.0.1', true, true);
         INSERT INTO host_runtimes (host_id, state, blocked, ok_ts) VALUES
             (1, 'running', false, now() AT TIME ZONE 'UTC' + interval '1 hour');
         INSERT INTO host_counters (host_id, http_requests, auth_attempts, auth_ok, nx_attempts, nx_ok, short_sessions)
             VALUES (1, 0, 0, 0, 0, 0, 0);
         INSERT INTO osfs (id, tenant_id, name, memory, use_overlay) VALUES (1, 1, 'osf', 256, true);
         INSERT INTO users (id, login, tenant_id, password)
             SELECT n, 'user' || n, 1, '{password}' FROM generate_series(1, {clients}) AS n;
         INSERT INTO vms (id, name, user_id, osf_id, di_tag, ip)
             SELECT n, 'vm' || n, n, 1, 'default', '10.2.' || n / 256 || '.' || n % 256 FROM generate_series(1, {clients}) AS n;
         INSERT INTO vm_runtimes (vm_id, vm_state, user_state, blocked, host_id, vm_address, vm_vma_port, vm_x_port)
             SELECT n, 'running', 'disconnected', false, 1, '127.2.' || n / 256 || '.' || n % 256, {}, {}
             FROM generate_series(1, {clients}) AS n;
         ANALYZE",
        certificate.cert, certificate.key, desktops.agent, desktops.nx
    );
    Database::new(&settings)?.client().await?.batch_execute(&rows).await.context("cannot insert the rows")?;
    Ok(settings)
}
