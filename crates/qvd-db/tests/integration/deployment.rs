//! Deploying: once, again only by force, all or nothing, with or without roles of the daemons.

use qvd_db::Settings;
use qvd_db::deploy::{DeployError, Deployed, Deployment, create_database, deploy, ensure, migrate};
use secrecy::SecretString;

use testbed::Scratch;

fn forced() -> Deployment {
    Deployment { force: true, ..Deployment::default() }
}

#[tokio::test]
async fn a_new_database_is_deployed_once_and_only_force_does_it_again() {
    let scratch = Scratch::new("deployed").await;
    let deployment = Deployment {
        administrators: vec![("admin".to_owned(), SecretString::from("hash"))],
        ..Deployment::default()
    };
    assert_eq!(deploy(&scratch.settings, &deployment).await.unwrap(), Deployed::Created);
    scratch.database().check_schema().await.unwrap();
    let hashed = "SELECT count(*) FROM administrators WHERE name = 'admin' AND password = 'hash'";
    assert_eq!(scratch.number(hashed).await, 1);

    scratch.run("INSERT INTO users (login, tenant_id) VALUES ('u', 1)").await;
    let again = deploy(&scratch.settings, &deployment).await.unwrap_err();
    assert!(matches!(again, DeployError::AlreadyDeployed));
    assert_eq!(again.exit_code(), 2);
    assert_eq!(ensure(&scratch.settings, &deployment).await.unwrap(), Deployed::Migrated(vec![]));
    assert_eq!(scratch.number("SELECT count(*) FROM users").await, 1);

    assert_eq!(deploy(&scratch.settings, &forced()).await.unwrap(), Deployed::Created);
    assert_eq!(scratch.number("SELECT count(*) FROM users").await, 0);
    assert_eq!(scratch.number("SELECT count(*) FROM acls").await, 244);
}

#[tokio::test]
async fn force_clears_away_a_database_of_another_version() {
    let scratch = Scratch::new("foreign_version").await;
    let older = "CREATE TYPE language_enum AS ENUM ('xx'); CREATE TABLE configs (key text, l language_enum); \
        CREATE FUNCTION vm_changed_notify() RETURNS integer LANGUAGE sql AS 'SELECT 1'";
    scratch.run(older).await;
    let refused = ensure(&scratch.settings, &Deployment::default()).await.unwrap_err();
    assert!(matches!(refused, DeployError::Older), "{refused}");
    let refused = migrate(&scratch.settings, &Deployment::default(), false).await.unwrap_err();
    assert!(matches!(refused, DeployError::Foreign { .. }), "{refused}");
    let refused = deploy(&scratch.settings, &Deployment::default()).await.unwrap_err();
    assert!(matches!(refused, DeployError::AlreadyDeployed), "{refused}");
    deploy(&scratch.settings, &forced()).await.unwrap();
    scratch.database().check_schema().await.unwrap();
}

#[tokio::test]
async fn a_deployment_that_fails_changes_nothing() {
    let scratch = Scratch::new("half_done").await;
    // A relation in the way of a later migration.
    scratch.run("CREATE TABLE events (mine text); INSERT INTO events VALUES ('kept')").await;
    let error = deploy(&scratch.settings, &Deployment::default()).await.unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(scratch.number(tables).await, 1);
    assert_eq!(scratch.number("SELECT count(*) FROM events WHERE mine = 'kept'").await, 1);
}

#[tokio::test]
async fn a_migration_in_another_form_is_refused() {
    let scratch = Scratch::deployed("other_form").await;
    scratch.run("UPDATE migrations SET checksum = 'x' WHERE number = 2").await;
    let error = ensure(&scratch.settings, &Deployment::default()).await.unwrap_err();
    assert!(matches!(error, DeployError::Changed { number: 2, .. }), "{error}");
    assert_eq!(error.exit_code(), 3);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let scratch = Scratch::new("no_server").await;
    let settings = Settings { hosts: vec!["/nowhere".to_owned()], ..scratch.settings.clone() };
    let error = deploy(&settings, &Deployment::default()).await.unwrap_err();
    assert!(matches!(error, DeployError::Connection(_)), "{error}");
    assert_eq!(error.exit_code(), 3);
}

#[tokio::test]
async fn of_two_deployments_at_the_same_time_one_wins() {
    let scratch = Scratch::new("at_once").await;
    let deployment = Deployment::default();
    let (one, other) =
        tokio::join!(deploy(&scratch.settings, &deployment), deploy(&scratch.settings, &deployment));
    let refused = [&one, &other].into_iter().filter(|end| matches!(end, Err(DeployError::AlreadyDeployed)));
    assert_eq!(refused.count(), 1, "{one:?} {other:?}");
    assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
}

#[tokio::test]
async fn the_single_role_of_the_manual_is_enough() {
    let scratch = Scratch::new("maintenance").await;
    scratch.run("CREATE ROLE plain LOGIN").await;
    scratch.run("CREATE DATABASE owned OWNER plain").await;
    let settings =
        Settings { name: "owned".to_owned(), user: "plain".to_owned(), ..scratch.settings.clone() };
    deploy(&settings, &Deployment::default()).await.unwrap();
    let client = qvd_db::Database::new(&settings).unwrap().client().await.unwrap();
    client
        .batch_execute("UPDATE vm_runtimes SET vm_state = 'stopped'; SELECT * FROM ssl_configs")
        .await
        .unwrap();
}

#[tokio::test]
async fn roles_get_the_passwords_they_are_given() {
    let scratch = Scratch::new("passwords").await;
    let stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'qvd_node'";
    let deployment = Deployment {
        roles: vec![("qvd_node".to_owned(), SecretString::from("it's \\ secret"))],
        ..Deployment::default()
    };
    deploy(&scratch.settings, &deployment).await.unwrap();
    let client = scratch.database().client().await.unwrap();
    let verifier: String = client.query_one(stored, &[]).await.unwrap().get(0);
    assert!(verifier.starts_with("SCRAM-SHA-256$"), "{verifier}");
    ensure(&scratch.settings, &Deployment::default()).await.unwrap();
    let unchanged: String = client.query_one(stored, &[]).await.unwrap().get(0);
    assert_eq!(unchanged, verifier, "a role that is not named keeps its password");
}

#[tokio::test]
async fn a_database_is_created_once() {
    let scratch = Scratch::new("creator").await;
    create_database(&scratch.settings, "made \"here\"").await.unwrap();
    create_database(&scratch.settings, "made \"here\"").await.unwrap();
    assert_eq!(scratch.number("SELECT count(*) FROM pg_database WHERE datname = 'made \"here\"'").await, 1);
}

#[tokio::test]
async fn the_isolation_level_travels_with_the_database() {
    let scratch = Scratch::deployed("isolation").await;
    let set = "SELECT count(*) FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase \
        WHERE d.datname = 'isolation' AND s.setrole = 0 AND s.setconfig = '{default_transaction_isolation=serializable}'";
    assert_eq!(scratch.number(set).await, 1);
}
