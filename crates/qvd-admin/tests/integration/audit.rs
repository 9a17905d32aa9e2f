//! The audit log: generated from the registry, so that no change can go unrecorded.

use qvd_model::action::{ACTIONS, Action, Object, Order, Verb, action, action_for};
use serde_json::{Value, json};

use crate::second_factor::code_at;
use crate::{Installation, PASSWORD, image_file};

const MASK: &str = "**********";

/// An installation, and names that nobody has yet.
struct Bench {
    it: Installation,
    /// The session of `superadmin`.
    sid: String,
    count: u32,
}

impl Bench {
    async fn start(name: &str) -> Self {
        let it = Installation::start(name).await;
        let answer = it.post_as("superadmin", "*", json!({"action": "current_admin_setup"})).await;
        let sid = answer["sid"].as_str().unwrap().to_owned();
        Self { it, sid, count: 0 }
    }

    fn fresh(&mut self) -> String {
        self.count += 1;
        format!("n{}", self.count)
    }

    async fn call(&self, request: &Value) -> Value {
        let mut request = request.clone();
        if request.get("login").is_none() && request.get("sid").is_none() {
            request["sid"] = json!(self.sid);
        }
        self.it.raw("POST", "/api", &[("user-agent", "bench/1")], request.to_string().as_bytes()).await.1
    }

    /// Makes an object by its own action; its number.
    async fn make(&mut self, object: Object) -> i64 {
        if object == Object::Session {
            let sid = self.it.log_in("admin", "default").await;
            let own = self.it.v2(Some(&sid), "GET", "/sessions?fields=id,current", None).await;
            return own.items().iter().find(|row| row["current"] == 1).unwrap()["id"].as_i64().unwrap();
        }
        let action = action_for(object, Verb::Create).unwrap();
        let arguments = Box::pin(self.creation(object)).await;
        let answer = self.call(&json!({"action": action.name, "arguments": arguments})).await;
        answer["rows"][0]["id"].as_i64().unwrap_or_else(|| panic!("{object}: {answer}"))
    }

    async fn creation(&mut self, object: Object) -> Value {
        let name = self.fresh();
        match object {
            Object::User | Object::Administrator => {
                json!({"name": name, "password": "s3same", "tenant_id": 1, "description": "d"})
            }
            Object::Vm => {
                let (user, osf) = (self.make(Object::User).await, self.make(Object::Osf).await);
                json!({"name": name, "user_id": user, "osf_id": osf})
            }
            Object::Host => json!({"name": name, "address": format!("10.9.0.{}", self.count)}),
            Object::Osf | Object::Role => json!({"name": name, "tenant_id": 1}),
            Object::Di => {
                json!({"disk_image": format!("{name}.tar"), "osf_id": self.make(Object::Osf).await})
            }
            Object::Tenant => json!({"name": name}),
            Object::Property => json!({"key": name, "tenant_id": 1}),
            Object::Token => json!({"name": name, "expiration": "2040-01-01"}),
            Object::HostProperty => {
                let property =
                    json!({"action": "property_create", "arguments": {"key": name, "tenant_id": 0}});
                json!({"property_id": self.call(&property).await["rows"][0]["id"]})
            }
            object if object.of_property().is_some() => {
                json!({"property_id": self.make(Object::Property).await})
            }
            other => panic!("{other} has no example"),
        }
    }

    /// A request that succeeds.
    async fn example(&mut self, action: &Action) -> Value {
        let place = json!({"field": "name", "qvd_object": "vm", "view_type": "list_column",
            "device_type": "desktop", "visible": false});
        let mut request = json!({"action": action.name});
        match (action.verb, action.object) {
            (Verb::Create, object) => request["arguments"] = self.creation(object).await,
            (Verb::Update, Object::ConsoleSetup) => request["arguments"] = json!({"block": 33}),
            (Verb::Update, Object::OwnAdministrator | Object::OwnTenant) => {
                request["arguments"] = json!({"description": self.fresh()});
            }
            (Verb::Update, object) => {
                request["filters"] = json!({"id": self.make(object).await});
                request["arguments"] = json!({"description": "changed"});
            }
            (Verb::CreateOrUpdate, Object::Config) => {
                request["arguments"] = json!({"tenant_id": -1, "key": "osf.default.memory", "value": "512"});
            }
            (Verb::Delete, Object::Config) => {
                request["filters"] = json!({"tenant_id": -1, "key": "osf.default.memory"});
            }
            (Verb::CreateOrUpdate, Object::Certificate) => {
                let pair = qvd_relay::certificate::self_signed(&["localhost".to_owned()]).unwrap();
                request["arguments"] = json!({"cert": pair.cert, "key": pair.key});
            }
            (Verb::CreateOrUpdate, Object::TenantAttributeView) => {
                request["arguments"] = place;
                request["arguments"]["tenant_id"] = json!(1);
            }
            (Verb::CreateOrUpdate, Object::AdministratorAttributeView) => request["arguments"] = place,
            (Verb::CreateOrUpdate, Object::TenantPropertyView | Object::AdministratorPropertyView) => {
                request["arguments"] = json!({"qvd_obj_prop_id": self.make(Object::VmProperty).await,
                    "view_type": "list_column", "device_type": "desktop", "visible": true});
            }
            // Two were made by the actions before.
            (Verb::Delete, Object::TenantView) => request["filters"] = json!({"qvd_object": "vm"}),
            (Verb::Delete, Object::AdministratorView) => request["filters"] = json!({"qvd_object": "vm"}),
            (Verb::Delete, object) => request["filters"] = json!({"id": self.make(object).await}),
            // These follow each other.
            (Verb::Execute(Order::Begin), _) => {}
            (Verb::Execute(Order::Confirm), _) => {
                self.it.sql("DELETE FROM second_factors").await;
                let begun = self.call(&json!({"action": "second_factor_begin"})).await;
                let code = code_at(begun["rows"][0]["secret"].as_str().unwrap(), 0);
                request["arguments"] = json!({ "code": code });
            }
            (Verb::Execute(Order::End), _) => {
                // The code that confirmed it was taken.
                let secret = self.call(&json!({"action": "second_factor_begin"})).await;
                assert_eq!(secret["status"], 7200, "there is none in force: {secret}");
                let (code, digest) = qvd_auth::recovery_codes().swap_remove(0);
                self.it.sql(&format!("UPDATE second_factors SET recovery = '{{{digest}}}'")).await;
                request["arguments"] = json!({"code": code.as_str()});
            }
            (Verb::Execute(Order::ResetSecondFactor), _) => {
                let id = self.make(Object::Administrator).await;
                let factor =
                    format!("INSERT INTO second_factors (administrator_id, secret) VALUES ({id}, '')");
                self.it.sql(&factor).await;
                request["filters"] = json!({ "id": id });
            }
            (Verb::Execute(order), _) => {
                let vm = self.make(Object::Vm).await;
                let state = match order {
                    Order::Start => "vm_state = 'stopped'",
                    Order::Stop => "vm_state = 'running', host_id = 1",
                    Order::Disconnect => {
                        "vm_state = 'running', host_id = 1, l7r_host_id = 1, user_state = 'connected'"
                    }
                    other => panic!("{other:?} is no order to VMs"),
                };
                let osf = format!("(SELECT osf_id FROM vms WHERE id = {vm})");
                self.it
                    .sql(&format!(
                        "UPDATE vm_runtimes SET {} WHERE vm_id = {vm}; \
                         INSERT INTO dis (osf_id, path, version, blocked) VALUES ({osf}, 'p{vm}', 'v', false); \
                         INSERT INTO di_tags (di_id, tag, fixed) SELECT id, 'default', false FROM dis WHERE path = 'p{vm}'; \
                         INSERT INTO di_runtimes (di_id, state, state_ts) SELECT id, 'published', 0 FROM dis WHERE path = 'p{vm}'",
                        state.replace("= 1", "= (SELECT min(id) FROM hosts)")
                    ))
                    .await;
                request["filters"] = json!({"id": vm});
            }
            (_, _) => panic!("{} has no example", action.name),
        }
        request
    }

    /// Rows of the log since the last call.
    async fn logged(&self, since: &mut i32) -> Vec<Value> {
        let client = self.it.database().client().await.unwrap();
        let text = "SELECT row_to_json(log)::text FROM log WHERE id > $1 ORDER BY id";
        let rows = client.query(text, &[since]).await.unwrap();
        let rows: Vec<Value> = rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect();
        if let Some(last) = rows.last() {
            *since = i32::try_from(last["id"].as_i64().unwrap()).unwrap();
        }
        rows
    }
}

fn parsed(text: &Value) -> Value {
    text.as_str().map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_writes_one_row_with_what_was_and_what_is() {
    let mut bench = Bench::start("audited").await;
    bench.it.running_host("node", "10.1.0.1").await;
    let mut last = 0;
    for action in ACTIONS.iter().filter(|action| action.verb.changes()) {
        let request = bench.example(action).await;
        bench.logged(&mut last).await;
        let answer = bench.call(&request).await;
        assert_eq!(answer["status"], 0, "{request}: {answer}");
        let rows = bench.logged(&mut last).await;
        let expected = usize::try_from(answer["total"].as_i64().unwrap()).unwrap();
        assert!(expected >= 1 && rows.len() == expected, "{}: {rows:#?}", action.name);
        for row in rows {
            assert_eq!(row["action"], action.name);
            assert_eq!(
                (&row["status"], &row["administrator_name"]),
                (&json!(0), &json!("superadmin")),
                "{row}"
            );
            assert_eq!((&row["ip"], &row["user_agent"]), (&json!("local"), &json!("bench/1")), "{row}");
            assert!(row["object_id"].is_number() && row["object_name"].is_string(), "{row}");
            let (before, after) = (parsed(&row["before"]), parsed(&row["after"]));
            let object = |value: &Value| value.as_object().is_some_and(|members| !members.is_empty());
            match action.verb {
                Verb::Create => assert!(before.is_null() && object(&after), "{row}"),
                Verb::Delete => assert!(object(&before) && after.is_null(), "{row}"),
                Verb::Update | Verb::Execute(_) => {
                    assert!(before.is_object() && object(&after) && before != after, "{row}");
                }
                _ => assert!(object(&after) && before != after, "{row}"),
            }
        }

        // A request that is wrong in itself writes one row too, about nothing in particular.
        // What the console is like for a tenant takes any filter.
        let (wrong, code) = match action.object {
            Object::ConsoleSetup => (json!({"action": action.name, "arguments": {"nonsense": 1}}), 6230),
            _ => (json!({"action": action.name, "filters": {"nonsense": 1}}), 6210),
        };
        assert_eq!(bench.call(&wrong).await["status"], code, "{}", action.name);
        let rows = bench.logged(&mut last).await;
        assert_eq!(rows.len(), 1, "{}: {rows:#?}", action.name);
        let about = ["object_id", "object_name", "before", "after"].map(|name| &rows[0][name]);
        assert!(rows[0]["status"] == code && about == [&Value::Null; 4], "{rows:?}");
    }
    let client = bench.it.database().client().await.unwrap();
    let all = "SELECT string_agg(log::text, ' ') FROM log";
    let all: String = client.query_one(all, &[]).await.unwrap().get(0);
    assert!(
        all.contains(MASK) && !all.contains("s3same") && !all.contains("$qa1$") && !all.contains("PRIVATE")
    );
    bench.it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_say_what_changed_and_nothing_else() {
    let bench = Bench::start("auditvalues").await;
    let it = &bench.it;
    let mut last = 0;
    it.qa4(&["user", "new", "name=ann,password=first,description=one"]).await.unwrap();
    bench.logged(&mut last).await;
    let ann = json!({"action": "user_update", "filters": {"id": 10000},
        "arguments": {"description": "two", "password": "second"}});
    assert_eq!(bench.call(&ann).await["status"], 0);
    let rows = bench.logged(&mut last).await;
    assert_eq!(parsed(&rows[0]["before"]), json!({"description": "one", "password": MASK}));
    assert_eq!(parsed(&rows[0]["after"]), json!({"description": "two", "password": MASK}));
    assert_eq!(parsed(&rows[0]["arguments"]), json!({"description": "two", "password": MASK}));

    for value in ["one", "two"] {
        let secret = json!({"action": "config_set",
            "arguments": {"tenant_id": 1, "key": "auth.ldap.bindpass", "value": value}});
        assert_eq!(bench.call(&secret).await["status"], 0);
    }
    let reset = json!({"action": "config_delete", "filters": {"tenant_id": 1, "key": "auth.ldap.bindpass"}});
    assert_eq!(bench.call(&reset).await["status"], 0);
    let rows = bench.logged(&mut last).await;
    let hidden = json!({"auth.ldap.bindpass": MASK});
    let seen: Vec<_> = rows.iter().map(|row| (parsed(&row["before"]), parsed(&row["after"]))).collect();
    let expected = [(Value::Null, hidden.clone()), (hidden.clone(), hidden.clone()), (hidden, Value::Null)];
    assert_eq!(seen, expected);
    assert_eq!(parsed(&rows[2]["arguments"]), json!({"key": "auth.ldap.bindpass", "value": MASK}));

    // What fails for one object is recorded for that one, and undoes nothing of the others.
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    it.qa4(&["user", "new", "name=bea,password=p"]).await.unwrap();
    it.qa4(&["vm", "new", "name=desk,user=ann,osf=office"]).await.unwrap();
    bench.logged(&mut last).await;
    let both = json!({"action": "user_delete", "filters": {"id": {">": 0}}});
    assert_eq!(bench.call(&both).await["status"], 1200);
    let mut rows = bench.logged(&mut last).await;
    rows.sort_by_key(|row| row["object_name"].to_string());
    let seen: Vec<_> =
        rows.iter().map(|r| (r["object_name"].as_str().unwrap(), r["status"].clone())).collect();
    assert_eq!(seen, [("ann", json!(7120)), ("bea", json!(0))]);
    assert!(rows[0]["before"].is_null() && parsed(&rows[1]["before"])["name"] == "bea");
    bench.it.stop().await;
}

/// The file of an image changes states by itself; the publication by hand is a change of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_published_with_a_row_of_its_own() {
    let bench = Bench::start("auditimages").await;
    let it = &bench.it;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let local = it.path("one.tar.gz");
    image_file(&local);
    it.qa4(&["di", "new", &format!("file={},osf=office,version=v1", local.display())]).await.unwrap();
    it.sql("UPDATE di_runtimes SET state = 'ready'; DELETE FROM di_tags WHERE tag <> 'v1'").await;
    let mut last = 0;
    bench.logged(&mut last).await;
    assert_eq!(it.post("/api/di/publish", &json!({"id": 10000})).await.1["status"], 0);
    let rows = bench.logged(&mut last).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(parsed(&rows[0]["before"])["state"], "ready");
    let after = parsed(&rows[0]["after"]);
    assert_eq!(after["state"], "published");
    assert!(after["tags"].to_string().contains("default"), "{after}");
    bench.it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_are_recorded_and_ordinary_requests_are_not() {
    let bench = Bench::start("auditlogins").await;
    let it = &bench.it;
    let mut last = 0;
    bench.logged(&mut last).await;
    let answer = it.post_as("admin", "default", json!({"action": "current_admin_setup"})).await;
    for _ in 0..3 {
        let list = json!({"action": "user_get_list", "sid": answer["sid"]});
        assert_eq!(bench.call(&list).await["status"], 0);
    }
    let rows = bench.logged(&mut last).await;
    assert_eq!(rows.iter().filter(|row| row["action"] == "login").count(), 1, "{rows:#?}");
    let wrong =
        json!({"action": "user_get_list", "login": "ghost", "tenant": "default", "password": PASSWORD});
    assert_eq!(bench.call(&wrong).await["status"], 3200);
    let rows = bench.logged(&mut last).await;
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((&row["administrator_name"], &row["tenant_name"]), (&json!("ghost"), &json!("default")));
    assert_eq!((&row["administrator_id"], &row["status"]), (&Value::Null, &json!(3200)));

    // All of it is read by the actions of the log, with the old members under their names.
    let list = json!({"action": "log_get_list", "filters": {"status": 3200}});
    let answer = bench.call(&list).await;
    let row = &answer["rows"][0];
    for field in qvd_model::action::entity(action("log_get_list").unwrap().object).fields {
        assert!(row.get(field.name).is_some(), "{}: {row}", field.name);
    }
    assert_eq!((&row["admin_name"], &row["user_agent"]), (&json!("ghost"), &json!("bench/1")));
    bench.it.stop().await;
}
