//! What administrators reach of a desktop: a WebSocket that carries RFB from and to its agent, which asks its user
//! (`spec/api.md` 1.8), or bytes from and to a port of the VM (`spec/cli.md` 4.4).

mod target;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::Response;
use qvd_db::admin::audit::{self, Record};
use qvd_db::admin::select::{self, Identity};
use qvd_db::events::{self, Event};
use qvd_model::action::{Object, Status};
use qvd_model::event::ObjectKind;
use qvd_model::filter::Filter;
use qvd_model::notify;
use qvd_wire::rfb::ViewOnly;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::{Call, answer, read};
use crate::app::App;
use crate::caller::Caller;
use crate::refusal::{Doing, Refusal};
use crate::session::{self, Known};
use target::{Link, Target};

/// How often it is seen whether the administrator still may, beside being told.
const CHECK: Duration = Duration::from_secs(60);
/// What a viewer may send at once.
const MAX_MESSAGE: usize = 1 << 20;
const CHUNK: usize = 32 << 10;

/// Shows the screen of the VM that the arguments name.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    upgrade: WebSocketUpgrade,
    request: HttpRequest,
) -> Response {
    let watch = async {
        let call = read(request).await?;
        Watch::begin(&app, call).await
    };
    match watch.await.map_err(|refusal| refusal.while_doing(Doing::Reading)) {
        Ok(watch) => upgrade
            .protocols(["binary"])
            .max_message_size(MAX_MESSAGE)
            .max_frame_size(MAX_MESSAGE)
            .on_upgrade(move |socket| async move {
                app.tasks.spawn(watch.run(socket));
            }),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status().http());
            let mut response = answer::respond(Err(refusal));
            *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            response
        }
    }
}

/// One administrator who watches one desktop.
struct Watch {
    app: Arc<App>,
    /// What says who it is, again and again.
    call: Call,
    caller: Caller,
    vm: Identity,
    target: Target,
    link: Link,
    /// Keeps keys and pointers back, for those who may only watch.
    filter: Option<ViewOnly>,
    begun: Instant,
    carried: [u64; 2],
}

impl Watch {
    async fn begin(app: &Arc<App>, mut call: Call) -> Result<Self, Refusal> {
        let envelope = &call.envelope;
        let Known { caller, session } =
            session::recognize(app, envelope, call.cookie.as_deref(), &call.origin).await?;
        if let Some((sid, _)) = session {
            // A password was good for this time only.
            call.envelope.password = None;
            call.envelope.sid = Some(sid.to_string());
        }
        let target = Target::of(&call.envelope.arguments);
        let only = call.envelope.arguments.get("view_only").is_some_and(is_on);
        let may_use = !only && caller.may(&["vm.spy.interactive"]);
        match Self::reach(app, &call, &caller, target, may_use).await {
            Ok((vm, target, link)) => {
                let filter = (target.is_screen() && !may_use).then(ViewOnly::default);
                let (app, begun) = (app.clone(), Instant::now());
                let watch = Self { app, call, caller, vm, target, link, filter, begun, carried: [0; 2] };
                let how = match (target.is_screen(), &watch.filter) {
                    (true, Some(_)) => "watches",
                    (true, None) => "watches and may use",
                    (false, _) => "is connected to",
                };
                let [begins, _] = target.actions();
                watch.record(begins, &json!({"interactive": watch.filter.is_none()}), how).await?;
                Ok(watch)
            }
            Err((vm, target, refusal)) => {
                let mut arguments = call.envelope.arguments.clone();
                let (_, why) = refusal.particulars();
                if !why.is_empty() {
                    arguments.insert("refused".to_owned(), json!(why));
                }
                let (arguments, [begins, _]) = (Value::Object(arguments), target.actions());
                record(app, &call, &caller, vm.as_ref(), begins, &arguments, refusal.status()).await?;
                if let Some(vm) = &vm {
                    let text = format!("is not let to {}: {refusal}", target.title());
                    tell(app, &caller, vm, begins, &text).await?;
                }
                Err(refusal)
            }
        }
    }

    /// The other end, once it agrees, and which one it is.
    async fn reach(
        app: &App,
        call: &Call,
        caller: &Caller,
        target: Result<Target, Refusal>,
        may_use: bool,
    ) -> Result<(Identity, Target, Link), (Option<Identity>, Target, Refusal)> {
        let target = target.map_err(|refusal| (None, Target::Screen, refusal))?;
        let early = |refusal: Refusal| (None, target, refusal);
        if !caller.may(&["vm.spy."]) || target.acl().is_some_and(|acl| !caller.may(&[acl])) {
            return Err(early(Refusal::about(Status::ActionNotAllowed, "vmproxy")));
        }
        let given = call.envelope.arguments.get("vm_id");
        let given = given.ok_or_else(|| early(Refusal::about(Status::MissingArgument, "vm_id")))?;
        let id = given.as_str().map_or_else(|| given.as_i64(), |text| text.parse().ok());
        let wrong = || Refusal::about(Status::WrongType, "vm_id");
        let id = id.and_then(|id| i32::try_from(id).ok()).ok_or_else(|| early(wrong()))?;
        let client = app.database.client().await.map_err(|error| early(error.into()))?;
        let found =
            select::identities(&client, Object::Vm, &Filter::any_of("id", [id]), &caller.scope()).await;
        drop(client);
        let vm = found.map_err(|error| early(error.into()))?.into_iter().next();
        let vm = vm.ok_or_else(|| early(wrong().because("there is no such VM")))?;
        match target.open(app, &vm, caller, !may_use).await {
            Ok(link) => Ok((vm, target, link)),
            Err(refusal) => Err((Some(vm), target, refusal)),
        }
    }

    async fn run(mut self, mut socket: WebSocket) {
        let reason = self.carry(&mut socket).await;
        let code = match reason {
            "stopped" => close_code::AWAY,
            "not allowed any more" => close_code::POLICY,
            _ => close_code::NORMAL,
        };
        // The other end may be gone already.
        let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
        let [to_viewer, to_desktop] = self.carried;
        let arguments = json!({
            "interactive": self.filter.is_none(), "seconds": self.begun.elapsed().as_secs(),
            "to_viewer": to_viewer, "to_desktop": to_desktop, "ended": reason,
        });
        let how = if self.target.is_screen() { "no longer watches" } else { "is no longer connected to" };
        let [_, ends] = self.target.actions();
        if let Err(problem) = self.record(ends, &arguments, how).await {
            warn!(vm = self.vm.id, "the end of {ends} is not in the log: {problem}");
        }
    }

    /// Carries bytes until somebody ends it; why it ended.
    async fn carry(&mut self, socket: &mut WebSocket) -> &'static str {
        let mut chunk = vec![0; CHUNK];
        let mut access = self.app.listener.subscribe(notify::ACCESS_CHANGED);
        // The user may have been asked for long.
        let mut check = Instant::now();
        let first = std::mem::take(&mut self.link.first);
        if !first.is_empty() && self.show(socket, &first).await.is_err() {
            return "the viewer left";
        }
        loop {
            tokio::select! {
                () = self.app.tasks.stopping() => return "stopped",
                () = access.rung() => check = Instant::now(),
                () = sleep_until(check) => {
                    check = Instant::now() + CHECK;
                    if !self.still_may().await {
                        return "not allowed any more";
                    }
                }
                count = self.link.stream.read(&mut chunk) => {
                    let count = count.unwrap_or(0);
                    if count == 0 {
                        return "the desktop ended it";
                    }
                    if self.show(socket, chunk.get(..count).unwrap_or_default()).await.is_err() {
                        return "the viewer left";
                    }
                }
                message = socket.recv() => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        if let Err(reason) = self.pass(&bytes).await {
                            return reason;
                        }
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Text(_))) => return "the viewer sent text",
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return "the viewer left",
                },
            }
        }
    }

    async fn show(&mut self, socket: &mut WebSocket, bytes: &[u8]) -> Result<(), axum::Error> {
        self.carried[0] += bytes.len() as u64;
        socket.send(Message::Binary(Bytes::copy_from_slice(bytes))).await
    }

    async fn pass(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let mut filtered = Vec::new();
        let bytes = match &mut self.filter {
            None => bytes,
            Some(filter) => {
                if let Err(problem) = filter.feed(bytes, &mut filtered) {
                    warn!(vm = self.vm.id, "a viewer that may only watch: {problem}");
                    return Err("the viewer sent what cannot be filtered");
                }
                &filtered
            }
        };
        self.carried[1] += bytes.len() as u64;
        self.link.stream.write_all(bytes).await.map_err(|_| "the desktop ended it")
    }

    /// Whether the session is still there, and still has the permission that this was begun with.
    async fn still_may(&self) -> bool {
        let known = session::recognize(
            &self.app,
            &self.call.envelope,
            self.call.cookie.as_deref(),
            &self.call.origin,
        );
        match known.await {
            Ok(Known { caller, .. }) => {
                let used = (self.target.is_screen() && self.filter.is_none()).then_some("vm.spy.interactive");
                let needed = [Some("vm.spy."), self.target.acl(), used];
                needed.into_iter().flatten().all(|acl| caller.may(&[acl]))
                    && caller.tenant == self.caller.tenant
            }
            // Nobody is thrown out because the database is restarted.
            Err(refusal) => refusal.status() == Status::DatabaseAway,
        }
    }

    async fn record(&self, action: &str, arguments: &Value, text: &str) -> Result<(), Refusal> {
        record(&self.app, &self.call, &self.caller, Some(&self.vm), action, arguments, Status::Done).await?;
        tell(&self.app, &self.caller, &self.vm, action, &format!("{text} {}", self.target.title())).await
    }
}

/// A switch as clients write it.
fn is_on(value: &Value) -> bool {
    matches!(value, Value::Bool(true))
        || value.as_i64() == Some(1)
        || matches!(value.as_str(), Some("1" | "true"))
}

/// Adds to the story of the VM what the administrator does.
async fn tell(app: &App, caller: &Caller, vm: &Identity, code: &str, text: &str) -> Result<(), Refusal> {
    let client = app.database.client().await?;
    let text = format!("{} {text}", caller.name);
    let event =
        Event { kind: ObjectKind::Vm, id: vm.id, name: &vm.name, from: None, to: None, code, text: &text };
    Ok(events::record(&client, &caller.actor(), event).await?)
}

async fn record(
    app: &App,
    call: &Call,
    caller: &Caller,
    vm: Option<&Identity>,
    action: &str,
    arguments: &Value,
    status: Status,
) -> Result<(), Refusal> {
    let (address, arguments) = (call.origin.peer.text(), arguments.to_string());
    let record = Record {
        administrator: caller.id,
        administrator_name: Some(&caller.name),
        tenant: Some(vm.and_then(|vm| vm.tenant).unwrap_or(caller.tenant)),
        tenant_name: Some(&caller.tenant_name),
        action,
        verb: "exec",
        arguments: &arguments,
        object: Object::Vm.as_str(),
        object_id: vm.map(|vm| vm.id),
        object_name: vm.map(|vm| vm.name.as_str()),
        status: i32::from(status.code()),
        source: call.envelope.source.as_deref(),
        address: Some(&address),
        superadmin: Some(caller.is_super()),
        before: None,
        after: None,
        user_agent: call.origin.agent.as_deref(),
    };
    let client = app.database.client().await?;
    Ok(audit::record(&client, &record).await?)
}
