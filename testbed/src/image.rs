//! The desktop image that tests use.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::programs::{program, workspace};

/// Path of the Debian desktop image with the agent of this workspace; built unless the cache has it.
pub fn debian() -> Result<PathBuf> {
    let directory = workspace().join("target/images");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let file = directory.join("debian.tar.zst");
    let status = Command::new(workspace().join("images/build"))
        .arg("--agent")
        .arg(program("qvd-vma")?)
        .arg("--output")
        .arg(&file)
        .status()
        .context("cannot run images/build")?;
    if !status.success() {
        bail!("images/build failed: {status}");
    }
    Ok(file)
}
