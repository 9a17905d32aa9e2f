//! From a file that is somewhere to a published image.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use qvd_db::admin::images::{self as rows, Content, Outcome};
use qvd_db::admin::select::{self, Identity, Scope};
use qvd_hypervisor::storage::{self, Examined};
use qvd_model::action::{Object, Status};
use qvd_model::filter::Filter;
use tokio::fs;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::incoming::{self, Held};
use super::part::Part;
use super::prepare::{Placed, Prepared, prepare};
use super::publish::publish_in;
use super::{download, files, staging};
use crate::app::App;
use crate::execute::{New, Reply, Request, create_in};
use crate::fetch::Fetched;
use crate::record::Circumstances;
use crate::refusal::{Doing, Refusal};
use crate::session::internal;

/// How often progress is written.
const PROGRESS: Duration = Duration::from_millis(700);
/// How much is copied at a time.
const CHUNK: usize = 1 << 20;

/// Where the file of an image comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A file of the staging directory.
    Staging(PathBuf),
    /// Somewhere else; it has begun to come.
    Elsewhere(Box<Fetched>),
}

/// Makes an image of the file that the request names in the staging directory, see [`from_staged`]; the result is its number.
pub(crate) async fn from_staging(
    app: &Arc<App>,
    request: Arc<Request>,
    container: bool,
    sha256: Option<String>,
) -> Result<i32, Refusal> {
    let (source, name) = staging::find(app, &disk_image(&request)?).await?;
    from_staged(app, request, source, name, container, sha256).await
}

/// Makes an image called `name` of a file of the staging directory. Answers when the row is there; the copy goes on. A
/// `container` image is one for certain, otherwise its content tells.
pub(crate) async fn from_staged(
    app: &Arc<App>,
    request: Arc<Request>,
    source: PathBuf,
    name: String,
    container: bool,
    sha256: Option<String>,
) -> Result<i32, Refusal> {
    files::check_name(&name)?;
    let images = files::images(app).await?;
    storage::recognize(&source).await.map_err(refusal)?;
    if container && !storage::is_container_image(&source).await.map_err(refusal)? {
        return Err(Refusal::about(Status::NotAnImage, name).because("it is not the image of a container"));
    }
    files::check_room(&images, &name, fs::metadata(&source).await.map_err(internal)?.len())?;
    begin(app, request, &name, Source::Staging(source), sha256).await
}

/// Makes the row of an image; its file comes in the background.
pub(super) async fn begin(
    app: &Arc<App>,
    request: Arc<Request>,
    name: &str,
    source: Source,
    sha256: Option<String>,
) -> Result<i32, Refusal> {
    let (image, part) = create(app, request.clone(), name, part_of).await?;
    let (app2, circumstances, id) = (app.clone(), request.circumstances.clone(), image.identity.id);
    app.tasks.spawn(async move {
        let mut part = part;
        let outcome = bring_in(&app2, &image, &mut part, source, sha256).await;
        settle(&app2, &circumstances, &image.identity, outcome).await;
    });
    Ok(id)
}

/// Makes an image of a file that was received and checked.
pub(super) async fn from_upload(
    app: &Arc<App>,
    request: Arc<Request>,
    received: Held,
    name: &str,
    checked: Prepared,
) -> Result<Reply, Refusal> {
    let images = files::images(app).await?;
    // The part only shows that somebody is at it.
    let (Image { identity: image, .. }, _part) = match create(app, request.clone(), name, part_of).await {
        Ok(made) => made,
        Err(refusal) => {
            // It can be tried again without sending the file once more.
            if refusal.status() != Status::DatabaseAway {
                received.discard();
            }
            return Err(refusal);
        }
    };
    let other = checked.is_other();
    let placed = checked.place(&images.join(&image.name), |target| received.place(target));
    let outcome = placed.map_err(|e| Refusal::about(Status::UploadNotMoved, name).because(e.to_string()));
    let failed = outcome.as_ref().err().map(|r| (r.status(), r.to_string()));
    settle(app, &request.circumstances, &image, outcome).await;
    if other || failed.is_some() {
        received.discard();
    }
    match failed {
        None => Ok(Reply::created(image.id)),
        Some((status, text)) => Err(Refusal::about(status, name).because(text)),
    }
}

/// The file name of a request.
pub(crate) fn disk_image(request: &Request) -> Result<String, Refusal> {
    let value = request.checked.values.iter().find(|(f, _)| f.name == "disk_image");
    value
        .and_then(|(_, value)| value.clone())
        .ok_or_else(|| Refusal::about(Status::MissingArgument, "disk_image"))
}

/// An image whose file is on its way.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) identity: Identity,
    /// Its flavour.
    pub(super) osf: i32,
}

/// Makes the row, with the name that its file will have. `claim` makes what shows that somebody is at it, given
/// the images directory; it is there before anybody sees the row, and has to go with its result.
pub(super) async fn create<T: Send + 'static>(
    app: &App,
    request: Arc<Request>,
    name: &str,
    claim: impl Fn(&Path, &Identity) -> io::Result<T> + Clone + Send + Sync + 'static,
) -> Result<(Image, T), Refusal> {
    let images = files::images(app).await?;
    let prepared = Arc::new(New::prepare(app, &request).await?);
    let (inner, name) = (request.clone(), name.to_owned());
    let created = app
        .database
        .transaction("create an image", move |tx| {
            let (request, new, name) = (inner.clone(), New::clone(&prepared), name.clone());
            let (images, claim) = (images.clone(), claim.clone());
            Box::pin(async move {
                let mut image = create_in(tx, &request, new).await?;
                image.name = format!("{}-{name}", image.id);
                rows::set_file(tx, image.id, &image.name).await?;
                rows::set_state(tx, image.id, "uploading", Outcome::default()).await?;
                let row =
                    rows::image(tx, image.id).await?.ok_or_else(|| Refusal::new(Status::ImageNotFound))?;
                let claimed = claim(&images, &image).map_err(|error| incoming::not_written(&error))?;
                Ok::<_, Refusal>((Image { identity: image, osf: row.osf }, claimed))
            })
        })
        .await;
    match created {
        Ok(made) => Ok(made),
        Err(refusal) => {
            let refusal = refusal.while_doing(Doing::Writing);
            crate::execute::log_failure(app, &request, &refusal).await?;
            Err(refusal)
        }
    }
}

/// The part of an image.
fn part_of(images: &Path, image: &Identity) -> io::Result<Part> {
    Part::create(files::part(images, &image.name))
}

/// The image of a number, if it is there.
pub(super) async fn identity(app: &App, id: i32) -> Result<Option<Identity>, Refusal> {
    let client = app.database.client().await?;
    let own = Filter::any_of("id", [id]);
    Ok(select::identities(&client, Object::Di, &own, &Scope::All).await?.into_iter().next())
}

/// Fills the part, checks it, and puts it into its place.
async fn bring_in(
    app: &Arc<App>,
    Image { identity: image, osf }: &Image,
    part: &mut Part,
    source: Source,
    sha256: Option<String>,
) -> Result<Placed, Refusal> {
    let images = files::images(app).await?;
    let fetched = matches!(source, Source::Elsewhere(_));
    let (done, progress) = watch::channel(0.0_f32);
    let teller = tell_progress(app.clone(), image.id, progress);
    let work = async {
        let done = Arc::new(done);
        let target = part.file().map_err(|error| copy_refusal(&image.name, &error))?;
        match source {
            Source::Staging(from) => {
                let (stop, done) = (app.tasks.token().clone(), done.clone());
                let copied = tokio::task::spawn_blocking(move || copy(&from, target, &stop, &done)).await;
                copied.map_err(internal)?.map_err(|error| copy_refusal(&image.name, &error))?;
            }
            Source::Elsewhere(coming) => download::write(app, *coming, target, &done).await?,
        }
        verifying(app, image.id).await?;
        let converted = move |share: f32| {
            done.send_replace(share);
        };
        let prepared = prepare(app, *osf, part.path(), &image.name, sha256.as_deref(), converted).await?;
        let placed = prepared.place(&images.join(&image.name), |target| part.place(target));
        placed.map_err(|error| match copy_refusal(&image.name, &error) {
            refusal if fetched && refusal.status() == Status::CopyFailed => {
                Refusal::about(Status::FetchedNotMoved, image.name.as_str()).because(error.to_string())
            }
            refusal => refusal,
        })
    };
    let (outcome, ()) = tokio::join!(work, teller);
    outcome
}

/// All of the file is there.
pub(super) async fn verifying(app: &App, image: i32) -> Result<(), Refusal> {
    let client = app.database.client().await?;
    Ok(rows::set_import(&client, image, "verifying", None, None).await?)
}

pub(super) fn copy_refusal(name: &str, error: &io::Error) -> Refusal {
    let status = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Status::NoSpace,
        _ => Status::CopyFailed,
    };
    Refusal::about(status, name).because(error.to_string())
}

fn copy(
    from: &Path,
    mut target: File,
    stop: &CancellationToken,
    done: &watch::Sender<f32>,
) -> io::Result<()> {
    let mut source = File::open(from)?;
    let size = source.metadata()?.len().max(1);
    let mut buffer = vec![0; CHUNK];
    let mut copied: u64 = 0;
    loop {
        if stop.is_cancelled() {
            return Err(io::Error::other("the API was stopped during the import"));
        }
        let count = source.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        target.write_all(buffer.get(..count).unwrap_or_default())?;
        copied += count as u64;
        #[allow(clippy::cast_precision_loss, reason = "a share that is shown")]
        done.send_replace((copied as f32 / size as f32).min(1.0));
    }
    target.sync_all()
}

/// Writes the progress while the sender is there.
pub(super) async fn tell_progress(app: Arc<App>, image: i32, mut progress: watch::Receiver<f32>) {
    let started = Instant::now();
    while progress.changed().await.is_ok() {
        let done = *progress.borrow_and_update();
        let seconds = i32::try_from(started.elapsed().as_secs()).unwrap_or(i32::MAX);
        let told = async {
            let client = app.database.client().await?;
            rows::set_progress(&client, image, done, seconds).await
        };
        if let Err(problem) = told.await {
            // The next one tells more; only the end must not be lost.
            warn!(image, "progress not written: {problem}");
        }
        tokio::time::sleep(PROGRESS).await;
    }
}

/// Publishes an image whose file is in its place, or says why it is not.
pub(super) async fn settle(
    app: &App,
    circumstances: &Circumstances,
    image: &Identity,
    outcome: Result<Placed, Refusal>,
) {
    // The lock of what was placed is kept until the row says so.
    let (settled, _placed) = match outcome {
        Ok(placed) => (ready(app, circumstances, image, &placed.examined).await, Some(placed)),
        Err(refusal) => (Err(refusal), None),
    };
    match settled {
        Ok(()) => info!(image = image.id, file = image.name, "image published"),
        // Its file stays, and whoever sweeps goes on with it.
        Err(refusal) if refusal.status() == Status::DatabaseAway => {
            warn!(image = image.id, file = image.name, "the import waits for the database");
        }
        Err(refusal) => {
            warn!(image = image.id, file = image.name, "image not imported: {refusal}");
            match failed(app, circumstances, image, &refusal).await {
                Ok(true) => files::remove(app, &image.name).await,
                Ok(false) => {}
                Err(problem) => error!(image = image.id, "failure not written: {problem}"),
            }
        }
    }
}

async fn ready(
    app: &App,
    circumstances: &Circumstances,
    image: &Identity,
    file: &Examined,
) -> Result<(), Refusal> {
    let (circumstances, image, content) = (circumstances.clone(), image.clone(), content(file));
    app.database
        .transaction("finish an import", move |tx| {
            let (circumstances, image, content) = (circumstances.clone(), image.clone(), content.clone());
            Box::pin(async move {
                let importing = rows::image(tx, image.id).await?.is_some_and(|row| row.is_importing());
                if !importing {
                    return Err(Refusal::new(Status::ImageNotFound));
                }
                rows::set_content(tx, image.id, &content).await?;
                rows::set_state(tx, image.id, "ready", Outcome { percentage: 1.0, ..Outcome::default() })
                    .await?;
                publish_in(tx, &circumstances, &image).await
            })
        })
        .await
}

/// What is kept about a file.
fn content(file: &Examined) -> Content {
    let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    Content {
        sha256: file.image.sha256.clone(),
        size: size(file.image.size),
        format: file.image.kind.as_str(),
        unpacked: size(file.unpacked),
        remarks: remarks(file),
    }
}

/// Numbers that accounts of desktop users get.
const USERS: std::ops::Range<u32> = 1000..60_000;

/// What does not keep an image from being used, and may surprise whoever uses it.
fn remarks(file: &Examined) -> Option<String> {
    let root = file.root.as_ref()?;
    let mut remarks = Vec::new();
    if !root.agent {
        remarks.push("it has no qvd-vma, the agent that routers talk to".to_owned());
    }
    let users = root.accounts.iter().filter(|account| USERS.contains(&account.uid));
    let users: Vec<_> = users.map(|account| format!("{} ({})", account.name, account.uid)).collect();
    if !users.is_empty() {
        remarks.push(format!(
            "its accounts {} have numbers that desktop users get: who owns a home of such a number depends on the image",
            users.join(", ")
        ));
    }
    (!remarks.is_empty()).then(|| remarks.join("; "))
}

/// Writes why an import came to nothing; whether its file is nobody's now.
pub(super) async fn failed(
    app: &App,
    circumstances: &Circumstances,
    image: &Identity,
    refusal: &Refusal,
) -> Result<bool, Refusal> {
    let (circumstances, image) = (circumstances.clone(), image.clone());
    let (status, text) = (refusal.status(), refusal.to_string());
    app.database
        .transaction("give an import up", move |tx| {
            let (circumstances, image, text) = (circumstances.clone(), image.clone(), text.clone());
            Box::pin(async move {
                // It was removed meanwhile, or somebody else has finished it.
                let Some(row) = rows::image(tx, image.id).await? else { return Ok(true) };
                if !row.is_importing() {
                    return Ok(row.state == "fail");
                }
                let error = Some(i32::from(status.code()));
                let outcome = Outcome { percentage: 0.0, error, message: Some(&text) };
                rows::set_state(tx, image.id, "fail", outcome).await?;
                circumstances.tell(tx, &image, &text).await?;
                circumstances.refused(tx, Some(&image), status).await?;
                Ok::<_, Refusal>(true)
            })
        })
        .await
}

/// What a file that is not an image means to whoever brought it.
pub(super) fn refusal(error: qvd_hypervisor::Error) -> Refusal {
    use qvd_hypervisor::Error;
    match &error {
        Error::ImageMissing(path) => Refusal::about(Status::NotInStaging, file_name(path)),
        Error::ImageInvalid { image, found } => {
            Refusal::about(Status::NotAnImage, file_name(image)).because(found.clone())
        }
        Error::ImageDamaged { image, found } => {
            Refusal::about(Status::ImageDamaged, file_name(image)).because(found.clone())
        }
        Error::Storage { source, .. } => copy_refusal("", source).because(error.to_string()),
        _ => Refusal::new(Status::CopyFailed).because(error.to_string()),
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    name.trim_start_matches('.').trim_end_matches(".part").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let code = |kind: ErrorKind| copy_refusal("x.tar", &kind.into()).status().code();
        assert_eq!(code(ErrorKind::StorageFull), 2211);
        assert_eq!(code(ErrorKind::QuotaExceeded), 2211);
        assert_eq!(code(ErrorKind::PermissionDenied), 2210);
    }
}
