//! Connections, transactions and notifications.

use std::sync::Arc;
use std::time::Duration;

use qvd_db::{Error, Listener};
use qvd_runtime::postgres::TemporaryCluster;
use tokio_util::sync::CancellationToken;

use testbed::Scratch;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn lost_races_are_tried_again_until_every_change_is_in() {
    let scratch = Scratch::new("races").await;
    let database = scratch.database();
    let setup = "CREATE TABLE counter (n integer); INSERT INTO counter VALUES (0)";
    database.client().await.unwrap().batch_execute(setup).await.unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move {
                for _ in 0..5 {
                    let added: Result<(), Error> = database
                        .transaction("count", |tx| {
                            Box::pin(async move {
                                let row = tx.query_one("SELECT n FROM counter", &[]).await;
                                let n: i32 = row.map_err(Error::during("read"))?.get(0);
                                let add = tx.execute("UPDATE counter SET n = $1", &[&(n + 1)]).await;
                                add.map(drop).map_err(Error::during("write"))
                            })
                        })
                        .await;
                    added.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let row = database.client().await.unwrap().query_one("SELECT n FROM counter", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 20);
}

#[tokio::test]
async fn doorbells_ring_for_notifications_and_after_a_restart_of_the_server() {
    let cluster = Arc::new(TemporaryCluster::start().unwrap());
    let scratch = Scratch::on(cluster, "bells").await;
    let stop = CancellationToken::new();
    let (listener, listening) = Listener::new(&scratch.settings, stop.clone());
    let task = tokio::spawn(listening);
    let mut bell = listener.subscribe("vm_changed");
    tokio::time::timeout(SOON, bell.rung()).await.expect("rings once it listens");

    let database = scratch.database();
    database.client().await.unwrap().batch_execute("NOTIFY vm_changed").await.unwrap();
    tokio::time::timeout(SOON, bell.rung()).await.expect("rings for a notification");

    scratch.cluster.stop().unwrap();
    let away = database.client().await;
    assert!(match away {
        Err(error) => error.is_away(),
        Ok(client) => client.batch_execute("SELECT 1").await.is_err(),
    });
    scratch.cluster.start().unwrap();
    tokio::time::timeout(SOON, bell.rung()).await.expect("rings after a reconnect");
    database.client().await.unwrap().batch_execute("NOTIFY vm_changed").await.unwrap();
    tokio::time::timeout(SOON, bell.rung()).await.expect("listens again");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_there_is_away() {
    let scratch = Scratch::new("away").await;
    let mut settings = scratch.settings.clone();
    settings.hosts = vec!["/nowhere".to_owned()];
    let error = qvd_db::Database::new(&settings).unwrap().client().await.unwrap_err();
    assert!(error.is_away(), "{error}");
}
