//! A deployed database with a host, a tenant, users and VMs, and a router on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use qvd_auth::legacy_hash;
use qvd_db::deploy::Deployment;
use qvd_db::{Database, Settings, Vault};
use qvd_relay::certificate::{SelfSigned, self_signed};
use qvd_runtime::Config;
use qvd_runtime::postgres::TemporaryCluster;
use qvd_runtime::signals::Orders;
use testbed::Scratch;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::desktop::{Desktop, SECRET};

/// The host's heartbeat is fresh for an hour, since nobody renews it. VM 1 of user joe runs, VM 2 is stopped, VM 3 is blocked, VM 4 belongs to ann.
pub struct Installation {
    pub cluster: Arc<TemporaryCluster>,
    pub database: Database,
    pub certificate: SelfSigned,
    pub desktop: Desktop,
    directory: tempfile::TempDir,
    settings: Settings,
    extra: String,
}

pub struct Running {
    pub address: SocketAddr,
    pub orders: Orders,
    pub task: JoinHandle<Result<(), qvd_router::Error>>,
}

impl Installation {
    pub async fn new(name: &str, extra: &str) -> Self {
        Self::on(TemporaryCluster::shared().unwrap(), name, extra).await
    }

    pub async fn on(cluster: Arc<TemporaryCluster>, name: &str, extra: &str) -> Self {
        let scratch = Scratch::on(cluster, name).await;
        scratch.deploy(&Deployment::default()).await;
        let database = scratch.database();
        let Scratch { cluster, mut settings } = scratch;
        let certificate = self_signed(&["localhost".to_owned()]).unwrap();
        let desktop = Desktop::new().await;
        let (salted, other) = (legacy_hash(b"secret", "qvd1234"), legacy_hash(b"other", "qvd1234"));
        let rows = format!(
            "INSERT INTO ssl_configs VALUES ('l7r.ssl.cert', '{cert}'), ('l7r.ssl.key', '{key}');
             INSERT INTO hosts (id, name, address, frontend, backend) VALUES (1, 'node1', '10.3.0.1', true, true);
             INSERT INTO host_runtimes (host_id, state, blocked, ok_ts, usable_ram, usable_cpu, hypervisors)
                 VALUES (1, 'running', false, now() AT TIME ZONE 'UTC' + interval '1 hour', 1000, 1000, 'lxc');
             INSERT INTO host_counters (host_id, http_requests, auth_attempts, auth_ok, nx_attempts, nx_ok,
                 short_sessions) VALUES (1, 0, 0, 0, 0, 0, 0);
             INSERT INTO tenants (id, name) VALUES (7, 'acme');
             INSERT INTO users (id, login, tenant_id, password, blocked) VALUES
                 (11, 'joe', 7, '{salted}', false), (12, 'ann', 7, '{other}', false), (13, 'eve', 7, '{salted}', true);
             INSERT INTO osfs (id, tenant_id, name, memory, use_overlay) VALUES (1, 7, 'osf', 256, true);
             INSERT INTO vms (id, name, user_id, osf_id, di_tag, ip) VALUES (1, 'one', 11, 1, 'default', '10.3.1.1'),
                 (2, 'tw\u{f3}', 11, 1, 'default', '10.3.1.2'), (3, 'three', 11, 1, 'default', '10.3.1.3'),
                 (4, 'four', 12, 1, 'default', '10.3.1.4');
             INSERT INTO vm_runtimes (vm_id, vm_state, user_state, blocked, host_id, vm_address, vm_vma_port, vm_x_port,
                 vma_secret) VALUES
                 (1, 'running', 'disconnected', false, 1, '127.0.0.1', {agent}, {nx}, '{SECRET}'),
                 (2, 'stopped', 'disconnected', false, NULL, NULL, NULL, NULL, NULL),
                 (3, 'running', 'disconnected', true, 1, '127.0.0.1', {agent}, {nx}, '{SECRET}'),
                 (4, 'stopped', 'disconnected', false, NULL, NULL, NULL, NULL, NULL);",
            cert = certificate.cert,
            key = certificate.key,
            agent = desktop.agent.port(),
            nx = desktop.nx.port(),
        );
        database.client().await.unwrap().batch_execute(&rows).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        // The key of the certificate and the secrets of agents are sealed, as `qvd-deploy-db` leaves them.
        settings.vault = Vault::at(directory.path().join("secrets.key"));
        settings.vault.create(None).unwrap();
        assert_eq!(qvd_db::deploy::seal(&settings).await.unwrap(), 3);
        Self { cluster, database, certificate, desktop, directory, settings, extra: extra.to_owned() }
    }

    /// Starts a router with the database role that routers have.
    pub async fn router(&self) -> Running {
        let text = format!(
            "nodename = node1\ndatabase.host = {}\ndatabase.name = {}\ndatabase.user = qvd_l7r\npath.run = {run}\n\
             database.secrets.file = {run}/secrets.key\n\
             internal.l7r.timeout.drain = 0.2\n{}",
            self.settings.hosts[0],
            self.settings.name,
            self.extra,
            run = self.directory.path().display(),
        );
        let config = Config::parse("test", &text).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let orders = Orders::default();
        let task = tokio::spawn(qvd_router::run_on(config, listener, orders.clone()));
        let running = Running { address, orders, task };
        self.until(&running, 200).await;
        running
    }

    pub async fn client(&self, router: &Running) -> Client {
        Client::new(router.address, &self.certificate.cert).await
    }

    /// Waits until the router answers a ping with this status.
    pub async fn until(&self, router: &Running, status: u16) {
        let deadline = tokio::time::Instant::now() + crate::client::LIMIT;
        loop {
            let ping = qvd_wire::http::Get::new("/qvd/ping");
            if self.client(router).await.ask(ping).await.0 == status {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "no {status} in time");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn execute(&self, sql: &str) {
        self.database.client().await.unwrap().batch_execute(sql).await.unwrap();
    }

    /// The first column of the first row as text.
    pub async fn value(&self, sql: &str) -> String {
        let sql = format!("SELECT coalesce(({sql})::text, '')");
        let client = self.database.client().await.unwrap();
        client.query_one(&sql, &[]).await.unwrap().get(0)
    }

    /// Waits until a query gives a value.
    pub async fn becomes(&self, sql: &str, expected: &str) {
        let deadline = tokio::time::Instant::now() + crate::client::LIMIT;
        loop {
            let value = self.value(sql).await;
            if value == expected {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{sql}: {value}, not {expected}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The state of the session of VM 1.
    pub async fn session_becomes(&self, state: &str) {
        self.becomes("SELECT user_state FROM vm_runtimes WHERE vm_id = 1", state).await;
    }

    /// The code of the last event of a VM.
    pub async fn last_event(&self, vm: i32) -> String {
        self.value(&format!(
            "SELECT code FROM events WHERE kind = 'vm' AND object_id = {vm} ORDER BY id DESC LIMIT 1"
        ))
        .await
    }
}

impl Running {
    pub async fn end(self) {
        self.orders.stop.cancel();
        tokio::time::timeout(crate::client::LIMIT, self.task).await.unwrap().unwrap().unwrap();
    }
}
