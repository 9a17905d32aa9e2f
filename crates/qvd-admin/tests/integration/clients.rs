//! The calls of existing clients, as they send them: the older web console by POST with everything in the address, the
//! older qa4 as JSON with every member, also the empty ones.

use serde_json::{Map, Value, json};

use crate::{Installation, PASSWORD, image_file};

/// How a client asks.
#[derive(Clone, Copy, PartialEq)]
enum Dialect {
    Console,
    Qa4,
}

/// A client that has logged in.
struct Client<'a> {
    it: &'a Installation,
    dialect: Dialect,
    sid: String,
    cookie: String,
}

fn encoded(members: &Map<String, Value>) -> String {
    let pairs = members.iter().map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("&{name}={}", form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>())
    });
    pairs.collect()
}

impl<'a> Client<'a> {
    async fn log_in(it: &'a Installation, dialect: Dialect) -> Self {
        let who = json!({"action": "current_admin_setup", "login": "superadmin", "tenant": "*", "password": PASSWORD});
        let who = who.as_object().unwrap();
        let answer = match dialect {
            Dialect::Console => it.ask("POST", &format!("/api/?{}", encoded(who)), &[], b"").await,
            Dialect::Qa4 => it.ask("POST", "/api", &[], json!(who).to_string().as_bytes()).await,
        };
        assert_eq!(answer.body["status"], 0, "{answer:?}");
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.contains("Path=/api;") && cookie.contains("HttpOnly"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let sid = answer.body["sid"].as_str().unwrap().to_owned();
        assert_eq!(cookie, format!("sid={sid}"));
        Self { it, dialect, sid, cookie }
    }

    async fn at(&self, path: &str, request: Value) -> Value {
        let mut members = request.as_object().unwrap().clone();
        let answer = match self.dialect {
            Dialect::Console => {
                members.insert("parameters".to_owned(), json!({"source": "WAT"}));
                // Across origins it has no cookie, on one origin no parameter.
                let across = members.contains_key("filters");
                let sid = if across { format!("&sid={}", self.sid) } else { String::new() };
                let headers = [("cookie", self.cookie.as_str())];
                let headers = if across { &[][..] } else { &headers[..] };
                self.it.ask("POST", &format!("{path}?{sid}{}", encoded(&members)), headers, b"").await
            }
            Dialect::Qa4 => {
                for (name, empty) in [
                    ("filters", json!({})),
                    ("fields", json!([])),
                    ("arguments", json!({})),
                    ("order_by", json!({"field": [], "order": "-asc"})),
                    ("parameters", json!({"source": "CLI"})),
                    ("sid", json!(self.sid)),
                ] {
                    members.entry(name).or_insert(empty);
                }
                let path = path.trim_end_matches('/');
                let headers = [("cookie", self.cookie.as_str()), ("content-type", "application/json")];
                self.it.ask("POST", path, &headers, json!(members).to_string().as_bytes()).await
            }
        };
        assert_eq!(answer.status, 200, "{request}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
        assert!(answer.body["message"].is_string(), "{request}: {answer:?}");
        answer.body
    }

    /// One call that must succeed; its answer has the shape of its kind.
    async fn call(&self, action: &str, mut members: Value) -> Value {
        members["action"] = json!(action);
        let answer = self.at("/api/", members.clone()).await;
        assert_eq!(answer["status"], 0, "{members}: {answer}");
        if action.ends_with("_get_list") || action.ends_with("_create") {
            assert!(answer["total"].is_number() && answer["rows"].is_array(), "{members}: {answer}");
        }
        answer
    }

    async fn made(&self, action: &str, arguments: Value) -> Value {
        let answer = self.call(action, json!({"arguments": arguments})).await;
        assert_eq!(answer["total"], 1, "{action}: {answer}");
        answer["rows"][0]["id"].clone()
    }

    /// How this client names the objects that it changes.
    fn selected(&self, id: &Value) -> Value {
        match self.dialect {
            Dialect::Console => json!({"id": [id]}),
            Dialect::Qa4 => json!({"id": {"=": [id]}}),
        }
    }

    async fn changed(&self, action: &str, id: &Value, arguments: Value) {
        let answer = self.call(action, json!({"filters": self.selected(id), "arguments": arguments})).await;
        assert_eq!(answer["total"], 1, "{action}: {answer}");
    }
}

async fn all_calls(it: &Installation, dialect: Dialect, name: &str) {
    let client = Client::log_in(it, dialect).await;
    let named = |kind: &str| format!("{name}-{kind}");
    let (_, info) = it.raw("POST", "/api/info", &[], b"").await;
    assert_eq!(info["status"], 0);
    let setup = client.call("current_admin_setup", json!({})).await;
    assert_eq!(setup["sid"], client.sid.as_str());

    // One of each, changed.
    let tenant = client.made("tenant_create", json!({"name": named("tenant"), "block": "25"})).await;
    client.changed("tenant_update", &tenant, json!({"description": "x", "blocked": 0})).await;
    let user = client
        .made("user_create", json!({"name": named("user"), "password": "p", "tenant_id": tenant}))
        .await;
    client.changed("user_update", &user, json!({"blocked": 1, "description": ""})).await;
    let osf =
        client.made("osf_create", json!({"name": named("osf"), "memory": "512", "tenant_id": tenant})).await;
    client.changed("osf_update", &osf, json!({"memory": 1024, "user_storage": "0", "overlay": 1})).await;
    let role = client.made("role_create", json!({"name": named("role"), "tenant_id": tenant})).await;
    let acls = json!({"assign_acls": ["vm.see-main."], "unassign_acls": []});
    let roles = json!({"assign_roles": [64], "unassign_roles": []});
    client.changed("role_update", &role, json!({"__acls_changes__": acls, "__roles_changes__": roles})).await;
    let admin = client
        .made("administrator_create", json!({"name": named("admin"), "password": "p", "tenant_id": tenant}))
        .await;
    let roles = json!({"assign_roles": [role], "unassign_roles": []});
    client
        .changed("administrator_update", &admin, json!({"language": "es", "__roles_changes__": roles}))
        .await;
    let octet = if dialect == Dialect::Console { 21 } else { 22 };
    let host = client
        .made("host_create", json!({"name": named("host"), "address": format!("10.3.15.{octet}")}))
        .await;
    client.changed("host_update", &host, json!({"blocked": 1})).await;
    let property = client.made("property_create", json!({"key": named("key"), "tenant_id": tenant})).await;
    client.changed("property_update", &property, json!({"key": named("key"), "description": "d"})).await;
    let assigned = client.made("user_create_property_list", json!({"property_id": property})).await;
    client
        .changed("user_update", &user, json!({"__properties_changes__": {"set": {named("key"): "sales"}}}))
        .await;
    client.changed("user_update", &user, json!({named("key"): "research"})).await;
    let found = client
        .call(
            "user_get_list",
            json!({"filters": {named("key"): {"~": "%sea%"}}, "fields": ["id", named("key")]}),
        )
        .await;
    assert_eq!(found["rows"], json!([{"id": user, named("key"): "research"}]));
    let listed = client.call("user_get_property_list", json!({"filters": {"tenant_id": tenant}})).await;
    assert_eq!(listed["rows"][0]["id"], assigned);

    // Images.
    image_file(&it.path(&format!("staging/{name}.tar.gz")));
    let waiting = client.call("dis_in_staging", json!({})).await;
    assert!(waiting["rows"].to_string().contains(&format!("\"{name}.tar.gz\"")), "{waiting}");
    let arguments = json!({"disk_image": format!("{name}.tar.gz"), "osf_id": osf, "__tags__": ["stable"]});
    let made = client.at("/api/di/staging", json!({"action": "di_create", "arguments": arguments})).await;
    assert_eq!(made["status"], 0, "{made}");
    let image = made["rows"][0]["id"].clone();
    loop {
        let fields = json!(["id", "state", "percentage", "tags", "disk_image"]);
        let rows = client.call("di_get_list", json!({"filters": {"id": image}, "fields": fields})).await;
        let row = &rows["rows"][0];
        assert_ne!(row["state"], "fail", "{rows}");
        if row["state"] == "published" {
            let tags: Vec<_> = row["tags"].as_array().unwrap().iter().map(|t| t["tag"].clone()).collect();
            assert!(tags.contains(&json!("head")) && tags.contains(&json!("stable")), "{rows}");
            assert_eq!(row["disk_image"], format!("{image}-{name}.tar.gz"));
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let tags = json!({"__tags_changes__": {"create": ["test"], "delete": ["stable"]}});
    client.changed("di_update", &image, tags).await;
    let tags = client.call("tag_get_list", json!({"filters": {"osf_id": osf}, "fields": ["name"]})).await;
    assert!(tags["rows"].to_string().contains("test"), "{tags}");

    // VMs.
    let vm = client
        .made("vm_create", json!({"name": named("vm"), "user_id": user, "osf_id": osf, "di_tag": "test"}))
        .await;
    client.changed("vm_update", &vm, json!({"expiration_soft": "2031-01-01 10:00:00", "blocked": 0})).await;
    client.changed("vm_start", &vm, json!({})).await;
    for filters in [json!({"user_id": user}), json!({"host_id": [host]})] {
        let stopped = client.call("vm_stop", json!({ "filters": filters })).await;
        assert!(stopped["total"].is_number(), "{stopped}");
    }
    it.sql(&format!(
        "UPDATE vm_runtimes SET vm_state = 'running', user_state = 'connected', l7r_host_id = 10000, \
         host_id = 10000, vm_cmd = NULL WHERE vm_id = {vm}"
    ))
    .await;
    client.changed("vm_user_disconnect", &vm, json!({})).await;
    client.changed("vm_stop", &vm, json!({})).await;
    it.sql(&format!(
        "UPDATE vm_runtimes SET vm_state = 'stopped', user_state = 'disconnected', l7r_host_id = NULL, \
         host_id = NULL, vm_cmd = NULL, user_cmd = NULL WHERE vm_id = {vm}"
    ))
    .await;

    // Lists, a page of each, and the first page of the console.
    for kind in ["user", "vm", "host", "osf", "di", "tenant", "role", "administrator", "log", "property"] {
        let page = json!({"offset": 1, "block": 25, "order_by": {"field": "id", "order": "-desc"}});
        let rows = client.call(&format!("{kind}_get_list"), page).await;
        let rows = rows["rows"].as_array().unwrap();
        assert!(!rows.is_empty() && rows.len() <= 25, "{kind}");
        let booleans = rows.iter().flat_map(|row| row.as_object().unwrap().values()).any(Value::is_boolean);
        assert!(!booleans, "{kind}: {rows:?}");
    }
    assert!(client.call("qvd_objects_statistics", json!({})).await["vms_count"].as_i64().unwrap() > 0);
    assert!(client.call("sources_in_log", json!({})).await["rows"].is_array());

    // Permissions.
    let pattern = json!({"operative": 1, "acl_name": {"LIKE": "vm.see%"}});
    let with = |member: &str, id: &Value| {
        let mut filters = pattern.clone();
        filters[member] = json!([id]);
        json!({ "filters": filters })
    };
    let of_role = client.call("get_acls_in_roles", with("role_id", &role)).await;
    assert_eq!(of_role["total"], client.call("get_acls_in_admins", with("admin_id", &admin)).await["total"]);
    assert!(
        client.call("acl_get_list", json!({"fields": ["name", "operative"]})).await["total"].as_i64()
            > Some(200)
    );
    for (action, member, id) in
        [("number_of_acls_in_role", "role_id", &role), ("number_of_acls_in_admin", "admin_id", &admin)]
    {
        let mut filters = json!({"acl_pattern": ["%", "vm.%"]});
        filters[member] = id.clone();
        let counts = client.call(action, json!({ "filters": filters })).await;
        assert!(counts["%"]["total"].as_i64() > counts["vm.%"]["total"].as_i64(), "{counts}");
    }

    // Settings, the console's own, and views.
    let key = json!({"tenant_id": tenant, "key": "l7r.auth.plugins", "value": "default"});
    client.call("config_set", json!({"arguments": key})).await;
    let filters = json!({"tenant_id": tenant, "is_default": 0, "key": {"~": "l7r.%"}});
    assert_eq!(client.call("config_get", json!({"filters": filters})).await["total"], 1);
    let filters = json!({"tenant_id": tenant, "key": ["l7r.auth.plugins"]});
    assert_eq!(client.call("config_delete", json!({"filters": filters})).await["total"], 1);
    client.call("config_wat_get_list", json!({"filters": {"tenant_id": tenant}})).await;
    client.call("config_wat_update", json!({"arguments": {"language": "auto", "block": "10"}})).await;
    client.call("myadmin_update", json!({"arguments": {"language": "auto", "block": "0"}})).await;
    let place = json!({"view_type": "list_column", "device_type": "desktop", "visible": 1});
    for (action, more) in [
        ("tenant_attribute_view_set", json!({"tenant_id": tenant, "field": "id", "qvd_object": "vm"})),
        ("tenant_property_view_set", json!({"qvd_obj_prop_id": assigned})),
        ("admin_attribute_view_set", json!({"field": "id", "qvd_object": "vm"})),
        ("admin_property_view_set", json!({"qvd_obj_prop_id": assigned})),
    ] {
        let mut arguments = place.clone();
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.made(action, arguments).await;
    }
    let views = client.call("tenant_view_get_list", json!({"filters": {"tenant_id": tenant}})).await;
    assert!(views["rows"].to_string().contains("\"property\":"), "{views}");
    for (action, filters) in [
        ("tenant_view_reset", json!({"tenant_id": tenant, "qvd_object": "vm"})),
        ("admin_view_reset", json!({"qvd_object": "vm"})),
    ] {
        assert!(
            client.call(action, json!({ "filters": filters })).await["total"].as_i64() > Some(0),
            "{action}"
        );
    }

    // A massive change with a failure: what can be done is done.
    let other = client
        .made("user_create", json!({"name": named("other"), "password": "p", "tenant_id": tenant}))
        .await;
    let both = json!({"action": "user_delete", "filters": {"id": [user, other]}});
    let partial = client.at("/api/", both).await;
    assert_eq!(partial["status"], 1200, "{partial}");
    assert_eq!(partial["failures"][user.to_string()]["status"], 7120, "{partial}");
    assert!(partial["rows"].is_null() && partial["total"].is_null(), "{partial}");

    // The purge of a tenant, in the order in which the console does it.
    let unassign = json!({"__roles_changes__": {"assign_roles": [], "unassign_roles": [role]}});
    client.changed("administrator_update", &admin, unassign).await;
    for kind in ["vm", "user", "di", "osf", "role", "administrator", "property"] {
        let filters = json!({"tenant_id": tenant});
        let rows =
            client.call(&format!("{kind}_get_list"), json!({"filters": filters, "fields": ["id"]})).await;
        let ids: Vec<_> = rows["rows"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
        assert!(!ids.is_empty(), "{kind}: {rows}");
        let gone = client.call(&format!("{kind}_delete"), json!({"filters": {"id": ids}})).await;
        assert_eq!(gone["total"], ids.len(), "{kind}");
    }
    client.changed("tenant_delete", &tenant, json!({})).await;
    client.changed("host_delete", &host, json!({})).await;

    let (_, out) = it.raw("POST", &format!("/api/logout?sid={}", client.sid), &[], b"").await;
    assert_eq!(out["status"], 0);
    let after = client.at("/api/", json!({"action": "user_get_list"})).await;
    assert_eq!(after["status"], 3200, "{after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_the_older_console_calls() {
    let it = Installation::start("consolecalls").await;
    it.running_host("node1", "10.3.15.1").await;
    all_calls(&it, Dialect::Console, "wat").await;
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_the_older_qa4_calls() {
    let it = Installation::start("qa4calls").await;
    it.running_host("node1", "10.3.15.1").await;
    all_calls(&it, Dialect::Qa4, "cli").await;
    it.stop().await;
}
