//! What processes left that are gone: imports are gone on with where the file is there, and given up where it is not.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qvd_db::admin::images::{self as rows, Importing};
use qvd_hypervisor::storage;
use qvd_model::action::{Object, Status, Verb, action_for};
use tokio::fs;
use tracing::{info, warn};

use super::incoming::{self, Place, SILENCE};
use super::part::is_held;
use super::prepare::Placed;
use super::{delivery, files, import};
use crate::app::App;
use crate::record::Circumstances;
use crate::refusal::Refusal;
use crate::session::internal;

/// Looks after everything that lies in the images directory and is no image.
pub(crate) async fn sweep(app: &Arc<App>) -> Result<(), Refusal> {
    sweep_files(app).await?;
    sweep_rows(app).await
}

/// Removes uploads that nobody went on with for long, and parts of files that nobody is at.
pub(crate) async fn sweep_files(app: &App) -> Result<(), Refusal> {
    let Ok(images) = files::images(app).await else { return Ok(()) };
    let mut entries = fs::read_dir(&images).await.map_err(internal)?;
    while let Some(entry) = entries.next_entry().await.map_err(internal)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let other = name.starts_with('.') && name.ends_with(".part") && !name.starts_with(incoming::PREFIX);
        if other && !is_held(&entry.path()) {
            info!(file = name, "an incomplete image is removed");
            fs::remove_file(entry.path()).await.map_err(internal)?;
        }
    }
    let hours: u64 = app.config.now().int("api.upload.keep").map_err(internal)?;
    let swept = move || incoming::sweep(&images, Duration::from_secs(hours * 3600));
    tokio::task::spawn_blocking(swept).await.map_err(internal)?.map_err(internal)
}

/// Goes on with imports whose process is gone, or gives them up.
pub(crate) async fn sweep_rows(app: &Arc<App>) -> Result<(), Refusal> {
    let Ok(images) = files::images(app).await else { return Ok(()) };
    let client = app.database.client().await?;
    let importing = rows::importing(&client).await?;
    drop(client);
    for row in importing {
        look_after(app, &images, row).await?;
    }
    Ok(())
}

async fn look_after(app: &Arc<App>, images: &Path, row: Importing) -> Result<(), Refusal> {
    let place = Place::of_image(images, row.id);
    let placed = images.join(&row.path);
    if is_held(&files::part(images, &row.path)) || is_held(&placed) || is_held(place.part()) {
        return Ok(());
    }
    let Some(identity) = import::identity(app, row.id).await? else { return Ok(()) };
    let action = action_for(Object::Di, Verb::Create).ok_or_else(|| internal("di_create"))?;
    let circumstances = Circumstances::of_service(action);
    if let Ok(file) = File::open(&placed) {
        if file.try_lock().is_ok() {
            info!(image = row.id, file = row.path, "its interrupted import is finished");
            let app2 = app.clone();
            app.tasks.spawn(async move {
                let examined = storage::verify(&placed).await.map(Placed::found).map_err(import::refusal);
                import::settle(&app2, &circumstances, &identity, examined).await;
                drop(file);
            });
        }
        return Ok(());
    }
    let Some(announced) = place.announced() else {
        warn!(image = row.id, file = row.path, "its import was interrupted");
        let why =
            Refusal::new(Status::CopyFailed).because("the import was interrupted; import the file again");
        import::failed(app, &circumstances, &identity, &why).await?;
        return Ok(());
    };
    if place.received() < announced.length {
        if row.state != "uploading" || place.silence() >= SILENCE {
            delivery::stalled(app, row.id, "nothing arrives any more; send the rest").await?;
        }
        return Ok(());
    }
    if row.state != "upload_stalled"
        && let Some(held) = place.hold().map_err(internal)?
    {
        info!(image = row.id, file = row.path, "its interrupted check is made again");
        let image = import::Image { identity, osf: row.osf };
        app.tasks.spawn(delivery::finish(app.clone(), circumstances, held, image, announced.sha256));
    }
    Ok(())
}
