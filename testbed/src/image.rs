//! The desktop image for tests: built once per recipe, kept outside the tree.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// Where built images are kept (`QVD_TESTBED_CACHE` names another place).
fn cache() -> PathBuf {
    std::env::var_os("QVD_TESTBED_CACHE")
        .map_or_else(|| PathBuf::from("/var/cache/qvd-testbed"), PathBuf::from)
}

/// The recipe in this tree.
fn recipe() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/build")
}

/// The image with this agent in it, built if the cache does not have it: about 40 s then, nothing otherwise.
/// The file is shared: copy or link it, never change it.
pub fn desktop(agent: &Path) -> anyhow::Result<PathBuf> {
    let cache = cache();
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let run = |arguments: &[&str]| -> anyhow::Result<String> {
        let mut command = Command::new(recipe());
        let output = command.arg("--agent").arg(agent).arg("--cache").arg(&cache).args(arguments).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "images/build: {}: {errors}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let archive = cache.join(format!("desktop-{}.tar.zst", run(&["--key"])?));
    if !archive.exists() {
        run(&[])?;
    }
    ensure!(archive.is_file(), "images/build did not make {}", archive.display());
    Ok(archive)
}
