//! The OpenAPI 3.1 document of `/api/v2`, made of the registry.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use qvd_model::action::{
    Access, Change, Entity, Field, Inquiry, Kind, Method, OPERATIONS, Object, Operation, Order, Show, Status,
    Target, Verb, action_for, entity,
};
use serde_json::{Map, Value, json};

use super::question::{COMPARISONS, LIMIT, MAX_LIMIT};

static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());

/// Answers with the document. It holds no secret, so it asks for no login.
pub(super) async fn serve() -> Response {
    let mut response = Response::new(Body::from(TEXT.as_str()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The document.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut add = |path: &str, method: Method, operation: Value| {
        let place = paths.entry(path).or_insert_with(|| json!({}));
        place[method.as_str().to_ascii_lowercase()] = operation;
    };
    for operation in OPERATIONS.iter() {
        add(&operation.path, operation.method, described(operation));
    }
    for (path, method, operation) in besides().into_iter().chain(super::images::operations()) {
        add(path, method, operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "QVD administration",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every action of the administration API as an operation on a resource.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": super::BASE}],
        "security": [{"session": []}, {"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": "sid"},
                "token": {"type": "http", "scheme": "bearer"},
            },
            "parameters": parameters(),
            "schemas": schemas(),
            "responses": {"problem": {
                "description": "It was refused.",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/problem"}}},
            }},
        },
    })
}

/// Operations that are not actions.
fn besides() -> Vec<(&'static str, Method, Value)> {
    let login = json!({
        "type": "object",
        "required": ["login", "password"],
        "properties": {
            "login": {"type": "string"},
            "password": {"type": "string", "writeOnly": true},
            "tenant": {"type": "string", "description": "* for super-administrators"},
            "code": {"type": "string", "description": "of the second factor, if there is one", "writeOnly": true},
        },
    });
    let opened = json!({
        "type": "object",
        "required": ["sid", "life"],
        "properties": {"sid": {"type": "string"}, "life": {"type": "integer", "description": "seconds"}},
    });
    let own = |id: &str, summary: &str, good: (&str, Value), bad: &[u16]| {
        let mut responses = problems(bad);
        responses.insert(good.0.to_owned(), good.1);
        json!({"operationId": id, "summary": summary, "tags": ["session"], "responses": responses})
    };
    let mut open = own(
        "session_open",
        "logs in",
        ("201", content("the session", opened)),
        &[400, 401, 403, 413, 415, 422, 429, 500, 503],
    );
    open["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": login}}});
    open["security"] = json!([]);
    let ended = json!({"description": "the session is over"});
    let close = own("session_close", "logs out", ("204", ended), &[401, 500, 503]);
    let mut own_text =
        own("openapi", "this document", ("200", content("the document", json!({"type": "object"}))), &[]);
    own_text["security"] = json!([]);
    let mut changes = own(
        "changes",
        "server-sent events of what changes",
        (
            "200",
            json!({"description": "events ready, change, reset and end",
            "content": {"text/event-stream": {"schema": {"type": "string"}}}}),
        ),
        &[400, 401, 403, 422, 500, 503],
    );
    changes["tags"] = json!(["changes"]);
    let last = |place: &str, name: &str| json!({"name": name, "in": place, "schema": {"type": "string"}, "description": "where to go on"});
    changes["parameters"] = json!([last("header", "Last-Event-ID"), last("query", "last-event-id")]);
    vec![
        ("/changes", Method::Get, changes),
        ("/session", Method::Post, open),
        ("/session", Method::Delete, close),
        ("/openapi.json", Method::Get, own_text),
    ]
}

fn content(description: &str, schema: Value) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": schema}}})
}

fn problems(statuses: &[u16]) -> Map<String, Value> {
    statuses.iter().map(|s| (s.to_string(), json!({"$ref": "#/components/responses/problem"}))).collect()
}

fn described(operation: &Operation) -> Value {
    let action = operation.action;
    let entity = entity(action.object);
    let one = if operation.target == Target::Item { "_one" } else { "" };
    let several = operation.target == Target::Selection && action.verb.changes();
    let what = match action.verb {
        Verb::List => "reads",
        Verb::Create => "makes",
        Verb::CreateOrUpdate => "sets",
        Verb::Update => "changes",
        Verb::Delete => "removes",
        Verb::Execute(order) => order.as_str(),
        Verb::Inquire(_) => "tells",
    };
    let mut described = json!({
        "operationId": format!("{}{one}", action.name),
        "summary": format!("{what}: {}{}", action.object, if several { ", several at once" } else { "" }),
        "tags": [action.object.collection().split('/').next()],
        "x-qvd-action": action.name,
        "x-qvd-acls": action.acls,
        "parameters": of_operation(operation, entity),
        "responses": responses(operation),
    });
    if matches!(action.verb, Verb::Create | Verb::CreateOrUpdate | Verb::Update) {
        let name = if action.verb == Verb::Update { "change" } else { "new" };
        let schema = reference(&format!("{}.{name}", action.object));
        described["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    if let Verb::Execute(order) = action.verb
        && let Some(schema) = with_order(entity, order)
    {
        described["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    described
}

/// What has to come with an order, if anything has to.
fn with_order(entity: &Entity, order: Order) -> Option<Value> {
    let taken: Vec<_> = entity.fields.iter().filter(|field| field.orders.contains(&order)).collect();
    let members = taken.iter().map(|field| {
        let mut schema = written(field);
        schema["type"] = json!("string");
        schema["writeOnly"] = json!(true);
        (field.name.to_owned(), schema)
    });
    let members: Map<String, Value> = members.collect();
    let required: Vec<_> = taken.iter().map(|field| field.name).collect();
    (!taken.is_empty()).then(|| {
        json!({"type": "object", "required": required, "properties": members, "additionalProperties": false})
    })
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn responses(operation: &Operation) -> Map<String, Value> {
    let action = operation.action;
    let mut bad = vec![400, 401, 403, 422, 500, 503];
    let changes = action.verb.changes();
    if operation.target == Target::Item || changes || action.object.is_own() {
        bad.push(404);
    }
    if changes {
        bad.extend([409, 413]);
    }
    if matches!(action.verb, Verb::Create | Verb::CreateOrUpdate | Verb::Update) {
        bad.push(415);
    }
    if changes && super::has_tag(operation) {
        bad.push(412);
    }
    if action.object == Object::Di && changes {
        bad.extend([502, 507]);
    }
    match action.verb {
        Verb::Execute(Order::Confirm) => bad.push(415),
        // Codes are guesses too.
        Verb::Execute(Order::End) => bad.extend([415, 429]),
        _ => {}
    }
    bad.sort_unstable();
    let mut all = problems(&bad);
    let row = || reference(action.object.as_str());
    let nothing = || json!({"description": "it is done"});
    let list = |items: Value| {
        json!({
            "type": "object",
            "required": ["items", "next"],
            "properties": {
                "items": {"type": "array", "items": items},
                "next": {"type": ["string", "null"], "description": "cursor of the page that follows"},
                "total": {"type": "integer"},
            },
        })
    };
    let mut good = |status: u16, response: Value| all.insert(status.to_string(), response);
    match (action.verb, operation.target) {
        (Verb::List, Target::Selection) => {
            let mut response = content("a page", list(row()));
            let lines = json!({"schema": {"type": "string", "description": "all rows, each a line of JSON"}});
            response["content"][super::export::KIND] = lines;
            response["headers"] =
                json!({"Link": {"schema": {"type": "string"}, "description": "the next page"}});
            good(200, response);
        }
        (Verb::List, _) => {
            let mut response = content("the object", row());
            if super::has_tag(operation) {
                response["headers"] =
                    json!({"ETag": {"schema": {"type": "string"}, "description": "stands for its state"}});
            }
            good(200, response);
        }
        (Verb::Create, _) => {
            let mut response = content("it is made", reference("made"));
            response["headers"] =
                json!({"Location": {"schema": {"type": "string"}, "description": "where it is"}});
            good(201, response);
        }
        (Verb::CreateOrUpdate, _) => {
            good(200, content("it is set", json!({"type": "object"})));
            good(204, nothing());
        }
        (Verb::Update | Verb::Delete | Verb::Execute(_), Target::Selection) => {
            good(200, content("all of them are processed", reference("processed")));
            good(207, content("some of them could not be", reference("failures")));
        }
        (Verb::Execute(Order::Begin), _) => {
            let texts = json!({"secret": {"type": "string"}, "uri": {"type": "string", "format": "uri"}});
            good(200, content("for an authenticator", json!({"type": "object", "properties": texts})));
        }
        (Verb::Execute(Order::Confirm), _) => {
            let codes = json!({"recovery_codes": {"type": "array", "items": {"type": "string"}}});
            good(200, content("it is in force", json!({"type": "object", "properties": codes})));
        }
        (Verb::Update | Verb::Delete | Verb::Execute(_), _) => {
            good(204, nothing());
        }
        (Verb::Inquire(Inquiry::Staging | Inquiry::LogSources), _) => {
            good(200, content("the names", list(json!({"type": "object"}))));
        }
        (Verb::Inquire(_), _) => {
            good(200, content("the answer", json!({"type": "object"})));
        }
    }
    all
}

fn of_operation(operation: &Operation, entity: &Entity) -> Vec<Value> {
    let action = operation.action;
    let shared = |name: &str| json!({"$ref": format!("#/components/parameters/{name}")});
    let mut all = Vec::new();
    match operation.target {
        Target::Item if operation.path.contains("{key}") => {
            all.extend([shared("key"), shared("tenant_id")]);
        }
        Target::Item => all.push(shared("id")),
        Target::Selection | Target::Whole => {}
    }
    if action.verb == Verb::List {
        all.push(shared("fields"));
    }
    if action.verb == Verb::List && operation.target == Target::Selection {
        all.extend(["sort", "limit", "cursor", "total"].map(shared));
    }
    if operation.target == Target::Selection {
        all.push(shared("filter"));
        let filters = entity.fields.iter().filter(|field| entity.accepts_filter(action, field));
        all.extend(filters.map(|field| shared(&format!("{}.{}", action.object, field.name))));
    }
    if action.verb.changes() && super::has_tag(operation) {
        all.push(shared("if-match"));
    }
    if super::repeat::is_repeatable(operation) {
        all.push(shared("idempotency-key"));
    }
    all
}

/// The parameters that operations refer to.
fn parameters() -> Map<String, Value> {
    let query = |name: &str, schema: Value, help: &str| json!({"name": name, "in": "query", "description": help, "schema": schema});
    let list = json!({"type": "array", "items": {"type": "string"}});
    let words = |name: &str, help: &str| {
        let mut parameter = query(name, list.clone(), help);
        parameter["explode"] = json!(false);
        parameter
    };
    let comparisons = COMPARISONS.map(|(word, sign)| format!("[{word}] is {sign}")).join(", ");
    let filter = format!(
        "the JSON form of filters; members are also compared as name[like]=x: {comparisons}, [null] asks for nothing"
    );
    let limit = json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": LIMIT});
    let mut all = Map::new();
    let mut add = |name: &str, parameter: Value| all.insert(name.to_owned(), parameter);
    let id = json!({"type": "integer", "format": "int32", "minimum": 0});
    add("id", json!({"name": "id", "in": "path", "required": true, "schema": id}));
    let key = json!({"type": "string", "minLength": 1});
    add("key", json!({"name": "key", "in": "path", "required": true, "schema": key}));
    let tenant = "tenant that the setting is of; -1 for all";
    add("tenant_id", query("tenant_id", json!({"type": "integer"}), tenant));
    add("fields", words("fields", "which members"));
    add("sort", words("sort", "by which members; - before each from high to low"));
    add("limit", query("limit", limit, "rows of a page"));
    add("cursor", query("cursor", json!({"type": "string"}), "`next` of the page before"));
    add("total", query("total", json!({"type": "boolean"}), "whether all rows are counted"));
    add(
        "filter",
        json!({"name": "filter", "in": "query", "description": filter,
        "content": {"application/json": {"schema": {"type": ["object", "array"]}}}}),
    );
    add(
        "if-match",
        json!({"name": "If-Match", "in": "header", "schema": {"type": "string"},
        "description": "tags of the states it is meant for"}),
    );
    add(
        "idempotency-key",
        json!({"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 130},
        "description": "a name of the request, which is not carried out again when it is sent again"}),
    );
    for object in Object::ALL {
        for field in entity(*object).fields {
            let used = OPERATIONS.iter().any(|o| {
                o.action.object == *object
                    && o.target == Target::Selection
                    && entity(*object).accepts_filter(o.action, field)
            });
            if used {
                add(&format!("{object}.{}", field.name), query(field.name, list.clone(), field.help));
            }
        }
    }
    all
}

/// The shapes that operations refer to.
fn schemas() -> Map<String, Value> {
    let mut all = Map::new();
    let codes: Vec<u16> = Status::ALL.iter().map(|status| status.code()).collect();
    let problem = json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "object", "reason"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "integer", "enum": codes},
            "object": {"type": ["string", "null"], "description": "the field, value or state it is about"},
            "reason": {"type": ["string", "null"]},
        },
    });
    let failures = json!({
        "type": "object",
        "required": ["failures"],
        "properties": {"failures": {"type": "object", "additionalProperties": reference("problem"),
            "description": "by number of the object"}},
    });
    let number = |name: &str| json!({"type": "object", "required": [name], "properties": {name: {"type": "integer", "minimum": 0}}});
    all.insert("problem".to_owned(), problem);
    all.insert("failures".to_owned(), failures);
    all.insert("processed".to_owned(), number("processed"));
    all.insert("made".to_owned(), number("id"));
    for object in Object::ALL {
        let entity = entity(*object);
        let has = |verb| action_for(*object, verb).is_some();
        if has(Verb::List) {
            all.insert(object.to_string(), row(entity));
        }
        if has(Verb::Create) || has(Verb::CreateOrUpdate) {
            let verb = if has(Verb::Create) { Verb::Create } else { Verb::CreateOrUpdate };
            let mut schema = creation(entity, verb);
            if *object == Object::Di {
                super::images::describe(&mut schema);
            }
            all.insert(format!("{object}.new"), schema);
        }
        if has(Verb::Update) {
            let given = entity.fields.iter().filter(|field| field.update.is_some());
            let members = given
                .map(|field| (field.name.to_owned(), written(field)))
                .chain(nested(entity, Verb::Update));
            let open = Object::WITH_PROPERTIES.contains(object);
            all.insert(
                format!("{object}.change"),
                json!({"type": "object",
                "properties": members.collect::<Map<_, _>>(), "additionalProperties": open}),
            );
        }
    }
    all
}

/// A row as it is shown. Members that the caller may not see are not there; custom properties are, when asked for.
fn row(entity: &Entity) -> Value {
    let shown = entity.fields.iter().filter(|field| field.show != Show::Never);
    let members = shown.map(|field| {
        let kind = match field.kind {
            Kind::Int | Kind::Count => json!({"type": ["integer", "null"]}),
            Kind::Switch => json!({"type": ["integer", "null"], "enum": [0, 1, null]}),
            Kind::Real => json!({"type": ["number", "null"]}),
            Kind::Structure => json!({}),
            Kind::Moment => json!({"type": ["string", "null"], "description": "UTC"}),
            Kind::Text(_) | Kind::Login(_) | Kind::Password | Kind::Address | Kind::Word(_) => {
                json!({"type": ["string", "null"]})
            }
        };
        (field.name.to_owned(), helped(kind, field))
    });
    json!({"type": "object", "properties": members.collect::<Map<_, _>>()})
}

fn helped(mut schema: Value, field: &Field) -> Value {
    schema["description"] = json!(field.help);
    if !field.see.is_empty() {
        schema["x-qvd-acls"] = json!(field.see);
    }
    schema
}

/// What is given for a new object.
fn creation(entity: &Entity, verb: Verb) -> Value {
    let mut members = Map::new();
    let mut required = Vec::new();
    let mut either = Vec::new();
    for field in entity.fields.iter().filter(|field| field.create != Access::No) {
        members.insert(field.name.to_owned(), written(field));
        let name = field.named_by.and_then(|name| entity.field(name));
        if let Some(name) = name {
            members.insert(name.name.to_owned(), written(name));
        }
        // Administrators of tenants need not say which.
        if field.create == Access::Required && field.name != "tenant_id" {
            match name {
                Some(name) => {
                    either.push(json!({"anyOf": [{"required": [field.name]}, {"required": [name.name]}]}))
                }
                None => required.push(field.name),
            }
        }
    }
    members.extend(nested(entity, verb));
    let mut schema =
        json!({"type": "object", "required": required, "properties": members, "additionalProperties": false});
    if !either.is_empty() {
        schema["allOf"] = json!(either);
    }
    schema
}

/// A value as it is given.
fn written(field: &Field) -> Value {
    let (mut kind, mut schema) = match field.kind {
        Kind::Int => (vec!["integer"], json!({})),
        Kind::Count => (vec!["integer"], json!({"minimum": 0})),
        Kind::Switch => (vec!["boolean", "integer"], json!({})),
        Kind::Real => (vec!["number"], json!({})),
        Kind::Text(most) | Kind::Login(most) => (vec!["string"], json!({"maxLength": most})),
        Kind::Password => (vec!["string"], json!({"minLength": 1, "maxLength": 1024, "writeOnly": true})),
        Kind::Address => (vec!["string"], json!({"format": "ipv4"})),
        Kind::Moment => (vec!["string"], json!({})),
        Kind::Word(words) => {
            let words: Vec<Value> = words.iter().map(|word| json!(word)).chain([Value::Null]).collect();
            (vec!["string"], json!({"enum": words}))
        }
        Kind::Structure => (vec!["object", "array"], json!({})),
    };
    if field.create != Access::Required && field.kind != Kind::Password {
        kind.push("null");
    }
    schema["type"] = json!(kind);
    schema["description"] = json!(field.help);
    schema
}

/// The nested operations of a verb.
fn nested(entity: &Entity, verb: Verb) -> impl Iterator<Item = (String, Value)> {
    let nested: &'static [_] = entity.nested;
    nested.iter().filter(move |nested| nested.verb == verb).map(|nested| {
        let schema = match nested.change {
            Change::SetProperties => json!({"type": "object", "description": "values by key"}),
            change if change.takes_numbers() => {
                json!({"type": "array", "items": {"type": ["string", "integer"]}})
            }
            _ => json!({"type": "array", "items": {"type": "string"}}),
        };
        (nested.name.to_owned(), schema)
    })
}
