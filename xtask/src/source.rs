//! What the checks look at: cargo's view of the workspace, and the files that git keeps.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A package of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// What it depends on, without version.
    pub dependencies: Vec<Dependency>,
}

/// One arrow from a package.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    /// The name of the crate.
    pub name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub kind: Option<String>,
}

/// A crate that the build of this platform really compiles.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Built {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its license, as an SPDX expression.
    pub license: String,
}

/// A text file of the repository.
#[derive(Debug)]
pub struct File {
    /// Path from the root.
    pub path: String,
    /// Number of lines.
    pub lines: usize,
}

/// Root of the workspace.
pub fn root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .context("xtask has no parent directory")
}

/// The packages of the workspace.
pub fn packages(root: &Path) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let text = output(root, env!("CARGO"), &["metadata", "--format-version", "1", "--no-deps", "--locked"])?;
    let metadata: Metadata = serde_json::from_str(&text).context("cargo metadata says something new")?;
    Ok(metadata.packages)
}

/// The crates that are compiled. (`cargo metadata` also lists those of features that nobody turns on.)
pub fn built(root: &Path) -> Result<Vec<Built>> {
    let arguments =
        ["tree", "--workspace", "--locked", "-e", "normal,build,dev", "--prefix", "none", "-f", "{p}|{l}"];
    let text = output(root, env!("CARGO"), &arguments)?;
    let mut built: Vec<Built> = text.lines().filter_map(parse_built).collect();
    built.sort();
    built.dedup();
    Ok(built)
}

/// A line such as `rand v0.9.2|MIT OR Apache-2.0 (*)`.
fn parse_built(line: &str) -> Option<Built> {
    let (package, license) = line.split_once('|')?;
    let mut words = package.split(' ');
    let name = words.next()?.to_owned();
    let version = words.next()?.trim_start_matches('v').to_owned();
    let license = license.trim_end_matches("(*)").trim().to_owned();
    Some(Built { name, version, license })
}

/// The source files that git keeps.
pub fn files(root: &Path) -> Result<Vec<File>> {
    let listed = output(root, "git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
    let mut files = Vec::new();
    for path in listed.lines().filter(|path| is_source(path)) {
        // A file that was just deleted is still listed.
        if let Ok(text) = fs::read_to_string(root.join(path)) {
            files.push(File { path: path.to_owned(), lines: text.lines().count() });
        }
    }
    Ok(files)
}

fn is_source(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("rs" | "sql" | "sh" | "py")) || path == ".ci/run"
}

fn output(root: &Path, program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).current_dir(root).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} prints bytes that are no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_tree_is_taken_apart() {
        let built = parse_built("rand v0.9.2|MIT OR Apache-2.0 (*)").unwrap();
        assert_eq!(built.name, "rand");
        assert_eq!(built.version, "0.9.2");
        assert_eq!(built.license, "MIT OR Apache-2.0");
        let own = parse_built("xtask v4.3.0 (/somewhere/xtask)|Apache-2.0").unwrap();
        assert_eq!((own.name.as_str(), own.license.as_str()), ("xtask", "Apache-2.0"));
        assert_eq!(parse_built(""), None);
    }

    #[test]
    fn this_workspace_is_read() {
        let root = root().unwrap();
        assert!(packages(&root).unwrap().iter().any(|package| package.name == "xtask"));
        assert!(files(&root).unwrap().iter().any(|file| file.path == "xtask/src/source.rs"));
    }
}
