//! Logging in: over TLS, by session, by root's socket.

use serde_json::{Value, json};

use crate::{Installation, PASSWORD, code};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_kept_between_commands_and_ends_with_logout() {
    let it = Installation::start("logins").await;
    it.qa4_as("superadmin", "*", &["osf", "new", "name=office"]).await.unwrap();
    let file = it.path("home/.qvd/qa.session");
    let kept = std::fs::read_to_string(&file).unwrap();
    let listing = it.qa4_as("superadmin", "*", &["osf", "get"]).await.unwrap();
    assert!(listing.contains("office"), "{listing}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), kept, "the session is used again");
    // Only a digest of the session is in the database.
    let sid = serde_json::from_str::<serde_json::Value>(&kept).unwrap()["sid"].as_str().unwrap().to_owned();
    let client = it.database().client().await.unwrap();
    let stored: String =
        client.query_one("SELECT string_agg(sid || data, ' ') FROM session", &[]).await.unwrap().get(0);
    assert!(!stored.contains(&sid));
    let logins = "SELECT count(*) FROM log WHERE action = 'login' AND status = 0";
    assert_eq!(client.query_one(logins, &[]).await.unwrap().get::<_, i64>(0), 1);

    // Another administrator does not get that session.
    let listing = it.qa4_as("admin", "default", &["osf", "get"]).await.unwrap();
    assert!(!listing.contains("tenant"), "{listing}");
    it.sql("UPDATE session SET expires = 1").await;
    it.qa4_as("admin", "default", &["osf", "get"]).await.unwrap();
    it.qa4_as("admin", "default", &["logout"]).await.unwrap();
    assert!(!file.exists());
    let left = client.query_one("SELECT count(*) FROM session", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(left, 0);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_refused_alike_and_slow_down() {
    let it = Installation::start("wrong").await;
    for (login, tenant) in [("nobody", "default"), ("admin", "nowhere"), ("superadmin", "default")] {
        assert_eq!(code(it.qa4_as(login, tenant, &["vm", "get"]).await), 3200, "{login}@{tenant}");
    }
    let wrong = json!({"action": "vm_get_list", "login": "admin", "tenant": "default", "password": "no"});
    assert_eq!(it.post("/api", &wrong).await.1["status"], 3200);
    let without_tenant = json!({"action": "vm_get_list", "login": "admin", "password": PASSWORD});
    assert_eq!(it.post("/api", &without_tenant).await.1["status"], 3200);
    assert_eq!(it.post("/api", &json!({"action": "vm_get_list", "sid": "x"})).await.1["status"], 3200);
    // Names are compared as they are stored.
    it.qa4_as("Admin", "Default", &["vm", "get"]).await.unwrap();
    it.qa4(&["tenant", "default", "block"]).await.unwrap();
    assert_eq!(code(it.qa4_as("admin", "default", &["vm", "get"]).await), 3500);
    let client = it.database().client().await.unwrap();
    let failed =
        "SELECT count(*) FROM log WHERE action = 'login' AND status = 3200 AND administrator_name = 'nobody'";
    assert_eq!(client.query_one(failed, &[]).await.unwrap().get::<_, i64>(0), 1);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_hash_is_replaced_at_login_and_a_new_password_takes_its_place() {
    let it = Installation::start("hashes").await;
    let old = qvd_auth::legacy_hash(PASSWORD.as_bytes(), "qvd1234");
    it.sql(&format!("UPDATE administrators SET password = '{old}' WHERE id = 2")).await;
    it.qa4_as("admin", "default", &["vm", "get"]).await.unwrap();
    let client = it.database().client().await.unwrap();
    let read = "SELECT password FROM administrators WHERE id = 2";
    let new: String = client.query_one(read, &[]).await.unwrap().get(0);
    assert!(new.starts_with('$') && new != old, "{new}");
    it.qa4(&["admin", "name=admin", "set", "password=other"]).await.unwrap();
    std::fs::remove_dir_all(it.path("home/.qvd")).unwrap();
    assert_eq!(code(it.qa4_as("admin", "default", &["vm", "get"]).await), 3200);
    // No password is in the log.
    let logged: String =
        client.query_one("SELECT string_agg(arguments, ' ') FROM log", &[]).await.unwrap().get(0);
    assert!(logged.contains("**********") && !logged.contains("other"), "{logged}");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_is_checked_and_read_again_when_it_changes() {
    let it = Installation::start("certificates").await;
    let url = format!("https://localhost:{}/", it.address.port());
    let environment = |ca: &str| {
        let pairs = [
            ("QVD_URL", url.clone()),
            ("QVD_LOGIN", "admin".into()),
            ("QVD_TENANT", "default".into()),
            ("QVD_PASSWORD", PASSWORD.into()),
            ("QVD_CA", ca.to_owned()),
        ];
        pairs.to_vec()
    };
    let run = async |ca: &str, arguments: &[&str]| {
        let environment = environment(ca);
        let environment: Vec<_> = environment.iter().map(|(k, v)| (*k, v.as_str())).collect();
        it.run(&environment, arguments).await
    };
    let old = it.path("old.pem").display().to_string();
    std::fs::copy(it.path("cert.pem"), &old).unwrap();
    run(&old, &["vm", "get"]).await.unwrap();
    let new = qvd_relay::certificate::self_signed(&["localhost".to_owned()]).unwrap();
    std::fs::write(it.path("key.pem"), &new.key).unwrap();
    std::fs::write(it.path("cert.pem"), &new.cert).unwrap();
    let error = run(&old, &["vm", "get"]).await.unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(error.to_string().contains("--ca"), "{error}");
    run(&it.path("cert.pem").display().to_string(), &["vm", "get"]).await.unwrap();
    run(&old, &["vm", "get", "--insecure"]).await.unwrap();
    // A certificate that cannot be used leaves the one before in force.
    std::fs::write(it.path("cert.pem"), "nonsense").unwrap();
    run(&old, &["vm", "get", "--insecure"]).await.unwrap();
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_login_call_has_what_clients_read() {
    let it = Installation::start("setup").await;
    let answer = it.post_as("admin", "default", json!({"action": "current_admin_setup"})).await;
    assert_eq!(answer["status"], 0);
    for member in ["admin_id", "tenant_id", "admin_block", "tenant_block"] {
        assert!(answer[member].is_i64(), "{member}: {answer}");
    }
    for member in ["sid", "admin_name", "tenant_name", "admin_language", "tenant_language", "server_datetime"]
    {
        assert!(answer[member].is_string(), "{member}: {answer}");
    }
    let acls: Vec<&str> = answer["acls"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
    assert!(acls.contains(&"vm.create.") && !acls.iter().any(|a| a.starts_with("tenant.")));
    assert!(answer["views"].is_array());
    let (_, info) = it.raw("GET", "/api/info", &[], b"").await;
    assert_eq!(info["version"]["database"], "4.3.0");
    assert_eq!(info["multitenant"], 1);
    assert_eq!(info["auth"]["separators"], json!(["@", "#"]));
    assert!(info["public_configuration"]["footer"]["link"]["1"]["src"]["default"].is_string(), "{info}");
    it.stop().await;
}

/// Where there are no tenants nobody stands above them, and their administrator sets what holds for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_without_tenants() {
    let it = Installation::start("monotenant").await;
    it.qa4(&["config", "set", "key=wat.multitenant,value=0"]).await.unwrap();
    assert_eq!(it.raw("GET", "/api/info", &[], b"").await.1["multitenant"], 0);
    let above = it.post_as("superadmin", "*", json!({"action": "current_admin_setup"})).await;
    assert_eq!(above["status"], 3200, "{above}");
    let who = json!({"action": "current_admin_setup", "login": "admin", "password": PASSWORD});
    let (_, login) = it.post("/api", &who).await;
    assert_eq!(login["status"], 0, "the tenant need not be named: {login}");
    assert!(!login["acls"].to_string().contains("\"tenant."), "{login}");
    let call = async |action: &str, members: Value| {
        let mut body = json!({"action": action, "sid": login["sid"]});
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        it.post("/api", &body).await.1
    };
    assert_eq!(call("tenant_get_list", json!({})).await["status"], 4210);
    let set = call("config_set", json!({"arguments": {"key": "l7r.port", "value": "9443"}})).await;
    assert_eq!(set["rows"], json!([{"key": "l7r.port", "tenant_id": -1}]), "{set}");
    let fields = json!(["operative_value", "is_default"]);
    let port = json!({"filters": {"key": "l7r.port"}, "fields": fields});
    assert_eq!(call("config_get", port.clone()).await["rows"][0]["operative_value"], "9443");
    let reset = call("config_delete", json!({"filters": {"key": "l7r.port"}})).await;
    assert_eq!((&reset["status"], &reset["total"]), (&json!(0), &json!(1)), "{reset}");
    assert_eq!(call("config_get", port).await["rows"][0]["operative_value"], "8443");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_at_last_and_with_the_password() {
    let it = Installation::start("revoked").await;
    let log_in = async || {
        let answer = it.post_as("admin", "default", json!({"action": "current_admin_setup"})).await;
        answer["sid"].as_str().unwrap().to_owned()
    };
    let list = async |sid: &str| {
        it.post("/api", &json!({"action": "user_get_list", "sid": sid})).await.1["status"].clone()
    };
    let (first, second) = (log_in().await, log_in().await);
    assert_eq!((list(&first).await, list(&second).await), (json!(0), json!(0)));
    let own = json!({"action": "myadmin_update", "sid": second, "arguments": {"password": PASSWORD}});
    assert_eq!(it.post("/api", &own).await.1["status"], 0);
    assert_eq!((list(&first).await, list(&second).await), (json!(3200), json!(0)), "its own session stays");
    let longer = json!({"action": "config_set",
        "arguments": {"tenant_id": -1, "key": "api.session.max-life", "value": "60"}});
    assert_eq!(it.post("/api", &longer).await.1["status"], 0);
    assert_eq!(list(&second).await, 0);
    it.sql("UPDATE session SET data = regexp_replace(data, '\"opened\":\\d+', '\"opened\":1')").await;
    assert_eq!(list(&second).await, 3300, "in use, but too old");
    it.qa4(&["admin", "name=admin", "set", "password='open sesame'"]).await.unwrap();
    it.stop().await;
}
