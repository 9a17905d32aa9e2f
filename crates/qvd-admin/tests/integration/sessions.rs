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
        client.query_one("SELECT string_agg(session::text, ' ') FROM session", &[]).await.unwrap().get(0);
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
    it.sql("UPDATE session SET opened = '2020-01-01'").await;
    assert_eq!(list(&second).await, 3300, "in use, but too old");
    it.qa4(&["admin", "name=admin", "set", "password='open sesame'"]).await.unwrap();
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_seen_and_ended_at_every_process() {
    let it = Installation::start("sessionlist").await;
    let other = it.beside().await;
    it.qa4(&["admin", "new", &format!("name=bob,password='{PASSWORD}',tenant=default")]).await.unwrap();
    let above = it.log_in("superadmin", "*").await;
    let (mine, mine_too, his) = (
        it.log_in("admin", "default").await,
        it.log_in("admin", "default").await,
        it.log_in("bob", "default").await,
    );
    let list = async |sid: &str| it.v2(Some(sid), "GET", "/sessions", None).await;
    let names = async |sid: &str| {
        let found = list(sid).await;
        found.items().iter().map(|row| row["admin_name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // Those who may set passwords see the sessions of their tenant, the others their own.
    assert_eq!(names(&above).await, ["superadmin", "admin", "admin", "bob"]);
    assert_eq!(names(&mine).await, ["admin", "admin", "bob"]);
    assert_eq!(names(&his).await, ["bob"]);
    let seen = list(&mine).await;
    let rows = seen.items();
    let current: Vec<_> = rows.iter().map(|row| row["current"].as_i64().unwrap()).collect();
    assert_eq!(current, [1, 0, 0]);
    assert_eq!((&rows[0]["address"], &rows[0]["tenant_name"]), (&json!("local"), &serde_json::Value::Null));
    for member in ["opened", "last_used", "expires", "ends"] {
        assert!(rows[0][member].is_string(), "{member}: {seen:?}");
    }
    // Neither a session nor what stands for it can be seen.
    let digest = qvd_auth::token_digest(mine_too.as_bytes());
    let text = seen.body.to_string();
    assert!(!text.contains(&mine_too) && !text.contains(&digest) && !text.contains("sid"), "{text}");

    let id = |at: usize| rows[at]["id"].as_i64().unwrap();
    let end = async |sid: &str, id: i64| it.v2(Some(sid), "DELETE", &format!("/sessions/{id}"), None).await;
    assert_eq!(end(&his, id(0)).await.problem(), (404, 1300));
    let topmost = list(&above).await.items()[0]["id"].as_i64().unwrap();
    assert_eq!(end(&mine, topmost).await.problem(), (404, 1300));
    let lasting = json!({"name": "t", "expiration": "2040-01-01"});
    let token =
        it.v2(Some(&mine), "POST", "/tokens", Some(lasting)).await.body["token"].as_str().unwrap().to_owned();
    let path = format!("/sessions/{}", id(1));
    assert_eq!(it.with_token(&token, "DELETE", &path, None).await.problem(), (403, 4210));

    assert_eq!(other.v2(Some(&his), "GET", "/me", None).await.status, 200);
    assert_eq!(end(&mine, id(2)).await.status, 204);
    assert_eq!(end(&mine, id(1)).await.status, 204, "one's own");
    for process in [&it, &other] {
        for ended in [&his, &mine_too] {
            assert_eq!(process.v2(Some(ended), "GET", "/me", None).await.problem(), (401, 3200));
        }
        assert_eq!(process.v2(Some(&mine), "GET", "/me", None).await.status, 200);
    }
    let log = it.v2(
        None,
        "GET",
        "/log?action=session_delete&status=0&fields=admin_name,object_name,before,after",
        None,
    );
    let log = log.await;
    assert_eq!(log.items().len(), 2, "{log:?}");
    let row = &log.items()[0];
    assert_eq!((&row["admin_name"], &row["object_name"]), (&json!("admin"), &json!("bob")));
    assert!(
        row["before"].as_str().unwrap().contains(r#""address":"local""#) && row["after"].is_null(),
        "{row}"
    );
    other.stop().await;
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_end_with_their_administrator_and_a_blocked_tenant() {
    let it = Installation::start("sessionends").await;
    it.qa4(&["admin", "new", &format!("name=bob,password='{PASSWORD}',tenant=default")]).await.unwrap();
    let (admin, bob) = (it.log_in("admin", "default").await, it.log_in("bob", "default").await);
    let me = async |sid: &str| it.v2(Some(sid), "GET", "/me", None).await;
    let lasting = json!({"name": "t", "expiration": "2040-01-01"});
    let made = it.v2(Some(&bob), "POST", "/tokens", Some(lasting)).await;
    let token = made.body["token"].as_str().unwrap();

    // On the command line they are called by their administrator.
    let listed = it.qa4(&["session", "get"]).await.unwrap();
    assert!(listed.contains("| bob ") && listed.contains("| admin "), "{listed}");
    // All but the one that asks.
    it.qa4_as("admin", "default", &["session", "admin=admin, current=0", "del"]).await.unwrap();
    assert_eq!((me(&admin).await.status, me(&bob).await.status), (401, 200));
    let own =
        it.qa4_as("admin", "default", &["session", "admin", "get", "current", "-o", "csv"]).await.unwrap();
    assert_eq!(own, "current\n1\n");
    let admin = it.log_in("admin", "default").await;

    it.qa4(&["tenant", "default", "block"]).await.unwrap();
    assert_eq!(me(&bob).await.problem(), (403, 3500));
    assert_eq!(it.with_token(token, "GET", "/me", None).await.problem(), (403, 3500));
    it.qa4(&["tenant", "default", "unblock"]).await.unwrap();
    assert_eq!(me(&admin).await.problem(), (401, 3200), "a session that outlived the block");
    assert_eq!(it.with_token(token, "GET", "/me", None).await.status, 200);

    let bob = it.log_in("bob", "default").await;
    assert_eq!(me(&bob).await.status, 200);
    it.qa4(&["admin", "bob", "del"]).await.unwrap();
    assert_eq!(me(&bob).await.problem(), (401, 3200));
    assert_eq!(it.with_token(token, "GET", "/me", None).await.problem(), (401, 3200));
    let client = it.database().client().await.unwrap();
    let left = "SELECT (SELECT count(*) FROM session) + (SELECT count(*) FROM api_tokens)";
    assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    it.stop().await;
}

/// What a proxy says of a client is believed if the proxy is trusted: here this machine is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_behind_a_proxy_are_told_apart() {
    let it = Installation::start("proxies").await;
    let who = json!({"login": "admin", "tenant": "default", "password": PASSWORD}).to_string();
    let from = async |address: &str, method: &str, path: &str, sid: &str, body: &str| {
        let cookie = format!("sid={sid}");
        let headers =
            [("content-type", "application/json"), ("x-forwarded-for", address), ("cookie", &cookie)];
        it.ask_by_tls(method, path, &headers, body.as_bytes()).await
    };
    let opened = from("127.0.0.1, 203.0.113.9", "POST", "/api/v2/session", "", &who).await;
    let sid = opened.body["sid"].as_str().unwrap_or_else(|| panic!("{opened:?}")).to_owned();
    let own = from("203.0.113.9", "GET", "/api/v2/sessions?fields=address,current", &sid, "").await;
    assert_eq!(own.items(), [json!({"address": "203.0.113.9", "current": 1})]);
    // A session is good for its address only, whatever a client puts before what the proxy adds.
    for other in ["203.0.113.10", "203.0.113.9, 203.0.113.10", "nonsense", ""] {
        let refused = from(other, "GET", "/api/v2/me", &sid, "").await;
        assert_eq!(refused.problem(), (401, 3200), "{other}");
    }
    let log = it.v2(None, "GET", "/log?action=login&fields=ip,admin_name", None).await;
    assert_eq!(log.items(), [json!({"ip": "203.0.113.9", "admin_name": "admin"})]);
    it.stop().await;
}
