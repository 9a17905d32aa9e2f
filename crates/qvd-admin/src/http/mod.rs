//! The legacy dialect: one envelope, one answer, HTTP status 200 for every outcome that the API itself decides
//! (`spec/api.md` 1.2). Only when the database is away the status is 503, so that balancers and monitors see it.

mod answer;
mod cors;
mod files;
mod generator;
mod images;
mod live;
mod metrics;
mod pieces;
mod proxies;
mod spy;
mod staged;
pub(crate) mod v2;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request as HttpRequest, State};
use axum::http::{Extensions, HeaderMap, Method, Uri, header};
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::{Router, middleware};
use http_body_util::{BodyExt, Limited};
use qvd_model::action::{self, Action, Inquiry, Status, Verb};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::app::App;
use crate::check::{check, names_beyond};
use crate::envelope::Envelope;
use crate::execute::{self, Precondition, Reply, Request};
use crate::record::Circumstances;
use crate::refusal::Refusal;
use crate::session::{self, Known, Origin, Peer, internal};
use crate::targets;
use answer::{Answer, SessionCookie};
pub(crate) use metrics::Requests;

/// The largest envelope.
const MAX_ENVELOPE: usize = 4 << 20;

/// The routes, for connections of any kind; the [`Peer`] comes as an extension of the request.
pub(crate) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/api", any(dispatch))
        .route("/api/", any(dispatch))
        .route("/api/info", any(info))
        .route("/api/info/", any(info))
        .route("/api/logout", any(log_out))
        .route("/api/logout/", any(log_out))
        .route("/api/second_factor", post(second_factor))
        .route("/api/ws", any(live::open))
        .route("/api/ws/", any(live::open))
        .route("/vmproxy", any(spy::open))
        .route("/vmproxy/", any(spy::open))
        .route("/api/staging", any(staged::open))
        .route("/api/di/staging", post(images::staging))
        .route("/api/di/docker", post(images::docker))
        .route("/api/di/download", post(images::download))
        .route("/api/di/upload", post(images::upload))
        .route("/api/di/upload/{id}", get(pieces::tell).patch(pieces::add).delete(pieces::give_up))
        .route("/api/di/publish", post(images::publish))
        .route("/api/di/generate", post(generator::generate))
        .route("/api/di/notify", post(generator::notify))
        .route("/api/proxy/{*path}", any(generator::proxy))
        .merge(v2::router())
        .route("/metrics", get(metrics::figures))
        .route("/healthz", get(metrics::live))
        .route("/readyz", get(metrics::ready))
        .fallback(files::serve)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(app.clone(), metrics::measure))
        .layer(middleware::from_fn_with_state(app.clone(), cors::cors))
        .layer(middleware::from_fn_with_state(app.clone(), proxies::believe))
        .with_state(app.clone())
}

/// What a handler needs to know about a request.
struct Call {
    envelope: Envelope,
    cookie: Option<String>,
    origin: Origin,
    method: Method,
    /// It is asked again and again.
    live: bool,
    /// What it is called, and a digest of it, if it may be sent again.
    repeat: Option<(String, String)>,
}

async fn dispatch(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let outcome = async {
        let call = read(request).await?;
        let (request, session) = admit(&app, &call, None).await?;
        let setup = request.checked.action.verb == Verb::Inquire(Inquiry::CurrentAdministrator);
        let mut reply = execute::execute(&app, request.clone()).await?;
        if setup {
            chosen(&mut reply, &call.envelope.fields, session.as_ref());
        }
        Ok((reply, session))
    };
    answer::respond(outcome.await)
}

/// The members of a single object that were asked for, and the session.
fn chosen(reply: &mut Reply, fields: &[String], session: Option<&SessionCookie>) {
    let Reply::Members(members) = reply else { return };
    if !fields.is_empty() {
        members.retain(|name, _| fields.contains(name));
    }
    if let Some(session) = session {
        members.insert("sid".to_owned(), json!(session.sid.as_str()));
    }
}

/// Reads the envelope of a request from its body or its parameters.
async fn read(request: HttpRequest) -> Result<Call, Refusal> {
    let (parts, body) = request.into_parts();
    let bytes = body_of(body).await?;
    // Where the address was too long its parameters come as a header.
    let long = parts.headers.get(targets::QUERY).map_or(&[][..], |query| query.as_bytes());
    let given = |form: &[u8]| {
        let mut all = parameters(&parts.uri, long);
        all.extend(form_pairs(form));
        all
    };
    let envelope = if bytes.is_empty() {
        Envelope::from_parameters(given(&[]))?
    } else if is_form(&parts.headers) && !bytes.trim_ascii_start().starts_with(b"{") {
        Envelope::from_parameters(given(&bytes))?
    } else {
        let mut envelope = Envelope::from_json(&bytes)?;
        let in_url = given(&[]).into_iter().find(|(name, _)| name == "sid");
        envelope.sid = envelope.sid.or(in_url.map(|(_, sid)| sid));
        envelope
    };
    Ok(Call {
        envelope,
        cookie: cookie(&parts.headers),
        origin: origin(&parts.headers, &parts.extensions),
        method: parts.method,
        live: false,
        repeat: None,
    })
}

fn origin(headers: &HeaderMap, extensions: &Extensions) -> Origin {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer =
        shown.and_then(|value| value.split_once(' ')).filter(|(s, _)| s.eq_ignore_ascii_case("bearer"));
    Origin {
        peer: extensions.get().copied().unwrap_or(Peer::Local),
        agent: agent.map(str::to_owned),
        bearer: bearer.map(|(_, token)| Zeroizing::new(token.trim().to_owned())),
    }
}

async fn body_of(body: Body) -> Result<Bytes, Refusal> {
    let body = Limited::new(body, MAX_ENVELOPE).collect().await;
    body.map(|b| b.to_bytes()).map_err(|_| Refusal::new(Status::TooLarge))
}

/// What a form says to be. Tools that are given a body and no type call it one as well, whatever it is.
fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/x-www-form-urlencoded")
}

/// The parameters of the URL and of a form.
fn parameters(uri: &Uri, form: &[u8]) -> Vec<(String, String)> {
    form_pairs(uri.query().unwrap_or_default().as_bytes()).chain(form_pairs(form)).collect()
}

fn form_pairs(text: &[u8]) -> impl Iterator<Item = (String, String)> {
    let pairs = form_urlencoded::parse(text).filter(|(name, _)| !name.is_empty());
    pairs.map(|(name, value)| (name.into_owned(), value.into_owned()))
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == "sid").map(|(_, value)| value.to_owned())
}

/// Recognizes the caller and checks the request. With `fixed` the client's action name does not matter.
async fn admit(
    app: &App,
    call: &Call,
    fixed: Option<&'static Action>,
) -> Result<(Arc<Request>, Option<SessionCookie>), Refusal> {
    admit_bound(app, call, fixed, Precondition::None).await
}

/// The same, with what the objects must still be like.
async fn admit_bound(
    app: &App,
    call: &Call,
    fixed: Option<&'static Action>,
    precondition: Precondition,
) -> Result<(Arc<Request>, Option<SessionCookie>), Refusal> {
    let envelope = &call.envelope;
    let known = session::recognize(app, envelope, call.cookie.as_deref(), &call.origin).await;
    let Known { caller, session } = known.map_err(|r| r.while_doing(crate::refusal::Doing::Reading))?;
    let cookie = session.map(|(sid, life)| SessionCookie { sid, life });
    let action = match fixed {
        Some(action) => action,
        None => {
            let name = envelope.action.as_deref().ok_or_else(|| Refusal::new(Status::NoAction))?;
            action::action(name).ok_or_else(|| Refusal::about(Status::UnknownAction, name))?
        }
    };
    // A link in a page must not be able to change anything.
    if action.verb.changes() && call.method.is_safe() {
        return Err(Refusal::about(Status::ActionNotAllowed, action.name).because("changes are sent by POST"));
    }
    let digest = cookie.as_ref().map(|c| qvd_auth::token_digest(c.sid.as_bytes())).unwrap_or_default();
    let mut circumstances = Circumstances::new(
        caller.clone(),
        action,
        &envelope.arguments,
        envelope
            .source
            .clone()
            .or_else(|| caller.token.as_ref().map(|token| format!("token {}", token.name))),
        call.origin.clone(),
        digest,
    );
    circumstances.repeat = call.repeat.clone().map(|named| v2::repeat::of(named, &caller));
    let seen;
    let envelope = if call.live {
        seen = Envelope { fields: live::seen(call, action, &caller), ..envelope.clone() };
        &seen
    } else {
        envelope
    };
    let acl_rules = session::acl_rules(app)?;
    let rules = app.rules().map_err(internal)?;
    let mut keys = Vec::new();
    if action.object.properties().is_some() && names_beyond(envelope, action::entity(action.object)) {
        let client = app.database.client().await?;
        keys = qvd_db::admin::properties::keys(&client, action.object, &caller.scope()).await?;
    }
    let permitted = check(envelope, action, &caller, &rules, &keys).and_then(|checked| match &caller.token {
        Some(token) => token.check(&checked).map(|()| checked),
        None => Ok(checked),
    });
    match permitted {
        Ok(checked) => {
            let vault = app.database.vault().clone();
            Ok((Arc::new(Request { checked, circumstances, acl_rules, precondition, vault }), cookie))
        }
        Err(refusal) => {
            let client = app.database.client().await?;
            circumstances.refused(&client, None, refusal.status()).await?;
            Err(refusal)
        }
    }
}

async fn info(State(app): State<Arc<App>>) -> Response {
    let outcome = async {
        let client = app.database.client().await?;
        let version = qvd_db::admin::identity::schema_version(&client).await?;
        let values = app.config.now();
        let separators = values.text("l7r.auth.plugin.default.separators").map_err(internal)?;
        let mut public = Map::new();
        for key in values.keys() {
            if let Some(path) = key.strip_prefix("api.public.") {
                plant(&mut public, path, values.optional(&key).map_err(internal)?.unwrap_or_default());
            }
        }
        let members = json!({
            "server_datetime": execute::server_datetime(),
            "multitenant": u8::from(values.flag("wat.multitenant").map_err(internal)?),
            "version": {"database": version, "api": env!("CARGO_PKG_VERSION")},
            "public_configuration": public,
            "auth": {"separators": separators.chars().map(String::from).collect::<Vec<_>>()},
            "hypervisor": values.text("vm.hypervisor").map_err(internal)?,
        });
        let Value::Object(members) = members else { return Err(Refusal::new(Status::Internal)) };
        Ok((Reply::Members(members), None))
    };
    answer::respond(outcome.await)
}

/// Puts the value of a dotted key into a tree; a key that is also a branch keeps its value under the empty name.
fn plant(tree: &mut Map<String, Value>, path: &str, value: String) {
    let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
    let node = tree.entry(head).or_insert_with(|| Value::Object(Map::new()));
    if let Value::String(leaf) = node
        && rest.is_some()
    {
        *node = json!({"": leaf.clone()});
    }
    match (node, rest) {
        (Value::Object(branch), Some(rest)) => plant(branch, rest, value),
        (Value::Object(branch), None) if !branch.is_empty() => {
            branch.insert(String::new(), Value::String(value));
        }
        (leaf, _) => *leaf = Value::String(value),
    }
}

async fn log_out(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let outcome = async {
        let call = read(request).await?;
        let Some(sid) = call.envelope.sid.or(call.cookie) else {
            return Err(Refusal::new(Status::NotAuthenticated));
        };
        session::log_out(&app, &sid).await?;
        Ok((Reply::Members(Map::new()), None))
    };
    answer::without_cookie(answer::respond(outcome.await))
}

/// The actions of second factors with their own envelope: `code` and `id` beside the action, the answer at top level.
async fn second_factor(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let outcome = async {
        let mut call = read(request).await?;
        let envelope = &mut call.envelope;
        let name = envelope.action.clone().ok_or_else(|| Refusal::new(Status::NoAction))?;
        let action = action::action(&name).filter(|action| action.name.starts_with("second_factor_"));
        let action = action.ok_or_else(|| Refusal::about(Status::UnknownAction, name))?;
        if let Some(code) = &envelope.code {
            envelope.arguments.insert("code".to_owned(), json!(code));
        }
        if let Some(id) = envelope.id {
            envelope.filters = json!({ "id": id });
        }
        let (request, session) = admit(&app, &call, Some(action)).await?;
        let reply = match execute::execute(&app, request).await? {
            Reply::Rows { rows, .. } => {
                let row = rows.first().map(String::as_str).unwrap_or("{}");
                Reply::Members(serde_json::from_str(row).map_err(internal)?)
            }
            Reply::Partial(mut failures) => match failures.pop() {
                Some((_, refusal)) => return Err(refusal),
                None => Reply::Partial(failures),
            },
            reply => reply,
        };
        Ok((reply, session))
    };
    answer::respond(outcome.await)
}

type Outcome = Result<(Reply, Option<SessionCookie>), Refusal>;

impl Answer {
    /// The answer to an outcome.
    fn of(outcome: Outcome) -> Self {
        match outcome {
            Ok((reply, session)) => {
                Self { text: answer::text(&reply), away: false, retry_after: None, session }
            }
            Err(refusal) => Self {
                text: refusal.members().to_string(),
                away: refusal.status() == Status::DatabaseAway,
                retry_after: refusal.retry_after(),
                session: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_settings_become_a_tree() {
        let mut tree = Map::new();
        plant(&mut tree, "a", "1".into());
        plant(&mut tree, "a.b", "2".into());
        plant(&mut tree, "a.c.d", "3".into());
        assert_eq!(Value::Object(tree), json!({"a": {"": "1", "b": "2", "c": {"d": "3"}}}));
        let mut tree = Map::new();
        plant(&mut tree, "a.b", "2".into());
        plant(&mut tree, "a", "1".into());
        assert_eq!(Value::Object(tree), json!({"a": {"b": "2", "": "1"}}));
    }

    #[test]
    fn the_session_is_found_among_cookies() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=b; sid=x".parse().unwrap());
        assert_eq!(cookie(&headers).as_deref(), Some("x"));
        assert_eq!(parameters(&"/api?&action=a+b&x=%22".parse().unwrap(), b"y=1").len(), 3);
    }
}
