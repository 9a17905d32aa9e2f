//! `qvd status`: what runs, where, and what is wrong.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use qvd_db::{Database, Settings};

use crate::installation::Installation;
use crate::layout::{Daemon, Layout};
use crate::passwords::Passwords;
use crate::report::{Phase, Report};
use crate::up::is_running;

/// Writes the status to `out`; whether everything serves.
pub async fn status(data: &Path, out: &mut impl Write) -> Result<bool> {
    let layout = Layout::new(std::path::absolute(data)?);
    let Some(installation) = Installation::read(&layout)? else {
        writeln!(out, "there is no installation in {}; qvd up makes one", layout.root().display())?;
        return Ok(false);
    };
    if !is_running(&layout)? {
        writeln!(out, "down; the data is in {}", layout.root().display())?;
        return Ok(false);
    }
    let report = Report::read(&layout)?;
    let mut good = true;
    writeln!(out, "up, supervised by process {}", report.pid)?;
    match &installation.farm {
        Some(farm) => writeln!(out, "  database    {} of the farm, {}", farm.name, farm.place())?,
        None => good &= postgres(&layout, out)?,
    }
    for daemon in &report.daemons {
        let process = daemon.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
        let state = match daemon.phase {
            Phase::Ready => "serves",
            Phase::Starting => "is starting",
            Phase::Stopped => "is stopped",
            Phase::Failed => "failed and is started again",
        };
        good &= daemon.phase == Phase::Ready;
        write!(out, "  {:<10}  {state}{process}", daemon.program)?;
        for old in &daemon.replaced {
            write!(out, ", replaced process {old} goes on with its sessions")?;
        }
        if daemon.failures > 0 {
            write!(out, ", ended {} times by itself", daemon.failures)?;
        }
        match &daemon.problem {
            Some(problem) => writeln!(out, "; {problem}")?,
            None => writeln!(out)?,
        }
    }
    let Installation { node, listen, port, api_port, bridge, network, .. } = &installation;
    writeln!(out, "  router      https://{listen}:{port}, health: /qvd/ping")?;
    if installation.api {
        writeln!(
            out,
            "  api         https://{listen}:{api_port}, for root also {}",
            layout.api_socket().display()
        )?;
    }
    writeln!(out, "  node        {node}, {} on the bridge {bridge}", installation.address())?;
    writeln!(out, "  desktops    network {network}/{}", crate::addresses::PREFIX)?;
    writeln!(out, "  storage     {}", installation.storage(&layout).display())?;
    writeln!(out, "  passwords   {}", layout.passwords().display())?;
    writeln!(out, "  logs        {}", layout.log().display())?;
    good &= desktops(&layout, &installation, out).await?;
    Ok(good)
}

fn postgres(layout: &Layout, out: &mut impl Write) -> Result<bool> {
    let cluster = crate::database::cluster(layout)?;
    let Some(pid) = cluster.pid() else {
        writeln!(out, "  postgresql  does not run; see {}", cluster.log_file().display())?;
        return Ok(false);
    };
    writeln!(out, "  postgresql  serves, process {pid}, socket {}", cluster.socket_directory().display())?;
    Ok(true)
}

async fn desktops(layout: &Layout, installation: &Installation, out: &mut impl Write) -> Result<bool> {
    let settings = match &installation.farm {
        Some(farm) => farm.settings(Daemon::Hkd, &Passwords::known(layout)?)?,
        None => crate::database::settings(layout, crate::DATABASE),
    };
    let settings = Settings { connect_timeout: Duration::from_secs(5), pool_size: 1, ..settings };
    match qvd_db::hosts::census(&Database::new(&settings)?).await {
        Ok(census) => {
            let mut good = true;
            for host in &census.hosts {
                write!(out, "  host        {} is {}", host.name, host.state)?;
                match host.silent {
                    Some(silent) => {
                        good = false;
                        writeln!(out, ", but suspect: no heartbeat for {silent} s, so it gets no new VMs")?;
                    }
                    None => writeln!(out)?,
                }
            }
            let counts: Vec<String> = census.states.iter().map(|(state, n)| format!("{n} {state}")).collect();
            writeln!(
                out,
                "  VMs         {}",
                if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
            )?;
            for (name, failure) in &census.failures {
                writeln!(out, "    {name}: {failure}")?;
            }
            Ok(good)
        }
        Err(error) => {
            writeln!(out, "  VMs         unknown: {error}")?;
            Ok(false)
        }
    }
}
