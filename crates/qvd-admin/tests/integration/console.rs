//! What the web console needs besides lists of objects: the log, counters, its own setup, and the certificate.

use serde_json::{Value, json};

use crate::Installation;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_read_by_those_who_may() {
    let it = Installation::start("auditlog").await;
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    it.qa4(&["user", "new", "name=them,password=p,tenant=other"]).await.unwrap();
    it.qa4(&["user", "new", "name=us,password=hidden1,tenant=default"]).await.unwrap();
    let change = json!({"action": "user_update", "filters": {"name": "us"}, "arguments": {"blocked": 1},
        "parameters": {"source": "WAT"}});
    // Not a filter of changes.
    assert_eq!(it.post("/api", &change).await.1["status"], 6210);
    it.qa4(&["user", "us", "del"]).await.unwrap();

    let list = async |filters: Value| {
        let request = json!({"action": "log_get_list", "filters": filters, "block": 0});
        it.post("/api", &request).await.1
    };
    let made = list(json!({"action": "user_create", "object_name": "us"})).await;
    assert_eq!(made["total"], 1, "{made}");
    let row = &made["rows"][0];
    assert_eq!((&row["tenant_name"], &row["type_of_action"]), (&json!("default"), &json!("create")));
    assert_eq!((&row["object_deleted"], &row["admin_deleted"]), (&json!(1), &json!(0)));
    assert!(row["antiquity"]["seconds"].is_number(), "{row}");
    assert!(row["arguments"].as_str().unwrap().contains("**********"), "{row}");
    assert!(!row.to_string().contains("hidden1"), "a password is in the log");
    let refused = list(json!({"status": 6210, "action": "user_update"})).await;
    assert_eq!((&refused["total"], &refused["rows"][0]["object_id"]), (&json!(1), &Value::Null));
    let sources = it.post("/api", &json!({"action": "sources_in_log"})).await.1;
    assert!(sources["rows"].as_array().unwrap().contains(&json!({"name": "WAT"})), "{sources}");

    // An administrator of a tenant reads what concerns it, and of that what it may.
    let theirs = json!({"action": "log_get_list", "fields": ["tenant_name", "qvd_object"], "block": 0});
    let seen = it.post_as("admin", "default", theirs.clone()).await;
    assert_eq!(seen["status"], 0, "{seen}");
    let rows = seen["rows"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["tenant_name"] == "default"), "{seen}");
    it.qa4(&["role", "new", "name=reader,tenant=default"]).await.unwrap();
    it.qa4(&["role", "reader", "assign", "acl", "user.see.log"]).await.unwrap();
    it.qa4(&["admin", "new", "name=carl,password='open sesame',tenant=default"]).await.unwrap();
    it.qa4(&["admin", "carl", "assign", "role", "reader"]).await.unwrap();
    let seen = it.post_as("carl", "default", theirs.clone()).await;
    let rows = seen["rows"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["qvd_object"] == "user"), "{seen}");

    // The log can be closed for everybody.
    it.qa4(&["config", "set", "tenant_id=-1,key=api.log.enabled,value=0"]).await.unwrap();
    assert_eq!(it.post_as("carl", "default", theirs).await["status"], 4210);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_count_what_the_caller_reaches() {
    let it = Installation::start("counters").await;
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    for tenant in ["default", "other"] {
        let of = |text: &str| format!("{text},tenant={tenant}");
        it.qa4(&["user", "new", &of(&format!("name=u{tenant},password=p"))]).await.unwrap();
        it.qa4(&["osf", "new", &of(&format!("name=o{tenant}"))]).await.unwrap();
        it.qa4(&["vm", "new", &format!("name=v{tenant},user=u{tenant},osf=o{tenant}")]).await.unwrap();
    }
    it.running_host("node1", "10.3.15.1").await;
    it.qa4(&["host", "new", "name=node2,address=10.3.15.2"]).await.unwrap();
    it.sql(
        "UPDATE vm_runtimes SET user_state = 'connected', host_id = (SELECT id FROM hosts WHERE name = 'node2'), \
         vm_expiration_hard = now() AT TIME ZONE 'UTC' + interval '1 day 2 hours'",
    )
    .await;
    it.qa4(&["user", "udefault", "block"]).await.unwrap();
    let all = it.post("/api", &json!({"action": "qvd_objects_statistics"})).await.1;
    for (name, count) in [
        ("status", 0),
        ("users_count", 2),
        ("blocked_users_count", 1),
        ("connected_users_count", 2),
        ("vms_count", 2),
        ("running_vms_count", 0),
        ("hosts_count", 2),
        ("running_hosts_count", 1),
        ("osfs_count", 2),
        ("dis_count", 0),
    ] {
        assert_eq!(all[name], count, "{name}: {all}");
    }
    assert_eq!(all["top_populated_hosts"][0], json!({"name": "node2", "id": 10001, "number_of_vms": 2}));
    assert_eq!(all["top_populated_hosts"].as_array().unwrap().len(), 2);
    let expiring = &all["vms_with_expiration_date"];
    assert_eq!((&expiring[0]["name"], &expiring[1]["name"]), (&json!("vdefault"), &json!("vother")));
    assert_eq!(expiring[0]["remaining_time"]["days"], 1, "{expiring}");

    let own = it.post_as("admin", "default", json!({"action": "qvd_objects_statistics"})).await;
    assert_eq!(
        (&own["users_count"], &own["vms_count"], &own["hosts_count"]),
        (&json!(1), &json!(1), &json!(2))
    );
    assert_eq!(own["vms_with_expiration_date"].as_array().unwrap().len(), 1, "{own}");
    it.qa4(&["role", "new", "name=few,tenant=default"]).await.unwrap();
    it.qa4(&["role", "few", "assign", "acl", "vm.stats.blocked, user.see.vm-list-state"]).await.unwrap();
    it.qa4(&["admin", "new", "name=carl,password='open sesame',tenant=default"]).await.unwrap();
    it.qa4(&["admin", "carl", "assign", "role", "few"]).await.unwrap();
    let few = it.post_as("carl", "default", json!({"action": "qvd_objects_statistics"})).await;
    let mut names: Vec<_> = few.as_object().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["blocked_vms_count", "message", "status", "vms_count"]);
    let state = it.post_as("carl", "default", json!({"action": "user_get_state"})).await;
    assert_eq!(state["rows"], json!([{"id": 10000, "number_of_vms_connected": 1}]), "{state}");
    let state = it.post("/api", &json!({"action": "host_get_state", "filters": {"id": 10001}})).await.1;
    assert_eq!(state["rows"], json!([{"id": 10001, "number_of_vms_connected": 0}]), "{state}");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_are_set_and_reset() {
    let it = Installation::start("consoleviews").await;
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    it.qa4(&["property", "new", "key=room,tenant=default"]).await.unwrap();
    it.qa4(&["property", "room", "assign", "user"]).await.unwrap();
    it.qa4(&["property", "new", "key=floor,tenant=other"]).await.unwrap();
    it.qa4(&["property", "floor", "assign", "user"]).await.unwrap();
    let call = async |request: Value| it.post_as("admin", "default", request).await;
    let arguments = |visible: u8| {
        json!({"field": "ip", "view_type": "list_column", "device_type": "desktop", "qvd_object": "vm",
            "visible": visible})
    };
    let set = |action: &str, arguments: Value| json!({"action": action, "arguments": arguments});
    let first = call(set("tenant_attribute_view_set", arguments(1))).await;
    assert_eq!((&first["status"], &first["total"]), (&json!(0), &json!(1)), "{first}");
    let again = call(set("tenant_attribute_view_set", arguments(0))).await;
    assert_eq!(first["rows"], again["rows"], "the same setting");
    let mine = call(set("admin_attribute_view_set", arguments(1))).await;
    assert_eq!(mine["status"], 0, "{mine}");
    let listed = it.post("/api", &json!({"action": "user_get_property_list"})).await.1;
    let assignment = |key: &str| {
        let row = listed["rows"].as_array().unwrap().iter().find(|row| row["key"] == key);
        row.unwrap()["id"].clone()
    };
    let (room, floor) = (assignment("room"), assignment("floor"));
    let property =
        |id: &Value| json!({"qvd_obj_prop_id": id, "view_type": "filter", "device_type": "mobile"});
    for action in ["tenant_property_view_set", "admin_property_view_set"] {
        assert_eq!(call(set(action, property(&room))).await["status"], 0);
        assert_eq!(call(set(action, property(&floor))).await["status"], 7110, "of another tenant");
    }
    for (member, value, status) in [
        ("view_type", json!("x"), 6330),
        ("device_type", Value::Null, 6240),
        ("qvd_object", json!("sofa"), 6330),
    ] {
        let mut wrong = arguments(1);
        wrong[member] = value;
        assert_eq!(call(set("admin_attribute_view_set", wrong)).await["status"], status, "{member}");
    }
    let list =
        call(json!({"action": "tenant_view_get_list", "filters": {"qvd_object": ["vm", "user"]}})).await;
    let own: Vec<_> = list["rows"].as_array().unwrap().iter().filter(|row| row["tenant_id"] == 1).collect();
    assert!(own.iter().any(|r| r["field"] == "ip" && r["visible"] == 0 && r["property"] == 0), "{list}");
    assert!(own.iter().any(|r| r["field"] == "room" && r["view_type"] == "filter"), "{list}");
    let setup = call(json!({"action": "current_admin_setup", "fields": ["views"]})).await;
    let view =
        setup["views"].as_array().unwrap().iter().find(|v| v["field"] == "ip" && v["administrator_id"] == 2);
    assert_eq!(view.unwrap()["visible"], 1, "the own setting wins");

    // Who may change columns only can neither set nor reset filters.
    it.qa4(&["role", "new", "name=columns,tenant=default"]).await.unwrap();
    it.qa4(&["role", "columns", "assign", "acl", "views.update.columns"]).await.unwrap();
    it.qa4(&["admin", "new", "name=carl,password='open sesame',tenant=default"]).await.unwrap();
    it.qa4(&["admin", "carl", "assign", "role", "columns"]).await.unwrap();
    let refused = it.post_as("carl", "default", set("tenant_property_view_set", property(&room))).await;
    assert_eq!(refused["status"], 4230, "{refused}");
    let reset = it.post_as("carl", "default", json!({"action": "tenant_view_reset"})).await;
    assert_eq!((&reset["status"], &reset["total"]), (&json!(0), &json!(1)), "{reset}");
    let rest = call(json!({"action": "tenant_view_reset", "filters": {"qvd_object": "vm"}})).await;
    assert_eq!(rest["total"], 0, "{rest}");
    assert_eq!(call(json!({"action": "tenant_view_reset"})).await["total"], 1, "the filter of the property");
    assert_eq!(call(json!({"action": "admin_view_reset"})).await["total"], 2);
    let logged =
        call(json!({"action": "log_get_list", "filters": {"qvd_object": ["tenant_view", "admin_view"]}}));
    assert_eq!(logged.await["rows"].as_array().unwrap().iter().filter(|r| r["status"] == 0).count(), 9);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_is_set_up_for_the_own_tenant() {
    let it = Installation::start("consolesetup").await;
    let call = async |request: Value| it.post_as("admin", "default", request).await;
    let update = json!({"action": "config_wat_update", "filters": {"whatever": 7},
        "arguments": {"language": "es", "block": 15}});
    let done = call(update).await;
    assert_eq!(
        (&done["status"], &done["total"], &done["rows"]),
        (&json!(0), &json!(1), &json!([])),
        "{done}"
    );
    let list = call(json!({"action": "config_wat_get_list", "filters": {"tenant_id": 99}})).await;
    assert_eq!(list["rows"], json!([{"language": "es", "block": 15}]), "{list}");
    let own = json!({"action": "mytenant_update", "arguments": {"description": "ours", "block": 20}});
    assert_eq!(call(own).await["status"], 0);
    let renamed = call(json!({"action": "mytenant_update", "arguments": {"name": "stolen"}})).await;
    assert_eq!(renamed["status"], 4230, "{renamed}");
    let tenant = &it.rows(&["tenant", "default", "get", "language,block,description"]).await[0];
    assert_eq!(*tenant, json!({"language": "es", "block": 20, "description": "ours"}));
    let mine = it.post("/api", &json!({"action": "config_wat_get_list"})).await.1;
    assert_eq!((&mine["total"], &mine["rows"][0]["language"]), (&json!(1), &json!("auto")), "{mine}");
    let logged = call(json!({"action": "log_get_list", "filters": {"action": "config_wat_update"}})).await;
    assert_eq!((&logged["total"], &logged["rows"][0]["status"]), (&json!(1), &json!(0)), "{logged}");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_checked_and_kept() {
    let it = Installation::start("certificate").await;
    let pair = qvd_relay::certificate::self_signed(&["desks.example.org".to_owned()]).unwrap();
    let other = qvd_relay::certificate::self_signed(&["x.example.org".to_owned()]).unwrap();
    let set =
        |cert: &str, key: &str| json!({"action": "config_ssl", "arguments": {"cert": cert, "key": key}});
    let status = async |request: Value| it.post("/api", &request).await.1["status"].clone();
    assert_eq!(status(set(&pair.cert, &other.key)).await, 6330, "they do not fit each other");
    assert_eq!(status(set("-----BEGIN CERTIFICATE-----\nx", &pair.key)).await, 6330);
    assert_eq!(status(set("", &pair.key)).await, 6410);
    assert_eq!(status(set("/etc/passwd", &pair.key)).await, 2270, "of no directory that files are read from");
    let of_tenant = it.post_as("admin", "default", set(&pair.cert, &pair.key)).await;
    assert_eq!(of_tenant["status"], 4230, "{of_tenant}");
    let done = it.post("/api", &set(&pair.cert, &pair.key)).await.1;
    assert_eq!(
        (&done["status"], &done["total"], &done["rows"]),
        (&json!(0), &json!(1), &json!([])),
        "{done}"
    );
    // It is told what it is for, and what is odd about it.
    assert_eq!((&done["names"], &done["warnings"]), (&json!(["desks.example.org"]), &json!([])), "{done}");
    assert!(done["fingerprint"].as_str() == Some(&pair.fingerprint) && done["expires"].is_string(), "{done}");
    it.qa4(&["config", "set", "key=l7r.address,value=vdi.example.org"]).await.unwrap();
    let by_resource =
        it.v2(None, "PUT", "/certificate", Some(set(&pair.cert, &pair.key)["arguments"].clone())).await;
    assert_eq!(by_resource.status, 200, "{by_resource:?}");
    let warned = by_resource.body["warnings"].to_string();
    assert!(warned.contains("not for vdi.example.org") && warned.contains("l7r.address"), "{warned}");
    // What is wrong is said of the text that it is in, also of one that stays from before.
    let wrong = async |arguments: Value| {
        let answer = it.v2(None, "PUT", "/certificate", Some(arguments)).await;
        assert_eq!(answer.problem(), (422, 6330), "{answer:?}");
        (answer.body["object"].clone(), answer.body["reason"].as_str().unwrap().to_owned())
    };
    let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let (object, reason) = wrong(json!({"cert": pair.cert, "key": sealed})).await;
    assert!(object == "key" && reason.contains("passphrase"), "{reason}");
    let (object, reason) =
        wrong(json!({"cert": format!("{}{}", pair.cert, other.cert), "key": pair.key})).await;
    assert!(object == "cert" && reason.contains("certificate 2"), "{reason}");
    let (object, reason) = wrong(json!({"cert": pair.cert, "key": pair.key, "crl": pair.cert})).await;
    assert!(object == "crl" && reason.contains("give ca"), "{reason}");
    let with_ca = json!({"cert": pair.cert, "key": pair.key, "ca": other.cert});
    assert_eq!(it.v2(None, "PUT", "/certificate", Some(with_ca)).await.status, 200);
    let (object, reason) = wrong(json!({"cert": pair.cert, "key": pair.key, "crl": pair.cert})).await;
    assert!(object == "crl" && reason.contains("no revocation list"), "{reason}");
    let database = it.database();
    let client = database.client().await.unwrap();
    for (key, expected) in [("l7r.ssl.cert", &pair.cert), ("l7r.ssl.key", &pair.key)] {
        let kept = qvd_db::configs::pem(database.vault(), &client, key).await.unwrap();
        assert_eq!(kept.as_ref(), Some(expected));
    }
    let stored = "SELECT value FROM ssl_configs WHERE key = 'l7r.ssl.key'";
    let stored: String = client.query_one(stored, &[]).await.unwrap().get(0);
    assert!(stored.starts_with(qvd_db::vault::PREFIX), "the key is not sealed");
    // Nor is a setting, and nobody reads it back or puts in something that looks sealed.
    let bind = |value: &str| {
        json!({"action": "config_set",
        "arguments": {"tenant_id": 1, "key": "auth.ldap.bindpass", "value": value}})
    };
    assert_eq!(status(bind("hunter2")).await, 0);
    assert_eq!(status(bind(&stored)).await, 6330);
    let stored = "SELECT value FROM configs WHERE key = 'auth.ldap.bindpass'";
    let stored: String = client.query_one(stored, &[]).await.unwrap().get(0);
    assert!(stored.starts_with(qvd_db::vault::PREFIX), "{stored}");
    let shown = json!({"action": "config_get", "filters": {"key": "auth.ldap.bindpass"}});
    let shown = it.post("/api", &shown).await.1.to_string();
    assert!(
        shown.contains("**********") && !shown.contains("hunter2") && !shown.contains("$qs1$"),
        "{shown}"
    );
    let log =
        it.post("/api", &json!({"action": "log_get_list", "filters": {"action": "config_ssl"}})).await.1;
    assert!(!log.to_string().contains("PRIVATE KEY"), "the key is in the log");
    // Attempts are in it as well.
    let hidden =
        json!({"action": "config_set", "arguments": {"tenant_id": -1, "key": "internal.x", "value": "1"}});
    assert_eq!(status(hidden).await, 4230);
    let none = json!({"action": "config_delete", "filters": {"tenant_id": -1, "key": "none"}});
    assert_eq!(status(none).await, 1300);
    let mut codes = Vec::new();
    for action in ["config_ssl", "config_set", "config_delete"] {
        let failed = json!({"action": "log_get_list", "filters": {"action": action, "status": {"!=": 0}},
            "fields": ["status"], "order_by": {"field": "id"}});
        let answer = it.post("/api", &failed).await.1;
        codes.push(
            answer["rows"].as_array().unwrap().iter().map(|row| row["status"].clone()).collect::<Vec<_>>(),
        );
    }
    assert_eq!(
        json!(codes),
        json!([[6330, 6330, 6410, 2270, 4230, 6330, 6330, 6330, 6330], [6330, 4230], [1300]])
    );
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_are_counted_by_pattern() {
    let it = Installation::start("aclcounts").await;
    let count = async |action: &str, filters: Value| {
        it.post("/api", &json!({"action": action, "filters": filters})).await.1
    };
    // The figures of the seed: with the log open nothing is hidden from a super-administrator.
    let root =
        count("number_of_acls_in_role", json!({"role_id": 43, "acl_pattern": ["%", "vm.%", "see.log"]}))
            .await;
    assert_eq!(root["%"], json!({"total": 244, "effective": 244}), "{root}");
    assert_eq!(root["vm.%"], json!({"total": 42, "effective": 42}));
    let reader = count("number_of_acls_in_role", json!({"role_id": 35})).await;
    assert_eq!(reader["%"], json!({"total": 244, "effective": 91}), "{reader}");
    let own = count("number_of_acls_in_admin", json!({"admin_id": 2, "acl_pattern": "tenant."})).await;
    assert_eq!(own["tenant."], json!({"total": 0, "effective": 0}), "hidden from administrators of tenants");
    assert_eq!(count("number_of_acls_in_role", json!({})).await["status"], 6220);
    assert_eq!(count("number_of_acls_in_role", json!({"role_id": [1, 2]})).await["status"], 6322);
    assert_eq!(count("number_of_acls_in_role", json!({"role_id": 999})).await["status"], 6370);
    assert_eq!(count("number_of_acls_in_admin", json!({"name": "x"})).await["status"], 6210);
    it.stop().await;
}

/// Headers of an answer to a request that a browser would send for a page of `origin`.
async fn seen_by(it: &Installation, method: &str, path: &str, headers: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(it.path("api.sock")).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: api.example\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split("\r\n\r\n").next().unwrap().to_ascii_lowercase()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_origins_read_answers_only_if_they_are_named() {
    let it = Installation::start("otherorigins").await;
    let (ours, other) = ("origin: https://console.example\r\n", "origin: https://evil.example\r\n");
    let asks = "access-control-request-method: PATCH\r\naccess-control-request-headers: upload-offset\r\n";
    let socket =
        "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for origin in [ours, other] {
        let answer = seen_by(&it, "GET", "/api/info", origin).await;
        assert!(answer.starts_with("http/1.1 200") && !answer.contains("access-control"), "{answer}");
        let answer = seen_by(&it, "OPTIONS", "/api", &format!("{origin}{asks}")).await;
        assert!(answer.starts_with("http/1.1 403") && !answer.contains("access-control"), "{answer}");
    }
    it.qa4(&["config", "set", "key=api.cors.origins,value='https://other.example https://console.example/'"])
        .await
        .unwrap();
    let answer = seen_by(&it, "GET", "/api/info", ours).await;
    assert!(answer.contains("access-control-allow-origin: https://console.example\r\n"), "{answer}");
    assert!(answer.contains("vary: origin") && answer.contains("access-control-expose-headers"), "{answer}");
    let answer = seen_by(&it, "OPTIONS", "/api/di/upload/x", &format!("{ours}{asks}")).await;
    assert!(answer.starts_with("http/1.1 204") && answer.contains("upload-offset"), "{answer}");
    assert!(!seen_by(&it, "GET", "/api/info", other).await.contains("access-control"));
    assert!(seen_by(&it, "OPTIONS", "/api", &format!("{other}{asks}")).await.starts_with("http/1.1 403"));
    // The cookie of somebody who looks at another page is of no use to that one.
    let sid = it.log_in("admin", "default").await;
    let cookie = format!("cookie: sid={sid}\r\n");
    let ask = "/api?action=user_get_list";
    for origin in [ours, "origin: https://api.example\r\n", ""] {
        let answer = seen_by(&it, "POST", ask, &format!("{origin}{cookie}")).await;
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
    }
    for origin in [other, "origin: null\r\n"] {
        let answer = seen_by(&it, "POST", ask, &format!("{origin}{cookie}")).await;
        assert!(answer.starts_with("http/1.1 403"), "{answer}");
    }
    // A page that is not named opens no live query.
    let live = "/api/ws?action=vm_get_list";
    assert!(seen_by(&it, "GET", live, &format!("{other}{socket}")).await.starts_with("http/1.1 403"));
    it.stop().await;
}

/// A request target of 128 KiB and more is read, also of a live query; still longer requests come in a body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_may_be_long() {
    let it = Installation::start("longrequests").await;
    let filter = |count: usize| {
        let ids = json!({"id": (0..count).map(|n| 10_000 + n).collect::<Vec<_>>()}).to_string();
        form_urlencoded::byte_serialize(ids.as_bytes()).collect::<String>()
    };
    let target = |count: usize| format!("/api/?&action=vm_get_list&filters={}", filter(count));
    assert!(target(8000).len() > 63_000 && target(20_000).len() > 128 << 10);
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // One connection for all, as browsers do.
    let mut stream = tokio::net::UnixStream::connect(it.path("api.sock")).await.unwrap();
    for count in [1, 8000, 10_000, 20_000, 1, 20_000] {
        let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", target(count));
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        while !answer.contains("\"rows\":[]}") {
            let mut part = [0; 4096];
            let read = stream.read(&mut part).await.unwrap();
            assert!(read > 0, "{count}: {answer}");
            answer.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"status\":0"), "{count}: {answer}");
    }
    let socket = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let live = format!("/api/ws?&action=vm_get_list&filters={}", filter(20_000));
    let mut stream = tokio::net::UnixStream::connect(it.path("api.sock")).await.unwrap();
    stream.write_all(format!("GET {live} HTTP/1.1\r\nhost: x\r\n{socket}\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    let mut stream = tokio::net::UnixStream::connect(it.path("api.sock")).await.unwrap();
    let head = format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", target(100_000));
    // It is refused while it is still being sent.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
    assert!(refused, "{}", String::from_utf8_lossy(&answer));
    let filters = format!("action=vm_get_list&filters={}", filter(40_000));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(it.raw("POST", "/api", &form, filters.as_bytes()).await.1["status"], 0);
    it.stop().await;
}
