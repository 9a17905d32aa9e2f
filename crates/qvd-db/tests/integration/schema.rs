//! The schema as deployed.

use qvd_db::deploy::{DeployError, Deployed, Deployment, deploy, ensure};
use secrecy::SecretString;

use crate::Scratch;

#[tokio::test]
async fn a_new_database_is_deployed_once_and_only_force_does_it_again() {
    let scratch = Scratch::new("deployed").await;
    let deployment = Deployment {
        administrators: vec![("admin".to_owned(), SecretString::from("hash"))],
        ..Deployment::default()
    };
    assert_eq!(deploy(&scratch.settings, &deployment).await.unwrap(), Deployed::Created);
    let database = scratch.database();
    database.check_schema().await.unwrap();
    let client = database.client().await.unwrap();

    let again = deploy(&scratch.settings, &deployment).await.unwrap_err();
    assert!(matches!(again, DeployError::AlreadyDeployed));
    assert_eq!(again.exit_code(), 2);
    assert_eq!(ensure(&scratch.settings, &deployment).await.unwrap(), Deployed::Migrated(0));

    let count = async |sql: &str| client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal").await, 26 + 2);
    assert_eq!(count("SELECT count(*) FROM acls").await, 244);
    assert_eq!(count("SELECT count(*) FROM all_acl_role_relations").await, 1843);
    assert_eq!(
        count("SELECT count(*) FROM (SELECT DISTINCT inheritor_id, acl_id FROM all_acl_role_relations) AS d")
            .await,
        1837
    );
    let first = "INSERT INTO users (login, tenant_id) VALUES ('u', 1) RETURNING id::bigint";
    assert_eq!(count(first).await, 10000);
    assert_eq!(count("INSERT INTO tenants (name) VALUES ('t') RETURNING id::bigint").await, 2);

    let forced = Deployment { force: true, ..deployment };
    assert_eq!(deploy(&scratch.settings, &forced).await.unwrap(), Deployed::Created);
    assert_eq!(count("SELECT count(*) FROM users").await, 0);
}

#[tokio::test]
async fn every_statement_prepares_against_the_schema() {
    let scratch = Scratch::deployed("prepared").await;
    let client = scratch.database().client().await.unwrap();
    let mut problems = Vec::new();
    for (_, sql) in qvd_db::statements() {
        if let Err(error) = client.prepare(sql.text).await {
            problems.push(format!("{}: {}", sql.name, error.as_db_error().map_or("?", |e| e.message())));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}
