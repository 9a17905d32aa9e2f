//! Requests that are sent again (`Idempotency-Key`).

use qvd_model::action::Object;
use serde_json::{Value, json};

use crate::{Answer, Installation};

impl Installation {
    async fn named(&self, key: &str, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask("POST", &format!("/api/v2{path}"), &headers, body.as_bytes()).await
    }

    async fn count(&self, table: &str) -> i64 {
        let client = self.database().client().await.unwrap();
        client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_sent_again_is_carried_out_once() {
    let it = Installation::start("repeats").await;
    let osf = json!({"name": "office", "tenant_id": 1});
    let first = it.named("\"k-1\"", "/osfs", &osf).await;
    assert_eq!((first.status, &first.body), (201, &json!({"id": 10_000})), "{first:?}");
    // With the quotes of the field or without, and by another process, too.
    let beside = it.beside().await;
    for again in [it.named("k-1", "/osfs", &osf).await, beside.named("\"k-1\"", "/osfs", &osf).await] {
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert_eq!(again.header("location"), first.header("location"));
    }
    assert_eq!(it.count("osfs").await, 1);
    // Another request under the same name, and the same one of somebody else.
    let other = json!({"name": "lab", "tenant_id": 1});
    assert_eq!(it.named("k-1", "/osfs", &other).await.problem(), (422, 9025));
    assert_eq!(it.named("k-1", "/osfs?x=1", &osf).await.problem(), (400, 6210));
    let sid = it.log_in("superadmin", "*").await;
    let cookie = format!("sid={sid}");
    let headers =
        [("content-type", "application/json"), ("idempotency-key", "k-1"), ("cookie", cookie.as_str())];
    let theirs = it.ask("POST", "/api/v2/osfs", &headers, osf.to_string().as_bytes()).await;
    assert_eq!(theirs.problem(), (409, 7200));
    // What was refused has done nothing, so it is tried again.
    let user = json!({"name": "ann", "password": "p", "tenant_name": "other"});
    assert_eq!(it.named("k-2", "/users", &user).await.problem(), (422, 7110));
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    assert_eq!(it.named("k-2", "/users", &user).await.status, 201);
    assert_eq!(it.named("k-2", "/users", &user).await.body, json!({"id": 10_000}));
    let log = it.v2(None, "GET", "/log?action=user_create&status=0&fields=id", None).await;
    assert_eq!(log.items().len(), 1, "{log:?}");
    beside.stop().await;
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_is_carried_out() {
    let it = Installation::start("repeatsatonce").await;
    // Nothing but the name keeps these apart: versions are chosen.
    it.qa4(&["osf", "new", "name=office,tenant=default"]).await.unwrap();
    let image = json!({"osf_id": 10_000, "disk_image": "x.tar", "length": 1000});
    let all = (0..12).map(|_| it.named("same", "/images", &image));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!((answer.status, &answer.body), (201, &json!({"id": answer.body["id"]})), "{answer:?}");
    }
    assert_eq!(it.count("dis").await, 1);
    let parts = crate::images::files_in(&it.path("images"));
    assert_eq!(parts.len(), 2, "{parts:?}");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_have_names_too_and_what_cannot_be_repeated_says_so() {
    let it = Installation::start("repeatedorders").await;
    it.running_host("node1", "10.3.15.1").await;
    for command in
        ["osf new name=office", "user new name=ann,password=p", "vm new name=desk,user=ann,osf=office"]
    {
        it.qa4(&command.split(' ').collect::<Vec<_>>()).await.unwrap();
    }
    it.sql(
        "INSERT INTO dis (id, osf_id, path, version) SELECT 1, id, 'x', 'v' FROM osfs; \
         INSERT INTO di_runtimes (di_id, state) VALUES (1, 'published'); \
         INSERT INTO di_tags (di_id, tag, fixed) VALUES (1, 'default', false)",
    )
    .await;
    assert_eq!(it.named("start", "/vms/10000/start", &Value::Null).await.status, 204);
    it.sql("UPDATE vm_runtimes SET vm_state = 'running', vm_cmd = NULL").await;
    assert_eq!(it.named("start", "/vms/10000/start", &Value::Null).await.status, 204);
    assert_eq!(it.named("again", "/vms/10000/start", &Value::Null).await.problem(), (409, 5130));
    assert_eq!(it.named("start", "/vms/10000/stop", &Value::Null).await.problem(), (422, 9025));

    let sid = it.log_in("superadmin", "*").await;
    let cookie = format!("sid={sid}");
    let long = "x".repeat(129);
    for (method, path, key) in [
        ("POST", "/vms/start?id=10000", "k"),
        ("POST", "/tokens", "k"),
        ("PATCH", "/vms/10000", "k"),
        ("GET", "/vms", "k"),
        ("POST", "/osfs", ""),
        ("POST", "/osfs", "a b"),
        ("POST", "/osfs", long.as_str()),
    ] {
        let headers =
            [("content-type", "application/json"), ("idempotency-key", key), ("cookie", cookie.as_str())];
        let body: &[u8] = if path == "/vms" || path.contains("start") { b"" } else { b"{}" };
        let refused = it.ask(method, &format!("/api/v2{path}"), &headers, body).await;
        assert_eq!(refused.problem(), (400, 6230), "{method} {path} {key}");
        assert_eq!(refused.body["object"], "Idempotency-Key");
    }
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ones_own_has_tags() {
    let it = Installation::start("owntags").await;
    assert!(Object::ConsoleSetup.is_own());
    let sid = it.log_in("admin", "default").await;
    let cookie = format!("sid={sid}");
    for (path, change) in [("/me", json!({"language": "es"})), ("/console-setup", json!({"language": "es"}))]
    {
        let read = it.v2(Some(&sid), "GET", path, None).await;
        let tag = read.header("etag").unwrap_or_else(|| panic!("{path}: {read:?}")).to_owned();
        let patch = async |tag: &str| {
            let headers =
                [("content-type", "application/json"), ("cookie", cookie.as_str()), ("if-match", tag)];
            it.ask("PATCH", &format!("/api/v2{path}"), &headers, change.to_string().as_bytes()).await
        };
        assert_eq!(patch(&tag).await.status, 204, "{path}");
        assert_eq!(patch(&tag).await.problem(), (412, 9006), "{path}");
    }
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_is_an_object_with_a_tag() {
    let it = Installation::start("settingtags").await;
    let ask = async |method: &str, path: &str, tag: Option<&str>, value: Option<Value>| {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(tag.map(|tag| ("if-match", tag)));
        let body = value.map(|value| value.to_string()).unwrap_or_default();
        it.ask(method, &format!("/api/v2{path}"), &headers, body.as_bytes()).await
    };
    let one = "/config/l7r.port?tenant_id=-1";
    let read = ask("GET", one, None, None).await;
    assert_eq!((read.status, &read.body["operative_value"]), (200, &json!("8443")), "{read:?}");
    let first = read.header("etag").unwrap().to_owned();
    let set = ask("PUT", one, Some(&first), Some(json!({"value": "8444"}))).await;
    assert_eq!((set.status, &set.body), (200, &json!({"key": "l7r.port", "tenant_id": -1})), "{set:?}");
    assert_eq!(ask("PUT", one, Some(&first), Some(json!({"value": "8445"}))).await.problem(), (412, 9006));
    let read = ask("GET", "/config/l7r.port", None, None).await;
    assert_eq!(read.body["operative_value"], "8444", "{read:?}");
    let second = read.header("etag").unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(ask("DELETE", one, Some(&first), None).await.problem(), (412, 9006));
    assert_eq!(ask("DELETE", one, Some(&second), None).await.status, 204);
    assert_eq!(ask("GET", one, None, None).await.header("etag"), Some(first.as_str()), "the default again");
    assert_eq!(ask("DELETE", one, None, None).await.problem(), (404, 1300));
    assert_eq!(ask("GET", "/config/no.such.key?tenant_id=-1", None, None).await.problem(), (404, 1300));
    let other = json!({"value": "1", "key": "l7r.other"});
    assert_eq!(ask("PUT", one, None, Some(other)).await.problem(), (400, 6230));
    assert_eq!(ask("PUT", "/config", Some(&first), Some(json!({}))).await.problem(), (400, 6230));
    assert_eq!(ask("GET", "/config/l7r.port?tenant_id=x", None, None).await.problem(), (422, 6320));

    // A secret is told apart, and nothing of it is in the tag.
    let secret = "/config/auth.ldap.bindpass?tenant_id=1";
    assert_eq!(ask("GET", secret, None, None).await.problem(), (404, 1300), "it has no default");
    assert_eq!(ask("PUT", secret, None, Some(json!({"value": "one"}))).await.status, 200);
    let tag = ask("GET", secret, None, None).await.header("etag").unwrap().to_owned();
    for value in ["one", "one"] {
        assert_eq!(ask("PUT", secret, None, Some(json!({"value": value}))).await.status, 200);
        assert_ne!(ask("GET", secret, None, None).await.header("etag"), Some(tag.as_str()));
    }
    // Administrators of tenants have theirs.
    let sid = it.log_in("admin", "default").await;
    let own = it.v2(Some(&sid), "GET", "/config/auth.ldap.bindpass", None).await;
    assert_eq!(own.body["tenant_id"], 1, "{own:?}");
    assert_eq!(own.header("etag"), ask("GET", secret, None, None).await.header("etag"));
    it.stop().await;
}
