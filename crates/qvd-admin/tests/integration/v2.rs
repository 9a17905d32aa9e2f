//! `/api/v2`: resources, statuses, pages, tags.

use std::collections::BTreeSet;

use qvd_model::action::{OPERATIONS, Object, Show, Target, Verb, entity};
use serde_json::{Value, json};

use crate::{Answer, Installation, PASSWORD};

impl Installation {
    /// An operation as root.
    async fn root(&self, method: &str, path: &str, body: Value) -> Answer {
        self.v2(None, method, path, (!body.is_null()).then_some(body)).await
    }

    /// Makes something and tells its number.
    async fn made(&self, path: &str, body: Value) -> i64 {
        let answer = self.root("POST", path, body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.body["id"].as_i64().unwrap();
        assert_eq!(answer.header("location").unwrap(), format!("/api/v2{path}/{id}"));
        id
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_a_desktop() {
    let it = Installation::start("v2life").await;
    it.running_host("node1", "10.3.15.1").await;
    let osf = it.made("/osfs", json!({"name": "office", "tenant_id": 1})).await;
    let user = it.made("/users", json!({"name": "ann", "password": "p", "tenant_name": "default"})).await;
    let vm = it.made("/vms", json!({"name": "desk", "user_id": user, "osf_name": "office"})).await;
    let one = format!("/vms/{vm}");
    let read = it.root("GET", &one, Value::Null).await;
    assert_eq!((read.status, &read.body["user_name"]), (200, &json!("ann")), "{read:?}");
    assert_eq!(read.body["osf_id"], osf);
    let some = it.root("GET", &format!("{one}?fields=name,state"), Value::Null).await;
    assert_eq!(some.body, json!({"name": "desk", "state": "stopped"}));

    let changed = it.root("PATCH", &one, json!({"description": "hers", "blocked": true})).await;
    assert_eq!((changed.status, &changed.body), (204, &json!("")), "{changed:?}");
    let list = it.root("GET", "/vms?name[like]=de%25&blocked=1&fields=description", Value::Null).await;
    assert_eq!(list.items(), [json!({"description": "hers"})]);
    let none =
        it.root("GET", "/vms?filter=%7B%22-not%22%3A%7B%22name%22%3A%22desk%22%7D%7D", Value::Null).await;
    assert!(none.items().is_empty());

    assert_eq!(it.root("POST", &format!("{one}/stop"), Value::Null).await.problem(), (409, 5120));
    it.sql(
        "INSERT INTO dis (id, osf_id, path, version) SELECT 1, id, 'x', 'v' FROM osfs; \
            INSERT INTO di_runtimes (di_id, state) VALUES (1, 'published'); \
            INSERT INTO di_tags (di_id, tag, fixed) VALUES (1, 'default', false)",
    )
    .await;
    let started = it.root("POST", &format!("{one}/start"), Value::Null).await;
    assert_eq!(started.status, 204, "{started:?}");
    it.sql("UPDATE vm_runtimes SET vm_state = 'starting', vm_cmd = NULL").await;
    let again = it.root("POST", &format!("{one}/start"), Value::Null).await;
    assert_eq!(again.problem(), (409, 5130));
    assert_eq!(it.root("DELETE", &one, Value::Null).await.problem(), (409, 7310));
    // Of several each has its own outcome.
    let several = it.root("DELETE", &format!("/vms?id={vm}&id=77"), Value::Null).await;
    assert_eq!(several.status, 207, "{several:?}");
    assert_eq!(several.body["failures"][vm.to_string()]["code"], 7310);
    let stopped = it.root("POST", &format!("/vms/stop?id={vm}"), Value::Null).await;
    assert_eq!((stopped.status, &stopped.body), (200, &json!({"processed": 1})), "{stopped:?}");
    it.sql("UPDATE vm_runtimes SET vm_state = 'stopped', vm_cmd = NULL").await;
    assert_eq!(it.root("DELETE", &one, Value::Null).await.status, 204);
    for (method, path) in [("GET", one.clone()), ("DELETE", one.clone()), ("POST", format!("{one}/start"))] {
        assert_eq!(it.root(method, &path, Value::Null).await.problem(), (404, 1300), "{method} {path}");
    }
    // What was done stands in the log, as what the old dialect does.
    let log = it.root("GET", "/log?action=vm_create&fields=object_name,status", Value::Null).await;
    assert_eq!(log.items(), [json!({"object_name": "desk", "status": 0})]);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_the_statuses_of_http() {
    let it = Installation::start("v2refusals").await;
    let user = json!({"name": "ann", "password": "p", "tenant_id": 1});
    it.made("/users", user.clone()).await;
    for (method, path, body, expected) in [
        ("GET", "/nothing", Value::Null, (404, 4100)),
        ("GET", "/vms/x", Value::Null, (404, 4100)),
        ("GET", "/vms/7", Value::Null, (404, 1300)),
        ("PUT", "/vms", json!({}), (405, 9007)),
        ("DELETE", "/stats", Value::Null, (405, 9007)),
        ("PATCH", "/session", Value::Null, (405, 9007)),
        ("GET", "/vms?colour=1", Value::Null, (400, 6210)),
        ("GET", "/vms?name[is]=1", Value::Null, (400, 6210)),
        ("GET", "/vms?filter=%7B", Value::Null, (400, 6100)),
        ("GET", "/vms?fields=colour", Value::Null, (400, 6250)),
        ("GET", "/vms?sort=colour", Value::Null, (400, 6610)),
        ("GET", "/vms?sort=name,-id", Value::Null, (400, 6600)),
        ("GET", "/vms?limit=0", Value::Null, (422, 6320)),
        ("GET", "/vms?total=perhaps", Value::Null, (422, 6320)),
        ("GET", "/vms?cursor=x", Value::Null, (422, 6320)),
        ("GET", "/vms?id=x", Value::Null, (422, 6320)),
        ("GET", "/vms/7?sort=name", Value::Null, (400, 6210)),
        ("GET", "/role-acls", Value::Null, (400, 6220)),
        ("DELETE", "/vms", Value::Null, (400, 6220)),
        ("PATCH", "/users", json!({"description": "x"}), (400, 6220)),
        ("POST", "/users", json!({"name": "bob"}), (400, 6240)),
        ("POST", "/users", json!({"name": "bob", "colour": 1}), (400, 6240)),
        ("POST", "/users", json!([]), (400, 6100)),
        ("POST", "/users", user, (409, 7200)),
        ("POST", "/vms", json!({"name": "v", "user_id": 77, "osf_id": 77}), (422, 7110)),
        ("POST", "/vms/7/start", json!({"now": true}), (400, 6230)),
        ("PUT", "/config", json!({"key": "nodename", "value": "x", "tenant_id": -1}), (403, 9004)),
        ("POST", "/session", json!({"login": "superadmin", "tenant": "*", "password": "no"}), (401, 3200)),
        ("POST", "/session", json!({"login": {}, "tenant": "*", "password": "no"}), (422, 6310)),
        ("POST", "/session", json!({"login": "superadmin"}), (400, 6240)),
        ("DELETE", "/session", Value::Null, (401, 3200)),
    ] {
        let answer = it.root(method, path, body).await;
        assert_eq!(answer.problem(), expected, "{method} {path}: {answer:?}");
        assert_eq!(answer.body["type"], format!("urn:qvd:status:{}", expected.1));
        if expected.0 == 405 {
            assert!(!answer.header("allow").unwrap().is_empty());
        }
    }
    let duplicate = it.root("POST", "/users", json!({"name": "ann", "password": "p", "tenant_id": 1})).await;
    assert_eq!(duplicate.body["object"], "name", "{duplicate:?}");
    // A form of a strange page cannot change anything.
    let form = it.ask("POST", "/api/v2/users", &[("content-type", "text/plain")], br#"{"name":"x"}"#).await;
    assert_eq!(form.problem(), (415, 9008));
    let large = vec![b' '; (4 << 20) + 1];
    let large = it.ask("POST", "/api/v2/users", &[("content-type", "application/json")], &large).await;
    assert_eq!(large.problem(), (413, 9003));
    let nobody = it.ask("GET", "/api/v2/vms", &[("cookie", "sid=x")], b"").await;
    assert_eq!(nobody.problem(), (401, 3200));
    assert!(nobody.header("www-authenticate").is_some());
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_opened_and_ended() {
    let it = Installation::start("v2session").await;
    let who = json!({"login": "admin", "tenant": "default", "password": PASSWORD});
    let opened = it.root("POST", "/session", who).await;
    assert_eq!(opened.status, 201, "{opened:?}");
    let sid = opened.body["sid"].as_str().unwrap();
    assert!(opened.header("set-cookie").unwrap().starts_with(&format!("sid={sid};")));
    let me = it.v2(Some(sid), "GET", "/me", None).await;
    assert_eq!((me.status, &me.body["admin_name"]), (200, &json!("admin")), "{me:?}");
    let ended = it.v2(Some(sid), "DELETE", "/session", None).await;
    assert_eq!(ended.status, 204, "{ended:?}");
    assert_eq!(it.v2(Some(sid), "GET", "/me", None).await.problem(), (401, 3200));
    it.stop().await;
}

/// Follows the pages of a list to its end.
async fn pages(it: &Installation, path: &str, mut between: impl AsyncFnMut()) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut next = path.to_owned();
    loop {
        let page = it.root("GET", &next, Value::Null).await;
        rows.extend_from_slice(page.items());
        let Some(cursor) = page.body["next"].as_str() else {
            assert_eq!(page.header("link"), None);
            return rows;
        };
        let link = page.header("link").unwrap();
        next = link.strip_prefix("</api/v2").unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        assert!(next.ends_with(&format!("cursor={cursor}")), "{link}");
        between().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_neither_repeat_nor_lose_rows() {
    let it = Installation::start("v2pages").await;
    it.sql(
        "INSERT INTO users (login, tenant_id, password, description, blocked) \
         SELECT 'user' || n, 1, 'x', CASE WHEN n % 3 > 0 THEN 'text ' || n % 5 END, n % 2 = 0 \
         FROM generate_series(1, 40) AS n; \
         INSERT INTO osfs (name, tenant_id, memory, use_overlay, user_storage_size) \
         SELECT 'osf' || n, 1, 256, true, CASE WHEN n % 4 > 0 THEN n % 3 END FROM generate_series(1, 30) AS n",
    )
    .await;
    // Every order of every list gives the rows that one large page gives, in the same order.
    let mut compared = 0;
    for operation in OPERATIONS.iter() {
        let object = operation.action.object;
        if operation.action.verb != Verb::List
            || operation.target != Target::Selection
            || object == Object::RoleAcl
        {
            continue;
        }
        for field in entity(object).fields.iter().filter(|f| f.order && f.show != Show::Never) {
            for sign in ["", "-"] {
                let sorted = format!("{}?sort={sign}{}", operation.path, field.name);
                let whole = it.root("GET", &format!("{sorted}&limit=1000"), Value::Null).await;
                let whole = whole.items();
                let limit = (whole.len() / 3).clamp(7, 200);
                let followed = pages(&it, &format!("{sorted}&limit={limit}"), async || ()).await;
                // Log lines grow older meanwhile.
                let lasting = |rows: &[Value]| -> Vec<Value> {
                    let mut rows = rows.to_vec();
                    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
                        row.remove("antiquity");
                    }
                    rows
                };
                assert_eq!(lasting(&followed), lasting(whole), "{sorted}");
                compared += whole.len();
            }
        }
    }
    assert!(compared > 2000, "only {compared} rows");
    // What comes and goes meanwhile moves nothing else.
    let mut n = 0;
    let between = async || {
        n += 1;
        it.sql(&format!(
            "INSERT INTO users (login, tenant_id, password) VALUES ('a{n}', 1, 'x'), ('zz{n}', 1, 'x'), ('user2{n}x', 1, 'x'); \
             DELETE FROM users WHERE login = 'user1{n}'"
        ))
        .await;
    };
    let rows = pages(&it, "/users?sort=-name&limit=4&fields=name", between).await;
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    for n in (1..=40).filter(|n| !(10..20).contains(n)) {
        assert!(unique.contains(format!("user{n}").as_str()), "user{n} is lost");
    }
    let counted = it.root("GET", "/users?limit=3&total=true", Value::Null).await;
    assert!(counted.body["total"].as_u64().unwrap() > 40 && counted.items().len() == 3);
    // A cursor belongs to its list and order, whatever somebody makes of it.
    let cursor = counted.body["next"].as_str().unwrap();
    for list in ["/vms?", "/users?sort=name&", "/users?sort=-id&"] {
        let strange = it.root("GET", &format!("{list}cursor={cursor}"), Value::Null).await;
        assert_eq!(strange.problem(), (422, 6320), "{list}");
    }
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_bound_to_what_was_read() {
    let it = Installation::start("v2tags").await;
    let user = it.made("/users", json!({"name": "ann", "password": "p", "tenant_id": 1})).await;
    let osf = it.made("/osfs", json!({"name": "office", "tenant_id": 1})).await;
    let vm = it.made("/vms", json!({"name": "desk", "user_id": user, "osf_id": osf})).await;
    let change = async |path: &str, tag: &str, body: &Value| {
        let headers = [("content-type", "application/json"), ("if-match", tag)];
        let path = format!("/api/v2{path}");
        it.ask("PATCH", &path, &headers, body.to_string().as_bytes()).await
    };
    let path = format!("/vms/{vm}");
    let tag = async |path: &str| {
        let read = it.root("GET", path, Value::Null).await;
        read.header("etag").unwrap_or_else(|| panic!("{read:?}")).to_owned()
    };
    let first = tag(&path).await;
    // What is left out of the answer is a part of it all the same.
    assert_eq!(tag(&format!("{path}?fields=id")).await, first);
    // A desktop that starts is no other desktop.
    it.sql("UPDATE vm_runtimes SET vm_state = 'running', vm_address = '10.3.15.99'").await;
    assert_eq!(tag(&path).await, first);
    assert_eq!(change(&path, &first, &json!({"description": "a"})).await.status, 204);
    let stale = change(&path, &first, &json!({"description": "b"})).await;
    assert_eq!(stale.problem(), (412, 9006));
    let second = tag(&path).await;
    assert_eq!(stale.body["object"], second.as_str());
    let either = format!("{first}, {second}");
    assert_eq!(change(&path, &either, &json!({"expiration_hard": "2031-01-01T00:00:00"})).await.status, 204);
    assert_eq!(change(&path, "*", &json!({"blocked": 1})).await.status, 204);
    let third = tag(&path).await;
    it.qa4(&["vm", "desk", "set", "description=c"]).await.unwrap();
    assert_ne!(tag(&path).await, third);
    // Also what belongs to it: roles of an administrator.
    let admin = tag("/administrators/2").await;
    it.qa4(&["admin", "admin", "assign", "role", "'Users Manager'"]).await.unwrap();
    assert_ne!(tag("/administrators/2").await, admin);

    let ask = async |method: &str, path: &str, tag: &str| {
        it.ask(method, &format!("/api/v2{path}"), &[("if-match", tag)], b"").await.problem()
    };
    assert_eq!(ask("DELETE", &path, &third).await, (412, 9006));
    assert_eq!(ask("POST", &format!("{path}/stop"), &third).await, (412, 9006));
    assert_eq!(ask("GET", &path, &third).await, (400, 6230));
    assert_eq!(ask("DELETE", "/vms?id=1", &third).await, (400, 6230));
    assert_eq!(ask("DELETE", &path, "desk").await, (400, 6230));
    assert_eq!(ask("DELETE", "/vms/77", "*").await, (404, 1300));
    it.stop().await;
}

/// Of all who read the same, one changes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_changes_at_the_same_time_one_wins() {
    let it = std::sync::Arc::new(Installation::start("v2race").await);
    let user = it.made("/users", json!({"name": "ann", "password": "p", "tenant_id": 1})).await;
    let path = format!("/api/v2/users/{user}");
    for round in 0..5 {
        let tag = it.ask("GET", &path, &[], b"").await.header("etag").unwrap().to_owned();
        let mut changes = Vec::new();
        for who in 0..8 {
            let (it, path, tag) = (it.clone(), path.clone(), tag.clone());
            changes.push(tokio::spawn(async move {
                let headers = [("content-type", "application/json"), ("if-match", tag.as_str())];
                let body = json!({"description": format!("{round} {who}")}).to_string();
                it.ask("PATCH", &path, &headers, body.as_bytes()).await.status
            }));
        }
        let mut won = 0;
        for change in changes {
            match change.await.unwrap() {
                204 => won += 1,
                other => assert_eq!(other, 412),
            }
        }
        assert_eq!(won, 1, "round {round}");
    }
    std::sync::Arc::into_inner(it).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_exported_whole() {
    let it = Installation::start("v2export").await;
    it.sql(
        "INSERT INTO users (login, tenant_id, password) \
         SELECT 'user' || n, 1, 'x' FROM generate_series(1, 2500) AS n; \
         INSERT INTO tenants (id, name) VALUES (7, 'other'); \
         INSERT INTO users (login, tenant_id, password) VALUES ('stranger', 7, 'x')",
    )
    .await;
    let ask = async |path: &str, cookie: &str| {
        let accept = ("accept", "text/html, application/x-ndjson;q=0.9");
        it.ask("GET", &format!("/api/v2{path}"), &[accept, ("cookie", cookie)], b"").await
    };
    let all = ask("/users?fields=name&sort=-id", "").await;
    assert_eq!((all.status, all.header("content-type")), (200, Some("application/x-ndjson")));
    let lines: Vec<Value> =
        all.body.as_str().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]), (2501, &json!({"name": "stranger"})));
    let names: BTreeSet<&str> = lines.iter().map(|line| line["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2501);
    // No more than the caller may see.
    let cookie = format!("sid={}", it.log_in("admin", "default").await);
    let own = ask("/users?fields=name&name[like]=%25r%25", &cookie).await;
    assert_eq!(own.body.as_str().unwrap().lines().count(), 2500);
    let none = ask("/users?name=nobody", &cookie).await;
    assert_eq!((none.status, &none.body), (200, &json!("")));
    assert_eq!(ask("/users?limit=5", "").await.problem(), (400, 6210));
    assert_eq!(ask("/users?fields=colour", "").await.problem(), (400, 6250));
    assert_eq!(ask("/users", "sid=x").await.problem(), (401, 3200));
    it.stop().await;
}
