//! Receiving an image.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::multipart::Field;
use qvd_hypervisor::storage;
use qvd_model::action::Status;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use super::files;
use super::import::{self, discard, refusal};
use crate::app::App;
use crate::execute::{Reply, Request};
use crate::refusal::Refusal;
use crate::session::internal;

/// Receives the file of a permitted request, looks at it, and makes an image of it.
pub(crate) async fn receive(
    app: &Arc<App>,
    request: Arc<Request>,
    mut file: Field<'_>,
) -> Result<Reply, Refusal> {
    let name = import::disk_image(&request)?;
    files::check_name(&name)?;
    let images = files::images(app).await?;
    let limit: u64 = app.config.now().int("api.upload.max").map_err(internal)?;
    let part = files::part(&images, &format!("upload-{:016x}", rand::random::<u64>()));
    let received = write(&part, &mut file, limit << 20).await;
    let checked = match received {
        Ok(_held) => storage::verify(&part).await.map_err(refusal).map_err(|r| renamed(r, &name)),
        Err(refusal) => Err(refusal),
    };
    let outcome = match checked {
        Ok(checked) => import::from_upload(app, request.clone(), &part, &name, checked).await,
        Err(refusal) => {
            crate::execute::log_failure(app, &request, &refusal).await?;
            Err(refusal)
        }
    };
    if outcome.is_err() {
        discard(&part).await;
    }
    outcome
}

/// The part has a name of its own; people know the file by another.
fn renamed(refusal: Refusal, name: &str) -> Refusal {
    match refusal {
        Refusal::Known { status, info, .. } => Refusal::Known { status, object: Some(name.to_owned()), info },
        other => other,
    }
}

/// Writes what arrives; the file stays locked, which shows that somebody is at it.
async fn write(part: &PathBuf, file: &mut Field<'_>, limit: u64) -> Result<File, Refusal> {
    let failed = |error: std::io::Error| {
        let status = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Status::NoSpace,
            _ => Status::UploadNotMoved,
        };
        Refusal::new(status).because(error.to_string())
    };
    let target = OpenOptions::new().write(true).create_new(true).open(part).await.map_err(failed)?;
    let target = target.into_std().await;
    target.try_lock().map_err(internal)?;
    let mut target = File::from_std(target);
    let mut size: u64 = 0;
    while let Some(chunk) =
        file.chunk().await.map_err(|e| Refusal::new(Status::NoFilePart).because(e.to_string()))?
    {
        size += chunk.len() as u64;
        if size > limit {
            return Err(Refusal::new(Status::TooLarge)
                .because(format!("at most {} MB (api.upload.max)", limit >> 20)));
        }
        target.write_all(&chunk).await.map_err(failed)?;
    }
    target.sync_all().await.map_err(failed)?;
    Ok(target)
}
