//! Lists of the administration plane with 10,000 VMs: what each reads.

use qvd_db::admin::select::{self, List, Marks, Paging, Scope};
use qvd_model::action::{ACTIONS, Object, Show, Verb, entity};
use qvd_model::filter::Filter;

use testbed::Scratch;

/// Users with a VM each, flavours, images, and the log and the stories that come with them.
const FARM: &str = "
    INSERT INTO users (id, login, tenant_id, password)
        SELECT n, 'user' || n, 1 + n % 2, 'x' FROM generate_series(1, 10000) AS n;
    INSERT INTO osfs (id, tenant_id, name, memory, use_overlay)
        SELECT n, 1 + n % 2, 'osf' || n, 256, true FROM generate_series(1, 100) AS n;
    INSERT INTO dis (id, osf_id, path, version)
        SELECT n, 1 + n % 100, 'image' || n, 'v' || n FROM generate_series(1, 1000) AS n;
    INSERT INTO di_runtimes (di_id, state) SELECT n, 'published' FROM generate_series(1, 1000) AS n;
    INSERT INTO di_tags (di_id, tag, fixed) SELECT n, 'v' || n, true FROM generate_series(1, 1000) AS n;
    INSERT INTO hosts (id, name, address, frontend, backend)
        SELECT n, 'host' || n, '10.9.0.' || n, true, true FROM generate_series(1, 50) AS n;
    INSERT INTO host_runtimes (host_id, state, blocked) SELECT n, 'running', false FROM generate_series(1, 50) AS n;
    INSERT INTO vms (id, name, user_id, osf_id, di_tag)
        SELECT n, 'vm' || n, n, 1 + n % 100, 'default' FROM generate_series(1, 10000) AS n;
    INSERT INTO vm_runtimes (vm_id, vm_state, user_state, host_id)
        SELECT n, 'running', 'connected', 1 + n % 50 FROM generate_series(1, 10000) AS n;
    INSERT INTO log (tenant_id, action, type_of_action, qvd_object, object_id, time, status)
        SELECT 1 + n % 2, 'vm_create', 'create', 'vm', n, now(), 0 FROM generate_series(1, 10000) AS n;
    INSERT INTO events (kind, object_id, object_name, actor, code, text)
        SELECT 'vm', n, 'vm' || n, 'admin', 'vm_create', 'created' FROM generate_series(1, 10000) AS n;
    ANALYZE";

/// Tables that must not be read as a whole for one page.
const LARGE: [&str; 5] = ["vms", "vm_runtimes", "users", "log", "events"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_page_of_each_list_is_read_by_an_index() {
    let scratch = Scratch::deployed("lists").await;
    let client = scratch.database().client().await.unwrap();
    client
        .batch_execute("INSERT INTO tenants (id, name) VALUES (2, 'other') ON CONFLICT DO NOTHING")
        .await
        .unwrap();
    client.batch_execute(FARM).await.unwrap();
    let mut checked = 0;
    for action in ACTIONS.iter().filter(|action| action.verb == Verb::List) {
        let object = action.object;
        if matches!(object, Object::Config | Object::Acl | Object::AdministratorAcl | Object::RoleAcl) {
            // Made in memory.
            continue;
        }
        for scope in [Scope::All, Scope::Tenant(1)] {
            // How long ago something was differs from one reading to the next.
            let shown =
                entity(object).fields.iter().filter(|f| f.show != Show::Never && f.name != "antiquity");
            let fields: Vec<&str> = shown.map(|f| f.name).collect();
            let list = List {
                object,
                filter: &Filter::all(),
                scope: &scope,
                fields: &fields,
                properties: &[],
                order: &[],
                descending: false,
                skip: 0,
                limit: Some(25),
                paging: Paging::Counted,
                marks: Marks { mac_prefix: "54:52:00", ..Marks::default() },
            };
            check_plan(&client, action.name, &list).await;
            let rows = select::list(&client, &list).await.unwrap();
            let total = usize::try_from(rows.total.unwrap()).unwrap();
            assert!(rows.rows.len() <= 25 && total >= rows.rows.len());
            // The same rows, and those behind them, without counting.
            let mut row = None;
            let mut followed = 0;
            for _ in 0..3 {
                let paging = Paging::After { row: row.as_deref(), count: false };
                let list = List { paging, limit: Some(10), ..list.clone() };
                check_plan(&client, action.name, &list).await;
                let page = select::list(&client, &list).await.unwrap();
                assert_eq!(page.total, None);
                let expected = rows.rows.iter().skip(followed).take(page.rows.len());
                assert!(page.rows.iter().zip(expected).all(|(a, b)| a == b), "{} {page:?}", action.name);
                followed += page.rows.len();
                row = page.last;
                if row.is_none() {
                    break;
                }
            }
            assert_eq!(followed, total.min(30), "{} in {scope:?}", action.name);
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} lists");
}

async fn check_plan(client: &impl qvd_db::Session, name: &str, list: &List<'_>) {
    let plan = select::plan(client, list).await.unwrap();
    for table in LARGE {
        let whole = plan.lines().any(|line| {
            let (_, scanned) = line.split_once("Seq Scan on ").unwrap_or_default();
            scanned.split(' ').next() == Some(table)
        });
        let scope = list.scope;
        assert!(!whole, "{name} in {scope:?} reads all of {table}:\n{plan}");
    }
}
