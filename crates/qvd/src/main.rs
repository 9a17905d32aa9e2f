//! The server program of QVD.
//!
//! `qvd up`, `down` and `status` run an installation on one machine. Called by one of its links (`qvd-hkd`,
//! `qvd-l7r`, `qvd-api`, `qvd-deploy-db`, with or without `.pl`) it is that program.

mod archive;
mod daemon;
mod deploy;

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
    Up(Up),
    /// Stop desktops, daemons and database; the data stays.
    Down(Data),
    /// Tell what runs, where, and what is wrong.
    Status(Data),
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
}

#[derive(Debug, clap::Args)]
struct Data {
    /// Where everything is kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/qvd")]
    data: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Up {
    #[command(flatten)]
    data: Data,
    /// Address of router and API [default: as before, or 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<IpAddr>,
    /// Port of the router [default: as before, or 8443].
    #[arg(long)]
    port: Option<u16>,
    /// Port of the API [default: as before, or 443].
    #[arg(long)]
    api_port: Option<u16>,
    /// Name of the bridge of the desktops [default: as before, or qvdnet].
    #[arg(long, value_name = "NAME")]
    bridge: Option<String>,
    /// Network of the desktops, a /16 [default: as before, or one that is free].
    #[arg(long, value_name = "ADDRESS")]
    network: Option<Ipv4Addr>,
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
        Command::Up(options) => report(up(options)),
        Command::Down(data) => report(qvd_launch::down(&data.data, &mut std::io::stdout())),
        Command::Status(data) => status(&data.data),
        Command::Supervise(data) => report(supervise(data)),
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
    let Up { data, listen, port, api_port, bridge, network } = options;
    let options = qvd_launch::Options { data: data.data, listen, port, api_port, bridge, network };
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

fn supervise(data: Data) -> anyhow::Result<()> {
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_target(false).with_writer(std::io::stderr);
    subscriber.try_init().map_err(|e| anyhow::anyhow!("{e}"))?;
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
