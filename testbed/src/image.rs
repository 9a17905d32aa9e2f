//! The desktop image that tests use.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::programs::workspace;

/// Where packages and images are kept between runs of the tests.
const CACHE: &str = "/var/cache/qvd/images";

/// The image with this agent in it, as an archive in `directory`: a second where the cache has its packages and
/// its root file system, about a minute where it has not.
pub fn desktop(agent: &Path, directory: &Path) -> Result<PathBuf> {
    let image = directory.join("desktop.tar.zst");
    let output = Command::new(workspace().join("images/build"))
        .args(["--cache", CACHE, "--agent"])
        .arg(agent)
        .arg("--output")
        .arg(&image)
        .output()
        .context("cannot run images/build")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "images/build, {}: {errors}", output.status);
    Ok(image)
}
