//! Codes that need an odd situation, and that no code is without a test.

use qvd_model::action::Status;
use serde_json::{Value, json};

use crate::{Installation, code, image_file};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_wrong_in_themselves() {
    let it = Installation::start("oddrequests").await;
    let status = async |request: Value| it.post("/api", &request).await.1["status"].clone();
    assert_eq!(status(json!({"action": "vm_get_list", "login": {}, "password": "x"})).await, 6310);
    let direction = json!({"action": "vm_get_list", "order_by": {"field": "name", "order": "up"}});
    assert_eq!(status(direction).await, 6600);
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let local = it.path("one.tar.gz");
    image_file(&local);
    it.qa4(&["di", "new", &format!("file={},osf=office,version=v1", local.display())]).await.unwrap();
    let tags = json!({"action": "di_update", "filters": {"id": 10000},
        "arguments": {"__tags_changes__": {"create": [7]}}});
    assert_eq!(status(tags).await, 6350);
    let nowhere = json!({"action": "di_create", "arguments": {"disk_image": "x.tar", "osf_id": 77}});
    assert_eq!(status(nowhere).await, 7100);
    assert_eq!(it.post("/api/di/publish", &json!({})).await.1["status"], 2290);

    it.qa4(&["user", "new", "name=ann,password=p"]).await.unwrap();
    it.qa4(&["vm", "new", "name=desk,user=ann,osf=office"]).await.unwrap();
    it.sql("UPDATE vm_runtimes SET current_di_id = 10000").await;
    assert_eq!(code(it.qa4(&["di", "version=v1", "del"]).await), 7320);

    let own = json!({"action": "administrator_delete", "filters": {"id": 2}});
    let answer = it.post_as("admin", "default", own).await;
    assert_eq!(answer["failures"]["2"]["status"], 5200, "{answer}");
    let key = json!({"action": "config_set", "arguments": {"key": "brand.new", "value": "x"}});
    assert_eq!(it.post_as("admin", "default", key).await["status"], 7382);
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    let single = json!({"action": "config_set", "arguments": {"tenant_id": -1, "key": "wat.multitenant", "value": "0"}});
    assert_eq!(status(single).await, 7373);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_operations_with_nothing_in_them() {
    let it = Installation::start("oddnested").await;
    it.qa4(&["role", "new", "name=helpers,tenant=default"]).await.unwrap();
    let rows = it.rows(&["role", "helpers", "get", "id"]).await;
    let change = async |action: &str, arguments: Value| {
        let body = json!({"action": action, "filters": {"id": rows[0]["id"]}, "arguments": arguments});
        let answer = it.post("/api", &body).await.1;
        (answer["status"].clone(), answer["message"].as_str().unwrap_or_default().to_owned())
    };
    for (action, arguments, status, object) in [
        ("di_update", json!({"__tags_changes__": {"colour": ["red"]}}), 6231, "__tags_changes__colour"),
        ("di_update", json!({"__colours__": ["red"]}), 6230, "__colours__"),
        ("di_update", json!({"__tags__": ["red"]}), 6230, "__tags__"),
        ("di_update", json!({"__tags_changes__": {"create": [null]}}), 6430, "__tags_changes__create"),
        (
            "role_update",
            json!({"__acls_changes__": {"assign_acls": [null]}}),
            6440,
            "__acls_changes__assign_acls",
        ),
        (
            "administrator_update",
            json!({"__roles_changes__": {"unassign_roles": [null]}}),
            6450,
            "__roles_changes__unassign_roles",
        ),
    ] {
        let (found, message) = change(action, arguments).await;
        assert_eq!(found, status, "{message}");
        assert!(message.ends_with(&format!("({object})")), "{message}");
    }
    it.stop().await;
}

/// What the database finds means what it always did: by what was being done, and to which table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_database_finds_has_its_code() {
    let it = Installation::start("databasecodes").await;
    it.qa4(&["osf", "new", "name=office,tenant=default"]).await.unwrap();
    it.qa4(&["role", "new", "name=helpers,tenant=default"]).await.unwrap();
    let role = it.rows(&["role", "helpers", "get", "id"]).await[0]["id"].clone();
    let filters = json!({"id": role});
    let trouble = async |table: &str, state: &str, constraint: &str| {
        it.sql(&format!(
            "CREATE OR REPLACE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN \
             RAISE 'trouble with a secret' USING ERRCODE = '{state}', CONSTRAINT = '{constraint}'; END$$; \
             CREATE OR REPLACE TRIGGER trouble BEFORE INSERT OR UPDATE OR DELETE ON {table} \
             FOR EACH ROW EXECUTE FUNCTION trouble()"
        ))
        .await;
    };
    let osf = json!({"id": 10_000});
    for (state, constraint, writing, deleting) in [
        ("22001", "", 6330, 6310),
        ("23502", "", 6410, 6410),
        ("23503", "", 7110, 7120),
        ("23505", "osfs_name_tenant_id", 7200, 7200),
        ("23514", "", 1100, 1100),
        ("P0001", "", 1100, 1100),
    ] {
        trouble("osfs", state, constraint).await;
        let update = json!({"action": "osf_update", "filters": osf, "arguments": {"memory": 512}});
        let create = json!({"action": "osf_create", "arguments": {"name": "lab", "tenant_id": 1}});
        let delete = json!({"action": "osf_delete", "filters": osf});
        let of_one = |answer: Value| answer["failures"]["10000"].clone();
        let answers = [
            (of_one(it.post("/api", &update).await.1), writing),
            (it.post("/api", &create).await.1, writing),
            (of_one(it.post("/api", &delete).await.1), deleting),
        ];
        for (answer, status) in answers {
            assert_eq!(answer["status"], status, "{state}: {answer}");
            assert!(!answer.to_string().contains("secret"), "{answer}");
        }
    }
    for (table, constraint, arguments, status) in [
        (
            "acl_role_relations",
            "acl_role_relations_role_id_acl_id",
            json!({"__acls_changes__": {"assign_acls": ["vm.create."]}}),
            7220,
        ),
        (
            "role_role_relations",
            "role_role_relations_inheritor_id_inherited_id",
            json!({"__roles_changes__": {"assign_roles": ["VMs Reader"]}}),
            7230,
        ),
    ] {
        trouble(table, "23505", constraint).await;
        let update = json!({"action": "role_update", "filters": filters, "arguments": arguments});
        let answer = it.post("/api", &update).await.1;
        assert_eq!(answer["failures"][role.to_string()]["status"], status, "{answer}");
    }
    it.stop().await;
}

/// The image generator of older installations is told not to be there, after the checks that it always had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_image_generator_is_not_there() {
    let it = Installation::start("generator").await;
    it.qa4(&["osf", "new", "name=plain,tenant=default"]).await.unwrap();
    it.qa4(&["osf", "new", "name=defined,tenant=default,osd_id=7"]).await.unwrap();
    let generate = async |osf: i32| {
        it.post("/api/di/generate", &json!({"action": "x", "arguments": {"osf_id": osf}})).await.1
    };
    assert_eq!(generate(77).await["status"], 7100);
    assert_eq!(generate(10_000).await["status"], 7500);
    let answer = generate(10_001).await;
    assert_eq!(answer["status"], 3700, "{answer}");
    assert!(answer["additional_info"].as_str().unwrap().contains("upload"), "{answer}");
    assert!(it.rows(&["di", "get"]).await.is_empty());
    assert_eq!(it.post("/api/di/notify", &json!({"id": 1})).await.1["status"], 3700);
    let (status, answer) = it.raw("GET", "/api/proxy/dig/osd/7?offset=1", &[], b"").await;
    assert_eq!((status, answer["status"].as_i64()), (200, Some(6620)), "{answer}");
    assert!(answer["message"].as_str().unwrap().ends_with("(dig)"), "{answer}");
    it.sql("DELETE FROM role_administrator_relations WHERE administrator_id = 2").await;
    let stranger = json!({"login": "admin", "tenant": "default", "password": crate::PASSWORD,
        "arguments": {"osf_id": 10_001}});
    for path in ["/api/di/generate", "/api/proxy/dig/plugin"] {
        assert_eq!(it.post(path, &stranger).await.1["status"], 4210, "{path}");
        assert_eq!(it.post(path, &json!({"sid": "x", "arguments": {}})).await.1["status"], 3200, "{path}");
    }
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_that_are_not_as_they_should() {
    let it = Installation::start("odddirectories").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let file = it.path("x.tar.gz");
    image_file(&file);
    let form = "--cut\r\nContent-Disposition: form-data; name=\"action\"\r\n\r\ndi_create\r\n--cut--\r\n";
    let headers = [("content-type", "multipart/form-data; boundary=cut")];
    let (_, answer) = it.raw("POST", "/api/di/upload", &headers, form.as_bytes()).await;
    assert_eq!(answer["status"], 2250, "{answer}");
    // Something else has the name that the image would get.
    std::fs::create_dir_all(it.path("images/10000-x.tar.gz/full")).unwrap();
    let from = format!("file={},osf=office", file.display());
    assert_eq!(code(it.qa4(&["di", "new", &from]).await), 2251);
    std::fs::remove_dir(it.path("staging")).unwrap();
    assert_eq!(it.post("/api", &json!({"action": "dis_in_staging"})).await.1["status"], 2230);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_cannot_be_kept_or_closed() {
    let it = Installation::start("oddsessions").await;
    let login = it.post_as("admin", "default", json!({"action": "current_admin_setup"})).await;
    let sid = &login["sid"];
    it.sql(
        "UPDATE session SET last_used = last_used - interval '1 hour'; \
         CREATE RULE kept AS ON UPDATE TO session DO INSTEAD NOTHING",
    )
    .await;
    let list = json!({"action": "user_get_list", "sid": sid});
    assert_eq!(it.post("/api", &list).await.1["status"], 3400);
    it.sql(
        "DROP RULE kept ON session; \
         CREATE FUNCTION stubborn() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$; \
         CREATE TRIGGER stubborn BEFORE DELETE ON session FOR EACH ROW EXECUTE FUNCTION stubborn()",
    )
    .await;
    assert_eq!(it.post("/api/logout", &json!({"sid": sid})).await.1["status"], 3600);
    it.sql("DROP TRIGGER stubborn ON session").await;
    assert_eq!(it.post("/api/logout", &json!({"sid": sid})).await.1["status"], 0);
    it.stop().await;
}

/// Guesses slow down, and those that would have to wait too long behind others are refused at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_guesses_at_once_are_refused() {
    use futures_util::StreamExt;
    let it = Installation::start("guesses").await;
    let wrong = json!({"action": "vm_get_list", "login": "admin", "tenant": "default", "password": "wrong"});
    for _ in 0..4 {
        assert_eq!(it.post("/api", &wrong).await.1["status"], 3200);
    }
    let mut guesses: futures_util::stream::FuturesUnordered<_> =
        (0..90).map(|_| it.post("/api", &wrong)).collect();
    while let Some((_, answer)) = guesses.next().await {
        if answer["status"] == 9005 {
            assert!(answer["additional_info"].as_str().unwrap().contains("wait"), "{answer}");
            let same = json!({"login": "admin", "tenant": "default", "password": "wrong"});
            let same = it.v2(None, "POST", "/session", Some(same)).await;
            assert_eq!(same.problem(), (429, 9005));
            let old = it.ask("POST", "/api", &[], wrong.to_string().as_bytes()).await;
            assert_eq!((old.status, &old.body["status"]), (200, &json!(9005)));
            for refused in [same, old] {
                let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
                assert!((1..=120).contains(&wait), "{refused:?}");
            }
            break;
        }
        assert_eq!(answer["status"], 3200, "{answer}");
    }
    assert!(!guesses.is_empty(), "none was refused");
    drop(guesses);
    // Without a failure before them they are slowed down as well.
    let first = json!({"action": "vm_get_list", "login": "Root", "tenant": "*", "password": "wrong"});
    let again = json!({"action": "vm_get_list", "login": "root ", "tenant": "*", "password": "wrong"});
    let mut guesses: futures_util::stream::FuturesUnordered<_> =
        (0..40).map(|n| it.post("/api", if n % 2 == 0 { &first } else { &again })).collect();
    for _ in 0..4 {
        assert_eq!(guesses.next().await.unwrap().1["status"], 3200);
    }
    let client = it.database().client().await.unwrap();
    let checked =
        "SELECT count(*) FROM log WHERE action = 'login' AND lower(btrim(administrator_name)) = 'root'";
    let checked: i64 = client.query_one(checked, &[]).await.unwrap().get(0);
    assert!(checked < 10, "{checked} were checked");
    drop(guesses);
    it.stop().await;
}

/// A new code must come with a test that shows how to get it.
#[test]
fn every_code_stands_in_a_test() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(root.join("src/images/import.rs")).unwrap();
    text.push_str(&std::fs::read_to_string(root.join("tests/registry.rs")).unwrap());
    for entry in std::fs::read_dir(root.join("tests/integration")).unwrap() {
        text.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    let numbers: std::collections::HashSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let missing: Vec<_> =
        Status::ALL.iter().map(|s| s.code().to_string()).filter(|c| !numbers.contains(c.as_str())).collect();
    assert!(missing.is_empty(), "no test gets {missing:?}");
}
