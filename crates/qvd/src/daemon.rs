//! Running one daemon in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use qvd_launch::Daemon;
use qvd_runtime::Config;
use qvd_runtime::signals::Orders;
use tokio::signal::unix::{SignalKind, signal};

/// The daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Service {
    /// The node daemon.
    #[value(name = "qvd-hkd", alias = "hkd")]
    Hkd,
    /// The router.
    #[value(name = "qvd-l7r", alias = "l7r")]
    L7r,
    /// The administration API.
    #[value(name = "qvd-api", alias = "api")]
    Api,
}

impl Service {
    /// The same among those that `qvd up` runs.
    pub fn daemon(self) -> Daemon {
        match self {
            Self::Hkd => Daemon::Hkd,
            Self::L7r => Daemon::L7r,
            Self::Api => Daemon::Api,
        }
    }
}

/// How to run it.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Configuration file [default: /etc/qvd/node.conf, for the API /etc/qvd/api.conf].
    #[arg(short = 'f', long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Stay in the foreground and log to the screen as well; daemons always stay in the foreground.
    #[arg(short = 'X')]
    foreground: bool,
    /// Check the configuration and end.
    #[arg(long)]
    check_config: bool,
}

/// A wrong configuration, by the convention of `sysexits`.
const CONFIGURATION: u8 = 78;

/// Runs a daemon until it is told to stop.
pub fn run(service: Service, options: Options) -> ExitCode {
    match start(service, &options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}: {error:#}", service.daemon().program());
            ExitCode::from(CONFIGURATION)
        }
    }
}

fn start(service: Service, options: &Options) -> Result<ExitCode> {
    end_with_supervisor()?;
    let default = match service {
        Service::Api => "/etc/qvd/api.conf",
        Service::Hkd | Service::L7r => "/etc/qvd/node.conf",
    };
    let file = options.config_file.clone().unwrap_or_else(|| PathBuf::from(default));
    let config = Config::load(&[file])?;
    let values = config.now();
    let problems = values.problems();
    let unheeded = values.unheeded();
    if options.check_config {
        for remark in unheeded {
            eprintln!("{remark}");
        }
        return Ok(tell(&problems));
    }
    let (file, level) = match service {
        Service::Api => ("log.api.filename", "api.log.level"),
        Service::Hkd | Service::L7r => ("log.filename", "log.level"),
    };
    qvd_runtime::log::init(&values, file, level, options.foreground)?;
    for problem in problems.into_iter().chain(unheeded) {
        tracing::warn!("{problem}");
    }
    if service != Service::Hkd {
        allow_open_files();
    }
    let outcome = runtime()?.block_on(async {
        let stop = qvd_runtime::signals::stop_token().context("cannot listen to signals")?;
        tokio::spawn(reload_on_hangup(config.clone()).context("cannot listen to signals")?);
        anyhow::Ok(match service {
            Service::Hkd => qvd_node::run(config, stop).await.map_err(|e| (e.exit_code(), e.to_string())),
            Service::L7r => {
                let retire = qvd_runtime::signals::retire_token().context("cannot listen to signals")?;
                qvd_router::run(config, Orders { stop, retire }).await.map_err(|e| (1, e.to_string()))
            }
            Service::Api => qvd_admin::run(config, stop).await.map_err(|e| (1, e.to_string())),
        })
    })?;
    Ok(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, problem)) => {
            tracing::error!("{problem}");
            eprintln!("{}: {problem}", service.daemon().program());
            ExitCode::from(code)
        }
    })
}

/// HUP makes a daemon read its configuration file again; rows of the database reload by themselves.
fn reload_on_hangup(config: Config) -> Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            match config.reload_files() {
                Ok(()) => tracing::info!("HUP received, configuration file read again"),
                Err(error) => tracing::error!("configuration file not read, the old values stay: {error}"),
            }
        }
    })
}

fn tell(problems: &[String]) -> ExitCode {
    for problem in problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CONFIGURATION) }
}

/// A daemon that `qvd up` started must not outlive its supervisor, whose sockets and database it uses.
fn end_with_supervisor() -> Result<()> {
    if std::env::var_os("QVD_SUPERVISED").is_some() {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
    }
    Ok(())
}

/// A session takes two descriptors, and the usual limit is 1024, while much more is allowed. Not for the node daemon,
/// whose limit the desktops inherit: programs there may walk through all possible descriptors.
fn allow_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}

/// The runtime of all commands.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}
