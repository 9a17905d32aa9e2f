//! What a new database holds (`spec/database.md` 9).

use std::collections::{BTreeMap, BTreeSet};

use qvd_db::admin::identity;
use qvd_logic::roles::Roles;
use qvd_model::RoleId;

use testbed::Scratch;

/// Queries with the one row that each must give.
#[rustfmt::skip]
const ROWS: [(&str, &str); 10] = [
    ("SELECT string_agg(concat_ws(' ', id, name, description), ', ' ORDER BY id) FROM tenants",
        "-1 - invalid tenant, 0 * supertenant, 1 default tenant1"),
    ("SELECT string_agg(concat_ws(' ', id, name, tenant_id), ', ' ORDER BY id) FROM administrators",
        "0 batman 0, 1 superadmin 0, 2 admin 1"),
    ("SELECT string_agg(concat_ws(' ', a.name, r.name), ', ' ORDER BY a.id) FROM role_administrator_relations AS h \
        JOIN administrators AS a ON a.id = h.administrator_id JOIN roles AS r ON r.id = h.role_id",
        "superadmin Root, admin Root"),
    ("SELECT string_agg(concat_ws(' ', id, administrator_id, block, language), ', ' ORDER BY id) \
        FROM wat_setups_by_administrators", "0 0 10 auto, 1 1 10 auto, 2 2 10 auto"),
    ("SELECT string_agg(concat_ws(' ', id, tenant_id, block, language), ', ' ORDER BY id) FROM wat_setups_by_tenants",
        "0 0 10 auto, 1 1 10 auto"),
    ("SELECT string_agg(concat_ws(' ', tenant_id, key, value), ', ' ORDER BY key) FROM configs WHERE key LIKE 'wat.%'",
        "-1 wat.multitenant 1"),
    ("SELECT count(*)::text FROM configs", "6"),
    ("SELECT string_agg(concat_ws(' ', id, action, object_name), ', ' ORDER BY id) FROM log",
        "0 tenant_create default, 1 admin_create superadmin, 2 admin_create admin, 3 role_create Operator L1, \
         4 role_create Operator L2, 5 role_create Operator L3, 6 role_create Root"),
    ("SELECT string_agg(component || ' ' || version, ', ') FROM versions", "schema 4.3.0"),
    ("SELECT count(*)::text FROM administrators WHERE password <> '!'", "0"),
];

/// The lookup tables.
const LOOKUPS: [(&str, &[&str]); 6] = [
    ("vm_states", &["debugging", "running", "starting", "stopped", "stopping", "zombie"]),
    ("vm_cmds", &["busy", "start", "stop"]),
    ("user_states", &["connected", "connecting", "disconnected"]),
    ("user_cmds", &["abort"]),
    ("host_states", &["lost", "running", "starting", "stopped", "stopping"]),
    ("host_cmds", &["stop"]),
];

/// The sequences that do not begin at 10000.
const FIRST_IDS: [(&str, i64); 10] = [
    ("tenants", 2),
    ("administrators", 3),
    ("roles", 68),
    ("acls", 337),
    ("acl_role_relations", 343),
    ("wat_setups_by_tenants", 2),
    ("wat_setups_by_administrators", 3),
    ("role_administrator_relations", 3),
    ("role_role_relations", 87),
    ("log", 7),
];

#[tokio::test]
async fn a_new_database_holds_the_documented_rows() {
    let scratch = Scratch::deployed("initial").await;
    let client = scratch.database().client().await.unwrap();
    for (sql, expected) in ROWS {
        assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, String>(0), expected, "{sql}");
    }
    for (table, expected) in LOOKUPS {
        let rows = client.query(&format!("SELECT name FROM {table} ORDER BY name"), &[]).await.unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(names, expected, "{table}");
    }
}

#[tokio::test]
async fn ids_go_on_where_existing_databases_do() {
    let scratch = Scratch::deployed("sequences").await;
    let client = scratch.database().client().await.unwrap();
    // Of relations that existing databases have.
    let sequences = "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' \
        AND sequencename NOT IN ('events_id_seq', 'changes_id_seq', 'api_tokens_id_seq', \
            'session_id_seq')";
    let rows = client.query(sequences, &[]).await.unwrap();
    assert_eq!(rows.len(), 30);
    for row in rows {
        let sequence: String = row.get(0);
        let table = sequence.strip_suffix("_id_seq").unwrap();
        let first = FIRST_IDS.iter().find(|(known, _)| *known == table).map_or(10_000, |(_, first)| *first);
        let next = client.query_one("SELECT nextval($1::text::regclass)", &[&sequence]).await.unwrap();
        assert_eq!(next.get::<_, i64>(0), first, "{table}");
    }
}

#[tokio::test]
async fn sql_and_logic_agree_on_what_roles_grant() {
    let scratch = Scratch::deployed("grants").await;
    let client = scratch.database().client().await.unwrap();
    let roles = Roles::shipped();
    // The view is computed as a whole, so it is read once.
    let view =
        "SELECT r.inheritor_id, a.name FROM all_acl_role_relations AS r JOIN acls AS a ON a.id = r.acl_id";
    let rows = client.query(view, &[]).await.unwrap();
    assert_eq!(rows.len(), 1843);
    let mut granted: BTreeMap<i32, BTreeSet<&str>> = BTreeMap::new();
    for row in &rows {
        granted.entry(row.get(0)).or_default().insert(row.get(1));
    }
    let hold = "UPDATE role_administrator_relations SET role_id = $1 WHERE administrator_id = 2";
    for id in 1..=67 {
        let expected = roles.effective(RoleId(id));
        assert_eq!(granted[&id], expected, "role {id}");
        client.execute(hold, &[&id]).await.unwrap();
        let held = identity::acls(&client, 2).await.unwrap();
        assert_eq!(held.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected, "holder of role {id}");
    }
}

#[tokio::test]
async fn sql_and_logic_agree_where_roles_inherit_in_a_circle() {
    let scratch = Scratch::deployed("circles").await;
    let client = scratch.database().client().await.unwrap();
    // 100 and 101 inherit from each other; 100 grants nothing, refuses 271 and is held; 101 grants 271 and 274.
    let setup = "INSERT INTO roles (id, tenant_id, name, internal, fixed) VALUES (100, 1, 'a', false, false), \
            (101, 1, 'b', false, false); \
        INSERT INTO role_role_relations (inheritor_id, inherited_id) VALUES (100, 101), (101, 100); \
        INSERT INTO acl_role_relations (role_id, acl_id, positive) VALUES (100, 271, false), (101, 271, true), \
            (101, 274, true); \
        UPDATE role_administrator_relations SET role_id = 100 WHERE administrator_id = 2";
    client.batch_execute(setup).await.unwrap();
    assert_eq!(identity::acls(&client, 2).await.unwrap(), ["vm.delete."]);
    let view = "SELECT array_agg(DISTINCT acl_id ORDER BY acl_id) FROM all_acl_role_relations WHERE inheritor_id = $1";
    let of = async |id: i32| client.query_one(view, &[&id]).await.unwrap().get::<_, Vec<i32>>(0);
    assert_eq!(of(100).await, [274]);
    assert_eq!(of(101).await, [271, 274]);
    let closure = "SELECT count(*) FROM all_role_role_relations WHERE inheritor_id IN (100, 101)";
    assert_eq!(client.query_one(closure, &[]).await.unwrap().get::<_, i64>(0), 4);
}
