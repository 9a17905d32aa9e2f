//! The stream of changes.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::Installation;

/// A stream as a client reads it.
struct Stream {
    body: Incoming,
    text: String,
    last: Option<String>,
    _sender: hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
}

/// An event: its name and its data.
type Event = (String, Value);

impl Stream {
    /// Opens one as root or by what a header says; `last` is where to go on.
    async fn open(it: &Installation, header: Option<(&str, &str)>, last: Option<&str>) -> Self {
        let stream = UnixStream::connect(it.path("api.sock")).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(driver);
        let mut request = hyper::Request::get("/api/v2/changes").header("host", "localhost");
        for (name, value) in header.into_iter().chain(last.map(|last| ("last-event-id", last))) {
            request = request.header(name, value);
        }
        let answer = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { body: answer.into_body(), text: String::new(), last: None, _sender: sender }
    }

    async fn ready(it: &Installation, sid: Option<&str>) -> Self {
        let cookie = sid.map(|sid| format!("sid={sid}"));
        let mut stream = Self::open(it, cookie.as_deref().map(|cookie| ("cookie", cookie)), None).await;
        assert_eq!(stream.event().await.unwrap().0, "ready");
        stream
    }

    /// The next event; `None` at the end.
    async fn event(&mut self) -> Option<Event> {
        // Signs of life are no events.
        tokio::time::timeout(Duration::from_secs(40), self.read()).await.expect("no event comes")
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            while let Some((one, rest)) = self.text.split_once("\n\n") {
                let (one, rest) = (one.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    one.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).map(str::to_owned)
                };
                if let Some(id) = field("id") {
                    self.last = Some(id);
                }
                if let Some(event) = field("event") {
                    return Some((event, serde_json::from_str(&field("data").unwrap()).unwrap()));
                }
            }
            let frame = self.body.frame().await?.unwrap();
            self.text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    }

    /// The next change, as kind, number and operation.
    async fn change(&mut self) -> (String, Value, String) {
        let (event, data) = self.event().await.unwrap();
        assert_eq!(event, "change", "{data}");
        assert!(data["sequence"].is_u64(), "{data}");
        let text = |name: &str| data[name].as_str().unwrap().to_owned();
        (text("kind"), data["id"].clone(), text("operation"))
    }
}

fn change(kind: &str, id: i64, operation: &str) -> (String, Value, String) {
    (kind.to_owned(), json!(id), operation.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_see_a_row_hears_of_it() {
    let it = Installation::start("changes").await;
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    let other = it.beside().await;
    let sid = it.log_in("admin", "default").await;
    let (mut own, mut all) = (Stream::ready(&other, Some(&sid)).await, Stream::ready(&it, None).await);
    it.qa4(&["user", "new", "name=them,password=p,tenant=other"]).await.unwrap();
    it.qa4(&["user", "new", "name=us,password=p,tenant=default"]).await.unwrap();
    // The tenant was made just before; that may still be told.
    let mut first = all.change().await;
    if first.0 == "tenant" {
        first = all.change().await;
    }
    assert_eq!(first, change("user", 10_000, "created"));
    assert_eq!(all.change().await, change("user", 10_001, "created"));
    // At another process, and nothing of another tenant.
    assert_eq!(own.change().await, change("user", 10_001, "created"));
    it.qa4(&["osf", "new", "name=office,tenant=default"]).await.unwrap();
    assert_eq!(own.change().await, change("osf", 10_000, "created"));
    it.qa4(&["vm", "new", "name=desk,user=us,osf=office"]).await.unwrap();
    assert_eq!(own.change().await, change("vm", 10_000, "created"));
    it.sql("UPDATE vm_runtimes SET vm_state = 'starting'; UPDATE vm_runtimes SET vma_ok_ts = 7").await;
    assert_eq!(own.change().await, change("vm", 10_000, "changed"));
    // What changes nothing is no change.
    it.sql("UPDATE users SET login = login; UPDATE vm_runtimes SET vm_state = 'stopped'").await;
    assert_eq!(own.change().await, change("vm", 10_000, "changed"));
    // With what the caller may do by now.
    it.sql("DELETE FROM role_administrator_relations WHERE administrator_id = 2").await;
    tokio::time::timeout(Duration::from_secs(20), async {
        // The news about permissions and the one about rows take different ways.
        loop {
            it.qa4(&["user", "us", "set", "description=x"]).await.unwrap();
            it.qa4(&["user", "us", "set", "description=y"]).await.unwrap();
            if tokio::time::timeout(Duration::from_secs(2), own.event()).await.is_err() {
                break;
            }
        }
    })
    .await
    .unwrap();
    it.v2(Some(&sid), "DELETE", "/session", None).await;
    let (event, why) = own.event().await.unwrap();
    assert_eq!((event.as_str(), &why["code"]), ("end", &json!(3200)));
    assert_eq!(own.event().await, None);
    other.stop().await;
    it.stop().await;
    // The service stopped; whatever came before is read.
    while let Some((event, _)) = all.event().await {
        assert_eq!(event, "change");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_where_it_was() {
    let it = Installation::start("changesresume").await;
    let user =
        |n: i64| format!("INSERT INTO users (id, login, tenant_id, password) VALUES ({n}, 'u{n}', 1, 'x')");
    let mut stream = Stream::ready(&it, None).await;
    // A transaction that began before another one and ends after it.
    let mut client = it.database().client().await.unwrap();
    let late = client.transaction().await.unwrap();
    late.batch_execute(&user(1)).await.unwrap();
    it.sql(&user(2)).await;
    assert_eq!(stream.change().await, change("user", 2, "created"));
    let last = stream.last.clone().unwrap();
    drop(stream);
    late.commit().await.unwrap();
    it.sql(&user(3)).await;
    // At any process; the late one is not missed, and what was seen may come again.
    let other = it.beside().await;
    let mut stream = Stream::open(&other, None, Some(&last)).await;
    let mut again = Vec::new();
    let ready = loop {
        let (event, data) = stream.event().await.unwrap();
        if event != "change" {
            break event;
        }
        again.push(data["id"].as_i64().unwrap());
    };
    assert_eq!(ready, "ready");
    assert!(again.contains(&1) && again.contains(&3), "{again:?}");
    it.sql(&user(4)).await;
    assert_eq!(stream.change().await, change("user", 4, "created"));

    // Too long ago, or never: everything has to be read again.
    let resets = async |last: &str| {
        let mut stream = Stream::open(&it, None, Some(last)).await;
        assert_eq!(stream.event().await.unwrap().0, "reset", "{last}");
        assert_eq!(stream.event().await.unwrap().0, "ready", "{last}");
    };
    resets("9000000000000000000").await;
    it.sql("UPDATE changes SET time = now() - interval '2 hours'").await;
    qvd_db::admin::changes::forget(&it.database().client().await.unwrap()).await.unwrap();
    resets(&last).await;
    for bad in ["x", "-1"] {
        let refused = it.ask("GET", "/api/v2/changes", &[("last-event-id", bad)], b"").await;
        assert_eq!(refused.problem(), (422, 6320));
    }
    assert_eq!(it.v2(Some("x"), "GET", "/changes", None).await.problem(), (401, 3200));
    assert_eq!(it.v2(None, "GET", "/changes?kind=vm", None).await.problem(), (400, 6210));
    other.stop().await;
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_session_or_token() {
    let it = Installation::start("changesend").await;
    let sid = it.log_in("admin", "default").await;
    let made = json!({"name": "watch", "expiration": "2040-01-01", "read_only": true});
    let made = it.v2(Some(&sid), "POST", "/tokens", Some(made)).await;
    let shown = format!("Bearer {}", made.body["token"].as_str().unwrap());
    let by_token = async || {
        let mut stream = Stream::open(&it, Some(("authorization", &shown)), None).await;
        assert_eq!(stream.event().await.unwrap().0, "ready");
        stream
    };
    let ended = async |mut stream: Stream, code: u64| loop {
        let (event, why) = stream.event().await.unwrap();
        if event == "end" {
            assert_eq!(why["code"], code);
            assert_eq!(stream.event().await, None);
            break;
        }
    };
    // It ends by itself when its time is over.
    it.sql("UPDATE api_tokens SET expiration = now() AT TIME ZONE 'UTC' + interval '3 seconds'").await;
    ended(by_token().await, 3300).await;
    it.sql("UPDATE api_tokens SET expiration = NULL").await;
    let stream = by_token().await;
    let removed = it.v2(Some(&sid), "DELETE", &format!("/tokens/{}", made.body["id"]), None).await;
    assert_eq!(removed.status, 204);
    ended(stream, 3200).await;
    let stream = Stream::ready(&it, Some(&sid)).await;
    it.sql("UPDATE tenants SET blocked = true WHERE id = 1").await;
    ended(stream, 3500).await;
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_slowly_begins_again() {
    let it = Installation::start("changesslow").await;
    it.sql("INSERT INTO users (login, tenant_id, password) SELECT 'u' || n, 1, 'x' FROM generate_series(1, 700) AS n")
        .await;
    let mut stream = Stream::ready(&it, None).await;
    for n in 0..60 {
        it.sql(&format!("UPDATE users SET description = '{n}'")).await;
    }
    let mut reset = false;
    while let Ok(event) = tokio::time::timeout(Duration::from_secs(2), stream.event()).await {
        reset |= event.unwrap().0 == "reset";
    }
    assert!(reset, "everything was kept for it");
    it.sql("INSERT INTO users (id, login, tenant_id, password) VALUES (5, 'last', 1, 'x')").await;
    assert_eq!(stream.change().await, change("user", 5, "created"));
    it.stop().await;
}
