//! What the clients of QVD 4.0 and 4.1 send, which later ones do not.

use serde_json::{Value, json};

use crate::Installation;

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
