//! Who may do what: generated from the registry, so that a new action cannot be forgotten.

use qvd_model::action::{
    ACTIONS, Access, Action, Kind, OPERATIONS, Object, Operation, Target, Tenancy, Verb, acl_matches, entity,
};
use serde_json::{Value, json};

use crate::{Installation, PASSWORD};

/// Leaves the administrator `admin` of tenant `default` with exactly these ACLs.
pub async fn grant(it: &Installation, acls: &[&str]) {
    let names = acls.iter().map(|a| format!("'{a}'")).collect::<Vec<_>>().join(",");
    let names = if names.is_empty() { "''".to_owned() } else { names };
    it.sql(&format!(
        "DELETE FROM role_administrator_relations WHERE administrator_id = 2; \
         DELETE FROM roles WHERE name = 'tested'; \
         INSERT INTO roles (name, tenant_id, internal, fixed) VALUES ('tested', 1, false, false); \
         INSERT INTO acl_role_relations (acl_id, role_id, positive) \
         SELECT acls.id, roles.id, true FROM acls, roles WHERE roles.name = 'tested' AND acls.name IN ({names}); \
         INSERT INTO role_administrator_relations (role_id, administrator_id) \
         SELECT id, 2 FROM roles WHERE name = 'tested'"
    ))
    .await;
}

/// The session of `admin`: logging in for each request would take its time.
async fn session(it: &Installation) -> String {
    let answer = it.post_as("admin", "default", json!({"action": "current_admin_setup"})).await;
    answer["sid"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// An ACL that fits a pattern and is not one of tenants, which tenant administrators never have.
fn example(patterns: &[&str]) -> Option<&'static str> {
    let mut acls = qvd_model::acl::ACLS.iter().map(|a| a.name).filter(|a| !a.starts_with("tenant."));
    acls.find(|acl| patterns.iter().any(|p| acl_matches(p, acl)))
}

/// The operations of `/api/v2` that an action is.
fn operations(action: &Action) -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().filter(|operation| operation.action.name == action.name)
}

/// The address of an operation on the object of a number.
fn address(operation: &Operation, id: i32) -> String {
    match operation.target {
        Target::Item => operation.path.replace("{id}", &id.to_string()).replace("{key}", "l7r.port"),
        Target::Selection if operation.action.verb.changes() => format!("{}?id={id}", operation.path),
        _ => operation.path.clone(),
    }
}

/// A body that an operation takes, without anything in it.
fn nothing(operation: &Operation) -> Option<Value> {
    matches!(operation.action.verb, Verb::Create | Verb::CreateOrUpdate | Verb::Update).then(|| json!({}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_action_needs_one_of_its_acls() {
    let it = Installation::start("matrix").await;
    grant(&it, &[]).await;
    let sid = session(&it).await;
    let call = async |body: Value| {
        let mut body = body;
        body["sid"] = json!(sid);
        it.post("/api", &body).await.1
    };
    for action in ACTIONS.iter().filter(|a| !a.acls.is_empty()) {
        grant(&it, &[]).await;
        let refused = call(json!({"action": action.name})).await;
        assert_eq!(refused["status"], 4210, "{}: {refused}", action.name);
        for operation in operations(action) {
            let path = address(operation, 987_654);
            let refused = it.v2(Some(&sid), operation.method.as_str(), &path, nothing(operation)).await;
            assert_eq!(refused.problem(), (403, 4210), "{operation:?}: {refused:?}");
        }
        match example(action.acls) {
            Some(acl) => {
                grant(&it, &[acl]).await;
                let admitted = call(json!({"action": action.name})).await;
                assert_ne!(admitted["status"], 4210, "{} with {acl}: {admitted}", action.name);
                for operation in operations(action) {
                    let path = address(operation, 987_654);
                    let admitted =
                        it.v2(Some(&sid), operation.method.as_str(), &path, nothing(operation)).await;
                    assert_ne!(admitted.body["code"], 4210, "{operation:?} with {acl}: {admitted:?}");
                }
            }
            // Only super-administrators have these.
            None => assert_eq!(action.object, Object::Tenant, "{}", action.name),
        }
    }
    it.stop().await;
}

/// The permissions of each shipped role are those of the view that other software reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_give_what_the_view_says() {
    let it = Installation::start("roles").await;
    let client = it.database().client().await.unwrap();
    let expected = "SELECT r.inheritor_id, array_agg(DISTINCT acls.name::text) FROM all_acl_role_relations AS r \
         JOIN acls ON acls.id = r.acl_id GROUP BY r.inheritor_id";
    let roles = client.query(expected, &[]).await.unwrap();
    assert_eq!(roles.len(), 67);
    for row in roles {
        let (role, mut names): (i32, Vec<String>) = (row.get(0), row.get(1));
        names.sort();
        it.sql(&format!(
            "UPDATE role_administrator_relations SET role_id = {role} WHERE administrator_id = 2"
        ))
        .await;
        let mut found = qvd_db::admin::identity::acls(&client, 2).await.unwrap();
        found.sort();
        assert_eq!(found, names, "role {role}");
    }
    it.stop().await;
}

/// An administrator of one tenant neither sees, counts, changes nor refers to rows of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_do_not_meet() {
    let it = Installation::start("isolation").await;
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    it.qa4(&["osf", "new", "name=theirs,tenant=other"]).await.unwrap();
    it.qa4(&["user", "new", "name=them,password=p,tenant=other"]).await.unwrap();
    it.qa4(&["vm", "new", "name=secret,user=them,osf=theirs"]).await.unwrap();
    it.qa4(&["admin", "new", &format!("name=boss,password='{PASSWORD}',tenant=other")]).await.unwrap();
    // The session of a stranger, which has the number 10000.
    it.log_in("boss", "other").await;
    let file = it.path("x.tar.gz");
    crate::image_file(&file);
    it.qa4(&["di", "new", &format!("file={},osf=theirs,version=v", file.display())]).await.unwrap();
    it.qa4(&["osf", "new", "name=ours,tenant=default"]).await.unwrap();
    it.qa4(&["user", "new", "name=us,password=p,tenant=default"]).await.unwrap();

    let sid = session(&it).await;
    let call = async |body: Value| {
        let mut body = body;
        body["sid"] = json!(sid);
        it.post("/api", &body).await.1
    };
    let theirs = [10_000, 10_001, 3, 2, 1, 0, -1];
    for action in ACTIONS {
        let entity = entity(action.object);
        let scoped = !matches!(entity.tenancy, Tenancy::None);
        match action.verb {
            Verb::List if scoped => {
                let answer = call(json!({"action": action.name, "block": 0})).await;
                if action.object == Object::Tenant {
                    assert_eq!(answer["status"], 4210);
                    continue;
                }
                let text = answer.to_string();
                assert_eq!(answer["status"], 0, "{}: {answer}", action.name);
                for name in ["theirs", "them", "secret", "boss", "x.tar.gz"] {
                    assert!(!text.contains(&format!("\"{name}\"")), "{}: {text}", action.name);
                }
                assert_eq!(answer["total"].as_u64(), Some(answer["rows"].as_array().unwrap().len() as u64));
                for operation in operations(action).filter(|o| o.target == Target::Selection) {
                    let whole = format!("{}?limit=1000&total=true", operation.path);
                    let all = it.v2(Some(&sid), "GET", &whole, None).await;
                    // Times that are left pass meanwhile.
                    let known =
                        |rows: &[Value]| rows.iter().map(|r| json!([r["id"], r["key"]])).collect::<Vec<_>>();
                    let rows = answer["rows"].as_array().unwrap();
                    assert_eq!(known(all.items()), known(rows), "{}", operation.path);
                    assert_eq!(all.body["total"], answer["total"], "{}", operation.path);
                    let by_tenant = format!("{}?tenant_id=2", operation.path);
                    assert_eq!(it.v2(Some(&sid), "GET", &by_tenant, None).await.problem(), (403, 4220));
                }
                let by_tenant = call(json!({"action": action.name, "filters": {"tenant_id": 2}})).await;
                assert_eq!(by_tenant["status"], 4220, "{}: {by_tenant}", action.name);
                for operation in operations(action).filter(|o| o.target == Target::Item) {
                    for id in theirs.iter().filter(|id| **id > 0 && foreign(action.object, **id)) {
                        let one = it.v2(Some(&sid), "GET", &address(operation, *id), None).await;
                        let theirs = ["theirs", "them", "secret", "boss", "x.tar.gz"];
                        let text = one.body.to_string();
                        assert!(theirs.iter().all(|n| !text.contains(&format!("\"{n}\""))), "{one:?}");
                    }
                }
            }
            Verb::Update | Verb::Delete | Verb::Execute(_) if scoped => {
                let before = it.database().client().await.unwrap();
                let state = "SELECT (SELECT count(*) FROM vms) || ' ' || (SELECT count(*) FROM users) || ' ' || \
                     (SELECT count(*) FROM osfs) || ' ' || (SELECT count(*) FROM administrators)";
                let count = async || before.query_one(state, &[]).await.unwrap().get::<_, String>(0);
                let old = count().await;
                // Everything of ours has other ids than these, except administrator 2: the caller itself.
                let ids: Vec<_> = theirs.iter().filter(|id| foreign(action.object, **id)).collect();
                let answer = call(json!({"action": action.name, "filters": {"id": ids, }})).await;
                let nothing = answer["status"] == 1300
                    || answer["status"] == 4210
                    || answer["status"] == 6210
                    || answer["total"] == 0;
                assert!(nothing, "{}: {answer}", action.name);
                for operation in operations(action).filter(|o| o.target != Target::Whole) {
                    for id in theirs.iter().filter(|id| **id > 0 && foreign(action.object, **id)) {
                        let (path, body) = (address(operation, *id), self::nothing(operation));
                        let answer = it.v2(Some(&sid), operation.method.as_str(), &path, body).await;
                        let nothing = matches!(answer.body["code"].as_u64(), Some(1300 | 4210 | 6210))
                            || answer.body["processed"] == 0;
                        assert!(nothing, "{operation:?} {id}: {answer:?}");
                    }
                }
                assert_eq!(count().await, old, "{}", action.name);
            }
            _ => {}
        }
    }
    for arguments in [
        json!({"name": "n", "user_id": 10000, "osf_id": 10001}),
        json!({"name": "n", "user_id": 10001, "osf_id": 10000}),
        json!({"name": "n", "user_name": "them", "osf_name": "ours"}),
        json!({"name": "n", "user_name": "us", "osf_name": "theirs"}),
    ] {
        let answer = call(json!({"action": "vm_create", "arguments": arguments})).await;
        assert_eq!(answer["status"], 7110, "{answer}");
    }
    // The tenant of what they make is their own, whatever they write.
    let made = json!({"action": "osf_create", "arguments": {"name": "mine", "tenant_id": 2}});
    assert_eq!(call(made).await["status"], 0);
    assert_eq!(it.rows(&["osf", "mine", "get", "tenant"]).await[0]["tenant"], "default");
    // A super-administrator may not join two tenants either.
    let both = json!({"action": "vm_create", "arguments": {"name": "n", "user_id": 10001, "osf_id": 10000}});
    assert_eq!(it.post("/api", &both).await.1["status"], 7300);
    it.stop().await;
}

/// Whatever number of a foreign row stands in a filter or an argument, the answer is that of a number that nobody has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_numbers_are_like_those_that_nobody_has() {
    let it = Installation::start("foreignnumbers").await;
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    it.qa4(&["osf", "new", "name=theirs,tenant=other"]).await.unwrap();
    it.qa4(&["user", "new", "name=them,password=p,tenant=other"]).await.unwrap();
    it.qa4(&["vm", "new", "name=secret,user=them,osf=theirs"]).await.unwrap();
    it.qa4(&["admin", "new", &format!("name=boss,password='{PASSWORD}',tenant=other")]).await.unwrap();
    it.log_in("boss", "other").await;
    it.qa4(&["property", "new", "key=floor,tenant=other"]).await.unwrap();
    it.qa4(&["property", "floor", "assign", "user"]).await.unwrap();
    it.running_host("node1", "10.3.15.1").await;
    let file = it.path("x.tar.gz");
    crate::image_file(&file);
    it.qa4(&["di", "new", &format!("file={},osf=theirs,version=v", file.display())]).await.unwrap();
    it.sql("UPDATE vm_runtimes SET host_id = 10000, current_di_id = 10000, current_osf_id = 10000").await;
    let sid = session(&it).await;
    let call = async |body: Value| {
        let mut body = body;
        body["sid"] = json!(sid);
        it.post("/api", &body).await.1
    };
    let (foreign, nobodys) = (json!(10_000), json!(987_654));
    let mut compared = 0;
    for action in ACTIONS {
        let entity = entity(action.object);
        for field in entity.fields.iter().filter(|f| f.kind == Kind::Int && f.name != "tenant_id") {
            // Numbers of hosts are everybody's.
            let own = matches!(action.object, Object::Host | Object::HostState) && field.name == "id";
            if field.filter && action.verb == Verb::List && !own {
                let ask =
                    |id: &Value| json!({"action": action.name, "filters": {field.name: id}, "block": 0});
                let (seen, unseen) = (call(ask(&foreign)).await, call(ask(&nobodys)).await);
                let without_number = |answer: &Value| answer.to_string().replace("10000", "987654");
                assert_eq!(without_number(&seen), without_number(&unseen), "{} {}", action.name, field.name);
                for operation in operations(action).filter(|o| o.target == Target::Selection) {
                    let ask = async |id: &Value| {
                        let path = format!("{}?{}={id}&total=true&limit=1000", operation.path, field.name);
                        it.v2(Some(&sid), "GET", &path, None).await.body
                    };
                    let (seen, unseen) = (ask(&foreign).await, ask(&nobodys).await);
                    assert_eq!(
                        without_number(&seen),
                        without_number(&unseen),
                        "{} {}",
                        operation.path,
                        field.name
                    );
                }
                compared += 1;
            }
            // The number of a definition in the image generator is no row here.
            let creates = matches!(action.verb, Verb::Create | Verb::CreateOrUpdate);
            if !creates || field.create == Access::No || field.name == "osd_id" {
                continue;
            }
            let ask = |id: &Value| {
                let given = entity.fields.iter().filter(|f| f.create != Access::No && f.name != "tenant_id");
                let mut arguments: serde_json::Map<String, Value> = given
                    .map(|f| {
                        let value = match f.kind {
                            Kind::Word(words) => json!(words[0]),
                            Kind::Int => nobodys.clone(),
                            Kind::Switch => json!(1),
                            Kind::Moment => Value::Null,
                            Kind::Address => Value::Null,
                            _ => json!("x"),
                        };
                        (f.name.to_owned(), value)
                    })
                    .collect();
                arguments.insert(field.name.to_owned(), id.clone());
                json!({"action": action.name, "arguments": arguments})
            };
            let (seen, unseen) = (call(ask(&foreign)).await, call(ask(&nobodys)).await);
            assert_ne!(seen["status"], 0, "{} {}: {seen}", action.name, field.name);
            for operation in operations(action) {
                let ask = async |id: &Value| {
                    let arguments = ask(id)["arguments"].clone();
                    it.v2(Some(&sid), operation.method.as_str(), &operation.path, Some(arguments)).await.body
                };
                let (seen, unseen) = (ask(&foreign).await, ask(&nobodys).await);
                assert!(seen["code"].is_u64(), "{} {}: {seen}", operation.path, field.name);
                assert_eq!(seen, unseen, "{} {}", operation.path, field.name);
            }
            assert_eq!(seen, unseen, "{} {}", action.name, field.name);
            compared += 1;
        }
    }
    assert!(compared > 40, "only {compared} numbers: the registry is not walked");
    it.stop().await;
}

/// Which of the ids belong to somebody else: first OSF, user, VM and session are those of the other tenant.
fn foreign(object: Object, id: i32) -> bool {
    match object {
        Object::Osf | Object::User => id != 10_001,
        Object::Administrator => id != 2,
        Object::Session => id != 10_001,
        _ => true,
    }
}
