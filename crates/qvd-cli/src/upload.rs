//! Sending a local file to the API: in pieces that are gone on with after an interruption, or, to an API that does not
//! know that, as one form.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use qvd_model::action::Status;
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::api::{Answer, Call, envelope};
use crate::error::Error;
use crate::progress::Progress;
use crate::run::Context;
use crate::transport::Body;

/// How much of a file is read at a time.
const CHUNK: usize = 256 << 10;
/// How often in a row an upload is gone on with while nothing more arrives; the pauses double from the first.
const TRIES: u32 = 7;
const PAUSE: Duration = Duration::from_secs(1);

/// A file that is sent.
struct Local {
    path: PathBuf,
    name: String,
    size: u64,
    sha256: String,
}

/// Sends a file. The second value is its sha256, if the API has not compared it.
pub(crate) async fn send(
    context: &mut Context<'_>,
    call: &mut Call,
    path: &Path,
    wanted: Option<&str>,
) -> Result<(Answer, Option<String>), Error> {
    // The session has to be there before the file is on its way: a refusal would cost the whole transfer.
    context.api.identity().await?;
    let local = Local::examine(path, context.options.quiet).await?;
    if wanted.is_some_and(|wanted| wanted != local.sha256) {
        return Err(Error::refused(Status::ChecksumDiffers, &local.sha256));
    }
    call.arguments.insert("disk_image".to_owned(), json!(local.name));
    if in_pieces(context).await? {
        let mut announcement = envelope(call);
        announcement.insert("length".to_owned(), json!(local.size));
        announcement.insert("sha256".to_owned(), json!(local.sha256));
        match context.api.post("/api/di/upload", &announcement).await {
            Ok(begun) => return Ok((local.pieces(context, &begun).await?, None)),
            // It wants a form.
            Err(Error::Refused { code, .. }) if code == Status::NoFilePart.code() => {}
            Err(error) => return Err(error),
        }
    }
    Ok((local.form(context, call).await?, Some(local.sha256)))
}

/// Whether the API may know uploads in pieces. An API of the old QVD would make an image without a file of it.
async fn in_pieces(context: &mut Context<'_>) -> Result<bool, Error> {
    let info = context.api.info().await?;
    Ok(info.members.get("version").and_then(|version| version.get("api")).is_some())
}

impl Local {
    /// Reads the file once: its sha256 tells the API whether it is the one whose upload was interrupted.
    async fn examine(path: &Path, quiet: bool) -> Result<Self, Error> {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .ok_or_else(|| Error::Usage(format!("{} has no usable file name", path.display())))?
            .to_owned();
        let unreadable = |e| unreadable(path, e);
        let mut file = File::open(path).await.map_err(unreadable)?;
        let length = file.metadata().await.map_err(unreadable)?.len();
        let progress = Progress::of_bytes(length, "reading", quiet);
        let (mut sum, mut size, mut chunk) = (Sha256::new(), 0, vec![0; CHUNK]);
        loop {
            let count = file.read(&mut chunk).await.map_err(unreadable)?;
            if count == 0 {
                break;
            }
            sum.update(chunk.get(..count).unwrap_or_default());
            size += count as u64;
            progress.advance(count as u64);
        }
        progress.end();
        let sha256 = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: path.to_owned(), name, size, sha256 })
    }

    /// Sends what the API does not have yet, and goes on after interruptions.
    async fn pieces(&self, context: &mut Context<'_>, begun: &Answer) -> Result<Answer, Error> {
        let text = |name: &str| begun.members.get(name).and_then(Json::as_str);
        let location = text("location").ok_or_else(|| Error::Unreachable {
            place: "the API".to_owned(),
            problem: "its answer does not tell where the file is sent to".to_owned(),
        })?;
        let mut offset = begun.members.get("offset").and_then(Json::as_u64).unwrap_or(0);
        let progress = Progress::of_bytes(self.size, "uploading", context.options.quiet);
        if offset > 0 {
            progress.resume(offset);
            progress
                .say(&format!("going on with an earlier upload, {offset} of {} bytes are there", self.size));
        }
        let mut tries = 0;
        let sent = loop {
            let body = self.body(offset, &progress).await?;
            let problem = match context.api.go_on(location, offset, body, allowance(self.size - offset)).await
            {
                Err(error) if is_passing(&error) && tries < TRIES => error,
                outcome => break outcome,
            };
            progress.say(&format!("{problem}; going on in a moment"));
            offset = loop {
                tokio::time::sleep(PAUSE * (1 << tries)).await;
                tries += 1;
                match context.api.uploaded(location).await {
                    Ok(there) => {
                        if there > offset {
                            tries = 0;
                        }
                        break there;
                    }
                    Err(error) if is_passing(&error) && tries < TRIES => {}
                    Err(error) => return Err(error),
                }
            };
            progress.resume(offset);
        };
        progress.end();
        sent.map_err(|error| match error {
            Error::Refused { code, message } if code == Status::NoSpace.code() => {
                let message =
                    format!("{message}; the same command goes on with the upload once there is room");
                Error::Refused { code, message }
            }
            other => other,
        })
    }

    /// The file from `offset` on.
    async fn body(&self, offset: u64, progress: &Progress) -> Result<Body, Error> {
        let mut file = File::open(&self.path).await.map_err(|e| unreadable(&self.path, e))?;
        file.seek(std::io::SeekFrom::Start(offset)).await.map_err(|e| unreadable(&self.path, e))?;
        // No more than was announced, should it have grown.
        let file = file.take(self.size - offset);
        let moving = progress.clone();
        let frames = ReaderStream::with_capacity(file, CHUNK).map(move |chunk| {
            if let Ok(bytes) = &chunk {
                moving.advance(bytes.len() as u64);
            }
            chunk.map(Frame::data)
        });
        Ok(BodyExt::boxed(StreamBody::new(frames)))
    }

    /// Sends a form: the envelope first, then the file.
    async fn form(&self, context: &mut Context<'_>, call: &Call) -> Result<Answer, Error> {
        let boundary = format!("qa4-{:016x}{:016x}", rand::random::<u64>(), rand::random::<u64>());
        let head = form(&boundary, &envelope(call), &self.name);
        let tail = format!("\r\n--{boundary}--\r\n");
        let progress = Progress::of_bytes(self.size, "uploading", context.options.quiet);
        let file = self.body(0, &progress).await?.into_data_stream().map(|chunk| chunk.map(Frame::data));
        let first = futures_util::stream::once(async move { Ok(Frame::data(Bytes::from(head))) });
        let last = futures_util::stream::once(async move { Ok(Frame::data(Bytes::from(tail))) });
        let body: Body = BodyExt::boxed(StreamBody::new(first.chain(file).chain(last)));
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let answer = context.api.send("/api/di/upload", &content_type, body, allowance(self.size)).await;
        progress.end();
        answer
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::Usage(format!("cannot read {}: {error}", path.display()))
}

/// Whether it may be over in a moment.
const fn is_passing(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } | Error::Timeout(_) => true,
        Error::Refused { code, .. } => {
            *code == Status::UploadBusy.code()
                || *code == Status::WrongOffset.code()
                || *code == Status::DatabaseAway.code()
                // It was cut on the way.
                || *code == Status::NoFilePart.code()
        }
        _ => false,
    }
}

/// The time that a file of this size may take: a slow line carries 64 KiB in a second.
const fn allowance(size: u64) -> Duration {
    Duration::from_secs(size >> 16)
}

/// Everything of the form that comes before the bytes of the file.
fn form(boundary: &str, envelope: &Map<String, Json>, name: &str) -> String {
    let mut text = String::new();
    for member in ["action", "arguments", "parameters"] {
        let value = match envelope.get(member) {
            Some(Json::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => continue,
        };
        text.push_str(&format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{member}\"\r\n\r\n{value}\r\n"
        ));
    }
    let name = name.replace(['"', '\r', '\n'], "_");
    text.push_str(&format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    ));
    text
}
