//! The programs of the workspace, as they are built now.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

/// Path of a program of this workspace. The first call builds them all, so that no test runs an old one.
pub fn program(name: &str) -> Result<PathBuf> {
    static DIRECTORY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    let path = directory.as_ref().map_err(|error| anyhow!("{error}"))?.join(name);
    if !path.exists() {
        bail!("{} was not built", path.display());
    }
    Ok(path)
}

/// Root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

fn build() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    // A test program lies in `deps` beside the programs.
    let beside = own.parent().filter(|parent| !parent.ends_with("deps")).or_else(|| own.ancestors().nth(2));
    let directory = beside.context("this program is in an unknown place")?;
    let optimized: &[&str] = if directory.ends_with("release") { &["--release"] } else { &[] };
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()))
        .args(["build", "--quiet", "--locked", "--bins"])
        .args(optimized)
        .arg("--target-dir")
        .arg(directory.parent().unwrap_or(directory))
        .args(["--package", "qvd", "--package", "qa4", "--package", "qvdclient", "--package", "qvd-vma"])
        .current_dir(workspace())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the programs do not build");
    }
    Ok(directory.to_owned())
}
