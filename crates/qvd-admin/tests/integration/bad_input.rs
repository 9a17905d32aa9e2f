//! What bad input gets: the documented code, and nothing changed.

use std::sync::Arc;

use qvd_model::action::{ACTIONS, Verb};
use qvd_runtime::postgres::TemporaryCluster;
use serde_json::{Value, json};

use crate::{Installation, code};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mistake_has_its_code() {
    let it = Installation::start("mistakes").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    it.qa4(&["user", "new", "name=ann,password=p"]).await.unwrap();
    it.qa4(&["vm", "new", "name=desk,user=ann,osf=office"]).await.unwrap();
    it.running_host("node1", "10.3.15.1").await;

    for (arguments, expected) in [
        (&["vm", "colour=red", "get"][..], 6210),
        (&["vm", "get", "colour"], 6250),
        (&["vm", "get", "order", "colour"], 6610),
        (&["vm", "id=x", "get"], 6320),
        (&["vm", "desk", "set", "colour=red"], 6230),
        (&["vm", "desk", "set", "blocked=maybe"], 6330),
        (&["vm", "desk", "set", "user_id=1"], 6230),
        (&["vm", "desk", "set", "expiration_soft=2030-02-01, expiration_hard=2030-01-01"], 7360),
        (&["osf", "office", "set", "memory=-1"], 6330),
        (&["user", "ann", "set", "password=''"], 6410),
        (&["user", "new", "name=bob"], 6240),
        (&["user", "new", "name=ANN,password=p"], 7200),
        (&["user", "new", "name=bob,password=p,tenant=none"], 7110),
        (&["osf", "new", "name=office"], 7200),
        (&["vm", "new", "name=desk,user=ann,osf=office"], 7200),
        (&["vm", "new", "name=d2,user=ann,osf=office,ip=10.3.15.254"], 7200),
        (&["vm", "new", "name=d2,user=ann,osf=office,ip=10.3.15.1"], 6330),
        (&["vm", "desk", "set", "ip=8.8.8.8"], 6330),
        (&["vm", "new", "name=d2,user=nobody,osf=office"], 7110),
        (&["vm", "new", "name=d2,user=ann,osf=none"], 7110),
        (&["vm", "new", "name=d2,user_id=7,osf=office"], 7110),
        (&["host", "new", "name=node2,address=10.3.15.1"], 7200),
        (&["host", "node1", "del"], 7321),
        (&["user", "ann", "del"], 7120),
        (&["osf", "office", "del"], 7120),
        (&["vm", "nothing", "start"], 1300),
        (&["vm", "desk", "disconnect", "--strict"], 5110),
        (&["vm", "desk", "stop", "--strict"], 5120),
        (&["tenant", "default", "del"], 7120),
        (&["tenant", "new", "name=a@b"], 6330),
        (&["tenant", "default", "set", "name='a#b'"], 6330),
    ] {
        assert_eq!(code(it.qa4(arguments).await), expected, "{arguments:?}");
    }
    // An empty text is no value, and another mistake than none at all.
    for (action, arguments, expected) in [
        ("config_set", json!({"key": "k", "value": "", "tenant_id": -1}), 6410),
        ("config_set", json!({"key": "k", "tenant_id": -1}), 6240),
        ("host_create", json!({"name": "node2", "address": ""}), 6410),
    ] {
        let answer = it.post("/api", &json!({"action": action, "arguments": arguments})).await.1;
        assert_eq!(answer["status"], expected, "{answer}");
    }
    // Whoever asks by hand may write no time.
    let soon = json!({"action": "vm_get_list", "filters": {"expiration_soft": {">": "yesterday"}}});
    assert_eq!(it.post("/api", &soon).await.1["status"], 6320);
    it.sql("UPDATE vm_runtimes SET vm_state = 'zombie'").await;
    assert_eq!(code(it.qa4(&["vm", "desk", "start"]).await), 5130);
    assert_eq!(code(it.qa4(&["vm", "desk", "del"]).await), 7310);
    it.sql("UPDATE vm_runtimes SET vm_state = 'stopped'; UPDATE host_runtimes SET blocked = true").await;
    assert_eq!(code(it.qa4(&["vm", "desk", "start"]).await), 5140);
    let vms = it.rows(&["vm", "get", "name,state"]).await;
    assert_eq!(vms, [json!({"name": "desk", "state": "stopped"})]);

    // Unfiltered changes, and exit codes.
    let refused = it.qa4(&["vm", "del"]).await.unwrap_err();
    assert_eq!(refused.exit_code(), 10);
    assert!(refused.to_string().contains("all 1 virtual machines"), "{refused}");
    assert_eq!(it.qa4(&["vm", "del", "name=desk"]).await.unwrap_err().exit_code(), 2);
    assert_eq!(
        it.qa4(&["vm", "desk", "del", "--dry-run"]).await.unwrap(),
        "would del: 10000 desk\nTotal: 1\n"
    );
    assert_eq!(it.qa4(&["vm", "block", "--force"]).await.unwrap(), "Total: 1\n");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_failure_names_each_object_and_keeps_the_rest() {
    let it = Installation::start("partial").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    it.qa4(&["user", "new", "name=ann,password=p"]).await.unwrap();
    for name in ["a", "b", "c"] {
        it.qa4(&["vm", "new", &format!("name={name},user=ann,osf=office")]).await.unwrap();
    }
    it.sql("UPDATE vm_runtimes SET vm_state = 'running' WHERE vm_id = 10001").await;
    let error = it.qa4(&["vm", "a,b,c", "del"]).await.unwrap_err();
    assert_eq!(error.exit_code(), 8);
    let text = error.to_string();
    assert!(text.starts_with("2 of 3 changed\n\t10001 : A VM must be stopped"), "{text}");
    assert_eq!(it.rows(&["vm", "get", "name"]).await, [json!({"name": "b"})]);
    let body = json!({"action": "vm_update", "filters": {"id": [10001]}, "arguments": {"ip": "10.3.15.254"}});
    let (status, answer) = it.post("/api", &body).await;
    assert_eq!((status, answer["status"].as_i64()), (200, Some(0)), "{answer}");
    it.stop().await;
}

/// Objects, arrays, nulls, huge numbers and NUL bytes in every member of every action (`spec/api.md` E.16).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_envelope_makes_the_server_fail() {
    let it = Installation::start("corpus").await;
    let hostile: Vec<Value> = vec![
        Value::Null,
        json!(true),
        json!(1e300),
        json!(-9_223_372_036_854_775_808_i64),
        json!("' OR 1=1 --"),
        json!("a\u{0}b"),
        json!("%"),
        json!(""),
        json!([]),
        json!([null, {"=": 1}]),
        json!({"=": {"=": 1}}),
        json!({"-or": [1, 2, 3]}),
        json!({"id": {"-between": ["a"]}}),
        json!({"id": [1, "x", null]}),
        json!({"name": {"~": ["%", "_"]}, "blocked": [0, 1]}),
    ];
    let members = [
        "filters",
        "arguments",
        "fields",
        "order_by",
        "offset",
        "block",
        "parameters",
        "login",
        "sid",
        "tenant",
    ];
    for (position, action) in ACTIONS.iter().enumerate() {
        // What comes after the first four is looked at before the action is.
        let members = if position < 4 { &members[..] } else { &members[..4] };
        for member in members {
            for value in &hostile {
                let (status, answer) = it.post("/api", &json!({"action": action.name, *member: value})).await;
                assert_eq!(status, 200, "{} {member}={value}: {answer}", action.name);
                assert_ne!(answer["status"], 1100, "{} {member}={value}: {answer}", action.name);
                assert!(answer["message"].is_string());
            }
        }
        for field in qvd_model::action::entity(action.object).fields {
            for value in hostile.iter().filter(|v| !v.is_null()) {
                // A list never changes anything; other verbs are limited to a row that is not there.
                let mut filters = serde_json::Map::new();
                if action.verb != Verb::List {
                    filters.insert("id".to_owned(), json!(-77));
                }
                filters.insert(field.name.to_owned(), value.clone());
                let arguments =
                    if action.verb == Verb::List { json!({}) } else { json!({field.name: value}) };
                let body = json!({"action": action.name, "filters": filters, "arguments": arguments,
                    "order_by": {"field": [field.name], "order": "-desc"}});
                let (status, answer) = it.post("/api", &body).await;
                assert_eq!(status, 200, "{body}: {answer}");
                assert_ne!(answer["status"], 1100, "{body}: {answer}");
            }
        }
    }
    for (body, expected) in
        [("[]", 6100), ("{", 6100), ("{}", 4110), (r#"{"action":{}}"#, 4110), (r#"{"action":"x"}"#, 4100)]
    {
        let (status, answer) = it.raw("POST", "/api/", &[], body.as_bytes()).await;
        assert_eq!((status, answer["status"].as_i64()), (200, Some(expected)), "{body}");
    }
    // Changes by GET, and addresses that do not exist.
    let (_, answer) = it
        .raw(
            "GET",
            "/api?action=osf_create&arguments={\"name\":\"x\"}"
                .replace('{', "%7B")
                .replace('}', "%7D")
                .replace('"', "%22")
                .as_str(),
            &[],
            b"",
        )
        .await;
    assert_eq!(answer["status"], 4210, "{answer}");
    assert_eq!(it.raw("GET", "/api?&action=vm_get_list&offset=1&block=10", &[], b"").await.1["status"], 0);
    assert_eq!(it.raw("POST", "/api/nothing", &[], b"").await.0, 404);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_told_and_comes_back() {
    let cluster = Arc::new(TemporaryCluster::start().unwrap());
    let it = Installation::on(cluster.clone(), "away").await;
    it.qa4(&["vm", "get"]).await.unwrap();
    let stopped = cluster.clone();
    tokio::task::spawn_blocking(move || stopped.stop()).await.unwrap().unwrap();
    let (status, answer) = it.post("/api", &json!({"action": "vm_get_list"})).await;
    assert_eq!((status, answer["status"].as_i64()), (503, Some(2100)), "{answer}");
    let error = it.qa4(&["vm", "get"]).await.unwrap_err();
    assert!(error.to_string().contains("database"), "{error}");
    let started = cluster.clone();
    tokio::task::spawn_blocking(move || started.start()).await.unwrap().unwrap();
    it.qa4(&["vm", "get"]).await.unwrap();
    it.stop().await;
}
