//! The staging directory: what waits there, and where the file of a request is.

use std::path::{Component, Path, PathBuf};

use qvd_model::action::Status;
use serde_json::json;
use tokio::fs;

use super::files;
use crate::app::App;
use crate::execute::Reply;
use crate::refusal::Refusal;
use crate::session::internal;

/// The plain files that wait.
pub(crate) async fn list(app: &App) -> Result<Reply, Refusal> {
    let staging = files::staging(app).await?;
    let mut names = Vec::new();
    let mut entries = fs::read_dir(&staging).await.map_err(internal)?;
    while let Some(entry) = entries.next_entry().await.map_err(internal)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.file_type().await.is_ok_and(|t| t.is_file()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    let total = i64::try_from(names.len()).unwrap_or(i64::MAX);
    let rows = names.iter().map(|name| json!({ "name": name }).to_string()).collect();
    Ok(Reply::Rows { rows, total })
}

/// The file that a request names: by its name, or by its path below the staging directory.
pub(crate) async fn find(app: &App, given: &str) -> Result<(PathBuf, String), Refusal> {
    let staging = files::staging(app).await?;
    let name = name_in(&staging, given)?;
    let path = staging.join(&name);
    // A link could lead anywhere.
    match fs::symlink_metadata(&path).await {
        Ok(meta) if meta.is_file() => Ok((path, name)),
        _ => Err(not_there(&staging, given)),
    }
}

fn name_in(staging: &Path, given: &str) -> Result<String, Refusal> {
    if !given.starts_with('/') {
        files::check_name(given)?;
        return Ok(given.to_owned());
    }
    let below = Path::new(given).strip_prefix(staging).map_err(|_| not_there(staging, given))?;
    let mut components = below.components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(name)), None) => {
            let name = name.to_str().ok_or_else(|| not_there(staging, given))?;
            files::check_name(name)?;
            Ok(name.to_owned())
        }
        _ => Err(not_there(staging, given)),
    }
}

fn not_there(staging: &Path, given: &str) -> Refusal {
    Refusal::about(Status::NotInStaging, given)
        .because(format!("put the file into {} on the server, or upload it", staging.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_directly_in_staging_are_found() {
        let staging = Path::new("/srv/staging");
        assert_eq!(name_in(staging, "a.tar").unwrap(), "a.tar");
        assert_eq!(name_in(staging, "/srv/staging/a.tar").unwrap(), "a.tar");
        for bad in
            ["/srv/a.tar", "/srv/staging/../a", "/srv/staging/b/a", "/srv/staging", "../a", "/srv/staging2/a"]
        {
            assert!(name_in(staging, bad).is_err(), "{bad}");
        }
    }
}
