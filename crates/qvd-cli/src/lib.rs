//! `qa4`, the administrator's command line: a small language over the API (`spec/cli.md` 1).
//!
//! A line is read into a [`command::Command`] by [`grammar`], translated into calls of the API, and its answer
//! is printed by [`output`]. Names, columns and help come from the registry in `qvd_model::action`.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stderr,
    reason = "remarks and questions belong on the standard error of a command line"
)]

pub mod api;
mod change;
mod clock;
pub mod command;
pub mod completion;
mod config_set;
mod creation;
mod doctor;
mod drain;
pub mod error;
mod explain;
pub mod grammar;
mod grant;
pub mod help;
mod import;
mod legacy;
mod listing;
mod manual;
pub mod noun;
pub mod options;
pub mod output;
mod pages;
mod pins;
mod progress;
mod property;
mod proxy;
pub mod reach;
mod rows;
pub mod run;
mod script;
mod second_factor;
pub mod session;
mod setting;
mod shell;
mod suggestion;
mod tls;
pub mod transport;
mod upload;
mod watch;

use std::fs::File;
use std::io::{BufReader, IsTerminal, Write, stdin};

use clap::Parser;

use crate::error::Error;
use crate::grammar::Line;
use crate::options::{Options, Settings};
use crate::run::{Mode, Runner, complain, read, write};

/// Runs the program with its arguments (the first is its name); the result is its exit code.
pub async fn main(arguments: Vec<String>, out: &mut dyn Write) -> u8 {
    let environment = |name: &str| std::env::var(name).ok();
    if arguments.first().is_some_and(|name| is_legacy(name)) {
        return legacy::main(arguments, &environment, out).await;
    }
    if let [_, flag, current, line] = arguments.as_slice()
        && flag == "--complete"
    {
        shell::complete(current, line, out).await;
        return 0;
    }
    let format = options::format_of(&arguments);
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) => {
            let text = error.to_string();
            let error = Error::Usage(text.trim_start_matches("error: ").trim_end().to_owned());
            complain(format, "", &error);
            return error.exit_code();
        }
    };
    match execute(&options, &environment, out).await {
        Ok(()) => 0,
        // Whoever read our output has seen enough.
        Err((_, Error::Output(error))) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err((place, error)) => {
            complain(format, &place, &error);
            error.exit_code()
        }
    }
}

/// Whether the program is called by the name of its predecessor.
fn is_legacy(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    matches!(name, "qa" | "qa.pl" | "qvd-admin.pl")
}

/// Runs what the options ask for; an error comes with the place in the script where it happened.
pub async fn execute(
    options: &Options,
    environment: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
) -> Result<(), (String, Error)> {
    let plain = |error: Error| (String::new(), error);
    if options.help {
        // `qa4 vm start --help` is about VMs.
        let topic = options.command.first().map(String::as_str).filter(|word| help::topics().contains(word));
        return write(out, &help::text(topic).map_err(plain)?).map_err(plain);
    }
    if options.version {
        return write(out, &format!("qa4 {}\n", env!("CARGO_PKG_VERSION"))).map_err(plain);
    }
    if let [word, topic @ ..] = options.command.as_slice()
        && matches!(word.as_str(), "usage" | "help")
    {
        let text = help::text(topic.first().map(String::as_str)).map_err(plain)?;
        return write(out, &text).map_err(plain);
    }
    if let [word, shell] = options.command.as_slice()
        && word == "completion"
    {
        let known = completion::SHELLS.join(", ");
        let script = completion::script(shell)
            .ok_or_else(|| plain(Error::Usage(format!("no completion for `{shell}`; there is {known}"))))?;
        return write(out, script).map_err(plain);
    }
    if options.command == ["manual"] {
        return write(out, &manual::page()).map_err(plain);
    }
    if !options.command.is_empty() {
        let line = Line::from_arguments(&options.command);
        // A line that is not a command is told so even where no API is configured.
        read(&line, options.force).map_err(plain)?;
        let settings = Settings::load(options, environment).map_err(plain)?;
        let mut runner = Runner::new(options, settings, Mode::Once, out);
        return runner.line(&line).await.map(|_| ()).map_err(plain);
    }
    let settings = Settings::load(options, environment).map_err(plain)?;
    match &options.file {
        Some(file) if file.as_os_str() != "-" => {
            let name = file.display().to_string();
            let script = File::open(file).map_err(|e| plain(Error::Usage(format!("{name}: {e}"))))?;
            let mut runner = Runner::new(options, settings, Mode::Script, out);
            runner.script(&name, &mut BufReader::new(script)).await
        }
        None if stdin().is_terminal() => {
            let mut runner = Runner::new(options, settings, Mode::Shell, out);
            shell::run(&mut runner).await.map_err(plain)
        }
        _ => {
            let mut runner = Runner::new(options, settings, Mode::Script, out);
            runner.script("-", &mut BufReader::new(stdin())).await
        }
    }
}
