//! `qvd up`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::choice::{Options, choose};
use crate::farm;
use crate::installation::{Installation, SERVICE_USER};
use crate::layout::{Daemon, Layout};
use crate::passwords::{Passwords, SECRETS};
use crate::preflight::{self, Request};

/// Brings the installation up and returns when it serves; `out` gets the progress.
pub fn up(options: &Options, out: &mut impl Write) -> Result<()> {
    let data = std::path::absolute(&options.data)?;
    let layout = Layout::new(data);
    let running = is_running(&layout)?;
    let installation = choose(&layout, options)?;
    let passwords = passwords(&layout, &installation, options)?;
    let mut findings =
        preflight::findings(&Request { layout: &layout, installation: &installation, running });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    findings.extend(runtime.block_on(farm::findings(&installation, &passwords, running)));
    if !findings.is_empty() {
        bail!("this machine is not ready; nothing was changed:\n  - {}", findings.join("\n  - "));
    }
    if running {
        if Installation::read(&layout)?.as_ref() != Some(&installation) {
            bail!("it is up already, with other options; qvd down first, then qvd up with the new ones");
        }
        writeln!(out, "already up")?;
        return Ok(());
    }
    if preflight::lacks_service_user() {
        writeln!(out, "making the system user {SERVICE_USER} for router and API")?;
        make_service_user()?;
    }
    std::fs::create_dir_all(layout.run())
        .with_context(|| format!("cannot make {}", layout.run().display()))?;
    installation.write(&layout)?;
    if installation.farm.is_some() {
        passwords.write(&layout)?;
    }
    start_supervisor(&layout, out)
}

/// Whether a supervisor has the installation.
pub fn is_running(layout: &Layout) -> Result<bool> {
    let Ok(file) = File::options().append(true).open(layout.lock()) else { return Ok(false) };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(false),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, error)) => Err(error).with_context(|| format!("cannot look at {}", layout.lock().display())),
    }
}

/// The passwords of the farm: as given, or as kept.
fn passwords(layout: &Layout, installation: &Installation, options: &Options) -> Result<Passwords> {
    let known = match &options.passwords {
        Some(path) => Passwords::read(path).context("--passwords")?,
        None => Passwords::known(layout)?,
    };
    Ok(match &installation.farm {
        Some(farm) => {
            let roles = Daemon::ALL.map(|daemon| farm.role(daemon));
            known.only(&[roles.as_slice(), &[SECRETS]].concat())
        }
        None => known,
    })
}

fn make_service_user() -> Result<()> {
    let status = Command::new("/usr/sbin/useradd")
        .args(["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"])
        .args(["--shell", "/usr/sbin/nologin", SERVICE_USER])
        .status()
        .context("cannot run useradd")?;
    if status.success() { Ok(()) } else { bail!("useradd {SERVICE_USER} failed: {status}") }
}

/// Starts the supervisor in a session of its own and relays its words until it says that all is ready.
fn start_supervisor(layout: &Layout, out: &mut impl Write) -> Result<()> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let log = layout.run().join("supervisor.log");
    let log_file = File::options().create(true).append(true).open(&log);
    let log_file = log_file.with_context(|| format!("cannot open {}", log.display()))?;
    let mut child = Command::new(program)
        .arg("supervise")
        .arg("--data")
        .arg(layout.root())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .process_group(0)
        .spawn()
        .context("cannot start the supervisor")?;
    let words = child.stdout.take().context("the supervisor says nothing")?;
    let mut problem = None;
    for line in BufReader::new(words).lines() {
        match line?.split_once(' ') {
            Some(("step", text)) => writeln!(out, "{text}")?,
            Some(("error", text)) => problem = Some(text.to_owned()),
            Some(("ready", _)) => return Ok(()),
            Some(("partly", text)) => bail!("{text}"),
            _ => {}
        }
    }
    let status = child.wait()?;
    match problem {
        Some(problem) => bail!("{problem}"),
        None => bail!("the supervisor ended ({status}); see {}", log.display()),
    }
}
