//! Databases of older versions become ours with all that is in them.

use qvd_db::deploy::{DeployError, Deployed, Deployment, Standing, deploy, migrate, standing};
use qvd_db::{Settings, TakenOver};

use testbed::Scratch;

const RELATIONS: &str = include_str!("../../src/schema/0001_relations.sql");
const VIEWS_AND_TRIGGERS: &str = include_str!("../../src/schema/0002_views_and_triggers.sql");
const CATALOG: &str = include_str!("inventory.sql");

/// Rows that every version can have: a tenant with everything in it, a node, images, VMs, a custom role.
const ROWS: &str = include_str!("older_rows.sql");

/// What 4.1 did not have yet.
const BEFORE_4_3: &str = "ALTER TABLE osfs DROP COLUMN is_application;";
/// What 4.0 did not have yet, and the ACLs that it had alone.
const BEFORE_4_1: &str = "
DROP TABLE di_runtimes, session_up, user_tokens, user_auth_parameters, user_connections, workspace_setting_collection,
    workspace_settings, workspaces, desktop_setting_collection, desktop_settings, desktops CASCADE;
DROP TRIGGER vm_desktop_changed_trigger ON vm_runtimes;
DROP FUNCTION di_runtimes_changed_notify, vm_runtime_desktop_changed_notify;
ALTER TABLE users DROP COLUMN language;
ALTER TABLE osfs DROP COLUMN osd_id;
DROP TYPE user_portal_parameters_enum, di_generation_state_enum;
DELETE FROM acl_role_relations WHERE acl_id > 331;
DELETE FROM acls WHERE id > 331;
INSERT INTO acls (id, name) SELECT min(free), 'vm.delete-massive.' FROM generate_series(1, 331) AS free
    WHERE free NOT IN (SELECT id FROM acls);
INSERT INTO acl_role_relations (id, role_id, acl_id, positive)
    SELECT 338, 68, id, true FROM acls WHERE name = 'vm.delete-massive.';
";
const IMAGE_STATES: &str = "INSERT INTO di_runtimes (di_id, state, state_ts) VALUES (10000, 'published', 7), \
    (10001, 'uploading', 8)";

/// A database as that version left it. Its registries are ours: what they have in common is the same in all versions.
async fn older(name: &str, version: &str) -> Scratch {
    let scratch = Scratch::new(name).await;
    let registries = Scratch::deployed(&format!("{name}_registries")).await;
    let client = scratch.database().client().await.unwrap();
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap();
    run(RELATIONS).await;
    run(VIEWS_AND_TRIGGERS).await;
    run("SET session_replication_role = replica").await;
    for (table, columns) in [
        ("acls", "id, name"),
        ("tenants", "id, name"),
        ("roles", "id, tenant_id, name, internal, fixed"),
        ("role_role_relations", "id, inheritor_id, inherited_id"),
        ("acl_role_relations", "id, role_id, acl_id, positive"),
        ("vm_states", "name"),
        ("vm_cmds", "name"),
        ("user_states", "name"),
        ("user_cmds", "name"),
        ("host_states", "name"),
        ("host_cmds", "name"),
    ] {
        let source = registries.database().client().await.unwrap();
        let rows =
            format!("SELECT coalesce(json_agg(t), '[]')::text FROM (SELECT {columns} FROM {table}) AS t");
        let rows: String = source.query_one(&rows, &[]).await.unwrap().get(0);
        let insert = format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM json_populate_recordset(NULL::{table}, $1::text::json)"
        );
        client.execute(&insert, &[&rows]).await.unwrap();
    }
    run(ROWS).await;
    if version != "4.3.0" {
        run(BEFORE_4_3).await;
    }
    if version.starts_with("4.0") {
        run(BEFORE_4_1).await;
    } else {
        run(IMAGE_STATES).await;
    }
    client.execute("INSERT INTO versions VALUES ('schema', $1)", &[&version]).await.unwrap();
    scratch
}

/// Each relation, type and trigger, in words.
async fn catalog(scratch: &Scratch) -> Vec<String> {
    let client = scratch.database().client().await.unwrap();
    let rows = client.query(CATALOG, &[]).await.unwrap();
    let text = |row: &tokio_postgres::Row, column| row.get::<_, Option<String>>(column).unwrap_or_default();
    rows.iter().map(|row| format!("{} {} {}", text(row, 0), text(row, 1), text(row, 2))).collect()
}

async fn taken(settings: &Settings) -> TakenOver {
    let deployed = migrate(settings, &Deployment::default(), false).await.unwrap();
    let Deployed::TakenOver(taken) = deployed else { unreachable!("{deployed:?}") };
    taken
}

#[tokio::test]
async fn every_older_version_gets_the_schema_of_a_new_deployment_and_keeps_its_rows() {
    let fresh = Scratch::deployed("takeover_fresh").await;
    for (name, version) in [
        ("takeover_40", "4.0.0"),
        ("takeover_41", "4.1.2"),
        ("takeover_42", "4.2.0"),
        ("takeover_43", "4.3.0"),
    ] {
        let scratch = older(name, version).await;
        assert_eq!(standing(&scratch.settings).await.unwrap(), Standing::Older(version.to_owned()));
        let taken = taken(&scratch.settings).await;
        assert_eq!(taken.from, version);
        assert_eq!(standing(&scratch.settings).await.unwrap(), Standing::Ours(vec![]));
        scratch.database().check_schema().await.unwrap();
        assert_eq!(catalog(&scratch).await, catalog(&fresh).await, "{version}");

        for (question, answer) in [
            ("SELECT count(*) FROM pg_namespace WHERE nspname = 'qvd_before'", "0"),
            ("SELECT string_agg(login, ' ' ORDER BY id) FROM users", "anna bert"),
            (
                "SELECT password FROM users WHERE login = 'anna'",
                "o3lDw1bT9nbsTfIDDuTTVTjw7SAB3HzGlOPDWZqC0Rk",
            ),
            ("SELECT language FROM users WHERE login = 'anna'", "auto"),
            ("SELECT length(value) FROM ssl_configs WHERE key = 'l7r.ssl.key'", "64"),
            ("SELECT value FROM configs WHERE tenant_id = 10000 AND key = 'l7r.auth.plugins'", "ldap"),
            (
                "SELECT vm_state || ' ' || coalesce(host_id::text, '-') FROM vm_runtimes WHERE vm_id = 10000",
                "stopped -",
            ),
            ("SELECT blocked FROM vm_runtimes WHERE vm_id = 10000", "true"),
            ("SELECT count(*) FROM vm_runtimes", "2"),
            ("SELECT run_ok FROM vm_counters WHERE vm_id = 10000", "7"),
            ("SELECT user_storage_size FROM osfs WHERE id = 10000", "0"),
            ("SELECT user_storage_size FROM osfs WHERE id = 10001", "500"),
            ("SELECT state FROM di_runtimes WHERE di_id = 10000", "published"),
            ("SELECT state FROM host_runtimes", "stopped"),
            ("SELECT creation_admin_name FROM vms WHERE id = 10000", "first"),
            ("SELECT value FROM vm_properties WHERE vm_id = 10000", "kept"),
            ("SELECT count(*) FROM roles", "68"),
            ("SELECT inherited_id FROM role_role_relations WHERE inheritor_id = 68", "65"),
            (
                "SELECT string_agg(acls.name || positive, ' ' ORDER BY acls.name) FROM acl_role_relations \
                 JOIN acls ON acls.id = acl_id WHERE role_id = 68",
                "host.see-main.true vm.update.namefalse",
            ),
            ("SELECT role_id FROM role_administrator_relations WHERE administrator_id = 10000", "68"),
            ("SELECT count(*) FROM wat_setups_by_administrators WHERE administrator_id = 10000", "1"),
            ("SELECT nextval('vms_id_seq')", "10002"),
            ("SELECT nextval('roles_id_seq')", "69"),
        ] {
            assert_eq!(scratch.text(question).await, answer, "{version}: {question}");
        }
        let interrupted = scratch.text("SELECT state FROM di_runtimes WHERE di_id = 10001").await;
        assert_eq!(interrupted, if version == "4.0.0" { "published" } else { "fail" });
        let notes = taken.notes.join("\n");
        for expected in ["1 VMs were marked", "1 OSFs had no size", "2 passwords are of the old form"] {
            assert!(notes.contains(expected), "{version}: {notes}");
        }
        assert_eq!(notes.contains("ACLs of custom roles"), version == "4.0.0", "{notes}");
    }
}

#[tokio::test]
async fn a_dry_run_tells_the_same_and_changes_nothing() {
    let scratch = older("takeover_dry", "4.1.2").await;
    let before = catalog(&scratch).await;
    let told = migrate(&scratch.settings, &Deployment::default(), true).await.unwrap();
    assert_eq!(catalog(&scratch).await, before);
    assert_eq!(standing(&scratch.settings).await.unwrap(), Standing::Older("4.1.2".to_owned()));
    assert_eq!(told, Deployed::TakenOver(taken(&scratch.settings).await));
}

#[tokio::test]
async fn what_stands_in_the_way_is_named_and_nothing_happens() {
    let scratch = older("takeover_refused", "4.3.0").await;
    let client = scratch.database().client().await.unwrap();
    let refused = async || migrate(&scratch.settings, &Deployment::default(), false).await.unwrap_err();

    client.batch_execute("UPDATE host_runtimes SET state = 'running', ok_ts = now()").await.unwrap();
    let error = refused().await;
    assert!(matches!(&error, DeployError::Living { hosts } if hosts == "node1"), "{error}");
    client.batch_execute("UPDATE host_runtimes SET ok_ts = now() - interval '1 hour'").await.unwrap();

    client.batch_execute("CREATE VIEW mine AS SELECT login FROM users").await.unwrap();
    client.batch_execute("CREATE TABLE yours (vm integer REFERENCES vms (id))").await.unwrap();
    let error = refused().await;
    assert!(matches!(&error, DeployError::Dependents { relations } if relations == "mine, yours"), "{error}");
    client.batch_execute("DROP VIEW mine; ALTER TABLE yours DROP CONSTRAINT yours_vm_fkey").await.unwrap();

    // A row that violates what the relations promise.
    let broken = "SET session_replication_role = replica; UPDATE vms SET user_id = 4711 WHERE id = 10001";
    client.batch_execute(broken).await.unwrap();
    let error = refused().await;
    assert!(error.to_string().contains("vms_fk_user_id"), "{error}");
    assert_eq!(error.exit_code(), 4);
    client.batch_execute("UPDATE vms SET user_id = 10000 WHERE id = 10001").await.unwrap();

    client.batch_execute("UPDATE versions SET version = '3.3.0'").await.unwrap();
    let error = refused().await;
    assert!(matches!(&error, DeployError::Foreign { found } if found.contains("3.3.0")), "{error}");
    client.batch_execute("UPDATE versions SET version = '4.2.1'").await.unwrap();

    assert_eq!(taken(&scratch.settings).await.from, "4.2.1");
    assert_eq!(scratch.text("SELECT count(*) FROM yours").await, "0", "other people's tables stay");
}

#[tokio::test]
async fn an_empty_database_and_one_of_ours_are_told_apart() {
    let scratch = Scratch::new("takeover_standing").await;
    assert_eq!(standing(&scratch.settings).await.unwrap(), Standing::Empty);
    let refused = migrate(&scratch.settings, &Deployment::default(), false).await.unwrap_err();
    assert!(refused.to_string().contains("empty"), "{refused}");
    deploy(&scratch.settings, &Deployment::default()).await.unwrap();
    let again = migrate(&scratch.settings, &Deployment::default(), false).await.unwrap();
    assert_eq!(again, Deployed::Migrated(vec![]));
}
