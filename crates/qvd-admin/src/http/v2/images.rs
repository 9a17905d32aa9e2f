//! New images with their files, and the files that are sent for them.
//!
//! `POST /images` has, beside the arguments of the image, where its file comes from: `staging`, a file of the staging
//! directory; `url`, which is downloaded; or `length`, the size of a file that is sent to `/images/{id}/file`, as a whole
//! or in pieces (the core of tus 1.0). The image tells how far it is.

use std::sync::Arc;

use axum::extract::{Path, Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::Response;
use qvd_logic::fetching;
use qvd_model::action::{Method, Status};
use serde_json::{Map, Value, json};

use super::super::Call;
use super::super::pieces::{self, Found};
use super::{problem, reply};
use crate::app::App;
use crate::envelope::Envelope;
use crate::execute::{Reply, Request};
use crate::images::incoming::Place;
use crate::images::{delivery, download, files, import, staging};
use crate::refusal::{Doing, Refusal};

/// Where the file of a new image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A file of the staging directory.
    Staging(String),
    /// An address.
    Url(String),
    /// It will be sent, and has so many bytes.
    Sent(u64),
}

/// A file that an image will be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) origin: Origin,
    pub(super) sha256: Option<String>,
}

/// The arguments of a new image that say where its file comes from.
pub(super) const ORIGINS: [&str; 3] = ["staging", "url", "length"];

impl Offer {
    /// Takes it out of the arguments of an image, which is called like the file unless they say otherwise.
    pub(super) fn take(arguments: &mut Map<String, Value>) -> Result<Self, Refusal> {
        let mut own = Map::new();
        for name in ORIGINS.into_iter().chain(["sha256"]) {
            own.extend(arguments.remove(name).filter(|v| !v.is_null()).map(|value| (name.to_owned(), value)));
        }
        let staged = match own.remove("staging") {
            None => None,
            Some(Value::String(path)) => Some(path),
            Some(_) => return Err(Refusal::about(Status::WrongType, "staging").because("the name of a file")),
        };
        let Envelope { url, length, sha256, .. } = Envelope::from_members(own)?;
        let (origin, name) = match (staged, url, length) {
            (Some(path), None, None) => {
                let name = path.rsplit('/').next().map(str::to_owned);
                (Origin::Staging(path), name)
            }
            (None, Some(url), None) => {
                let name = url.parse::<fetching::Target>().ok();
                let name = name.as_ref().and_then(fetching::Target::file_name).map(str::to_owned);
                (Origin::Url(url), name)
            }
            (None, None, Some(length)) => (Origin::Sent(length), None),
            (None, None, None) => {
                return Err(Refusal::about(Status::MissingArgument, ORIGINS.join(", "))
                    .because("one of them says where the file of the image comes from"));
            }
            _ => {
                return Err(Refusal::about(Status::UnknownArgument, ORIGINS.join(", "))
                    .because("only one of them may say where the file of the image comes from"));
            }
        };
        if let Some(name) = name {
            arguments.entry("disk_image").or_insert(json!(name));
        }
        Ok(Self { origin, sha256 })
    }

    /// Makes the image; its file comes by itself, or is waited for.
    pub(super) async fn make(
        self,
        app: &Arc<App>,
        request: Arc<Request>,
        arguments: Map<String, Value>,
    ) -> Result<Reply, Refusal> {
        let made = match self.origin {
            Origin::Staging(path) => {
                let (source, _) = staging::find(app, &path).await?;
                let target = import::disk_image(&request)?;
                import::from_staged(app, request, source, target, false, self.sha256).await
            }
            Origin::Url(url) => download::from_url(app, request, &url, self.sha256).await,
            Origin::Sent(length) => delivery::announce(app, request, arguments, length, self.sha256).await,
        };
        made.map(Reply::created).map_err(|refusal| refusal.while_doing(Doing::Writing))
    }
}

/// What a new image is described by, besides its own members.
pub(super) fn describe(schema: &mut Value) {
    let text = |help: &str| json!({"type": "string", "description": help});
    let members = [
        ("staging", text("a file of the staging directory")),
        ("url", text("an address from which the file is downloaded")),
        (
            "length",
            json!({"type": "integer", "minimum": 1,
            "description": "bytes of a file that will be sent to /images/{id}/file"}),
        ),
        (
            "sha256",
            json!({"type": "string", "pattern": "^[0-9a-fA-F]{64}$",
            "description": "checksum that the file has to have"}),
        ),
    ];
    for (name, member) in members {
        schema["properties"][name] = member;
    }
    schema["required"] = json!([]);
    schema["oneOf"] = json!([
        {"required": ["staging"]}, {"required": ["url"]}, {"required": ["length", "disk_image"]},
    ]);
}

/// The operations on files of images.
pub(super) fn operations() -> [(&'static str, Method, Value); 2] {
    let header = |name: &str, help: &str| json!({"name": name, "in": "header", "required": true, "schema": {"type": "string"}, "description": help});
    let id = json!({"$ref": "#/components/parameters/id"});
    let offset =
        json!({"Upload-Offset": {"schema": {"type": "integer"}, "description": "bytes that are there"}});
    let problems = |statuses: &[u16]| {
        let problem = json!({"$ref": "#/components/responses/problem"});
        statuses.iter().map(|status| (status.to_string(), problem.clone())).collect::<Map<_, _>>()
    };
    let there = json!({"type": "object", "required": ["offset", "length"],
        "properties": {"offset": {"type": "integer"}, "length": {"type": "integer"}}});
    let mut told = problems(&[401, 403, 404, 500, 503]);
    told.insert(
        "200".to_owned(),
        json!({"description": "how much of the file is there", "headers": offset,
        "content": {"application/json": {"schema": there}}}),
    );
    let mut added = problems(&[401, 403, 404, 409, 413, 422, 500, 503, 507]);
    let added_text = "the bytes are there; with the last one the image is verified";
    added.insert("204".to_owned(), json!({"description": added_text, "headers": offset}));
    let bytes = json!({"application/offset+octet-stream": {"schema": {}}});
    let common = json!({"tags": ["images"], "x-qvd-action": "di_create", "x-qvd-acls": ["di.create.*"]});
    let operation = |own: Value| {
        let mut all = common.clone();
        for (name, value) in own.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        all
    };
    [
        (
            "/images/{id}/file",
            Method::Get,
            operation(json!({"operationId": "image_file", "summary": "tells how much of the file was sent",
                "parameters": [id], "responses": told})),
        ),
        (
            "/images/{id}/file",
            Method::Patch,
            operation(
                json!({"operationId": "image_file_add", "summary": "sends the file, or the next piece of it",
                "parameters": [id, header("Upload-Offset", "number of the first byte")],
                "requestBody": {"required": true, "content": bytes}, "responses": added}),
            ),
        ),
    ]
}

/// The upload of an image of the caller.
async fn find(app: &Arc<App>, id: &str, call: Call) -> Result<(i32, Found), Refusal> {
    let images = files::images(app).await?;
    let number = id.parse().ok().filter(|number: &i32| number.to_string() == id);
    let place = number.map(|number| Place::of_image(&images, number));
    let found = pieces::find_at(app, place, |announced| announced.image == number, call).await?;
    Ok((number.unwrap_or_default(), found))
}

/// How much of the file is there.
pub(super) async fn tell(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: HttpRequest,
) -> Response {
    match find(&app, &id, pieces::asker_by_headers(&asked)).await {
        Ok((_, Found { place, announced, .. })) => {
            let there = place.received();
            let told = reply::json(StatusCode::OK, &json!({"offset": there, "length": announced.length}));
            pieces::measured(told, there, Some(announced.length))
        }
        Err(refusal) => problem::respond(&refusal.while_doing(Doing::Reading)),
    }
}

/// Takes the next bytes of the file.
pub(super) async fn add(State(app): State<Arc<App>>, Path(id): Path<String>, asked: HttpRequest) -> Response {
    let call = pieces::asker_by_headers(&asked);
    let (parts, body) = asked.into_parts();
    let found = find(&app, &id, call).await;
    let mut bytes = body.into_data_stream();
    let (outcome, length) = match (found, pieces::offset(&parts.headers)) {
        (Ok((id, found)), Ok(offset)) => {
            let length = found.announced.length;
            // A task of its own: what becomes of the image is written when the sender has gone as well.
            let work = app.clone();
            let task = app.tasks.spawn(async move {
                let Found { place, request, .. } = found;
                let outcome = delivery::go_on(&work, &request, &place, id, offset, &mut bytes).await;
                (outcome.map_err(|refusal| (refusal, Some(place.received()))), bytes)
            });
            match task.await {
                Ok((outcome, rest)) => {
                    bytes = rest;
                    (outcome, length)
                }
                Err(problem) => return problem::respond(&crate::session::internal(problem)),
            }
        }
        (Err(refusal), _) | (Ok(_), Err(refusal)) => (Err((refusal, None)), 0),
    };
    match outcome {
        Ok(there) => pieces::measured(pieces::empty(), there, Some(length)),
        Err((refusal, there)) => {
            pieces::read_away(bytes).await;
            let refused = problem::respond(&refusal.while_doing(Doing::Writing));
            match there {
                Some(there) => pieces::measured(refused, there, None),
                None => refused,
            }
        }
    }
}

pub(super) async fn neither() -> Response {
    problem::wrong_method([Method::Get, Method::Patch].into_iter())
}
