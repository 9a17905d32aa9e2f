//! `qvd give-up`: an administrator's word that a host is off, for hosts that no other one may give up.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use qvd_db::events::Actor;
use qvd_db::{Database, Settings, cluster, hosts};
use qvd_runtime::Config;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Name of the host.
    host: String,
    /// I have made sure that the machine is off: two nodes that run one VM destroy its data.
    #[arg(long)]
    is_off: bool,
    /// Configuration file with the connection to the database.
    #[arg(short = 'c', long, value_name = "FILE", default_value = "/etc/qvd/node.conf")]
    config_file: PathBuf,
}

/// Gives a host up, so that its VMs may be started on others.
pub fn run(options: &Options) -> Result<()> {
    let name = options.host.as_str();
    ensure!(
        options.is_off,
        "make sure that the machine of host {name} is off, and say so with --is-off: if its desktops still ran, two \
         nodes would write the same data"
    );
    let config = Config::load(std::slice::from_ref(&options.config_file))?;
    let values = config.now();
    let settings = Settings::from_keys(|key| values.optional(key).map_err(anyhow::Error::from))?;
    crate::daemon::runtime()?.block_on(async {
        let database = Database::new(&settings)?;
        let host = hosts::find(&database, name).await?.with_context(|| format!("there is no host {name}"))?;
        let census = hosts::census(&database).await?;
        let lives = census.hosts.iter().any(|glance| glance.name == name && glance.is_alive());
        ensure!(!lives, "host {name} is not off: its last heartbeat came just now");
        let actor = Actor::administrator("qvd give-up");
        let freed = cluster::give_up(&database, &actor, host.id).await?.context("it was deleted just now")?;
        let count = freed.vms.len();
        eprintln!("host {name} is given up; {count} of its VMs may be started on other hosts");
        Ok(())
    })
}
