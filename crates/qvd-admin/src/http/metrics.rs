//! What monitoring asks: figures in the text format of Prometheus, and whether the API lives and can serve.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use qvd_db::admin::{identity, metrics};
use qvd_model::action::Status;
use serde_json::json;
use tokio::time::Instant;

use super::v2::problem;
use super::{cookie, origin};
use crate::app::App;
use crate::refusal::{Doing, Refusal};
use crate::session::{self, internal};

/// Upper bounds of the histogram, in seconds.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// A database that does not answer within this time cannot serve.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of a request without reading it; there are few of each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    dialect: &'static str,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    dialect: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: String,
}

/// The figures of this process.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    answered: Family<Answered, Counter>,
    seconds: Family<Asked, Histogram, fn() -> Histogram>,
}

fn histogram() -> Histogram {
    Histogram::new(BOUNDS)
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self { answered: Family::default(), seconds: Family::new_with_constructor(histogram) }
    }
}

/// Counts a request, and measures the time until its answer begins.
pub(super) async fn measure(State(app): State<Arc<App>>, request: HttpRequest, next: Next) -> Response {
    let dialect = match request.uri().path() {
        path if path.starts_with("/api/v2") => "v2",
        path if path.starts_with("/api") => "v1",
        "/metrics" | "/healthz" | "/readyz" => "monitoring",
        _ => "files",
    };
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let begun = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    app.requests.answered.get_or_create(&Answered { dialect, method, status }).inc();
    let seconds = begun.elapsed().as_secs_f64();
    app.requests.seconds.get_or_create(&Asked { dialect, method }).observe(seconds);
    response
}

/// The figures, for super-administrators: they count the rows of all tenants.
pub(super) async fn figures(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let known = (cookie(request.headers()), origin(request.headers(), request.extensions()));
    let outcome = async {
        let (caller, _) = session::still(&app, known.0.as_deref(), &known.1).await?;
        if !caller.is_super() || !caller.may(&["*.stats.*"]) {
            return Err(Refusal::about(Status::ActionNotAllowed, "metrics"));
        }
        text(&app).await
    };
    match outcome.await {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(refusal) => problem::respond(&refusal.while_doing(Doing::Reading)),
    }
}

async fn text(app: &App) -> Result<String, Refusal> {
    let client = app.database.client().await?;
    let counts = metrics::counts(&client).await?;
    drop(client);
    let mut registry = Registry::with_prefix("qvd");
    let api = registry.sub_registry_with_prefix("api");
    api.register("requests", "Requests that were answered", app.requests.answered.clone());
    api.register("request_seconds", "Time until an answer began", app.requests.seconds.clone());
    let pool = Family::<InState, Gauge>::default();
    let [open, unused, most, waiting] = app.database.pool();
    for (state, n) in [("open", open), ("unused", unused), ("most", most), ("waiting", waiting)] {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        pool.get_or_create(&InState { state: state.to_owned() }).set(n);
    }
    api.register("database_connections", "Connections to the database, and who waits for one", pool);
    let streams: Gauge = Gauge::default();
    streams.set(i64::try_from(app.feed.streams()).unwrap_or(i64::MAX));
    api.register("streams", "Streams of changes that are open", streams);
    for (what, help) in [
        ("vms", "VMs by state"),
        ("sessions", "Connections of users to VMs, by state"),
        ("hosts", "Hosts by state"),
        ("blocked", "Blocked objects, by kind"),
        ("logins", "Sessions and tokens of administrators"),
    ] {
        let family = Family::<InState, Gauge>::default();
        for count in counts.iter().filter(|count| count.what == what) {
            family.get_or_create(&InState { state: count.state.clone() }).set(count.n);
        }
        registry.register(what, help, family);
    }
    let mut text = String::new();
    encode(&mut text, &registry).map_err(internal)?;
    Ok(text)
}

/// The process lives.
pub(super) async fn live() -> &'static str {
    "alive\n"
}

/// The database answers, and its notifications arrive.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let asked = async { identity::schema_version(&app.database.client().await?).await };
    let why = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(_)) if *app.listener.connected().borrow() => None,
        Ok(Ok(_)) => Some("no notifications arrive from the database"),
        Ok(Err(_)) | Err(_) => Some("the database does not answer"),
    };
    let ready = why.is_none();
    let mut response = Response::new(Body::from(json!({"ready": ready, "reason": why}).to_string()));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
