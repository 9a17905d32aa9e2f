//! Requests of any shape at every address, from those who are logged in and from strangers: no answer is the server's
//! fault, and nobody learns of what is not theirs.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use qvd_model::action::ACTIONS;
use serde_json::{Map, Value, json};

use crate::shapes::{value, word};
use crate::{Installation, image_file};

/// Names of the other tenant; nobody else has such.
const THEIRS: [&str; 4] = ["secretflavour", "secretuser", "secretdesk", "secretboss"];

/// The actions, and the addresses that take an envelope whatever action it names.
fn targets() -> Vec<(&'static str, Option<&'static str>)> {
    let actions = ACTIONS.iter().map(|action| ("/api", Some(action.name)));
    let addresses = [
        "/api/di/staging",
        "/api/di/docker",
        "/api/di/download",
        "/api/di/publish",
        "/api/di/generate",
        "/api/di/notify",
        "/api/di/upload",
        "/api/proxy/dig/osd",
        "/api/info",
        "/api/second_factor",
        "/api/logout",
    ];
    actions.chain(addresses.map(|address| (address, None))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_too_much_and_none_tells_of_others() {
    let it = Installation::start("anyrequest").await;
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    it.qa4(&["osf", "new", "name=secretflavour,tenant=other"]).await.unwrap();
    it.qa4(&["user", "new", "name=secretuser,password=p,tenant=other"]).await.unwrap();
    it.qa4(&["vm", "new", "name=secretdesk,user=secretuser,osf=secretflavour"]).await.unwrap();
    it.qa4(&["admin", "new", "name=secretboss,password=p,tenant=other"]).await.unwrap();
    image_file(&it.path("staging/x.tar.gz"));
    let sid = it.log_in("admin", "default").await;
    let before = it.rows(&["vm", "get", "name,blocked,description"]).await;
    let mut runner = TestRunner::default();
    let cases = (
        proptest::sample::select(targets()),
        proptest::collection::btree_map(word(), value(), 0..5),
        proptest::collection::vec((proptest::sample::select(MEMBERS.to_vec()), value()), 0..4),
        proptest::bool::ANY,
        proptest::bool::ANY,
    );
    for _ in 0..2500 {
        let ((path, action), arguments, members, stranger, in_address) =
            cases.new_tree(&mut runner).unwrap().current();
        let mut body: Map<String, Value> = members.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        if !arguments.is_empty() {
            body.insert("arguments".to_owned(), json!(arguments));
        }
        if let Some(action) = action {
            body.insert("action".to_owned(), json!(action));
        }
        // Passwords are not guessed here: that takes ever longer.
        let session = if stranger { "0123456789" } else { &sid };
        if path != "/api/logout" {
            body.insert("sid".to_owned(), json!(session));
        }
        let cookie = format!("sid={session}");
        let answer = if in_address {
            let pairs: Vec<(String, String)> = body
                .iter()
                .map(|(name, value)| {
                    (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                })
                .collect();
            let query: String = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            it.ask("POST", &format!("{path}?{query}"), &[("x", "y")], b"").await
        } else {
            let headers = [("cookie", cookie.as_str()), ("content-type", "application/json")];
            let headers = if path == "/api/logout" { &headers[1..] } else { &headers[..] };
            it.ask("POST", path, headers, json!(body).to_string().as_bytes()).await
        };
        let asked = format!("{path} {}", json!(body));
        assert!(answer.status < 500, "{asked}: {answer:?}");
        let status = answer.body["status"].as_u64().unwrap_or_else(|| panic!("{asked}: {answer:?}"));
        assert_ne!(status, 1100, "{asked}: {answer:?}");
        assert!(answer.body["message"].is_string(), "{asked}: {answer:?}");
        let open = ["/api/info", "/api/di/notify"].contains(&path);
        if stranger && !open {
            // What cannot be read is refused first.
            assert!(
                matches!(status, 3200 | 4110 | 6100 | 6310 | 6320 | 2250 | 2290 | 6240),
                "{asked}: {answer:?}"
            );
        }
        let text = answer.body.to_string();
        assert!(THEIRS.iter().all(|name| !text.contains(name)), "{asked}: {answer:?}");
    }
    assert_eq!(it.rows(&["vm", "get", "name,blocked,description"]).await, before);
    it.stop().await;
}

const MEMBERS: [&str; 14] = [
    "filters",
    "arguments",
    "fields",
    "order_by",
    "offset",
    "block",
    "parameters",
    "tenant",
    "id",
    "url",
    "length",
    "sha256",
    "code",
    "unknown",
];
