//! Checks of this workspace that no compiler makes: `cargo xtask check`.
//!
//! Each check is a pure function from what cargo or git says to findings, so that its rules are tested without
//! either.

mod bans;
mod length;
mod licenses;
mod source;
mod tiers;

use std::process::ExitCode;

use anyhow::{Result, bail};

/// One thing that is wrong, as a sentence that names it.
type Finding = String;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["check"] => check(),
        _ => bail!("usage: cargo xtask check"),
    }
}

/// Runs every check, so that one run shows all that is wrong.
fn check() -> Result<()> {
    let root = source::root()?;
    let packages = source::packages(&root)?;
    let built = source::built(&root)?;
    let files = source::files(&root)?;
    let checks = [
        ("tiers", tiers::findings(&packages)),
        ("licenses", licenses::findings(&built)),
        ("bans", bans::findings(&built)),
        ("length", length::findings(&files)),
    ];
    let mut total = 0;
    for (name, findings) in checks {
        total += findings.len();
        for finding in &findings {
            eprintln!("{name}: {finding}");
        }
    }
    if total > 0 {
        bail!("{total} finding(s)");
    }
    eprintln!(
        "xtask: {} packages keep their tiers, {} crates their licenses, {} files their length",
        packages.len(),
        built.len(),
        files.len()
    );
    Ok(())
}
