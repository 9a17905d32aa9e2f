//! Live queries: answers that follow what happens.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use qvd_db::Listener;
use qvd_model::{HostId, notify};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::Installation;

/// A live query, as the console opens it.
struct Query(WebSocketStream<UnixStream>);

impl Query {
    async fn open(it: &Installation, parameters: &[(&str, &str)]) -> Self {
        let mut url = "ws://localhost/api/ws?".to_owned();
        for (name, value) in parameters {
            let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            url.push_str(&format!("&{name}={value}"));
        }
        let stream = UnixStream::connect(it.path("api.sock")).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        Self(socket)
    }

    async fn answer(&mut self) -> Value {
        match tokio::time::timeout(Duration::from_secs(20), self.0.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => serde_json::from_str(&text).unwrap(),
            other => panic!("no answer: {other:?}"),
        }
    }

    async fn end(&mut self) -> u16 {
        match tokio::time::timeout(Duration::from_secs(20), self.0.next()).await {
            Ok(Some(Ok(Message::Close(Some(frame))))) => frame.code.into(),
            other => panic!("not closed: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_sent_again_when_it_changed() {
    let it = Installation::start("live").await;
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    let login = it.post_as("admin", "default", json!({"action": "current_admin_setup"})).await;
    let sid = login["sid"].as_str().unwrap();
    let list =
        [("", ""), ("sid", sid), ("action", "user_get_list"), ("fields", r#"["id","name","tenant_name"]"#)];
    let mut own = Query::open(&it, &list).await;
    // A field that the caller may not see is left out.
    assert_eq!(own.answer().await["rows"], json!([]));
    own.0.send(Message::text("HI")).await.unwrap();
    let mut all = Query::open(&it, &[("action", "user_get_list"), ("fields", r#"["name"]"#)]).await;
    assert_eq!(all.answer().await["total"], 0);

    it.qa4(&["user", "new", "name=them,password=p,tenant=other"]).await.unwrap();
    assert_eq!(all.answer().await["rows"], json!([{"name": "them"}]));
    it.qa4(&["user", "new", "name=us,password=p,tenant=default"]).await.unwrap();
    assert_eq!(all.answer().await["total"], 2);
    // The user of another tenant was not worth a message here.
    let answer = own.answer().await;
    assert_eq!(answer["rows"], json!([{"id": 10001, "name": "us"}]), "{answer}");
    it.qa4(&["user", "us", "set", "name=we"]).await.unwrap();
    assert_eq!(own.answer().await["rows"][0]["name"], "we");
    it.qa4(&["user", "we", "del"]).await.unwrap();
    assert_eq!(own.answer().await["total"], 0);

    // It is asked with what the caller may do now.
    it.sql("DELETE FROM role_administrator_relations WHERE administrator_id = 2").await;
    it.qa4(&["user", "new", "name=you,password=p,tenant=default"]).await.unwrap();
    assert_eq!(own.answer().await["status"], 4210);
    assert_eq!(own.end().await, 1008);
    // What nothing changes is not asked again, but it ends with its session.
    let mut tokens = Query::open(&it, &[("sid", sid), ("action", "token_get_list")]).await;
    assert_eq!(tokens.answer().await["rows"], json!([]));
    it.qa4(&["session", "admin", "del"]).await.unwrap();
    assert_eq!(tokens.answer().await["status"], 3200);
    assert_eq!(tokens.end().await, 1008);
    let mut statistics = Query::open(&it, &[("action", "qvd_objects_statistics")]).await;
    assert_eq!(statistics.answer().await["users_count"], 2);
    it.qa4(&["user", "you", "del"]).await.unwrap();
    assert_eq!(statistics.answer().await["users_count"], 1);
    it.stop().await;
    assert_eq!(statistics.end().await, 1001, "the service stopped");
}

/// What is made, changed and removed is there at once, for each list that is followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_list_follows_what_happens() {
    let it = Installation::start("livelists").await;
    it.qa4(&["osf", "new", "name=office,tenant=default"]).await.unwrap();
    it.qa4(&["user", "new", "name=ann,password=p,tenant=default"]).await.unwrap();
    let file = it.path("x.tar.gz");
    crate::image_file(&file);
    let image = format!("file={},osf=office,version=v", file.display());
    let login = it.post_as("admin", "default", json!({"action": "current_admin_setup"})).await;
    let sid = login["sid"].as_str().unwrap();
    for (list, fields, made, changed, removed) in [
        (
            "user_get_list",
            r#"["name","blocked"]"#,
            &["user", "new", "name=bob,password=p,tenant=default"][..],
            &["user", "bob", "block"][..],
            &["user", "bob", "del"][..],
        ),
        (
            "vm_get_list",
            r#"["name","blocked"]"#,
            &["vm", "new", "name=desk,user=ann,osf=office"],
            &["vm", "desk", "block"],
            &["vm", "desk", "del"],
        ),
        (
            "host_get_list",
            r#"["name","blocked"]"#,
            &["host", "new", "name=node9,address=10.3.15.9"],
            &["host", "node9", "block"],
            &["host", "node9", "del"],
        ),
        (
            "osf_get_list",
            r#"["name","memory"]"#,
            &["osf", "new", "name=lab,tenant=default"],
            &["osf", "lab", "set", "memory=1024"],
            &["osf", "lab", "del"],
        ),
        (
            "di_get_list",
            r#"["version","blocked"]"#,
            &["di", "new", &image],
            &["di", "version=v", "block"],
            &["di", "version=v", "del"],
        ),
        (
            "config_get",
            r#"["key","operative_value"]"#,
            &["config", "set", "key=l7r.auth.plugins,value=one,tenant=default"],
            &["config", "set", "key=l7r.auth.plugins,value=two,tenant=default"],
            &["config", "key=l7r.auth.plugins,tenant=default", "default"],
        ),
        (
            "qvd_objects_statistics",
            "[]",
            &["vm", "new", "name=desk,user=ann,osf=office"],
            &["vm", "desk", "block"],
            &["vm", "desk", "del"],
        ),
    ] {
        let mut query = Query::open(&it, &[("sid", sid), ("action", list), ("fields", fields)]).await;
        let mut before = query.answer().await;
        assert_eq!(before["status"], 0, "{list}: {before}");
        let first = before.clone();
        for change in [made, changed, removed] {
            it.qa4(change).await.unwrap_or_else(|e| panic!("{change:?}: {e}"));
            let asked = std::time::Instant::now();
            let after = query.answer().await;
            assert_ne!(after, before, "{list} after {change:?}");
            // Two seconds, and what a busy machine adds.
            assert!(asked.elapsed() < Duration::from_secs(5), "{list} after {change:?}");
            before = after;
        }
        assert_eq!(before, first, "{list}");
    }
    it.stop().await;
}

/// An order stands in the row of the VM, and its node hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_reach_their_node() {
    let it = Installation::start("orders").await;
    it.running_host("node1", "10.3.15.1").await;
    it.qa4(&["osf", "new", "name=office,tenant=default"]).await.unwrap();
    it.qa4(&["user", "new", "name=ann,password=p,tenant=default"]).await.unwrap();
    it.qa4(&["vm", "new", "name=desk,user=ann,osf=office"]).await.unwrap();
    let stop = CancellationToken::new();
    let (listener, listening) = Listener::new(&it.settings, stop.clone());
    let task = tokio::spawn(listening);
    let host = HostId(10_000);
    let mut vms = listener.subscribe(notify::vm_command(host));
    let mut users = listener.subscribe(notify::user_command(host));
    let soon = Duration::from_secs(20);
    for bell in [&mut vms, &mut users] {
        tokio::time::timeout(soon, bell.rung()).await.expect("rings once it listens");
    }
    let client = it.database().client().await.unwrap();
    let orders = async || {
        let sql = "SELECT coalesce(vm_cmd, '-') || ' ' || coalesce(user_cmd, '-') FROM vm_runtimes";
        client.query_one(sql, &[]).await.unwrap().get::<_, String>(0)
    };
    it.qa4(&["vm", "desk", "start"]).await.unwrap();
    tokio::time::timeout(soon, vms.rung()).await.expect("rings for a start");
    assert_eq!(orders().await, "start -");
    it.sql(
        "UPDATE vm_runtimes SET vm_cmd = NULL, vm_state = 'running', user_state = 'connected', \
         l7r_host_id = 10000",
    )
    .await;
    it.qa4(&["vm", "desk", "disconnect"]).await.unwrap();
    tokio::time::timeout(soon, users.rung()).await.expect("rings for a disconnect");
    assert_eq!(orders().await, "- abort");
    it.qa4(&["vm", "desk", "stop"]).await.unwrap();
    tokio::time::timeout(soon, vms.rung()).await.expect("rings for a stop");
    assert_eq!(orders().await, "stop abort");
    stop.cancel();
    task.await.unwrap();
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_is_refused_says_why() {
    let it = Installation::start("liverefused").await;
    for (parameters, status) in [
        (&[("action", "user_get_list"), ("sid", "x")][..], 3200),
        (&[("action", "nothing")], 4100),
        (&[("action", "user_delete"), ("filters", r#"{"id":1}"#)], 4210),
        (&[("action", "vm_get_list"), ("filters", r#"{"colour":1}"#)], 6210),
    ] {
        let mut query = Query::open(&it, parameters).await;
        assert_eq!(query.answer().await["status"], status, "{parameters:?}");
        assert_eq!(query.end().await, 1008, "{parameters:?}");
    }
    it.stop().await;
}
