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
pub mod command;
mod config_set;
mod creation;
pub mod error;
mod explain;
pub mod grammar;
pub mod help;
mod import;
mod listing;
pub mod noun;
pub mod options;
pub mod output;
mod property;
pub mod run;
pub mod session;
mod tls;
pub mod transport;

use std::fs::File;
use std::io::{BufReader, Write, stdin};

use clap::Parser;

use crate::error::Error;
use crate::grammar::Line;
use crate::options::{Options, Settings};
use crate::run::{Runner, TERMINAL, is_typed, write};

/// Runs the program with its arguments (the first is its name); the result is its exit code.
pub async fn main(arguments: Vec<String>, out: &mut dyn Write) -> u8 {
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) => {
            eprint!("qa4: {error}");
            return 2;
        }
    };
    let environment = |name: &str| std::env::var(name).ok();
    match execute(&options, &environment, out).await {
        Ok(()) => 0,
        Err((place, error)) => {
            eprintln!("qa4: {place}{error}");
            error.exit_code()
        }
    }
}

/// Runs what the options ask for; an error comes with the place in the script where it happened.
pub async fn execute(
    options: &Options,
    environment: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
) -> Result<(), (String, Error)> {
    let plain = |error: Error| (String::new(), error);
    if options.help {
        return write(out, &help::text(None).map_err(plain)?).map_err(plain);
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
    if !options.command.is_empty() {
        // A line that is not a command is told so even where no API is configured.
        let line = Line::from_arguments(&options.command);
        let syntax = |source| plain(Error::Syntax { line: line.text().to_owned(), source });
        grammar::parse(&line).map_err(syntax)?;
        let settings = Settings::load(options, environment).map_err(plain)?;
        return Runner::new(options, settings, out).line(&line).await.map(|_| ()).map_err(plain);
    }
    let settings = Settings::load(options, environment).map_err(plain)?;
    let mut runner = Runner::new(options, settings, out);
    match &options.file {
        Some(file) if file.as_os_str() != "-" => {
            let name = file.display().to_string();
            let script = File::open(file).map_err(|e| plain(Error::Usage(format!("{name}: {e}"))))?;
            runner.script(&name, &mut BufReader::new(script)).await
        }
        _ => {
            let name = if is_typed() { TERMINAL } else { "-" };
            runner.script(name, &mut BufReader::new(stdin())).await
        }
    }
}
