//! The server program of QVD.
//!
//! `qvd up`, `down` and `status` run an installation on one machine, or one node of a farm. Called by one of its
//! links (`qvd-hkd`, `qvd-l7r`, `qvd-api`, `qvd-deploy-db`, with or without `.pl`) it is that program.

mod archive;
mod daemon;
mod deploy;
mod give_up;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use daemon::Service;

/// QVD on this machine.
#[derive(Debug, Parser)]
#[command(name = "qvd", version, about = "Linux virtual desktops on this machine")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring everything up, and return when desktops can be had.
    Up(Box<Up>),
    /// Stop desktops, daemons and database; the data stays.
    Down(Data),
    /// Tell what runs, where, and what is wrong.
    Status(Data),
    /// Say that the machine of a host is off, so that its VMs may be started on others.
    GiveUp(give_up::Options),
    /// Restart daemons, after an upgrade for example: no desktop and no connection ends by it.
    ///
    /// A new router serves before the old one lets go, which keeps its sessions until they end, for at most
    /// internal.l7r.timeout.upgrade seconds.
    Restart {
        /// Which ones [default: all].
        services: Vec<Service>,
        #[command(flatten)]
        data: Data,
    },
    /// Deploy or migrate a database (as qvd-deploy-db).
    #[command(name = "deploy-db")]
    DeployDb(deploy::Options),
    /// Write the database to a file, or read it from one.
    Db {
        #[command(subcommand)]
        verb: archive::Verb,
    },
    /// Run one daemon in the foreground (as qvd-hkd, qvd-l7r, qvd-api).
    Daemon {
        /// Which one.
        service: Service,
        #[command(flatten)]
        options: daemon::Options,
    },
    /// The background half of `up`.
    #[command(hide = true)]
    Supervise(Data),
    /// Ends the desktops of a node whose daemon does not.
    #[command(hide = true)]
    Watchdog(Watchdog),
}

#[derive(Debug, clap::Args)]
struct Data {
    /// Where everything is kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/qvd")]
    data: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Watchdog {
    /// `path.run` of the node.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// `internal.hkd.cgroup` of the node.
    #[arg(long, value_name = "NAME")]
    cgroup: String,
}

#[derive(Debug, clap::Args)]
struct Up {
    #[command(flatten)]
    data: Data,
    /// Name of this node [default: as before, or the machine's name].
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Address of router and API [default: as before, or 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<IpAddr>,
    /// Port of the router [default: as before, or 8443].
    #[arg(long)]
    port: Option<u16>,
    /// Port of the API [default: as before, or 443].
    #[arg(long)]
    api_port: Option<u16>,
    /// Run the API here [default: as before, or true where the database is our own].
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    api: Option<bool>,
    /// Name of the bridge of the desktops [default: as before, or qvdnet].
    #[arg(long, value_name = "NAME")]
    bridge: Option<String>,
    /// Network of the desktops, a /16 [default: as before, that of --address, or one that is free].
    #[arg(long, value_name = "ADDRESS")]
    network: Option<Ipv4Addr>,
    /// Address of this node in the network of the desktops [default: as before, or its first].
    #[arg(long, value_name = "ADDRESS")]
    address: Option<Ipv4Addr>,
    /// Interface that leads to the desktops of other nodes, and to nothing else [default: as before, or none].
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Where images, homes and layers are kept [default: as before, or below --data].
    #[arg(long, value_name = "DIR")]
    storage: Option<PathBuf>,
    #[command(flatten)]
    farm: Farm,
}

/// Join a farm: use its database instead of one of our own.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Joining a farm")]
struct Farm {
    /// Servers of its database: names, addresses, or directories with a socket [default: as before].
    #[arg(long, value_name = "SERVER,...", value_delimiter = ',')]
    database: Vec<String>,
    /// Port of the servers [default: as before, or 5432].
    #[arg(long, value_name = "PORT")]
    database_port: Option<u16>,
    /// Name of the database [default: as before, or qvd].
    #[arg(long, value_name = "NAME")]
    database_name: Option<String>,
    /// One role for all daemons [default: as before, or qvd_api, qvd_node and qvd_l7r].
    #[arg(long, value_name = "NAME")]
    database_user: Option<String>,
    /// Whether connections to it are encrypted: off, prefer, require or verify [default: as before, or prefer].
    #[arg(long, value_name = "WORD")]
    database_tls: Option<String>,
    /// File with the authorities that may have signed the servers' certificates, for verify [default: as before].
    #[arg(long, value_name = "FILE")]
    database_ca: Option<PathBuf>,
    /// File with lines `role = password`, such as `passwords` of another node [default: as before].
    #[arg(long, value_name = "FILE")]
    passwords: Option<PathBuf>,
}

fn main() -> ExitCode {
    let words = arguments(std::env::args_os().collect());
    let deploys = words.get(1).is_some_and(|word| word == "deploy-db");
    let parsed = match Cli::try_parse_from(words) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _told = error.print();
            // Scripts tell a bad option of qvd-deploy-db from a database that is deployed already by its code.
            let code =
                if error.use_stderr() && deploys { deploy::BAD_OPTION.into() } else { error.exit_code() };
            return ExitCode::from(u8::try_from(code).unwrap_or(1));
        }
    };
    match parsed.command {
        Command::Up(options) => report(up(*options)),
        Command::Down(data) => report(qvd_launch::down(&data.data, &mut std::io::stdout())),
        Command::Status(data) => status(&data.data),
        Command::Restart { services, data } => report(restart(&services, &data.data)),
        Command::Supervise(data) => report(supervise(data)),
        Command::Watchdog(options) => report(watch(options)),
        Command::GiveUp(options) => report(give_up::run(&options)),
        Command::DeployDb(options) => deploy::run(options),
        Command::Db { verb } => archive::run(verb),
        Command::Daemon { service, options } => daemon::run(service, options),
    }
}

/// Called by a link, the program behaves as if it had been called with that command.
fn arguments(given: Vec<OsString>) -> Vec<OsString> {
    let name =
        given.first().map(Path::new).and_then(Path::file_name).and_then(|n| n.to_str()).unwrap_or("qvd");
    let command: &[&str] = match name.strip_suffix(".pl").unwrap_or(name) {
        "qvd-hkd" => &["daemon", "qvd-hkd"],
        "qvd-l7r" => &["daemon", "qvd-l7r"],
        "qvd-api" => &["daemon", "qvd-api"],
        "qvd-deploy-db" => &["deploy-db"],
        _ => &[],
    };
    let program = std::iter::once(OsString::from("qvd"));
    program.chain(command.iter().map(OsString::from)).chain(given.into_iter().skip(1)).collect()
}

fn up(options: Up) -> anyhow::Result<()> {
    let Up { data, node, listen, port, api_port, api, bridge, network, address, interface, storage, farm } =
        options;
    let Farm { database, database_port, database_name, database_user, database_tls, database_ca, passwords } =
        farm;
    let options = qvd_launch::Options {
        data: data.data,
        node,
        listen,
        port,
        api_port,
        api,
        bridge,
        network,
        address,
        interface,
        storage,
        database,
        database_port,
        database_name,
        database_user,
        database_tls,
        database_ca,
        passwords,
    };
    qvd_launch::up(&options, &mut std::io::stdout())
}

fn status(data: &Path) -> ExitCode {
    let told = daemon::runtime().and_then(|rt| rt.block_on(qvd_launch::status(data, &mut std::io::stdout())));
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => report(Err(error)),
    }
}

fn restart(services: &[Service], data: &Path) -> anyhow::Result<()> {
    let daemons: Vec<_> = services.iter().map(|service| service.daemon()).collect();
    qvd_launch::restart(data, &daemons, &mut std::io::stdout())
}

fn watch(options: Watchdog) -> anyhow::Result<()> {
    log_to_standard_error()?;
    let Watchdog { run, cgroup } = options;
    Ok(qvd_node::watch(&qvd_node::Watch { run, cgroup })?)
}

fn log_to_standard_error() -> anyhow::Result<()> {
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_target(false).with_writer(std::io::stderr);
    subscriber.try_init().map_err(|e| anyhow::anyhow!("{e}"))
}

fn supervise(data: Data) -> anyhow::Result<()> {
    log_to_standard_error()?;
    let layout = qvd_launch::Layout::new(std::path::absolute(data.data)?);
    daemon::runtime()?.block_on(qvd_launch::supervise(layout))
}

fn report(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qvd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Command {
        Cli::try_parse_from(arguments(words.iter().map(OsString::from).collect())).unwrap().command
    }

    #[test]
    fn links_choose_the_program() {
        assert!(matches!(
            parsed(&["/usr/bin/qvd-hkd", "-f", "/etc/qvd/node.conf"]),
            Command::Daemon { service: Service::Hkd, .. }
        ));
        assert!(matches!(parsed(&["qvd-deploy-db.pl", "--force"]), Command::DeployDb(_)));
        assert!(matches!(parsed(&["./qvd", "up", "--data", "/srv/qvd"]), Command::Up(_)));
    }
}
