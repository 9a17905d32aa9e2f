//! A database for one test.

#![allow(clippy::unwrap_used, reason = "a failed test says where it failed")]

use std::sync::Arc;
use std::time::Duration;

use qvd_db::deploy::Deployment;
use qvd_db::{Database, Settings, Tls, Vault};
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
        vault: Vault::default(),
        connect_timeout: Duration::from_secs(5),
        pool_size: 4,
    }
}

/// A new database on a cluster that lives as long.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// The cluster.
    pub cluster: Arc<TemporaryCluster>,
    /// How its administrator reaches the database.
    pub settings: Settings,
}

impl Scratch {
    /// An empty one on the cluster that all tests of a program share; `name` must be unique there.
    pub async fn new(name: &str) -> Self {
        Self::on(TemporaryCluster::shared().unwrap(), name).await
    }

    /// An empty one.
    pub async fn on(cluster: Arc<TemporaryCluster>, name: &str) -> Self {
        let mut settings = administrator(&cluster);
        let database = Database::new(&settings).unwrap();
        database.client().await.unwrap().batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        settings.name = name.to_owned();
        Self { cluster, settings }
    }

    /// One with our schema.
    pub async fn deployed(name: &str) -> Self {
        let scratch = Self::new(name).await;
        scratch.deploy(&Deployment::default()).await;
        scratch
    }

    /// Gives it our schema.
    pub async fn deploy(&self, deployment: &Deployment) {
        qvd_db::deploy::deploy(&self.settings, deployment).await.unwrap();
    }

    /// The database as one of the daemons sees it.
    pub fn database_as(&self, role: &str) -> Database {
        let settings = Settings { user: role.to_owned(), ..self.settings.clone() };
        Database::new(&settings).unwrap()
    }

    /// The database.
    pub fn database(&self) -> Database {
        Database::new(&self.settings).unwrap()
    }

    /// Runs statements.
    pub async fn run(&self, sql: &str) {
        self.database().client().await.unwrap().batch_execute(sql).await.unwrap();
    }

    /// The first column of the first row, a `bigint`.
    pub async fn number(&self, sql: &str) -> i64 {
        self.database().client().await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
    }

    /// The first column of the first row, as text.
    pub async fn text(&self, sql: &str) -> String {
        let client = self.database().client().await.unwrap();
        let sql = format!("SELECT coalesce(x::text, 'null') FROM ({sql}) AS rows (x)");
        client.query_one(&sql, &[]).await.unwrap().get(0)
    }
}
