//! Live queries: answers that follow what happens.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

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
    let mut statistics = Query::open(&it, &[("action", "qvd_objects_statistics")]).await;
    assert_eq!(statistics.answer().await["users_count"], 2);
    it.qa4(&["user", "you", "del"]).await.unwrap();
    assert_eq!(statistics.answer().await["users_count"], 1);
    it.stop().await;
    assert_eq!(statistics.end().await, 1001, "the service stopped");
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
