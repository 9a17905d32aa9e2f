//! Powering the desktop off.

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tracing::{error, info};

use crate::settings::Settings;

/// Tells the desktop's init system to shut down: systemd, the agent's own (see [`crate::init`]), or any other.
pub(crate) async fn off(settings: &Settings) {
    info!("powering off");
    let configured = &settings.programs.poweroff;
    let systemd = settings.inside(Path::new("/run/systemd/system")).is_dir();
    let (program, arguments): (&Path, &[&str]) = if !configured.as_os_str().is_empty() {
        (configured, &[])
    } else if systemd {
        (Path::new("/usr/bin/systemctl"), &["poweroff"])
    } else if own_init() || !Path::new("/sbin/poweroff").exists() {
        // A small init, ours or another's, ends with what it started.
        if let Err(error) = kill(Pid::from_raw(1), Signal::SIGTERM) {
            error!("cannot tell init to end: {error}");
        }
        return;
    } else {
        (Path::new("/sbin/poweroff"), &[])
    };
    match Command::new(program).args(arguments).stdin(Stdio::null()).status().await {
        Ok(status) if status.success() => {}
        Ok(status) => error!("{} ended with {status}", program.display()),
        Err(error) => error!("cannot run {}: {error}", program.display()),
    }
}

fn own_init() -> bool {
    let own = std::fs::read_link("/proc/self/exe");
    let init = std::fs::read_link("/proc/1/exe");
    matches!((own, init), (Ok(own), Ok(init)) if own == init)
}
