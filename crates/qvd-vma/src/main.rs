//! qvd-vma: the agent inside each desktop.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::Parser;
use qvd_runtime::{Config, log, signals};
use tracing::{error, info};

/// The agent inside a QVD desktop. It answers its router and node, and runs the user's session.
#[derive(Debug, Parser)]
#[command(name = "qvd-vma", version)]
struct Arguments {
    /// Configuration file; without one the documented defaults hold.
    #[arg(long, default_value = "/etc/qvd/vma.conf")]
    config: PathBuf,
    /// Log to the screen as well.
    #[arg(short = 'X', long)]
    foreground: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if qvd_agent::dialog::answer(&arguments) {
        return ExitCode::SUCCESS;
    }
    if let Some(code) = qvd_agent::question::run(&arguments) {
        return ExitCode::from(code);
    }
    let arguments = Arguments::parse();
    let result = if std::process::id() == 1 { as_init() } else { serve(&arguments) };
    match result {
        Ok(code) => code,
        Err(error) => {
            error!("{error:#}");
            eprintln!("qvd-vma: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Process 1 only starts and reaps; the agent proper is its child.
fn as_init() -> anyhow::Result<ExitCode> {
    let mut agent = Command::new(std::env::current_exe().context("cannot find my own program")?);
    agent.args(std::env::args_os().skip(1));
    let code = qvd_agent::init::run(agent).context("cannot run the agent below init")?;
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn serve(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let config = if arguments.config.exists() {
        Config::load(&[&arguments.config])?
    } else {
        Config::parse("the built-in defaults", "")?
    };
    let values = config.now();
    log::init(&values, "log.filename", "log.level", arguments.foreground)?;
    for problem in values.problems() {
        tracing::warn!("{problem}");
    }
    let pid_file = values.path("vma.pid_file")?;
    if let Some(directory) = pid_file.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    std::fs::write(&pid_file, format!("{}\n", std::process::id()))
        .with_context(|| format!("cannot write {}", pid_file.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        let stop = signals::stop_token()?;
        qvd_agent::run(config, stop).await.map_err(anyhow::Error::from)
    });
    std::fs::remove_file(&pid_file).with_context(|| format!("cannot remove {}", pid_file.display()))?;
    result?;
    info!("agent ended");
    Ok(ExitCode::SUCCESS)
}
