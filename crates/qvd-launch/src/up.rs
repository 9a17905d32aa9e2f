//! `qvd up`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::addresses;
use crate::installation::{Installation, SERVICE_USER};
use crate::layout::Layout;
use crate::preflight::{self, Request};

/// What the caller of `qvd up` wants. What is not said is as before, or as by default.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where everything is kept.
    pub data: PathBuf,
    /// Address of router and API.
    pub listen: Option<IpAddr>,
    /// Port of the router.
    pub port: Option<u16>,
    /// Port of the API.
    pub api_port: Option<u16>,
    /// Name of the bridge.
    pub bridge: Option<String>,
    /// The desktop network, a /16.
    pub network: Option<Ipv4Addr>,
}

/// Brings the installation up and returns when it serves; `out` gets the progress.
pub fn up(options: &Options, out: &mut impl Write) -> Result<()> {
    let data = std::path::absolute(&options.data)?;
    let layout = Layout::new(data);
    let running = is_running(&layout)?;
    let installation = choose(&layout, options)?;
    let request = Request {
        layout: &layout,
        listen: installation.listen,
        ports: &[installation.port, installation.api_port],
        running,
    };
    let findings = preflight::findings(&request);
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

/// The earlier choices, changed by what the caller wants now.
fn choose(layout: &Layout, options: &Options) -> Result<Installation> {
    let before = Installation::read(layout)?;
    let installation = match before {
        Some(before) => before,
        None => Installation {
            node: host_name()?,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8443,
            api_port: 443,
            bridge: crate::BRIDGE.to_owned(),
            network: match options.network {
                Some(network) => network,
                None => addresses::free_network().context(
                    "every network on offer collides with a route of this machine; choose a /16 with --network",
                )?,
            },
            outside: addresses::default_interface(),
        },
    };
    let network = options.network.unwrap_or(installation.network);
    if network.octets()[2..] != [0, 0] {
        bail!("--network {network}: give the address of a /16, such as 10.73.0.0");
    }
    let bridge = options.bridge.clone().unwrap_or_else(|| installation.bridge.clone());
    if bridge.is_empty()
        || bridge.len() > 15
        || !bridge.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    {
        bail!("--bridge {bridge}: an interface name has 1 to 15 letters, digits and hyphens");
    }
    Ok(Installation {
        listen: options.listen.unwrap_or(installation.listen),
        port: options.port.unwrap_or(installation.port),
        api_port: options.api_port.unwrap_or(installation.api_port),
        bridge,
        network,
        ..installation
    })
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    Ok(name.split('.').next().unwrap_or("node1").to_owned())
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
            _ => {}
        }
    }
    let status = child.wait()?;
    match problem {
        Some(problem) => bail!("{problem}"),
        None => bail!("the supervisor ended ({status}); see {}", log.display()),
    }
}
