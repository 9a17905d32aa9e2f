//! The import of a staged file as the clients of QVD 4.0 and 4.1 ask for it: by a WebSocket. They say something, are told
//! how far the import is, say something again, and in the end are told what became of it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Request as HttpRequest, State};
use axum::http::Method;
use axum::response::Response;
use qvd_db::admin::images::{self as rows, Progress};
use qvd_model::action::Status;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::{Answer, Call, admit, answer, images, read};
use crate::app::App;
use crate::execute::Reply;
use crate::images::import;
use crate::refusal::{Doing, Refusal};

/// A client speaks as soon as it is answered.
const PAUSE: Duration = Duration::from_millis(500);
/// A notification that got lost is made up for after this time.
const SWEEP: Duration = Duration::from_secs(30);
/// A client only says that it is there.
const MAX_MESSAGE: usize = 4096;
/// The status of an import that is not over.
const RUNNING: u16 = 1000;
/// The share that is done is told as a number of bytes of that many.
const WHOLE: u16 = 10_000;

pub(super) async fn open(
    State(app): State<Arc<App>>,
    upgrade: WebSocketUpgrade,
    request: HttpRequest,
) -> Response {
    let call = match read(request).await {
        // Each WebSocket begins with a GET; pages of other origins were turned away before.
        Ok(call) => Call { method: Method::POST, ..call },
        Err(refusal) => return answer::respond(Err(refusal)),
    };
    upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).on_upgrade(async move |socket| {
        app.tasks.spawn(run(app.clone(), call, socket));
    })
}

async fn run(app: Arc<App>, call: Call, mut socket: WebSocket) {
    let outcome = async {
        let (request, _) = admit(&app, &call, Some(images::creation()?)).await?;
        let image = import::from_staging(&app, request, false, call.envelope.sha256).await?;
        follow(&app, image, &mut socket).await
    };
    let text = match outcome.await {
        Ok(Some(text)) => text,
        // The client left, and the import goes on.
        Ok(None) => return,
        Err(refusal) => Answer::of(Err(refusal.while_doing(Doing::Writing))).text,
    };
    // Some clients end it first.
    if socket.send(Message::Text(text.into())).await.is_ok() {
        let _ = socket.send(Message::Close(None)).await;
    }
}

/// Tells whoever asks how far it is; the result is the last thing to say, if somebody is still there.
async fn follow(app: &App, image: i32, socket: &mut WebSocket) -> Result<Option<String>, Refusal> {
    let mut bell = app.listener.subscribe("di_changed");
    let (mut told, mut asked) = (Instant::now(), false);
    loop {
        let progress = rows::progress(&app.database.client().await?, image).await?;
        let progress = progress.ok_or_else(|| Refusal::new(Status::ImageNotFound))?;
        if let Some(end) = end(&progress, image) {
            return Ok(Some(end));
        }
        if asked && told.elapsed() >= PAUSE {
            (told, asked) = (Instant::now(), false);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 0 to 1")]
            let done = (progress.done * f32::from(WHOLE)) as u32;
            let text = json!({"status": RUNNING, "total_size": WHOLE, "copy_size": done}).to_string();
            if socket.send(Message::Text(text.into())).await.is_err() {
                return Ok(None);
            }
        }
        let sweep = Instant::now() + SWEEP;
        loop {
            let due = if asked { told + PAUSE } else { sweep };
            tokio::select! {
                () = bell.rung() => break,
                () = sleep_until(due) => break,
                () = app.tasks.stopping() => return Ok(None),
                message = socket.recv() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
                    Some(Ok(_)) => asked = true,
                },
            }
        }
    }
}

/// What became of an import that is over.
fn end(progress: &Progress, image: i32) -> Option<String> {
    match progress.state.as_str() {
        "ready" | "published" => Some(answer::text(&Reply::created(image))),
        "fail" => {
            let status = progress.error.unwrap_or_else(|| i32::from(Status::CopyFailed.code()));
            let message = progress.message.as_deref().unwrap_or(Status::CopyFailed.message());
            Some(json!({"status": status, "message": message, "additional_info": ""}).to_string())
        }
        _ => None,
    }
}
