//! What the clients of QVD 4.0 and 4.1 send, which later ones do not.

use std::fs;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::Message;

use crate::images::files_left_in;
use crate::{Installation, PASSWORD, image_file};

/// They put every value of a filter into a list, and the whole into a group in a group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_filters_come_as_lists() {
    let it = Installation::start("lists").await;
    for name in ["ann", "bob", "cid"] {
        it.qa4(&["user", "new", &format!("name={name},password=p")]).await.unwrap();
    }
    for (test, expected) in [
        (json!(["id", {">": ["10000"]}]), json!(["bob", "cid"])),
        (json!(["id", {">=": ["10001"]}, "name", {"!=": ["cid"]}]), json!(["bob"])),
        (json!(["id", {"<": ["10001"]}]), json!(["ann"])),
        (json!(["-or", ["id", {"<=": ["10000"]}, "name", {"LIKE": ["c%"]}]]), json!(["ann", "cid"])),
        (json!(["-not", ["name", {"=": ["bob"]}]]), json!(["ann", "cid"])),
        (
            json!(["creation_date", {">": ["2020-01-01"]}, "blocked", {"=": ["0"]}]),
            json!(["ann", "bob", "cid"]),
        ),
        (json!(["id", {">": ["10001", "10000"]}]), json!(["bob", "cid"])),
        (json!(["id", {">": []}]), json!([])),
    ] {
        let filters = json!({"-and": ["-and", test]});
        let request = json!({"action": "user_get_list", "filters": filters, "fields": ["name"], "arguments": {},
                             "order_by": {"order": "-asc", "field": []}, "parameters": {"source": "CLI"}});
        let (_, answer) = it.post("/api", &request).await;
        let names: Vec<&Value> =
            answer["rows"].as_array().into_iter().flatten().map(|row| &row["name"]).collect();
        assert_eq!(json!(names), expected, "{filters}: {answer}");
    }
    it.stop().await;
}

/// Imports a staged file as they do; the results are the progress that was told, and the end.
async fn import(it: &Installation, changed: &[(&str, &str)]) -> (Vec<Value>, Value) {
    let mut parameters = vec![
        ("action", "di_create"),
        ("arguments", r#"{"disk_image":"one.tar.gz","osf_id":"10000"}"#),
        ("filters", r#"{"-and":[]}"#),
        ("fields", "[]"),
        ("order_by", r#"{"field":[],"order":"-asc"}"#),
        ("parameters", r#"{ "source" :  "CLI" }"#),
        ("login", "superadmin"),
        ("tenant", "*"),
        ("password", PASSWORD),
    ];
    for (name, value) in changed {
        let place = parameters.iter_mut().find(|(known, _)| known == name).unwrap();
        place.1 = *value;
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let stream = UnixStream::connect(it.path("api.sock")).await.unwrap();
    let url = format!("ws://localhost/api/staging?{query}");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let mut progress = Vec::new();
    loop {
        socket.send(Message::text("ECHO Request")).await.unwrap();
        let message = tokio::time::timeout(Duration::from_secs(60), socket.next()).await.unwrap();
        let Some(Ok(Message::Text(text))) = message else { panic!("no end after {progress:?}: {message:?}") };
        let answer: Value = serde_json::from_str(&text).unwrap();
        if answer["status"] != 1000 {
            return (progress, answer);
        }
        progress.push(answer);
    }
}

/// They wait on a WebSocket until the file of an image is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_staged_file_is_imported_by_a_websocket() {
    let it = Installation::start("wsstaging").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    image_file(&it.path("staging/one.tar.gz"));
    let bytes = fs::read(it.path("staging/one.tar.gz")).unwrap();
    fs::write(it.path("staging/cut.tar.gz"), &bytes[..bytes.len() / 2]).unwrap();

    let (progress, end) = import(&it, &[]).await;
    assert_eq!(end["rows"], json!([{"id": 10000}]), "{end}");
    assert_eq!((&end["status"], &end["total"]), (&json!(0), &json!(1)));
    for told in &progress {
        let (total, done) = (told["total_size"].as_u64().unwrap(), told["copy_size"].as_u64().unwrap());
        assert!(total > 0 && done <= total, "{told}");
    }
    assert_eq!(
        it.rows(&["di", "get", "state"]).await,
        [json!({"state": "published"})],
        "it is there at the end"
    );
    assert_eq!(it.rows(&["log", "action=di_create", "get", "source"]).await[0]["source"], "CLI");

    for (change, status) in [
        (("password", "wrong"), 3200),
        (("arguments", r#"{"disk_image":"none.tar.gz","osf_id":"10000"}"#), 2240),
        (("arguments", r#"{"disk_image":"../cert.pem","osf_id":"10000"}"#), 6330),
        (("arguments", r#"{"disk_image":"one.tar.gz"}"#), 6240),
        (("arguments", r#"{"disk_image":"one.tar.gz","osf_id":"7"}"#), 7100),
        // Damage that shows in the background is told as well.
        (("arguments", r#"{"disk_image":"cut.tar.gz","osf_id":"10000"}"#), 9002),
    ] {
        let (_, end) = import(&it, &[change]).await;
        assert_eq!(end["status"], status, "{change:?}: {end}");
        assert!(end["message"].as_str().is_some_and(|text| !text.is_empty()), "{end}");
    }
    assert_eq!(files_left_in(&it.path("images")).await, ["10000-one.tar.gz"]);

    // A page of somebody else could start an import with the session of an administrator who looks at it.
    let handshake = [
        ("origin", "https://elsewhere.example"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    assert_eq!(it.raw("GET", "/api/staging?action=di_create", &handshake, b"").await.0, 403);
    it.stop().await;
}
