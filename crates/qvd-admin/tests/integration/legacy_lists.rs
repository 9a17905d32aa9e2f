//! Lists by every field in every place, and by what the older web console asks for.

use qvd_model::action::{ACTIONS, Action, Field, Kind, Object, Show, Verb, action, entity};
use serde_json::{Map, Value, json};

use crate::{Installation, image_file};

/// Two tenants with something of each kind, and rows with and without the values that may be missing.
async fn populated(name: &str) -> Installation {
    let it = Installation::start(name).await;
    it.running_host("node1", "10.3.15.1").await;
    it.qa4(&["host", "new", "name=node2,address=10.3.15.2"]).await.unwrap();
    it.qa4(&["tenant", "new", "name=other,description='the others'"]).await.unwrap();
    it.qa4(&["admin", "new", "name=boss,password=p,tenant=other"]).await.unwrap();
    it.qa4(&["role", "new", "name=helpers,tenant=default"]).await.unwrap();
    let file = it.path("x.tar.gz");
    image_file(&file);
    for (tenant, osf, user) in [("default", "office", "ann"), ("other", "lab", "bob")] {
        it.qa4(&["osf", "new", &format!("name={osf},tenant={tenant}")]).await.unwrap();
        it.qa4(&["user", "new", &format!("name={user},password=p,tenant={tenant}")]).await.unwrap();
        it.qa4(&["di", "new", &format!("file={},osf={osf},version=v", file.display())]).await.unwrap();
        it.qa4(&["vm", "new", &format!("name={user}1,user={user},osf={osf}")]).await.unwrap();
        it.qa4(&["property", "new", &format!("key=floor,tenant={tenant}")]).await.unwrap();
        it.qa4(&["property", "floor", "assign", "user"]).await.ok();
        it.qa4(&["config", "set", &format!("key=l7r.auth.plugins,value=default,tenant={tenant}")])
            .await
            .unwrap();
    }
    it.qa4(&["user", "ann", "set", "description='of the office',blocked=1"]).await.unwrap();
    it.qa4(&[
        "vm",
        "ann1",
        "set",
        "description=first, expiration_soft=2031-01-01, expiration_hard=2031-02-01",
    ])
    .await
    .unwrap();
    it.sql(
        "UPDATE vm_runtimes SET vm_state = 'running', user_state = 'connected', host_id = 10000, \
         current_di_id = 10000, current_osf_id = 10000, vm_address = '10.3.15.254', vm_ssh_port = 22, \
         vm_vnc_port = 5900, vm_serial_port = 10000 WHERE vm_id = 10000",
    )
    .await;
    let view = json!({"action": "tenant_attribute_view_set", "arguments": {"tenant_id": 1, "field": "id",
        "view_type": "list_column", "device_type": "desktop", "qvd_object": "vm", "visible": 1}});
    assert_eq!(it.post("/api", &view).await.1["status"], 0);
    it
}

/// One list with the filters that it must have.
struct List<'a> {
    it: &'a Installation,
    action: &'static Action,
    base: Vec<Value>,
}

impl<'a> List<'a> {
    fn of(it: &'a Installation, action: &'static Action) -> Self {
        let base = match action.object {
            Object::RoleAcl => vec![json!("role_id"), json!(43)],
            Object::UserState | Object::HostState => vec![json!("id"), json!(10_000)],
            _ => Vec::new(),
        };
        Self { it, action, base }
    }

    async fn ask(&self, more: &[Value], members: Value) -> Value {
        let filters: Vec<Value> = self.base.iter().chain(more).cloned().collect();
        let mut body = json!({"action": self.action.name, "filters": {"-and": filters}, "block": 0});
        body.as_object_mut().unwrap().extend(members.as_object().cloned().unwrap_or_default());
        let (status, answer) = self.it.post("/api", &body).await;
        assert_eq!((status, &answer["status"]), (200, &json!(0)), "{body}: {answer}");
        answer
    }

    async fn count(&self, field: &str, value: Value) -> i64 {
        self.ask(&[json!(field), value], json!({})).await["total"].as_i64().unwrap()
    }

    async fn values(&self, field: &str, order: &str) -> Vec<Value> {
        let by = json!({"fields": [field], "order_by": {"field": field, "order": order}});
        let answer = self.ask(&[], by).await;
        answer["rows"].as_array().unwrap().iter().map(|row| row[field].clone()).collect()
    }
}

/// What is right for every field: what a filter takes and what it leaves are all rows there are.
async fn compared(list: &List<'_>, field: &Field, values: &[Value]) {
    let name = field.name;
    let place = format!("{} {name}", list.action.name);
    let all = list.ask(&[], json!({})).await["total"].as_i64().unwrap();
    let null = list.count(name, Value::Null).await;
    // Some stand for several values of a row, of which one is enough.
    let several = field.show == Show::Never || values.iter().any(Value::is_array);
    let shown = values.iter().find(|value| !several && !value.is_null() && **value != json!(""));
    let one = shown.cloned().unwrap_or_else(|| match field.kind {
        Kind::Moment => json!("2031-01-01T00:00:00"),
        Kind::Text(_) | Kind::Login(_) | Kind::Address | Kind::Word(_) => json!("x"),
        _ => json!(1),
    });
    let equal = list.count(name, one.clone()).await;
    if let Some(shown) = shown.filter(|_| field.kind != Kind::Moment) {
        let same = values.iter().filter(|value| *value == shown).count();
        assert_eq!(equal, i64::try_from(same).unwrap(), "{place} = {shown}");
    }
    if several {
        for form in [json!({"!=": one}), json!([one, 7]), json!({"~": "%"}), json!({"-between": [1, 9]})] {
            list.count(name, form).await;
        }
        return;
    }
    for different in ["!=", "<>"] {
        let others = list.count(name, json!({different: one})).await;
        assert_eq!(others, all - equal - null, "{place} {different} {one}");
    }
    let listed = json!([one, one]);
    assert_eq!(list.count(name, listed.clone()).await, equal, "{place} in {listed}");
    assert_eq!(list.count(name, json!({"!=": listed})).await, all - equal - null, "{place} not in {listed}");
    let not = list.ask(&[json!("-not"), json!({name: one})], json!({})).await;
    assert_eq!(not["total"], all - equal, "{place} -not {one}");
    let either = list.ask(&[json!("-or"), json!([name, one, name, Value::Null])], json!({})).await;
    assert_eq!(either["total"], equal + null, "{place} {one} or nothing");
    for like in ["~", "LIKE"] {
        assert_eq!(list.count(name, json!({like: "%"})).await, all - null, "{place} {like}");
    }
    if matches!(field.kind, Kind::Int | Kind::Count | Kind::Real | Kind::Moment) {
        let (least, most) = match field.kind {
            Kind::Moment => (json!("1900-01-01"), json!("2999-12-31 23:59:59")),
            _ => (json!(-2_000_000_000), json!(2_000_000_000)),
        };
        let within = list.count(name, json!({"-between": [least, most]})).await;
        assert_eq!(within, all - null, "{place} -between");
        let both = list.count(name, json!({">=": least, "<=": most})).await;
        assert_eq!(both, all - null, "{place} with two operators");
        let (below, above) = (json!({"<": one}), json!({">=": one}));
        assert_eq!(
            list.count(name, below).await + list.count(name, above).await,
            all - null,
            "{place} on either side of {one}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_is_shown_compared_and_ordered_by() {
    let it = populated("everyfield").await;
    let (mut shown, mut filtered, mut ordered) = (0, 0, 0);
    for action in ACTIONS.iter().filter(|action| action.verb == Verb::List) {
        let list = List::of(&it, action);
        for field in entity(action.object).fields {
            let mut values = Vec::new();
            if field.show != Show::Never {
                let answer = list.ask(&[], json!({"fields": [field.name]})).await;
                let rows = answer["rows"].as_array().unwrap();
                assert!(
                    rows.iter().all(|row| row.as_object().unwrap().keys().eq([field.name])),
                    "{} {}: {answer}",
                    action.name,
                    field.name
                );
                for row in rows {
                    let value = row[field.name].clone();
                    let fits = match field.kind {
                        Kind::Int | Kind::Count | Kind::Real => value.is_number(),
                        Kind::Switch => value == 0 || value == 1,
                        Kind::Structure => value.is_object() || value.is_array(),
                        _ => value.is_string(),
                    };
                    assert!(fits || value.is_null(), "{} {}: {value}", action.name, field.name);
                    values.push(value);
                }
                shown += 1;
            }
            if field.order {
                let mut ascending = list.values(field.name, "-asc").await;
                ascending.reverse();
                assert_eq!(
                    ascending,
                    list.values(field.name, "-desc").await,
                    "{} {}",
                    action.name,
                    field.name
                );
                ordered += 1;
            }
            // The lists of ACLs are those of one administrator or role, and there is one setup for each caller.
            let selected =
                ["admin_id", "role_id"].contains(&field.name) || action.object == Object::ConsoleSetup;
            if field.filter && !selected {
                compared(&list, field, &values).await;
                filtered += 1;
            }
        }
    }
    assert!(shown > 250 && filtered > 200 && ordered > 150, "{shown} {filtered} {ordered}");
    it.stop().await;
}

/// What the older console shows, orders by and filters by in each of its lists.
const CONSOLE: &str = include_str!("legacy_lists.txt");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_console_gets_its_lists() {
    let it = populated("consolelists").await;
    let login = it.post_as("superadmin", "*", json!({"action": "current_admin_setup"})).await;
    let sid = login["sid"].as_str().unwrap();
    // As it sends everything: by POST, without a body, in the address.
    let ask = async |members: Map<String, Value>| {
        let mut path = format!("/api/?&sid={sid}");
        for (name, value) in &members {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let value: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
            path.push_str(&format!("&{name}={value}"));
        }
        let (status, answer) = it.raw("POST", &path, &[], b"").await;
        assert_eq!((status, &answer["status"]), (200, &json!(0)), "{path}: {answer}");
        answer
    };
    let mut lists = 0;
    for line in CONSOLE.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(": ").unwrap();
        let (list, use_of) = name.split_once(' ').unwrap();
        let found = action(&format!("{list}_get_list")).unwrap();
        let words: Vec<&str> = rest.split(' ').collect();
        let base = json!({"action": found.name, "offset": 1, "block": 10, "parameters": {"source": "WAT"}});
        let base = base.as_object().unwrap();
        match use_of {
            "columns" => {
                let mut members = base.clone();
                members.insert("fields".to_owned(), json!(words));
                let answer = ask(members).await;
                for row in answer["rows"].as_array().unwrap() {
                    assert!(words.iter().all(|word| row.get(*word).is_some()), "{list}: {row}");
                    assert!(!row.as_object().unwrap().values().any(Value::is_boolean), "{list}: {row}");
                }
                lists += 1;
            }
            "orders" => {
                for (word, order) in words.iter().flat_map(|word| [(word, "-asc"), (word, "-desc")]) {
                    let mut members = base.clone();
                    members.insert("order_by".to_owned(), json!({"field": word, "order": order}));
                    ask(members).await;
                }
            }
            _ => {
                for word in words {
                    let field = entity(found.object).field(word).unwrap();
                    let forms = match field.kind {
                        Kind::Moment => vec![
                            json!({"-between": ["2020-01-01 00:00:00", "2040-01-01 00:00:00"]}),
                            json!({">=": "2020-01-01"}),
                            json!({"<": "2040-01-01T00:00:00"}),
                            json!({"!=": null}),
                        ],
                        Kind::Switch => vec![json!("1"), json!("0"), json!({"!=": "1"})],
                        Kind::Int => vec![json!("10000"), json!([1, 2]), json!({"!=": 7})],
                        _ => vec![json!({"~": "%a%"}), json!("a"), json!({"!=": "a"}), json!(["a", "b"])],
                    };
                    for form in forms {
                        let mut members = base.clone();
                        members.insert("filters".to_owned(), json!({word: form}));
                        ask(members).await;
                    }
                }
            }
        }
    }
    assert_eq!(lists, 9);
    // Whatever it shows when nothing is selected.
    let mut members = Map::new();
    members.insert("action".to_owned(), json!("vm_get_list"));
    members.insert("filters".to_owned(), json!({"-or": []}));
    assert_eq!(ask(members).await["total"], 2);
    it.stop().await;
}
