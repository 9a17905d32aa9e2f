//! `di new`: brings a disk image to the API (`spec/cli.md` 1.15).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use qvd_model::action::{self, Object, Status, Verb as Does};
use qvd_model::filter::Filter;
use serde_json::{Map, Value as Json, json};

use crate::api::{Answer, Call, envelope};
use crate::command::{Assignment, Command, ObjectCommand, Value, Verb};
use crate::error::Error;
use crate::noun::Noun;
use crate::progress::Progress;
use crate::run::{Context, write};
use crate::upload;

/// How often the progress of an import is asked for.
const LOOK: Duration = Duration::from_millis(200);

/// Where the file comes from.
enum Source {
    /// From the staging directory of the server, by name.
    Staging(String),
    /// From this path: on the server if it is below its staging directory, otherwise from here.
    Path(PathBuf),
    /// From here.
    Local(PathBuf),
    /// From an address that the server downloads.
    Url(String),
    /// From a registry of container images.
    Registry(String),
}

/// Makes an image of the file that the assignments name, and waits until it can be used.
pub(crate) async fn create(
    context: &mut Context<'_>,
    noun: &'static Noun,
    assignments: Vec<Assignment>,
) -> Result<Option<Answer>, Error> {
    if context.options.dry_run {
        let line = Command::Object(ObjectCommand { noun, selection: None, verb: Verb::New(assignments) });
        write(context.out, &format!("would run: {}\n", line.print()))?;
        return Ok(None);
    }
    let mut assignments = assignments;
    let sha256 = checksum(&mut assignments)?;
    let (source, rest, tags) = sorted(assignments)?;
    let mut call = Call::new(Object::Di, Does::Create)?;
    call.arguments = crate::change::arguments(context, noun, rest)?;
    if !tags.is_empty() {
        call.arguments.insert("__tags__".to_owned(), json!(tags));
    }
    let mut sent = None;
    let answer = match source {
        Source::Staging(name) => {
            call.arguments.insert("disk_image".to_owned(), json!(name));
            context.api.post("/api/di/staging", &with(envelope(&call), &sha256)).await?
        }
        Source::Local(path) => {
            let (answer, sum) = upload::send(context, &mut call, &path, sha256.as_deref()).await?;
            sent = sum;
            answer
        }
        Source::Url(url) => {
            let name = url.rsplit('/').next().and_then(|n| n.split(['?', '#']).next()).unwrap_or_default();
            call.arguments.insert("disk_image".to_owned(), json!(name));
            let mut envelope = envelope(&call);
            envelope.insert("url".to_owned(), json!(url));
            context.api.post("/api/di/download", &with(envelope, &sha256)).await?
        }
        Source::Registry(reference) => {
            call.arguments.insert("disk_image".to_owned(), json!(reference));
            context.api.post("/api/di/docker", &with(envelope(&call), &sha256)).await?
        }
        Source::Path(path) => {
            call.arguments.insert("disk_image".to_owned(), json!(path.to_string_lossy()));
            match context.api.post("/api/di/staging", &with(envelope(&call), &sha256)).await {
                // Not a file of the server's staging directory.
                Err(Error::Refused { code, .. }) if code == Status::NotInStaging.code() && path.is_file() => {
                    let (answer, sum) = upload::send(context, &mut call, &path, sha256.as_deref()).await?;
                    sent = sum;
                    answer
                }
                other => other?,
            }
        }
    };
    if !context.options.no_wait
        && let Some(id) = answer.rows.first().and_then(|row| row.get("id")?.as_i64())
    {
        let kept = wait(context, id).await?;
        if let Some(sent) = sent.filter(|sent| kept != *sent) {
            return Err(Error::Refused {
                code: Status::Internal.code(),
                message: format!(
                    "image {id} arrived changed: its sha256 is {kept}, that of the file {sent}. Remove it and \
                     try again"
                ),
            });
        }
    }
    Ok(Some(answer))
}

/// An envelope with the checksum that the file has to have.
fn with(mut envelope: Map<String, Json>, sha256: &Option<String>) -> Map<String, Json> {
    envelope.extend(sha256.iter().map(|sum| ("sha256".to_owned(), json!(sum))));
    envelope
}

/// Takes `sha256` out.
fn checksum(assignments: &mut Vec<Assignment>) -> Result<Option<String>, Error> {
    let Some(at) = assignments.iter().position(|a| a.name == "sha256") else { return Ok(None) };
    match assignments.remove(at).value {
        Value::One(sum) if sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(Some(sum.to_ascii_lowercase()))
        }
        _ => Err(Error::Usage("sha256 is 64 hexadecimal digits".to_owned())),
    }
}

/// The source, the other assignments, and the tags.
fn sorted(mut assignments: Vec<Assignment>) -> Result<(Source, Vec<Assignment>, Vec<String>), Error> {
    let mut source = None;
    let mut rest = Vec::new();
    let registry = is_from_registry(&mut assignments)?;
    let mut tags = Vec::new();
    for assignment in assignments {
        let found = match (assignment.name.as_str(), &assignment.value) {
            ("tags" | "tag", Value::One(tag)) => {
                tags.push(tag.clone());
                None
            }
            ("tags" | "tag", Value::Many(several)) => {
                tags.extend(several.iter().cloned());
                None
            }
            ("default", Value::One(on)) => {
                let on =
                    action::Kind::Switch.canonical(on).map_err(|e| Error::Usage(format!("default: {e}")))?;
                if on == "true" {
                    tags.push("default".to_owned());
                }
                None
            }
            ("path", Value::One(path)) => Some(Source::Path(PathBuf::from(path))),
            ("file", Value::One(path)) => Some(Source::Local(PathBuf::from(path))),
            ("url", Value::One(url)) => Some(Source::Url(url.clone())),
            ("docker", Value::One(reference)) => Some(Source::Registry(reference.clone())),
            ("disk_image" | "name" | "image", Value::One(name)) if registry => {
                Some(Source::Registry(name.clone()))
            }
            ("disk_image" | "name" | "image", Value::One(name)) => Some(Source::Staging(name.clone())),
            _ => {
                rest.push(assignment);
                None
            }
        };
        if found.is_some() && source.is_some() {
            return Err(Error::Usage(
                "the file is given twice: choose one of path, file, disk_image, url, docker".to_owned(),
            ));
        }
        source = source.or(found);
    }
    let source = source.ok_or_else(|| {
        Error::Usage(
            "which file? Give path=PATH, file=PATH, url=URL, docker=REFERENCE, or disk_image=NAME in the \
             staging directory"
                .to_owned(),
        )
    })?;
    Ok((source, rest, tags))
}

/// Takes `di_type` out: whether the image comes from a registry, not from the staging directory.
fn is_from_registry(assignments: &mut Vec<Assignment>) -> Result<bool, Error> {
    let Some(at) = assignments.iter().position(|a| a.name == "di_type") else { return Ok(false) };
    match assignments.remove(at).value {
        Value::One(kind) if kind == "docker" => Ok(true),
        Value::One(kind) if kind == "staging" => Ok(false),
        _ => Err(Error::Usage("di_type is staging or docker".to_owned())),
    }
}

/// Waits until the image is published or has failed, as long as something happens.
/// The result is the sha256 of the file that the server has.
async fn wait(context: &mut Context<'_>, id: i64) -> Result<String, Error> {
    let fields = ["state", "percentage", "status_message", "error_code", "sha256", "remarks"];
    let call = Call::list(Object::Di, Some(Filter::any_of("id", [id])), &fields)?;
    let progress = Progress::of_percent("importing", context.options.quiet);
    let limit = context.api.settings().timeout;
    let mut seen = (String::new(), 0.0);
    let mut since = Instant::now();
    loop {
        let answer = context.api.call(&call).await?;
        let Some(row) = answer.rows.first() else {
            return Err(Error::refused(Status::ImageNotFound, &id.to_string()));
        };
        let text = |name: &str| row.get(name).and_then(Json::as_str).unwrap_or_default();
        match text("state") {
            "published" | "ready" => {
                progress.end();
                if !text("remarks").is_empty() && !context.options.quiet {
                    eprintln!("qa4: image {id}: {}", text("remarks"));
                }
                return Ok(text("sha256").to_owned());
            }
            "fail" => {
                progress.end();
                let code = row.get("error_code").and_then(Json::as_u64).and_then(|c| u16::try_from(c).ok());
                let code = code.unwrap_or(Status::Internal.code());
                let message = format!("image {id} could not be imported: {}", text("status_message"));
                return Err(Error::Refused { code, message });
            }
            _ => {}
        }
        let done = row.get("percentage").and_then(Json::as_f64).unwrap_or(0.0);
        let now = (text("state").to_owned(), done);
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= limit {
            progress.end();
            let names = format!("image {id} ({})", seen.0);
            return Err(Error::NotYet { wanted: "further", seconds: limit.as_secs(), names });
        }
        progress.reach((done.clamp(0.0, 1.0) * 100.0).round() as u64);
        tokio::time::sleep(LOOK).await;
    }
}
