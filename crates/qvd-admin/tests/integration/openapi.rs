//! The OpenAPI document: it is valid, and it is true.

use std::collections::{BTreeMap, HashMap};

use jsonschema::Validator;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::shapes::{value, word};
use crate::{Answer, Installation, PASSWORD, image_file};

/// Against the schema that the OpenAPI initiative publishes (Apache-2.0), and in what that schema cannot see.
#[test]
fn the_document_is_valid() {
    let schema = serde_json::from_str(include_str!("../openapi-3.1.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let document = qvd_admin::openapi();
    let problems: Vec<String> =
        validator.iter_errors(&document).map(|e| format!("{}: {e}", e.instance_path)).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    // The validator does see mistakes.
    let mut broken = document.clone();
    broken["paths"]["/vms"]["get"]["parameters"][0] = json!({"name": "x", "in": "nowhere"});
    assert!(!validator.is_valid(&broken));
    let mut ids = Vec::new();
    references(&document, &mut |reference| {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    });
    for (path, methods) in document["paths"].as_object().unwrap() {
        for operation in methods.as_object().unwrap().values() {
            ids.push(operation["operationId"].as_str().unwrap());
            let named = operation["parameters"].as_array().into_iter().flatten();
            let in_path = named.filter(|p| p["$ref"] == "#/components/parameters/id").count();
            assert_eq!(in_path, path.matches("{id}").count(), "{path}");
        }
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "an operationId stands twice");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::meta::is_valid(schema), "{name}");
    }
}

fn references(value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                each(reference);
            }
            members.values().for_each(|member| references(member, each));
        }
        Value::Array(members) => members.iter().for_each(|member| references(member, each)),
        _ => {}
    }
}

/// The document, with the schemas of answers ready to be used.
struct Document {
    document: Value,
    validators: HashMap<String, Validator>,
}

impl Document {
    async fn served(it: &Installation) -> Self {
        let served = it.ask("GET", "/api/v2/openapi.json", &[], b"").await;
        assert_eq!((served.status, &served.body), (200, &qvd_admin::openapi()));
        Self { document: served.body, validators: HashMap::new() }
    }

    fn operations(&self) -> Vec<(String, String, Value)> {
        let paths = self.document["paths"].as_object().unwrap();
        let each = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            // A stream has no end to wait for.
            let ending = methods.filter(|(_, described)| described["operationId"] != "changes");
            ending.map(move |(method, described)| (method.to_uppercase(), path.clone(), described.clone()))
        });
        each.collect()
    }

    fn resolved<'v>(&'v self, value: &'v Value) -> &'v Value {
        match value["$ref"].as_str() {
            Some(reference) => self.document.pointer(&reference[1..]).unwrap(),
            None => value,
        }
    }

    /// Checks that an answer is one of the documented ones, status, type and shape.
    fn check(&mut self, described: &Value, answer: &Answer, asked: &str) {
        let status = answer.status.to_string();
        let responses = described["responses"].as_object().unwrap();
        let response = responses
            .get(&status)
            .unwrap_or_else(|| panic!("{asked}: {status} is not documented: {answer:?}"));
        let response = self.resolved(response).clone();
        let Some(content) = response["content"].as_object() else {
            assert_eq!(answer.body, "", "{asked}: {answer:?}");
            return;
        };
        let (kind, content) = content.iter().next().unwrap();
        assert_eq!(answer.header("content-type"), Some(kind.as_str()), "{asked}");
        let mut schema = content["schema"].clone();
        schema["components"] = self.document["components"].clone();
        let key = content["schema"].to_string();
        let validator =
            self.validators.entry(key).or_insert_with(|| jsonschema::validator_for(&schema).unwrap());
        let problems: Vec<String> = validator.iter_errors(&answer.body).map(|e| e.to_string()).collect();
        assert!(problems.is_empty(), "{asked}: {problems:?} in {}", answer.body);
    }

    /// A body of which the schema says what it is made of.
    fn body(&self, described: &Value, n: usize) -> Option<Value> {
        let schema = &described["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            return None;
        }
        let schema = self.resolved(schema);
        let change = described["operationId"].as_str().unwrap().ends_with("update");
        let properties = schema["properties"].as_object().unwrap();
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().map(|r| r.as_str().unwrap()).collect();
        let wanted = |name: &str| {
            required.contains(&name)
                || name == "description"
                || (!change && name.ends_with("_id") && name != "osd_id")
        };
        let members = properties.iter().filter(|(name, _)| wanted(name)).map(|(name, schema)| {
            let value = match name.as_str() {
                "tenant_id" => json!(1),
                "address" => json!(format!("10.3.15.{}", 100 + n % 100)),
                "view_type" => json!("list_column"),
                "password" => json!(PASSWORD),
                _ => match schema["type"][0].as_str().or(schema["type"].as_str()).unwrap() {
                    "integer" => json!(10_000),
                    "boolean" => json!(true),
                    "string" => schema["enum"].get(0).cloned().unwrap_or_else(|| json!(format!("made{n}"))),
                    other => panic!("{name} is {other}"),
                },
            };
            (name.clone(), value)
        });
        Some(Value::Object(members.collect::<Map<_, _>>()))
    }
}

/// Something of each kind, with a number that the paths name.
async fn populated(name: &str) -> Installation {
    let it = Installation::start(name).await;
    it.running_host("node1", "10.3.15.1").await;
    it.qa4(&["osf", "new", "name=office,tenant=default"]).await.unwrap();
    it.qa4(&["user", "new", "name=ann,password=p,tenant=default"]).await.unwrap();
    let file = it.path("x.tar.gz");
    image_file(&file);
    it.qa4(&["di", "new", &format!("file={},osf=office,version=v", file.display())]).await.unwrap();
    it.qa4(&["vm", "new", "name=desk,user=ann,osf=office"]).await.unwrap();
    it.qa4(&["property", "new", "key=floor,tenant=default"]).await.unwrap();
    it.qa4(&["property", "floor", "assign", "user"]).await.unwrap();
    it.log_in("admin", "default").await;
    it
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_answers_as_documented() {
    let it = populated("openapicalls").await;
    let mut document = Document::served(&it).await;
    let mut operations = document.operations();
    // What is removed goes last.
    operations.sort_by_key(|(method, _, _)| method == "DELETE");
    let mut met: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    let mut n = 0;
    for (method, path, described) in &operations {
        for id in ["10000", "2", "1"] {
            n += 1;
            let mut path = path.replace("{id}", id);
            if method != "GET" && described["parameters"].to_string().contains("parameters/filter") {
                path.push_str(&format!("?id={id}"));
            }
            let asked = format!("{method} {path}");
            let body = document.body(described, n);
            let answer = it.v2(None, method, &path, body.clone()).await;
            assert!(answer.status < 500, "{asked} {body:?}: {answer:?}");
            document.check(described, &answer, &asked);
            met.entry(described["operationId"].as_str().unwrap()).or_default().push(answer.status);
            // Nobody is told more than that.
            let stranger = it.v2(Some("x"), method, &path, body).await;
            if described["security"].is_null() && path != "/session" {
                assert_eq!(stranger.status, 401, "{asked}");
            }
            if !path.contains(id) {
                break;
            }
        }
    }
    met.retain(|_, statuses| statuses.iter().all(|status| *status >= 300));
    assert!(
        met.len() * 3 < operations.len(),
        "{} of {} never carried out: {met:?}",
        met.len(),
        operations.len()
    );
    it.stop().await;
}

/// Whatever stands in a body or a query: no answer is the server's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_body_is_too_much() {
    let it = populated("openapibodies").await;
    let mut document = Document::served(&it).await;
    let operations = document.operations();
    // Not the session that the paths name: that may be ended.
    let sid = it.log_in("admin", "default").await;
    let mut runner = TestRunner::default();
    let cases = (
        proptest::sample::select(operations),
        proptest::collection::btree_map(word(), value(), 0..5),
        value(),
        proptest::collection::vec((word(), word()), 0..3),
        proptest::bool::ANY,
    );
    for _ in 0..1500 {
        let (operation, members, other, query, root) = cases.new_tree(&mut runner).unwrap().current();
        let (method, path, described) = operation;
        // Guesses of passwords are answered ever slower.
        if path == "/session" {
            continue;
        }
        let members: Map<String, Value> = members.into_iter().collect();
        let whole = members.len() % 4 == 3;
        let body = if whole { other } else { Value::Object(members) };
        let query: String = form_urlencoded::Serializer::new(String::new()).extend_pairs(&query).finish();
        let path = format!("{}?{query}", path.replace("{id}", "10000"));
        let answer = it.v2((!root).then_some(sid.as_str()), &method, &path, Some(body.clone())).await;
        let asked = format!("{method} {path} {body}");
        assert!(answer.status < 500, "{asked}: {answer:?}");
        document.check(&described, &answer, &asked);
    }
    it.stop().await;
}
