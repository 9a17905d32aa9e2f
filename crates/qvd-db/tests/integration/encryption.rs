//! The way to a server that is not on this machine: encrypted if asked for, to the right server if asked for.

use std::os::unix::fs::{PermissionsExt, chown};

use nix::unistd::User;
use qvd_db::{Database, Error, Listener, Settings, Tls};
use qvd_relay::certificate::self_signed;
use qvd_runtime::postgres::TemporaryCluster;
use tokio_util::sync::CancellationToken;

/// Whether this connection is encrypted.
async fn is_encrypted(settings: &Settings) -> Result<bool, Error> {
    let client = Database::new(settings)?.client().await?;
    Ok(client
        .query_one("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0))
}

#[tokio::test]
async fn connections_are_encrypted_and_the_server_proves_itself_if_asked() {
    let cluster = TemporaryCluster::start().unwrap();
    let local = testbed::scratch::administrator(&cluster);
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let made = self_signed(&["127.0.0.1".to_owned()]).unwrap();
    let stranger = self_signed(&["127.0.0.1".to_owned()]).unwrap();
    let owner = User::from_name("postgres").unwrap().unwrap();
    let [cert, key, other] = ["cert", "key", "other"].map(|name| directory.path().join(name));
    for (path, text) in [(&cert, &made.cert), (&key, &made.key), (&other, &stranger.cert)] {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        chown(path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let restart = async |at: &Settings, change: &[String]| {
        let client = Database::new(at).unwrap().client().await.unwrap();
        for statement in change {
            client.batch_execute(statement).await.unwrap();
        }
        drop(client);
        cluster.stop().unwrap();
        cluster.start().unwrap();
    };
    restart(
        &local,
        &[
            "ALTER SYSTEM SET listen_addresses = '127.0.0.1'".to_owned(),
            format!("ALTER SYSTEM SET port = {port}"),
            format!("ALTER SYSTEM SET ssl_cert_file = '{}'", cert.display()),
            format!("ALTER SYSTEM SET ssl_key_file = '{}'", key.display()),
            "ALTER SYSTEM SET ssl = on".to_owned(),
        ],
    )
    .await;

    let with = |host: &str, tls| Settings { hosts: vec![host.to_owned()], port, tls, ..local.clone() };
    let at = |tls| with("127.0.0.1", tls);
    assert!(is_encrypted(&at(Tls::Prefer)).await.unwrap());
    assert!(is_encrypted(&at(Tls::Require)).await.unwrap());
    assert!(is_encrypted(&at(Tls::Verify(cert.clone()))).await.unwrap());
    assert!(!is_encrypted(&at(Tls::Off)).await.unwrap());
    let error = is_encrypted(&at(Tls::Verify(other))).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    let error = is_encrypted(&with("localhost", Tls::Verify(cert.clone()))).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "another name than the certificate's: {error}");
    qvd_db::deploy::deploy(&at(Tls::Verify(cert.clone())), &Default::default()).await.unwrap();

    let stop = CancellationToken::new();
    let (listener, listening) = Listener::new(&at(Tls::Verify(cert)), stop.clone());
    let task = tokio::spawn(listening);
    listener.connected().wait_for(|connected| *connected).await.unwrap();
    stop.cancel();
    task.await.unwrap();

    restart(&at(Tls::Off), &["ALTER SYSTEM SET ssl = off".to_owned()]).await;
    assert!(!is_encrypted(&at(Tls::Prefer)).await.unwrap());
    let error = is_encrypted(&at(Tls::Require)).await.unwrap_err().to_string();
    assert!(error.contains("TLS"), "{error}");
}
