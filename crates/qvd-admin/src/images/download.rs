//! An image that the server fetches itself.

use std::fs::File;
use std::sync::Arc;

use qvd_model::action::Status;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use super::import::{self, Source};
use super::{files, incoming};
use crate::app::App;
use crate::execute::{Request, log_failure, osf_of};
use crate::fetch::{FetchError, Fetched, Fetcher};
use crate::refusal::Refusal;
use crate::session::internal;

/// Makes an image of what lies at an address. Whatever its head tells is known before there is a row; the rest comes
/// in the background.
pub(crate) async fn from_url(
    app: &Arc<App>,
    request: Arc<Request>,
    url: &str,
    sha256: Option<String>,
) -> Result<i32, Refusal> {
    let found = async {
        let name = import::disk_image(&request)?;
        files::check_name(&name)?;
        files::images(app).await?;
        osf_of(app, &request).await?;
        let values = app.config.now();
        let text = |key: &str| values.text(key).map_err(internal);
        let fetcher =
            Fetcher::new(&text("api.download.allow")?, &text("api.download.ca")?).map_err(refusal)?;
        let fetched = fetcher.get(url).await.map_err(refusal)?;
        let limit = limit(app)?;
        if fetched.length.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        Ok((name, fetched))
    };
    match found.await {
        Ok((name, fetched)) => {
            import::begin(app, request, &name, Source::Elsewhere(Box::new(fetched)), sha256).await
        }
        Err(refusal) => {
            log_failure(app, &request, &refusal).await?;
            Err(refusal)
        }
    }
}

fn limit(app: &App) -> Result<u64, Refusal> {
    let megabytes: u64 = app.config.now().int("api.upload.max").map_err(internal)?;
    Ok(megabytes << 20)
}

fn too_large(limit: u64) -> Refusal {
    Refusal::new(Status::TooLarge).because(format!("at most {} MB (api.upload.max)", limit >> 20))
}

/// Writes what comes to `target`.
pub(super) async fn write(
    app: &App,
    mut coming: Fetched,
    target: File,
    done: &watch::Sender<f32>,
) -> Result<(), Refusal> {
    let failed = |error: std::io::Error| incoming::not_written(&error);
    let limit = limit(app)?;
    let mut target = tokio::fs::File::from_std(target);
    let mut size: u64 = 0;
    loop {
        let chunk = tokio::select! {
            chunk = coming.chunk() => chunk.map_err(refusal)?,
            () = app.tasks.stopping() => {
                return Err(Refusal::new(Status::DownloadFailed).because("the API was stopped during the download"));
            }
        };
        let Some(chunk) = chunk else { break };
        size += chunk.len() as u64;
        if size > limit {
            return Err(too_large(limit));
        }
        target.write_all(&chunk).await.map_err(failed)?;
        if let Some(length) = coming.length {
            #[allow(clippy::cast_precision_loss, reason = "a share that is shown")]
            done.send_replace((size as f32 / length.max(1) as f32).min(1.0));
        }
    }
    target.flush().await.map_err(failed)?;
    target.sync_all().await.map_err(failed)
}

fn refusal(error: FetchError) -> Refusal {
    let status = match &error {
        FetchError::NotNamed(_) | FetchError::NotPublic { .. } => Status::AddressNotAllowed,
        FetchError::Malformed(_) => Status::WrongArgumentValue,
        FetchError::Settings(_) | FetchError::Failed { .. } => Status::DownloadFailed,
    };
    Refusal::new(status).because(error.to_string())
}
