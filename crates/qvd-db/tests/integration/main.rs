//! QVD-DB against a real private PostgreSQL.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed test says where it failed"
)]

mod base;
mod cluster;
mod deployment;
mod encryption;
mod initial;
mod inventory;
mod lists;
mod notifications;
mod rights;
mod schema;
mod takeover;

use std::sync::Arc;
use std::time::Duration;

use qvd_db::{Database, Settings, Tls};
use qvd_runtime::postgres::TemporaryCluster;

/// The administrator of a cluster, in its first database.
pub fn administrator(cluster: &TemporaryCluster) -> Settings {
    Settings {
        hosts: vec![cluster.socket_directory().display().to_string()],
        port: 5432,
        name: "postgres".to_owned(),
        user: "postgres".to_owned(),
        password: None,
        tls: Tls::default(),
        connect_timeout: Duration::from_secs(5),
        pool_size: 4,
    }
}

/// A new, empty database on the shared cluster.
pub struct Scratch {
    pub cluster: Arc<TemporaryCluster>,
    pub settings: Settings,
}

impl Scratch {
    /// `name` must be unique in this test program.
    pub async fn new(name: &str) -> Self {
        Self::on(TemporaryCluster::shared().unwrap(), name).await
    }

    pub async fn on(cluster: Arc<TemporaryCluster>, name: &str) -> Self {
        let mut settings = administrator(&cluster);
        let database = Database::new(&settings).unwrap();
        database.client().await.unwrap().batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        settings.name = name.to_owned();
        Self { cluster, settings }
    }

    /// A new database with our schema.
    pub async fn deployed(name: &str) -> Self {
        let scratch = Self::new(name).await;
        qvd_db::deploy::deploy(&scratch.settings, &Default::default()).await.unwrap();
        scratch
    }

    /// The same database as one of the daemons sees it.
    pub fn database_as(&self, role: &str) -> Database {
        let settings = Settings { user: role.to_owned(), ..self.settings.clone() };
        Database::new(&settings).unwrap()
    }

    pub fn database(&self) -> Database {
        Database::new(&self.settings).unwrap()
    }
}
