//! Each daemon may run its own statements, and nothing that is not its business.

use testbed::Scratch;

/// What the node daemon runs of the statements about hosts; the others belong to whoever administers.
const OWN_HOST: [&str; 9] = [
    "find the host row",
    "claim the host row",
    "read what the host row promises",
    "write the heartbeat",
    "read whether the host was given up",
    "set the host's state",
    "take the host's command",
    "read the host's state",
    "read how hosts are",
];

/// What root runs on a node while there is no API: `qa --direct`.
const DIRECT: [&str; 5] = [
    "read the VM to command",
    "tell the VM to stop",
    "revoke the start of the VM",
    "block the host",
    "notify",
];

/// Whether a daemon runs this statement.
fn runs(role: &str, module: &str, statement: &str) -> bool {
    match (role, module) {
        (_, "database" | "events") => true,
        ("qvd_node", "node" | "cluster") => true,
        ("qvd_node", "hosts") => OWN_HOST.contains(&statement),
        ("qvd_node", "commands") => DIRECT.contains(&statement),
        ("qvd_l7r", "commands") => statement != "block the host",
        ("qvd_node" | "qvd_l7r", "configs") => statement == "read the configuration",
        ("qvd_l7r", "router" | "placement" | "attempts") => true,
        ("qvd_api", "admin" | "placement" | "commands" | "configs" | "attempts") => true,
        _ => false,
    }
}

#[tokio::test]
async fn each_daemon_may_run_its_own_statements() {
    let scratch = Scratch::deployed("own_statements").await;
    let mut problems = Vec::new();
    for role in qvd_db::deploy::ROLES {
        let client = scratch.database_as(role).client().await.unwrap();
        let mut count = 0;
        for (module, sql) in qvd_db::statements() {
            if !runs(role, module, sql.name) {
                continue;
            }
            count += 1;
            let parameters = client.prepare(sql.text).await.unwrap().params().len();
            let nulls = if parameters == 0 {
                String::new()
            } else {
                format!("({})", vec!["NULL"; parameters].join(", "))
            };
            // Planning checks the rights without running the statement.
            let plan = format!(
                "PREPARE planned AS {}; EXPLAIN EXECUTE planned{nulls}; DEALLOCATE planned",
                sql.text
            );
            if let Err(error) = client.batch_execute(&plan).await {
                problems.push(format!("{role}: {}: {}", sql.name, error.as_db_error().unwrap().message()));
                client.batch_execute("DEALLOCATE ALL").await.unwrap();
            }
        }
        assert!(count > 10, "{role} runs only {count} statements");
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[tokio::test]
async fn what_was_granted_before_is_taken_back() {
    let scratch = Scratch::deployed("former_grants").await;
    let owner = scratch.database().client().await.unwrap();
    let former = "GRANT SELECT ON administrators TO qvd_l7r; GRANT UPDATE (blocked) ON users TO qvd_l7r";
    owner.batch_execute(former).await.unwrap();
    qvd_db::deploy::ensure(&scratch.settings, &Default::default()).await.unwrap();
    let router = scratch.database_as("qvd_l7r").client().await.unwrap();
    for sql in ["SELECT name FROM administrators", "UPDATE users SET blocked = false"] {
        let error = router.batch_execute(sql).await.expect_err(sql);
        assert_eq!(error.code().unwrap().code(), "42501", "{sql}: {error}");
    }
}

#[tokio::test]
async fn no_daemon_may_do_what_is_not_its_business() {
    let scratch = Scratch::deployed("refusals").await;
    let refused: [(&str, &[&str]); 4] = [
        (
            "qvd_node",
            &[
                "SELECT password FROM users",
                "SELECT * FROM administrators",
                "SELECT * FROM session",
                "SELECT * FROM ssl_configs",
                "SELECT * FROM user_tokens",
                "DELETE FROM login_failures",
                "INSERT INTO configs (tenant_id, key, value) VALUES (-1, 'k', 'v')",
                "UPDATE vms SET name = 'x'",
                "UPDATE dis SET path = 'x'",
                "DELETE FROM vm_runtimes",
                "UPDATE events SET text = 'x'",
                "INSERT INTO hosts (name, address, frontend, backend) VALUES ('h', 'a', true, true)",
            ],
        ),
        (
            "qvd_l7r",
            &[
                "SELECT password FROM administrators",
                "SELECT * FROM session",
                "SELECT * FROM log",
                "UPDATE vm_runtimes SET vm_state = 'running'",
                "UPDATE vm_runtimes SET vma_secret = 'x'",
                "UPDATE vm_runtimes SET vm_address = '10.0.0.1'",
                "UPDATE users SET blocked = false",
                "UPDATE dis SET path = 'x'",
                "INSERT INTO dis (osf_id, path, version) VALUES (1, 'p', 'v')",
                "DELETE FROM users",
                "DELETE FROM events",
                "UPDATE host_runtimes SET state = 'lost'",
                "INSERT INTO configs (tenant_id, key, value) VALUES (-1, 'k', 'v')",
                "UPDATE ssl_configs SET value = 'x'",
            ],
        ),
        (
            "qvd_api",
            &[
                "DELETE FROM log",
                "UPDATE log SET status = 0",
                "UPDATE events SET text = 'x'",
                "UPDATE acls SET name = 'x'",
                "UPDATE versions SET version = 'x'",
                "DELETE FROM migrations",
                "TRUNCATE users",
            ],
        ),
        (
            "qvd_api",
            &["CREATE TABLE mine (n integer)", "DROP TABLE users", "ALTER TABLE log ADD COLUMN n integer"],
        ),
    ];
    for (role, statements) in refused {
        let client = scratch.database_as(role).client().await.unwrap();
        for sql in statements {
            let error = client.batch_execute(sql).await.expect_err(sql);
            let code = error.code().unwrap_or_else(|| panic!("{role}: {sql}: {error}")).code();
            assert_eq!(code, "42501", "{role}: {sql}: {error}");
        }
    }
}
