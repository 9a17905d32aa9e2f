//! Live queries: an answer that is sent again whenever it has changed (`spec/api.md` 1.7).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use futures_util::future::select_all;
use qvd_db::Doorbell;
use qvd_model::action::{self, Show, Status};
use qvd_model::notify;
use tokio::time::{Instant, sleep_until};

use super::{Answer, Call, admit, answer, execute, read};
use crate::app::App;
use crate::refusal::{Doing, Refusal};

/// At most one answer in this time.
const PAUSE: Duration = Duration::from_secs(1);
/// Changes that nothing announces, and notifications that got lost, are made up for after this time.
const SWEEP: Duration = Duration::from_secs(60);
/// A client that says something is answered after this time, so that it knows of the connection.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// What a client may say at once: it only says that it is there.
const MAX_MESSAGE: usize = 4096;

/// Opens a live query.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    upgrade: WebSocketUpgrade,
    request: HttpRequest,
) -> Response {
    let call = match read(request).await {
        Ok(call) => Call { live: true, ..call },
        Err(refusal) => return answer::respond(Err(refusal)),
    };
    upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).on_upgrade(move |socket| async move {
        let query = Query { app: app.clone(), call, socket, sent: String::new() };
        app.tasks.spawn(query.run());
    })
}

/// One live query.
struct Query {
    app: Arc<App>,
    call: Call,
    socket: WebSocket,
    sent: String,
}

/// The connection is over.
struct Over;

impl Query {
    async fn run(mut self) {
        let mut bells = self.bells();
        let mut heartbeat = None;
        // What happens from here on rings; what happened before is in the first answer.
        if self.refresh().await.is_err() {
            return;
        }
        let mut refreshed = Instant::now();
        let mut due = refreshed + SWEEP;
        loop {
            let beat = heartbeat.unwrap_or_else(|| Instant::now() + SWEEP);
            let next = tokio::select! {
                () = self.app.tasks.stopping() => {
                    self.close(close_code::AWAY).await;
                    return;
                }
                () = rung(&mut bells) => {
                    due = due.min(refreshed + PAUSE);
                    Ok(())
                }
                () = sleep_until(due) => {
                    let outcome = self.refresh().await;
                    refreshed = Instant::now();
                    due = refreshed + SWEEP;
                    outcome
                }
                () = sleep_until(beat), if heartbeat.is_some() => {
                    heartbeat = None;
                    self.say("AKN".to_owned()).await
                }
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Over),
                    Some(Ok(_)) => {
                        heartbeat = Some(Instant::now() + HEARTBEAT);
                        Ok(())
                    }
                },
            };
            if next.is_err() {
                return;
            }
        }
    }

    /// The channels after whose notifications the answer may have changed, or may not be given any more.
    fn bells(&self) -> Vec<Doorbell> {
        let action = self.call.envelope.action.as_deref().and_then(action::action);
        let channels = action.map_or(&[][..], |action| action.channels);
        channels
            .iter()
            .chain(&[notify::ACCESS_CHANGED])
            .map(|channel| self.app.listener.subscribe(*channel))
            .collect()
    }

    /// Asks again, as the same caller with what it may do now, and sends the answer if it is another.
    async fn refresh(&mut self) -> Result<(), Over> {
        match self.ask().await {
            Ok(text) if text == self.sent => Ok(()),
            Ok(text) => {
                self.sent.clone_from(&text);
                self.say(text).await
            }
            Err(refusal) => {
                let internal = matches!(refusal.status(), Status::Internal | Status::DatabaseAway);
                self.say(refusal.members().to_string()).await?;
                self.close(if internal { close_code::ERROR } else { close_code::POLICY }).await;
                Err(Over)
            }
        }
    }

    async fn ask(&mut self) -> Result<String, Refusal> {
        let outcome = async {
            let (request, session) = admit(&self.app, &self.call, None).await?;
            let reply = execute::execute(&self.app, request).await?;
            Ok((reply, session))
        };
        let (reply, session) =
            outcome.await.map_err(|refusal: Refusal| refusal.while_doing(Doing::Reading))?;
        if let Some(session) = session {
            // The password was good for the login, not for each refresh.
            self.call.envelope.password = None;
            self.call.envelope.sid = Some(session.sid.to_string());
        }
        Ok(Answer::of(Ok((reply, None))).text)
    }

    async fn say(&mut self, text: String) -> Result<(), Over> {
        self.socket.send(Message::Text(text.into())).await.map_err(|_| Over)
    }

    async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code, reason: "".into() };
        // The other end may be gone already.
        let _ = self.socket.send(Message::Close(Some(frame))).await;
    }
}

/// Waits for the first of several doorbells; never resolves without any.
async fn rung(bells: &mut [Doorbell]) {
    if bells.is_empty() {
        return std::future::pending().await;
    }
    select_all(bells.iter_mut().map(|bell| Box::pin(bell.rung()))).await;
}

/// Leaves out the fields that the caller may not see: the console always asks for all it could show.
pub(super) fn seen(call: &Call, action: &action::Action, caller: &crate::caller::Caller) -> Vec<String> {
    let entity = action::entity(action.object);
    let may = |name: &&String| {
        entity.field(name).is_none_or(|f| {
            caller.may(f.see) && (f.show == Show::Always || (f.show == Show::Super && caller.is_super()))
        })
    };
    call.envelope.fields.iter().filter(may).cloned().collect()
}
