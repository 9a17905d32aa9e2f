//! The stream of changes: server-sent events of the rows that the caller may see.
//!
//! `ready` tells that what follows is the present, `change` that a row is another, `reset` that changes were missed and
//! everything has to be read again, `end` why the stream is over. Lines without an event only say that the stream lives,
//! and where it is.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use qvd_db::Doorbell;
use qvd_db::admin::changes::{self, Change};
use qvd_model::action::{Object, Status, Tenancy, Verb, action_for, entity};
use qvd_model::notify;
use serde_json::json;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::super::{cookie, origin, parameters};
use super::problem;
use crate::app::App;
use crate::caller::Caller;
use crate::feed::{LINES, News};
use crate::refusal::{Doing, Refusal};
use crate::session::{self, Origin};

/// A stream without news says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A client that reads nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pieces that wait for the client.
const WAITING: usize = 16;

/// Opens a stream.
pub(super) async fn open(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let (headers, uri) = (request.headers(), request.uri());
    let asked = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?").to_owned());
    let mut given = parameters(uri, &[]);
    // For programs that cannot send the header.
    let in_url = given.iter().position(|(name, _)| name == "last-event-id").map(|at| given.swap_remove(at).1);
    let unknown = given.first().map(|(name, _)| Refusal::about(Status::UnknownFilter, name.as_str()));
    let known = Known { cookie: cookie(headers), origin: origin(headers, request.extensions()) };
    let begun = match unknown {
        Some(refusal) => Err(refusal),
        None => Stream::begin(app, known, asked.or(in_url)).await,
    };
    match begun {
        Ok(body) => {
            let mut response = Response::new(body);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
            response
        }
        Err(refusal) => problem::respond(&refusal.while_doing(Doing::Reading)),
    }
}

/// What tells who listens.
struct Known {
    cookie: Option<String>,
    origin: Origin,
}

/// One stream.
struct Stream {
    app: Arc<App>,
    known: Known,
    caller: Caller,
    /// When its session or token ends.
    ends: Option<Instant>,
    news: broadcast::Receiver<News>,
    access: Doorbell,
    out: mpsc::Sender<Bytes>,
    /// The position behind what was sent.
    position: i64,
}

/// The stream is over.
struct Over;

impl Stream {
    /// Finds out who listens, and starts the stream.
    async fn begin(app: Arc<App>, known: Known, last: Option<String>) -> Result<Body, Refusal> {
        let access = app.listener.subscribe(notify::ACCESS_CHANGED);
        let (caller, ends) = session::still(&app, known.cookie.as_deref(), &known.origin).await?;
        let last = match last.as_deref().map(str::parse::<i64>) {
            None => None,
            Some(Ok(position)) if position >= 0 => Some(position),
            Some(_) => {
                return Err(Refusal::about(Status::WrongFilterValue, "Last-Event-ID")
                    .because("it is not one that this stream gave"));
            }
        };
        // First: what happens from here on is news.
        let news = app.feed.subscribe();
        let client = app.database.client().await?;
        let position = changes::position(&client).await?;
        drop(client);
        let (out, mut pieces) = mpsc::channel(WAITING);
        let tasks = app.tasks.clone();
        let stream = Self { app, known, caller, ends: ends.map(moment), news, access, out, position };
        tasks.spawn(stream.run(last));
        let pieces = futures_util::stream::poll_fn(move |context| pieces.poll_recv(context));
        Ok(Body::from_stream(futures_util::StreamExt::map(pieces, Ok::<_, Infallible>)))
    }

    async fn run(mut self, last: Option<i64>) {
        // The client is gone, or was told why it is over.
        let _ = self.tell(last).await;
    }

    async fn tell(&mut self, last: Option<i64>) -> Result<(), Over> {
        if let Some(last) = last {
            self.catch_up(last).await?;
        }
        self.say(format!("event: ready\nid: {}\ndata: {{}}\n\n", self.position)).await?;
        let mut beat = Instant::now() + HEARTBEAT;
        loop {
            let never = Instant::now() + HEARTBEAT * 1000;
            tokio::select! {
                () = self.app.tasks.stopping() => return Err(Over),
                () = self.out.closed() => return Err(Over),
                news = self.news.recv() => match news {
                    Ok(News::Lines(lines, position)) => self.changes(&lines, position).await?,
                    Ok(News::TooMuch(position)) => self.reset(position).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        let position = self.now().await?;
                        self.reset(position).await?;
                    }
                    Err(broadcast::error::RecvError::Closed) => return Err(Over),
                },
                () = self.access.rung() => self.recognize().await?,
                () = sleep_until(self.ends.unwrap_or(never)), if self.ends.is_some() => self.recognize().await?,
                () = sleep_until(beat) => {
                    beat = Instant::now() + HEARTBEAT;
                    self.say(format!(": alive\nid: {}\n\n", self.position)).await?;
                }
            }
        }
    }

    /// What happened since a position, or that it is too long ago.
    async fn catch_up(&mut self, last: i64) -> Result<(), Over> {
        let found = async { changes::since(&self.app.database.client().await?, last, LINES, &[]).await };
        match found.await {
            Ok(found) if !found.lost && i64::try_from(found.lines.len()).is_ok_and(|n| n < LINES) => {
                self.changes(&found.lines, found.next.min(self.position)).await
            }
            Ok(_) => self.reset(self.position).await,
            Err(problem) => self.end(Refusal::from(problem)).await,
        }
    }

    async fn now(&mut self) -> Result<i64, Over> {
        let found = async { changes::position(&self.app.database.client().await?).await };
        match found.await {
            Ok(position) => Ok(position),
            Err(problem) => self.end(Refusal::from(problem)).await.and(Err(Over)),
        }
    }

    async fn changes(&mut self, lines: &[Change], position: i64) -> Result<(), Over> {
        let seen: Vec<&Change> = lines.iter().filter(|line| sees(&self.caller, line)).collect();
        self.position = position;
        let Some((last, others)) = seen.split_last() else { return Ok(()) };
        let mut text = String::new();
        for line in others {
            text.push_str(&format!("event: change\ndata: {}\n\n", members(line)));
        }
        // Only behind the last one it is safe to go on: the others may be of the same transaction.
        text.push_str(&format!("event: change\nid: {position}\ndata: {}\n\n", members(last)));
        self.say(text).await
    }

    async fn reset(&mut self, position: i64) -> Result<(), Over> {
        self.position = position;
        self.say(format!("event: reset\nid: {position}\ndata: {{}}\n\n")).await
    }

    /// Finds out again who listens, and what that one may see now.
    async fn recognize(&mut self) -> Result<(), Over> {
        match session::still(&self.app, self.known.cookie.as_deref(), &self.known.origin).await {
            Ok((caller, ends)) => {
                self.caller = caller;
                self.ends = ends.map(moment);
                Ok(())
            }
            // Nobody lost anything; but nothing can be said either.
            Err(refusal) => self.end(refusal.while_doing(Doing::Reading)).await,
        }
    }

    /// Says why the stream is over.
    async fn end(&mut self, refusal: Refusal) -> Result<(), Over> {
        let why = problem::members(&refusal.while_doing(Doing::Reading));
        self.say(format!("event: end\ndata: {why}\n\n")).await?;
        Err(Over)
    }

    async fn say(&mut self, text: String) -> Result<(), Over> {
        match timeout(PATIENCE, self.out.send(Bytes::from(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over),
        }
    }
}

/// The moment of an epoch second.
fn moment(ends: i64) -> Instant {
    let left = ends.saturating_sub(time::OffsetDateTime::now_utc().unix_timestamp()).max(0);
    // A second more: then it is over, whatever was rounded.
    Instant::now() + Duration::from_secs(u64::try_from(left).unwrap_or(0).min(1 << 30) + 1)
}

fn members(line: &Change) -> String {
    let Change { id, kind, object, operation, .. } = line;
    json!({"sequence": id, "kind": kind, "id": object, "operation": operation}).to_string()
}

/// Whether a list that the caller may ask for could hold the row.
fn sees(caller: &Caller, line: &Change) -> bool {
    let Ok(object) = line.kind.parse::<Object>() else { return false };
    let Some(list) = action_for(object, Verb::List) else { return false };
    if !caller.may(list.acls) {
        return false;
    }
    let shared = object == Object::Role && line.tenant == Some(-1);
    match entity(object).tenancy {
        Tenancy::None => true,
        Tenancy::Own | Tenancy::Inherited | Tenancy::Itself => {
            caller.is_super() || shared || line.tenant == Some(caller.tenant)
        }
    }
}
