//! Custom properties: the catalogue, what may have them, and their values.

use serde_json::json;

use crate::{Installation, code};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_property_is_known_and_assigned() {
    let it = Installation::start("properties").await;
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    it.qa4(&["property", "new", "key=dept,description=where,tenant=default"]).await.unwrap();
    it.qa4(&["property", "new", "key=dept,tenant=other"]).await.unwrap();
    it.qa4(&["property", "new", "key=rack,tenant_id=0"]).await.unwrap();
    for (arguments, status) in [
        ("key=dept,tenant=default", 7210),
        ("key=rack,tenant=default", 7211),
        ("key=dept,tenant_id=0", 7210),
        ("key=fresh,tenant_id=-1", 7215),
        ("key=user_name,tenant=default", 6330),
        ("key=__tags__,tenant=default", 6330),
        ("description=x,tenant=default", 6240),
    ] {
        assert_eq!(code(it.qa4(&["property", "new", arguments]).await), status, "{arguments}");
    }
    // The same key again is no other one.
    it.qa4(&["property", "key=dept,tenant_id=1", "set", "key=dept,description=who"]).await.unwrap();
    assert_eq!(code(it.qa4(&["property", "key=dept,tenant_id=1", "set", "key=rack"]).await), 7211);
    let rows = it.rows(&["property", "key=dept,tenant_id=1", "get", "*"]).await;
    assert_eq!((&rows[0]["description"], &rows[0]["in_user"]), (&json!("who"), &json!(0)));
    let id = rows[0]["id"].clone();
    assert_eq!(rows[0]["property_id"], id);

    let selected = "key=dept,tenant_id=1";
    assert_eq!(it.qa4(&["property", selected, "assign", "user,", "vm"]).await.unwrap(), "Total: 2\n");
    assert_eq!(code(it.qa4(&["property", selected, "assign", "user"]).await), 7200);
    assert!(it.qa4(&["property", "dept", "assign", "user"]).await.is_err(), "two tenants have one");
    assert!(it.qa4(&["property", selected, "assign", "tenant"]).await.is_err());
    assert_eq!(code(it.qa4(&["property", selected, "assign", "host"]).await), 7214);
    it.qa4(&["property", "rack", "assign", "host"]).await.unwrap();
    let listed = it.post("/api", &json!({"action": "user_get_property_list", "block": 0})).await.1;
    assert_eq!((&listed["total"], &listed["rows"][0]["key"]), (&json!(1), &json!("dept")), "{listed}");
    let rows = it.rows(&["property", selected, "get", "*"]).await;
    assert_eq!(rows[0]["in_user"], listed["rows"][0]["id"]);
    assert_ne!(rows[0]["in_vm"], 0);
    let unknown = json!({"action": "vm_create_property_list", "arguments": {"property_id": 999}});
    assert_eq!(it.post("/api", &unknown).await.1["status"], 7110);
    let all = json!({"action": "vm_delete_property_list"});
    assert_eq!(it.post("/api", &all).await.1["status"], 6220);

    // Others see and assign their own only; hosts are none of their business.
    let own = it.post_as("admin", "default", json!({"action": "property_get_list"})).await;
    assert_eq!((&own["total"], &own["rows"][0]["id"]), (&json!(1), &id), "{own}");
    let theirs = it.rows(&["property", "key=dept,tenant_id!=1", "get", "id"]).await[0]["id"].clone();
    let foreign = json!({"action": "vm_create_property_list", "arguments": {"property_id": theirs}});
    assert_eq!(it.post_as("admin", "default", foreign).await["status"], 7110);
    let host = json!({"action": "host_create_property_list", "arguments": {"property_id": id}});
    assert_eq!(it.post_as("admin", "default", host).await["status"], 7212);
    let at_once = json!({"action": "property_create",
        "arguments": {"key": "floor", "__property_assign__": ["user", "osf", "di"]}});
    let made = it.post_as("admin", "default", at_once).await;
    assert_eq!(made["status"], 0, "{made}");
    let floor = &it.rows(&["property", "floor", "get", "*"]).await[0];
    assert!(floor["in_user"] != 0 && floor["in_osf"] != 0 && floor["in_di"] != 0 && floor["in_vm"] == 0);
    let wrong = json!({"action": "property_create",
        "arguments": {"key": "x", "__property_assign__": ["tenant"]}});
    assert_eq!(it.post_as("admin", "default", wrong).await["status"], 6340);
    assert!(it.rows(&["property", "x", "get"]).await.is_empty(), "it is not half made");

    it.qa4(&["property", selected, "unassign", "vm"]).await.unwrap();
    assert_eq!(it.rows(&["property", selected, "get", "in_vm"]).await[0]["in_vm"], 0);
    it.qa4(&["property", selected, "del"]).await.unwrap();
    let listed = it.post("/api", &json!({"action": "user_get_property_list", "block": 0})).await.1;
    assert_eq!((&listed["total"], &listed["rows"][0]["key"]), (&json!(1), &json!("floor")));
    let client = it.database().client().await.unwrap();
    let logged = "SELECT count(*) FROM log WHERE action = 'user_create_property_list' AND status = 0 \
         AND object_name = 'dept'";
    assert_eq!(client.query_one(logged, &[]).await.unwrap().get::<_, i64>(0), 1);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_have_values_of_properties() {
    let it = Installation::start("propertyvalues").await;
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    it.qa4(&["user", "new", "name=ann,password=p,tenant=default"]).await.unwrap();
    it.qa4(&["user", "new", "name=bob,password=p,tenant=other"]).await.unwrap();
    it.qa4(&["host", "new", "name=node1,address=10.3.15.1"]).await.unwrap();
    // Makes them known and assigns them, in the tenants of both users.
    it.qa4(&["user", "ann, bob", "set", "property", "dept=sales,floor=3"]).await.unwrap();
    it.qa4(&["user", "bob", "set", "property", "dept='R & D'"]).await.unwrap();
    assert_eq!(it.rows(&["property", "get", "*"]).await.len(), 4);
    let listing = it.qa4(&["user", "bob", "get", "property", "dept"]).await.unwrap();
    let expected = "\
.------+------+-------.
| user | key  | value |
+------+------+-------+
| bob  | dept | R & D |
'------+------+-------'
Total: 1
";
    assert_eq!(listing, expected);
    // Keys are like fields: columns, filters and arguments.
    let rows = it.rows(&["user", "dept=sales", "get", "name,dept,floor"]).await;
    assert_eq!(rows, [json!({"name": "ann", "dept": "sales", "floor": "3"})]);
    assert_eq!(it.rows(&["user", "dept~'R%'; name=ann", "get"]).await.len(), 2);
    it.qa4(&["user", "ann", "set", "dept=board,floor=9,description=x"]).await.unwrap();
    let ann = &it.rows(&["user", "ann", "get", "dept,floor,description,properties"]).await[0];
    assert_eq!(
        (&ann["dept"], &ann["floor"], &ann["description"]),
        (&json!("board"), &json!("9"), &json!("x"))
    );
    assert_eq!(ann["properties"].as_object().unwrap().len(), 2);
    it.qa4(&["user", "ann", "del", "property", "floor"]).await.unwrap();
    assert_eq!(it.rows(&["user", "ann", "get", "floor"]).await[0]["floor"], json!(null));
    assert!(it.qa4(&["user", "ann", "del", "property"]).await.is_err(), "it would remove the user");
    assert_eq!(it.rows(&["user", "get"]).await.len(), 2);

    for (request, status) in [
        (json!({"action": "user_get_list", "filters": {"nosuch": "x"}}), 6210),
        (json!({"action": "user_get_list", "fields": ["nosuch"]}), 6250),
        (json!({"action": "user_update", "filters": {"id": 10000}, "arguments": {"nosuch": "x"}}), 6230),
        (json!({"action": "vm_get_list", "fields": ["dept"]}), 6250),
        (
            json!({"action": "user_create", "arguments": {"name": "eve", "password": "p", "tenant_id": 1,
            "__properties__": {"nosuch": "x"}}}),
            6340,
        ),
        (
            json!({"action": "user_create", "arguments": {"name": "eve", "password": "p", "tenant_id": 1,
            "__properties__": ["dept"]}}),
            6340,
        ),
        (
            json!({"action": "user_create", "arguments": {"name": "eve", "password": "p", "tenant_id": 1,
            "__properties__": {"dept": "sales"}}}),
            0,
        ),
    ] {
        let answer = it.post("/api", &request).await.1;
        assert_eq!(answer["status"], status, "{request}: {answer}");
    }
    assert_eq!(it.rows(&["user", "eve", "get", "dept"]).await[0]["dept"], "sales");
    let wrong = json!({"action": "user_update", "filters": {"id": 10000},
        "arguments": {"__properties_changes__": {"set": {"nosuch": "x"}, "delete": ["dept"]}}});
    let answer = it.post("/api", &wrong).await.1;
    assert_eq!((&answer["status"], &answer["failures"]["10000"]["status"]), (&json!(1200), &json!(6340)));
    assert_eq!(it.rows(&["user", "ann", "get", "dept"]).await[0]["dept"], "board", "all or nothing");

    // Hosts are for those above, and nobody below sees their properties, or another tenant's.
    it.qa4(&["host", "node1", "set", "property", "rack=r7"]).await.unwrap();
    assert_eq!(it.rows(&["host", "rack=r7", "get", "name,rack"]).await[0]["rack"], "r7");
    let host = json!({"action": "host_update", "filters": {"id": 10000},
        "arguments": {"__properties_changes__": {"set": {"rack": "x"}}}});
    let refused = it.post_as("admin", "default", host).await;
    assert_eq!(refused["failures"]["10000"]["status"], 7213, "{refused}");
    let own =
        it.post_as("admin", "default", json!({"action": "user_get_list", "filters": {"dept": {"~": "%"}}}));
    assert_eq!(own.await["total"], 2);
    it.qa4(&["property", "dept", "del", "--force"]).await.unwrap();
    assert!(it.qa4(&["user", "get", "dept"]).await.is_err());
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_property_is_written_and_never_read() {
    const KEY: &str = "l7r.auth.plugin.totp.secret32";
    let it = Installation::start("secretproperties").await;
    it.qa4(&["user", "new", "name=ann,password=p"]).await.unwrap();
    it.qa4(&["property", "new", &format!("key={KEY}")]).await.unwrap();
    it.qa4(&["property", KEY, "assign", "user"]).await.unwrap();
    let set = async |value: &str| {
        let arguments = json!({"__properties_changes__": {"set": {KEY: value}}});
        it.post("/api", &json!({"action": "user_update", "filters": {"id": 10000}, "arguments": arguments}))
            .await
            .1
    };
    assert_eq!(set("JBSWY3DPEHPK3PXP").await["status"], 0);
    let client = it.database().client().await.unwrap();
    let stored = async || {
        client.query_one("SELECT value FROM user_properties", &[]).await.unwrap().get::<_, String>(0)
    };
    let first = stored().await;
    assert!(first.starts_with(qvd_db::vault::PREFIX), "{first}");
    // Lists, the log and the story of the user have asterisks.
    let mut shown = it.qa4(&["user", "get", KEY]).await.unwrap();
    shown += &it.qa4(&["user", "ann", "get", "properties", "-o", "json"]).await.unwrap();
    shown += &it.qa4(&["user", "ann", "explain"]).await.unwrap();
    shown += &it.v2(None, "GET", "/users/10000", None).await.body.to_string();
    shown += &it.v2(None, "GET", "/log", None).await.body.to_string();
    assert!(!shown.contains("JBSWY3DP") && !shown.contains("$qs1$"), "{shown}");
    assert!(shown.contains("**********") && shown.contains(&format!("{KEY} changed")), "{shown}");
    // Nobody finds it by comparing; whether there is one may be asked.
    let ask = async |filter: serde_json::Value| {
        it.post("/api", &json!({"action": "user_get_list", "filters": {KEY: filter}})).await.1
    };
    for filter in [json!("JBSWY3DPEHPK3PXP"), json!({"~": "J%"}), json!({"!=": "x"})] {
        assert_eq!(ask(filter.clone()).await["status"], 4220, "{filter}");
    }
    assert_eq!(ask(json!({"!=": null})).await["total"], 1);
    // A form sends back what it was shown.
    assert_eq!(set("**********").await["status"], 0);
    assert_eq!(stored().await, first);
    let failure = async |value: &str| set(value).await["failures"]["10000"]["status"].clone();
    assert_eq!(failure(&first).await, 6340, "what looks sealed");
    assert_eq!(failure(&"x".repeat(24_001)).await, 6340);
    assert_eq!(set(&"x".repeat(24_000)).await["status"], 0);
    it.stop().await;
}
