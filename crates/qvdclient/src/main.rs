//! qvdclient: connect to a desktop from the command line (manual 7.7, `spec/client.md` 15).

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod arguments;
mod ask;
mod choice;
mod failure;
mod session;

use std::process::ExitCode;

use clap::Parser;
use nix::sys::resource::{Resource, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use arguments::Arguments;
use failure::Failure;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(help_or_error) => {
            let code = if help_or_error.use_stderr() { failure::USAGE } else { 0 };
            // Nothing is left to tell it to.
            let _ = help_or_error.print();
            return ExitCode::from(code);
        }
    };
    let level = if arguments.debug { LevelFilter::DEBUG } else { LevelFilter::WARN };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).init();
    match run(arguments) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("qvdclient: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    // Memory holds the password, and nxproxy, which inherits the limit, is known to end in a dump.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|errno| Failure::System(errno.into()))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::System)?;
    let code = runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).map_err(Failure::System)?;
        let mut int = signal(SignalKind::interrupt()).map_err(Failure::System)?;
        let mut hup = signal(SignalKind::hangup()).map_err(Failure::System)?;
        // A signal drops the session, which takes its permission back and ends nxproxy.
        tokio::select! {
            result = session::run(&arguments) => result.map(|()| 0),
            _ = int.recv() => Ok(130),
            _ = term.recv() => Ok(143),
            _ = hup.recv() => Ok(129),
        }
    })?;
    // A prompt may still be waiting for a line in a thread of its own.
    runtime.shutdown_background();
    Ok(ExitCode::from(code))
}
