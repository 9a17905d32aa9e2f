//! Every change rings the documented channel, whoever makes it, and nobody is subscribed by writing.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::time::Duration;

use qvd_db::Settings;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use testbed::Scratch;

const SOON: Duration = Duration::from_secs(10);

/// Every channel of `spec/database.md` 8.1.
const CHANNELS: [&str; 21] = [
    "desktop_changed",
    "qvd_config_changed",
    "di_created",
    "di_changed",
    "di_deleted",
    "di_blocked_or_unblocked",
    "host_created",
    "host_changed",
    "host_deleted",
    "host_blocked_or_unblocked",
    "osf_created",
    "osf_changed",
    "osf_deleted",
    "user_created",
    "user_changed",
    "user_deleted",
    "user_blocked_or_unblocked",
    "vm_created",
    "vm_changed",
    "vm_deleted",
    "vm_blocked_or_unblocked",
];

/// Who makes which change, and what it rings: `channel payload`.
#[rustfmt::skip]
const CHANGES: [(&str, &str, &[&str]); 40] = [
    ("postgres", "INSERT INTO configs (tenant_id, key, value) VALUES (1, 'k', 'v')",
        &["qvd_config_changed tenant_id=1"]),
    ("qvd_api", "UPDATE configs SET value = 'w' WHERE key = 'k'", &["qvd_config_changed tenant_id=1"]),
    ("qvd_api", "DELETE FROM configs WHERE key = 'k'", &["qvd_config_changed tenant_id=1"]),
    ("qvd_api", "INSERT INTO ssl_configs (key, value) VALUES ('k', 'v')",
        &["qvd_config_changed tenant_id=-1"]),
    ("qvd_api", "UPDATE ssl_configs SET value = 'w'", &["qvd_config_changed tenant_id=-1"]),
    ("qvd_api", "DELETE FROM ssl_configs", &["qvd_config_changed tenant_id=-1"]),
    ("qvd_api", "INSERT INTO hosts (id, name, address, frontend, backend) VALUES (1, 'h', 'a', true, true)",
        &["host_created "]),
    ("qvd_api", "INSERT INTO host_runtimes (host_id, state, blocked) VALUES (1, 'stopped', false)", &[]),
    ("qvd_api", "UPDATE hosts SET address = 'b'", &["host_changed "]),
    ("qvd_node", "UPDATE host_runtimes SET state = 'running'", &["host_changed "]),
    ("qvd_node", "UPDATE host_runtimes SET ok_ts = now()", &[]),
    ("qvd_api", "UPDATE host_runtimes SET blocked = true", &["host_blocked_or_unblocked "]),
    ("qvd_api", "INSERT INTO osfs (id, tenant_id, name, memory, use_overlay) VALUES (1, 1, 'o', 256, true)",
        &["osf_created tenant_id=1"]),
    ("qvd_api", "UPDATE osfs SET memory = 512", &["osf_changed tenant_id=1"]),
    ("qvd_api", "INSERT INTO dis (id, osf_id, path, version) VALUES (1, 1, 'p', 'v')", &["di_created "]),
    ("qvd_api", "INSERT INTO di_runtimes (di_id) VALUES (1)", &[]),
    ("qvd_api", "UPDATE di_runtimes SET state = 'published'", &["di_changed "]),
    ("qvd_api", "UPDATE dis SET description = 'd'", &["di_changed "]),
    ("qvd_api", "UPDATE dis SET blocked = true", &["di_changed ", "di_blocked_or_unblocked "]),
    ("qvd_api", "INSERT INTO users (id, login, tenant_id, password) VALUES (7, 'u', 1, 'x')",
        &["user_created tenant_id=1"]),
    ("qvd_l7r", "UPDATE users SET password = 'y'", &["user_changed tenant_id=1"]),
    ("qvd_api", "UPDATE users SET blocked = true",
        &["user_changed tenant_id=1", "user_blocked_or_unblocked tenant_id=1"]),
    ("qvd_api", "INSERT INTO vms (id, name, user_id, osf_id, di_tag) VALUES (9, 'v', 7, 1, 'default')",
        &["vm_created tenant_id=1"]),
    ("qvd_api", "INSERT INTO vm_runtimes (vm_id, vm_state, user_state) VALUES (9, 'stopped', 'disconnected')",
        &[]),
    ("qvd_api", "UPDATE vms SET name = 'w'", &["vm_changed tenant_id=1"]),
    ("qvd_l7r", "UPDATE vm_runtimes SET host_id = 1, vm_cmd = 'start'", &["vm_changed tenant_id=1"]),
    ("qvd_node", "UPDATE vm_runtimes SET vm_cmd = NULL, vm_state = 'starting'",
        &["vm_changed tenant_id=1", "desktop_changed user_id=7;vm_id=9"]),
    ("qvd_node", "UPDATE vm_runtimes SET start_step = 'overlay'", &["vm_changed tenant_id=1"]),
    ("qvd_node", "UPDATE vm_runtimes SET failure_code = 'x'", &["vm_changed tenant_id=1"]),
    ("qvd_node", "UPDATE vm_runtimes SET vma_ok_ts = 1", &[]),
    ("qvd_l7r", "UPDATE vm_runtimes SET user_state = 'connecting'",
        &["vm_changed tenant_id=1", "desktop_changed user_id=7;vm_id=9"]),
    ("qvd_api", "UPDATE vm_runtimes SET user_cmd = 'abort'", &["vm_changed tenant_id=1"]),
    ("qvd_api", "UPDATE vm_runtimes SET blocked = true", &["vm_blocked_or_unblocked tenant_id=1"]),
    ("qvd_api", "UPDATE vm_runtimes SET vm_expiration_soft = now()", &["vm_changed tenant_id=1"]),
    ("qvd_api", "DELETE FROM vms", &["vm_deleted tenant_id=1"]),
    ("qvd_api", "DELETE FROM users", &["user_deleted tenant_id=1"]),
    ("qvd_api", "DELETE FROM dis", &["di_deleted "]),
    ("qvd_api", "DELETE FROM osfs", &["osf_deleted tenant_id=1"]),
    ("qvd_api", "DELETE FROM hosts", &["host_deleted "]),
    ("qvd_api", "INSERT INTO tenants (name) VALUES ('t')", &[]),
];

/// A connection that hears every channel.
struct Ear {
    client: Client,
    heard: mpsc::UnboundedReceiver<(String, String)>,
    driving: tokio::task::JoinHandle<()>,
}

impl Ear {
    async fn open(settings: &Settings) -> Self {
        let (client, mut connection) = settings.driver().connect(NoTls).await.unwrap();
        let (tell, heard) = mpsc::unbounded_channel();
        let driving = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(note) = message {
                    tell.send((note.channel().to_owned(), note.payload().to_owned())).unwrap();
                }
            }
        });
        for channel in CHANNELS.iter().chain(&["through"]) {
            client.batch_execute(&format!("LISTEN {channel}")).await.unwrap();
        }
        Self { client, heard, driving }
    }

    /// All that was rung up to now.
    async fn hear(&mut self) -> BTreeSet<String> {
        self.client.batch_execute("NOTIFY through").await.unwrap();
        let mut all = BTreeSet::new();
        loop {
            let (channel, payload) = tokio::time::timeout(SOON, self.heard.recv()).await.unwrap().unwrap();
            if channel == "through" {
                return all;
            }
            all.insert(format!("{channel} {payload}"));
        }
    }
}

#[tokio::test]
async fn every_change_rings_its_channels() {
    let scratch = Scratch::deployed("changes").await;
    let mut ear = Ear::open(&scratch.settings).await;
    for (role, sql, rings) in CHANGES {
        let writer = scratch.database_as(role).client().await.unwrap();
        writer.batch_execute(sql).await.unwrap_or_else(|e| panic!("{role}: {sql}: {e:?}"));
        let expected: BTreeSet<String> = rings.iter().map(|ring| (*ring).to_owned()).collect();
        assert_eq!(ear.hear().await, expected, "{sql}");
        let subscribed = writer.query("SELECT pg_listening_channels()", &[]).await.unwrap();
        assert!(subscribed.is_empty(), "{sql} subscribed its writer");
    }
    drop(ear.client);
    ear.driving.await.unwrap();
}

#[tokio::test]
async fn a_change_that_is_rolled_back_rings_nothing() {
    let scratch = Scratch::deployed("rolled_back").await;
    let mut ear = Ear::open(&scratch.settings).await;
    let writer = scratch.database().client().await.unwrap();
    let change = "BEGIN; INSERT INTO users (login, tenant_id) VALUES ('u', 1); ROLLBACK";
    writer.batch_execute(change).await.unwrap();
    assert!(ear.hear().await.is_empty());
    drop(ear.client);
    ear.driving.await.unwrap();
}
