//! What older servers were attacked by, one test for each way that no other test stands in.

use serde_json::{Value, json};

use crate::permissions::grant;
use crate::{Installation, PASSWORD, image_file};

const NAMED: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_data_and_pages_are_bound() {
    let it = Installation::start("datatypes").await;
    std::fs::create_dir(it.path("wat")).unwrap();
    std::fs::write(it.path("wat/index.html"), "<title>console</title>").unwrap();
    let script = json!({"action": "<script>alert(1)</script>"}).to_string();
    let list = json!({"action": "user_get_list"}).to_string();
    for (method, path, body, kind) in [
        ("POST", "/api", script.as_str(), "application/json; charset=utf-8"),
        ("POST", "/api", &list, "application/json; charset=utf-8"),
        ("GET", "/api/info", "", "application/json; charset=utf-8"),
        ("GET", "/api?action=%3Cscript%3E", "", "application/json; charset=utf-8"),
        ("GET", "/api/v2/users", "", "application/json"),
        ("GET", "/api/v2/%3Cscript%3E", "", "application/problem+json"),
    ] {
        let answer = it.ask(method, path, &[NAMED], body.as_bytes()).await;
        assert_eq!(answer.header("content-type"), Some(kind), "{path}: {answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
    let page = it.ask("GET", "/index.html", &[], b"").await;
    assert!(page.header("content-type").unwrap().starts_with("text/html"), "{page:?}");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'self'"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_in_an_address_work_and_are_kept_nowhere() {
    let it = Installation::start("credentials").await;
    let secret: String = form_urlencoded::byte_serialize(PASSWORD.as_bytes()).collect();
    let login = format!("/api?action=current_admin_setup&login=admin&tenant=default&password={secret}");
    let opened = it.ask("GET", &login, &[], b"").await;
    let sid = opened.body["sid"].as_str().unwrap_or_else(|| panic!("{opened:?}")).to_owned();
    let list = format!("/api?action=user_get_list&sid={sid}");
    assert_eq!(it.raw("GET", &list, &[], b"").await.1["status"], 0);
    // The cookie is not for scripts, not for other sites, and not for connections in clear.
    let cookie = opened.header("set-cookie").unwrap();
    for word in ["HttpOnly", "Secure", "SameSite=Strict", "Path=/api"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let wrong = login.replace(&secret, "hunter2");
    assert_eq!(it.raw("GET", &wrong, &[], b"").await.1["status"], 3200);
    let client = it.database().client().await.unwrap();
    let kept = "SELECT (SELECT string_agg(log::text, ' ') FROM log) || (SELECT string_agg(session::text, ' ') FROM session)";
    let kept: String = client.query_one(kept, &[]).await.unwrap().get(0);
    for secret in [PASSWORD, &secret, "hunter2", &sid] {
        assert!(!kept.contains(secret), "{kept}");
    }
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_said_stays_in_the_log_of_the_server() {
    let it = Installation::start("databasetalk").await;
    it.sql("ALTER TABLE osfs ADD CONSTRAINT confidential CHECK (name <> 'x')").await;
    let old =
        it.post("/api", &json!({"action": "osf_create", "arguments": {"name": "x", "tenant_id": 1}})).await.1;
    assert_eq!(old["status"], 1100, "{old}");
    let new = it.v2(None, "POST", "/osfs", Some(json!({"name": "x", "tenant_id": 1}))).await;
    assert_eq!(new.problem(), (500, 1100));
    for answer in [old.to_string(), new.body.to_string()] {
        for word in ["confidential", "osfs", "constraint", "violates", "INSERT"] {
            assert!(!answer.contains(word), "{answer}");
        }
        assert!(answer.contains("log has more under"), "{answer}");
    }
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_need_their_permission_whatever_action_is_named() {
    let it = Installation::start("imagerights").await;
    it.qa4(&["osf", "new", "name=office,tenant=default"]).await.unwrap();
    it.qa4(&["user", "new", "name=ann,password=p,tenant=default"]).await.unwrap();
    image_file(&it.path("staging/x.tar.gz"));
    grant(&it, &["user.delete."]).await;
    let sid = it.log_in("admin", "default").await;
    let call = async |path: &str| {
        let body = json!({"action": "user_delete", "filters": {"id": 10000}, "sid": sid, "id": 10000,
            "url": "https://127.0.0.1/x.tar.gz", "arguments": {"osf_id": 10000, "disk_image": "x.tar.gz"}});
        it.post(path, &body).await.1["status"].clone()
    };
    for path in ["/api/di/staging", "/api/di/docker", "/api/di/download", "/api/di/publish"] {
        assert_eq!(call(path).await, 4210, "{path}");
    }
    let form = "--cut\r\nContent-Disposition: form-data; name=\"action\"\r\n\r\nuser_delete\r\n\
        --cut\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nx\r\n--cut--\r\n";
    let headers = [("content-type", "multipart/form-data; boundary=cut"), ("cookie", &format!("sid={sid}"))];
    assert_eq!(it.raw("POST", "/api/di/upload", &headers, form.as_bytes()).await.1["status"], 4210);
    assert_eq!(it.rows(&["user", "get", "name"]).await, [json!({"name": "ann"})]);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_the_server_are_read_from_one_directory() {
    let it = Installation::start("serverfiles").await;
    let pair = qvd_relay::certificate::self_signed(&["localhost".to_owned()]).unwrap();
    std::fs::write(it.path("import/new.pem"), &pair.cert).unwrap();
    std::fs::write(it.path("import/new.key"), &pair.key).unwrap();
    std::os::unix::fs::symlink(it.path("key.pem"), it.path("import/link.pem")).unwrap();
    let set = async |cert: &str, key: &str| -> Value {
        it.post("/api", &json!({"action": "config_ssl", "arguments": {"cert": cert, "key": key}})).await.1
    };
    let own = it.path("key.pem").display().to_string();
    for file in ["../key.pem", "/etc/passwd", own.as_str(), "link.pem", "missing.pem", ".", "new.pem/.."] {
        let refused = set(file, "new.key").await;
        assert_eq!(refused["status"], 2270, "{file}: {refused}");
        assert!(!refused.to_string().contains("PRIVATE"), "{refused}");
    }
    let inside = it.path("import/new.pem").display().to_string();
    for file in ["new.pem", inside.as_str()] {
        assert_eq!(set(file, "new.key").await["status"], 0, "{file}");
    }
    it.stop().await;
}
