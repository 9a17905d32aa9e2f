//! The screen of a desktop, for administrators (`spec/api.md` 1.8): a WebSocket that carries RFB from and to the agent
//! of the desktop, which asks its user.

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
use qvd_model::{VmId, VmState};
use qvd_rpc::Agent;
use qvd_wire::rfb::ViewOnly;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::{Call, answer, read};
use crate::app::App;
use crate::caller::Caller;
use crate::refusal::{Doing, Refusal};
use crate::session::{self, Known};

/// How long the agent may take: its user may be asked.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is seen whether the administrator still may.
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
    desktop: TcpStream,
    /// What came from the desktop with its consent.
    first: Vec<u8>,
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
        match Self::reach(app, &call, &caller).await {
            Ok((vm, (desktop, first))) => {
                let filter = (!caller.may(&["vm.spy.interactive"])).then(ViewOnly::default);
                let (app, begun) = (app.clone(), Instant::now());
                let watch = Self { app, call, caller, vm, desktop, first, filter, begun, carried: [0; 2] };
                let how = if watch.filter.is_some() { "watches" } else { "watches and may use" };
                watch.record("vm_spy", &json!({"interactive": watch.filter.is_none()}), how).await?;
                Ok(watch)
            }
            Err((vm, refusal)) => {
                let arguments = Value::Object(call.envelope.arguments.clone());
                record(app, &call, &caller, vm.as_ref(), "vm_spy", &arguments, refusal.status()).await?;
                Err(refusal)
            }
        }
    }

    /// The desktop's consent, and which one it is.
    async fn reach(
        app: &App,
        call: &Call,
        caller: &Caller,
    ) -> Result<(Identity, (TcpStream, Vec<u8>)), (Option<Identity>, Refusal)> {
        let early = |refusal: Refusal| (None, refusal);
        if !caller.may(&["vm.spy."]) {
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
        let refuse = |refusal: Refusal| (Some(vm.clone()), refusal);
        let desktop = qvd_db::router::desktop(&app.database, VmId(vm.id)).await;
        let desktop = desktop.map_err(|error| refuse(error.into()))?;
        let place =
            desktop.filter(|desktop| desktop.state == VmState::Running).and_then(|desktop| desktop.place);
        let place = place.ok_or_else(|| refuse(wrong().because(format!("{} does not run", vm.name))))?;
        let agent = Agent::new(place.address, place.agent_port, place.secret);
        let watched = agent.watch(PATIENCE).await;
        let watched = watched.map_err(|error| refuse(wrong().because(error.to_string())))?;
        Ok((vm, watched))
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
        if let Err(problem) = self.record("vm_spy_end", &arguments, "no longer watches").await {
            warn!(vm = self.vm.id, "the end of watching is not in the log: {problem}");
        }
    }

    /// Carries bytes until somebody ends it; why it ended.
    async fn carry(&mut self, socket: &mut WebSocket) -> &'static str {
        let mut chunk = vec![0; CHUNK];
        let mut check = Instant::now() + CHECK;
        let first = std::mem::take(&mut self.first);
        if !first.is_empty() && self.show(socket, &first).await.is_err() {
            return "the viewer left";
        }
        loop {
            tokio::select! {
                () = self.app.tasks.stopping() => return "stopped",
                () = sleep_until(check) => {
                    check = Instant::now() + CHECK;
                    if !self.still_may().await {
                        return "not allowed any more";
                    }
                }
                count = self.desktop.read(&mut chunk) => {
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
        self.desktop.write_all(bytes).await.map_err(|_| "the desktop ended it")
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
                let needed = if self.filter.is_some() { "vm.spy." } else { "vm.spy.interactive" };
                caller.may(&["vm.spy."]) && caller.may(&[needed]) && caller.tenant == self.caller.tenant
            }
            // Nobody is thrown out because the database is restarted.
            Err(refusal) => refusal.status() == Status::DatabaseAway,
        }
    }

    async fn record(&self, action: &str, arguments: &Value, text: &str) -> Result<(), Refusal> {
        record(&self.app, &self.call, &self.caller, Some(&self.vm), action, arguments, Status::Done).await?;
        let client = self.app.database.client().await?;
        let text = format!("{} {text} the screen", self.caller.name);
        let event = Event {
            kind: ObjectKind::Vm,
            id: self.vm.id,
            name: &self.vm.name,
            from: None,
            to: None,
            code: action,
            text: &text,
        };
        Ok(events::record(&client, &self.caller.actor(), event).await?)
    }
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
