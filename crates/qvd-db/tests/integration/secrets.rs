//! Secrets in the database: sealed by whoever writes them, opened by whoever may read them.

use std::net::Ipv4Addr;

use qvd_db::admin::properties;
use qvd_db::deploy::{Deployment, ensure, seal, secrets};
use qvd_db::node::{self, Ownership, Place};
use qvd_db::secrets::Standing;
use qvd_db::vault::PREFIX;
use qvd_db::{Database, Settings, Vault, configs, router};
use qvd_model::action::Object;
use qvd_model::{DiId, Generation, HostId, OsfId, TenantId, VmId};
use secrecy::ExposeSecret;
use testbed::Scratch;

const KEY: &str = "l7r.ssl.key";
const BIND: &str = "auth.ldap.bindpass";

/// The database as a daemon with the key file sees it.
fn with_keys(scratch: &Scratch, role: &str, directory: &tempfile::TempDir) -> Database {
    let vault = Vault::at(directory.path().join("secrets.key"));
    vault.create(None).unwrap();
    Database::new(&Settings { user: role.to_owned(), vault, ..scratch.settings.clone() }).unwrap()
}

#[tokio::test]
async fn settings_and_keys_are_sealed_by_the_api_and_opened_by_the_router() {
    let scratch = Scratch::deployed("vault_api").await;
    let directory = tempfile::tempdir().unwrap();
    let [api, router] = ["qvd_api", "qvd_l7r"].map(|role| with_keys(&scratch, role, &directory));
    let client = api.client().await.unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}", "x".repeat(32_000));
    configs::set_pem(api.vault(), &client, KEY, &pem).await.unwrap();
    configs::set_pem(api.vault(), &client, "l7r.ssl.cert", "-----BEGIN").await.unwrap();
    configs::set(api.vault(), &client, TenantId(1), BIND, &"p".repeat(4096)).await.unwrap();
    configs::set(api.vault(), &client, TenantId(1), "l7r.auth.plugins", "ldap").await.unwrap();

    let stored = "SELECT string_agg(left(value, 5), ' ' ORDER BY value COLLATE \"C\") FROM (SELECT value FROM configs WHERE \
        tenant_id = 1 UNION ALL SELECT value FROM ssl_configs) AS v";
    assert_eq!(scratch.text(stored).await, format!("{PREFIX} {PREFIX} ----- ldap"));
    let client = router.client().await.unwrap();
    assert_eq!(configs::pem(router.vault(), &client, KEY).await.unwrap(), Some(pem));
    let rows = configs::rows(&router).await.unwrap();
    let bind = rows.iter().find(|(_, key, _)| key == BIND).unwrap();
    assert_eq!(bind.2, "p".repeat(4096));

    // Who has no key file hears which secret it is, and what to do.
    let blind = scratch.database_as("qvd_l7r");
    let error = configs::rows(&blind).await.unwrap_err().to_string();
    assert!(
        error.contains("setting auth.ldap.bindpass of tenant 1") && error.contains("database.secrets.file"),
        "{error}"
    );
    let client = blind.client().await.unwrap();
    assert!(configs::pem(blind.vault(), &client, KEY).await.is_err());
    // What was sealed for one tenant opens in no other.
    scratch.run("UPDATE configs SET tenant_id = -1 WHERE key = 'auth.ldap.bindpass'").await;
    let error = configs::rows(&router).await.unwrap_err().to_string();
    assert!(error.contains("belongs elsewhere"), "{error}");
}

#[tokio::test]
async fn a_node_seals_the_secret_of_an_agent_and_a_router_opens_it() {
    let scratch = Scratch::deployed("vault_agents").await;
    scratch
        .run(
            "INSERT INTO hosts (id, name, address, frontend, backend) VALUES (1, 'h', 'a', true, true); \
             INSERT INTO host_runtimes (host_id, state, blocked) VALUES (1, 'running', false); \
             INSERT INTO users (id, login, tenant_id) VALUES (1, 'u', 1); \
             INSERT INTO osfs (id, tenant_id, name, memory, use_overlay) VALUES (1, 1, 'o', 1, true); \
             INSERT INTO dis (id, osf_id, path, version) VALUES (1, 1, 'p', 'v'); \
             INSERT INTO vms (id, name, user_id, osf_id, di_tag) VALUES (1, 'v', 1, 1, 'default'); \
             INSERT INTO vm_runtimes (vm_id, vm_state, user_state, blocked, host_id, generation) \
             VALUES (1, 'starting', 'disconnected', false, 1, 7)",
        )
        .await;
    let directory = tempfile::tempdir().unwrap();
    let [hkd, l7r] = ["qvd_node", "qvd_l7r"].map(|role| with_keys(&scratch, role, &directory));
    let own = Ownership { vm: VmId(1), host: HostId(1), generation: Generation(7) };
    let place = Place {
        address: Ipv4Addr::new(10, 0, 0, 9),
        agent_port: 1,
        nx_port: 2,
        ssh_port: 3,
        di: DiId(1),
        osf: OsfId(1),
        secret: "whisper",
    };
    assert!(node::publish(&hkd, own, &place).await.unwrap());
    assert!(scratch.text("SELECT vma_secret FROM vm_runtimes").await.starts_with(PREFIX));
    let desktop = router::desktop(&l7r, VmId(1)).await.unwrap().unwrap();
    assert_eq!(desktop.place.unwrap().secret.unwrap().expose_secret(), "whisper");
    assert!(router::desktop(&scratch.database(), VmId(1)).await.is_err());
}

#[tokio::test]
async fn plain_secrets_are_read_and_sealed_with_the_next_deployment_and_rotated_as_a_whole() {
    let scratch = Scratch::deployed("vault_rotation").await;
    scratch
        .run(
            "INSERT INTO configs (tenant_id, key, value) VALUES (1, 'auth.ldap.bindpass', 'one'), \
             (-1, 'my.secret', ''), (-1, 'l7r.port', '8443'); \
             INSERT INTO ssl_configs (key, value) VALUES ('l7r.ssl.key', 'two'), ('l7r.ssl.ca', 'three')",
        )
        .await;
    let directory = tempfile::tempdir().unwrap();
    let database = with_keys(&scratch, "postgres", &directory);
    let settings = Settings { vault: database.vault().clone(), ..scratch.settings.clone() };
    let read = async || {
        let client = database.client().await.unwrap();
        let key = configs::pem(database.vault(), &client, KEY).await.unwrap().unwrap();
        let rows = configs::rows(&database).await.unwrap();
        let value = |key: &str| rows.iter().find(|row| row.1 == key).unwrap().2.clone();
        [key, value(BIND), value("my.secret"), value("l7r.port")]
    };
    let expected = ["two", "one", "", "8443"];
    assert_eq!(read().await, expected);
    let standing = async || secrets(&settings).await.unwrap().unwrap();
    assert_eq!(standing().await, Standing { sealed: 0, locked: 0, plain: 3 });
    ensure(&settings, &Deployment::default()).await.unwrap();
    assert_eq!(standing().await, Standing { sealed: 3, locked: 0, plain: 0 });
    assert_eq!(read().await, expected);

    settings.vault.add_key().unwrap();
    let before = scratch.text("SELECT value FROM ssl_configs WHERE key = 'l7r.ssl.key'").await;
    ensure(&settings, &Deployment::default()).await.unwrap();
    assert_eq!(scratch.text("SELECT value FROM ssl_configs WHERE key = 'l7r.ssl.key'").await, before);
    assert_eq!(seal(&settings).await.unwrap(), 3);
    assert_eq!(seal(&settings).await.unwrap(), 0);
    assert_eq!(read().await, expected);
    // One that cannot be opened is named, and all stay as they are.
    let after = scratch.text("SELECT value FROM ssl_configs WHERE key = 'l7r.ssl.key'").await;
    scratch.run("UPDATE configs SET value = '$qs1$00000000$AAAA' WHERE key = 'my.secret'").await;
    settings.vault.add_key().unwrap();
    let error = seal(&settings).await.unwrap_err().to_string();
    assert!(error.contains("setting my.secret of tenant -1") && error.contains("no key 00000000"), "{error}");
    assert_eq!(scratch.text("SELECT value FROM ssl_configs WHERE key = 'l7r.ssl.key'").await, after);
    assert_eq!(standing().await, Standing { sealed: 2, locked: 1, plain: 0 });
}

#[tokio::test]
async fn secret_properties_are_sealed_and_opened_for_desktops() {
    let scratch = Scratch::deployed("vault_properties").await;
    scratch
        .run(
            "INSERT INTO users (id, login, tenant_id) VALUES (1, 'u', 1); \
             INSERT INTO osfs (id, tenant_id, name, memory, use_overlay) VALUES (1, 1, 'o', 1, true); \
             INSERT INTO vms (id, name, user_id, osf_id, di_tag) VALUES (7, 'v', 1, 1, 'default'); \
             INSERT INTO vm_runtimes (vm_id, vm_state, user_state, blocked) VALUES (7, 'stopped', 'disconnected', false); \
             INSERT INTO properties_list (id, tenant_id, key) VALUES (1, 1, 'share.password'), (2, 1, 'floor'), \
             (3, 1, 'l7r.auth.plugin.totp.secret32'); \
             INSERT INTO qvd_object_properties_list (id, property_id, qvd_object) VALUES (11, 1, 'user'), (12, 2, 'user'), \
             (13, 3, 'user'), (14, 1, 'vm'); \
             INSERT INTO user_properties (user_id, property_id, value) VALUES (1, 11, 'plain'), (1, 12, '3'), (1, 13, 'ABC'); \
             INSERT INTO vm_properties (vm_id, property_id, value) VALUES (7, 14, 'of the VM')",
        )
        .await;
    let directory = tempfile::tempdir().unwrap();
    let [api, l7r] = ["qvd_api", "qvd_l7r"].map(|role| with_keys(&scratch, role, &directory));
    let settings = Settings { vault: api.vault().clone(), ..scratch.settings.clone() };
    // Those of an older database are found by their names and sealed with everything else.
    assert_eq!(seal(&settings).await.unwrap(), 3);
    let stored = "SELECT string_agg(left(value, 5), ' ' ORDER BY property_id) FROM \
                  (TABLE user_properties UNION ALL TABLE vm_properties) AS p";
    assert_eq!(scratch.text(stored).await, format!("{PREFIX} 3 {PREFIX} {PREFIX}"));
    let found = router::parameters(&l7r, VmId(7)).await.unwrap();
    let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    // A desktop has no use for what its user logs in with.
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.contains(&("floor", "3")) && found.contains(&("share.password", "plain")), "{found:?}");
    assert_eq!(found.last(), Some(&("share.password", "of the VM")));
    let client = api.client().await.unwrap();
    let store = async |key: &str, value: Option<&str>| {
        properties::store(api.vault(), &client, Object::User, 1, (11, key), value).await.unwrap();
    };
    store("share.password", Some("new")).await;
    assert!(
        router::parameters(&l7r, VmId(7)).await.unwrap().contains(&("share.password".into(), "new".into()))
    );
    // A value that is moved to another user opens no more.
    scratch
        .run(
            "INSERT INTO users (id, login, tenant_id) VALUES (2, 'w', 1); UPDATE vms SET user_id = 2; \
             UPDATE user_properties SET user_id = 2 WHERE property_id = 11",
        )
        .await;
    let error = router::parameters(&l7r, VmId(7)).await.unwrap_err().to_string();
    assert!(error.contains("property 11 of user 2") && error.contains("belongs elsewhere"), "{error}");
    store("share.password", None).await;
}
