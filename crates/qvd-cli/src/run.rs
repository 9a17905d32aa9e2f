//! Runs commands: one, or a script of them.

use std::io::{self, BufRead, IsTerminal, Write};

use qvd_model::action::{self, Entity, Verb as Does};
use qvd_model::filter::{Filter, Operator};

use crate::api::{Api, ask_line, ask_password};
use crate::command::{Command, ObjectCommand, Verb};
use crate::error::Error;
use crate::grammar::{self, Line, Parsed, outside_quotes};
use crate::options::{Options, Settings};
use crate::{change, creation, explain, help, listing, property};

/// Runs commands for one process. The API is called only when a command needs it, on one connection.
pub struct Runner<'a> {
    options: &'a Options,
    settings: Settings,
    api: Option<Api>,
    out: &'a mut dyn Write,
    /// Whether somebody sits there who can be asked.
    interactive: bool,
}

/// What a command works with.
pub(crate) struct Context<'c> {
    pub(crate) api: &'c mut Api,
    pub(crate) options: &'c Options,
    pub(crate) out: &'c mut dyn Write,
    pub(crate) interactive: bool,
}

impl<'a> Runner<'a> {
    /// A runner that prints results to `out`.
    pub fn new(options: &'a Options, settings: Settings, out: &'a mut dyn Write) -> Self {
        Self { options, settings, api: None, out, interactive: false }
    }

    /// Runs one line; `false` if it asks to leave.
    pub async fn line(&mut self, line: &Line) -> Result<bool, Error> {
        let parsed =
            grammar::parse(line).map_err(|source| Error::Syntax { line: line.text().to_owned(), source })?;
        let Parsed { command, notes } = parsed;
        if !notes.is_empty() && self.options.strict {
            return Err(Error::Usage(format!("--strict: {}", notes.join("; "))));
        }
        if !self.options.quiet {
            for note in notes {
                eprintln!("qa4: {note}");
            }
        }
        match command {
            Command::Nothing => {}
            Command::Quit => return Ok(false),
            Command::Usage(topic) => {
                let text = help::text(topic.as_deref())?;
                write(self.out, &text)?;
            }
            Command::Version => self.version().await?,
            Command::Login => self.api().await?.log_in().await?,
            Command::Logout => self.api().await?.log_out().await?,
            Command::Password => {
                let new = new_password()?;
                change::own_password(self.api().await?, &new).await?;
            }
            Command::Object(command) => self.object(command).await?,
        }
        Ok(true)
    }

    async fn object(&mut self, command: ObjectCommand) -> Result<(), Error> {
        if self.api.is_none() {
            self.api = Some(Api::open(&self.settings).await?);
        }
        let Some(api) = &mut self.api else { return Ok(()) };
        let mut context =
            Context { api, options: self.options, out: self.out, interactive: self.interactive };
        let entity = action::entity(command.noun.object);
        let selection = command.selection.map(|filter| understood(filter, entity));
        match command.verb {
            Verb::Get { fields, order } => {
                listing::get(&mut context, command.noun, selection, fields, order).await
            }
            Verb::New(assignments) => creation::create(&mut context, command.noun, assignments).await,
            Verb::GetProperties(keys) => property::get(&mut context, command.noun, selection, &keys).await,
            Verb::SetProperties(assignments) => {
                property::register(&mut context, command.noun, selection.clone(), &assignments).await?;
                let verb = Verb::SetProperties(assignments);
                change::change(&mut context, command.noun, selection, verb).await
            }
            Verb::Assign(kinds) => {
                property::assign(&mut context, command.noun, selection, &kinds, Does::Create).await
            }
            Verb::Unassign(kinds) => {
                property::assign(&mut context, command.noun, selection, &kinds, Does::Delete).await
            }
            Verb::Explain => explain::explain(&mut context, command.noun, selection).await,
            verb => change::change(&mut context, command.noun, selection, verb).await,
        }
    }

    async fn api(&mut self) -> Result<&mut Api, Error> {
        if self.api.is_none() {
            self.api = Some(Api::open(&self.settings).await?);
        }
        self.api.as_mut().ok_or_else(|| Error::Usage("no connection".to_owned()))
    }

    async fn version(&mut self) -> Result<(), Error> {
        let info = self.api().await?.info().await?;
        let database = info.members.get("version").and_then(|v| v.get("database"));
        let database = database.and_then(serde_json::Value::as_str).unwrap_or("Unknown");
        let text = format!("{database}\nqa4 {}\n", env!("CARGO_PKG_VERSION"));
        write(self.out, &text)
    }

    /// Runs the lines of a script, or of somebody who types.
    ///
    /// The result is the error of the first line that failed, or with `--keep-going` the one with the highest
    /// exit code, together with the name and number of its line.
    pub async fn script(&mut self, name: &str, lines: &mut dyn BufRead) -> Result<(), (String, Error)> {
        self.interactive = name == TERMINAL;
        let mut worst: Option<(String, Error)> = None;
        let mut number = 0;
        loop {
            if self.interactive {
                eprint!("> ");
            }
            let first = number + 1;
            let text = match logical_line(lines, &mut number) {
                Ok(Some(text)) => text,
                Ok(None) => break,
                Err(error) => return Err((format!("{name}:{first}: "), Error::Usage(error.to_string()))),
            };
            let error = match self.line(&Line::from_text(&text)).await {
                Ok(true) => continue,
                Ok(false) => break,
                Err(error) => error,
            };
            if self.interactive {
                eprintln!("qa4: {error}");
            } else if !self.options.keep_going {
                return Err((format!("{name}:{first}: "), error));
            } else {
                eprintln!("qa4: {name}:{first}: {error}");
            }
            if worst.as_ref().is_none_or(|(_, w)| w.exit_code() < error.exit_code()) {
                worst = Some((format!("{name}:{first}: "), error));
            }
        }
        worst.map_or(Ok(()), Err)
    }
}

/// The name of a script that is typed.
pub const TERMINAL: &str = "terminal";

/// Whether standard input is somebody who types.
pub fn is_typed() -> bool {
    io::stdin().is_terminal()
}

/// One command: comments are left out, a backslash at the end continues on the next line.
fn logical_line(lines: &mut dyn BufRead, number: &mut usize) -> io::Result<Option<String>> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok((!text.is_empty()).then_some(text));
        }
        *number += 1;
        let line = line.trim_end_matches(['\n', '\r']);
        if let Some(continued) = line.strip_suffix('\\') {
            text.push_str(continued);
            text.push(' ');
            continue;
        }
        text.push_str(without_comment(line));
        return Ok(Some(text));
    }
}

/// `#` begins a comment at the start of a line or after a blank, outside quotes.
fn without_comment(line: &str) -> &str {
    let begins = |at: usize| line.get(..at).is_some_and(|before| before.is_empty() || before.ends_with(' '));
    let comment = outside_quotes(line).find(|(at, c)| *c == '#' && begins(*at));
    comment.and_then(|(at, _)| line.get(..at)).unwrap_or(line)
}

/// The selection in the API's names. An image is also found by the name that its file had before the import.
fn understood(filter: Filter, entity: &Entity) -> Filter {
    let filter = filter.rename(&|name| Some(entity.resolve_read(name).to_owned()));
    if entity.field("file").is_none() { filter } else { with_file_names(filter) }
}

fn with_file_names(filter: Filter) -> Filter {
    match filter {
        Filter::Test(test) if test.field == "disk_image" => {
            let negative = test.operator == Operator::Different;
            let by_file = Filter::Test(qvd_model::filter::Test { field: "file".to_owned(), ..test.clone() });
            let by_path = Filter::Test(test);
            if negative { by_path.and(by_file) } else { by_path.or(by_file) }
        }
        Filter::Not(inner) => with_file_names(*inner).negated(),
        Filter::And(members) => Filter::And(members.into_iter().map(with_file_names).collect()),
        Filter::Or(members) => Filter::Or(members.into_iter().map(with_file_names).collect()),
        other => other,
    }
}

/// Asks for a new password, twice.
pub(crate) fn new_password() -> Result<String, Error> {
    let first = ask_password("New password: ")?;
    if first != ask_password("Again: ")? {
        return Err(Error::Usage("the two passwords differ".to_owned()));
    }
    Ok(first)
}

impl Context<'_> {
    /// Asks for a yes where somebody is there, otherwise demands `--force`.
    pub(crate) fn confirm(&self, question: &str) -> Result<(), Error> {
        if self.options.force {
            return Ok(());
        }
        if !self.interactive {
            return Err(Error::Unconfirmed(format!(
                "{question} Select some, or add --force for all of them"
            )));
        }
        match ask_line(&format!("{question} y/n: "))?.to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Error::Unconfirmed("nothing was changed".to_owned())),
        }
    }
}

/// Writes results.
pub(crate) fn write(out: &mut dyn Write, text: &str) -> Result<(), Error> {
    out.write_all(text.as_bytes()).map_err(|e| Error::Usage(format!("cannot write the result: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_have_comments_and_continued_lines() {
        let mut text = &b"# all\nvm get \\\n name # names\nvm name='a #b' get\n\n"[..];
        let mut number = 0;
        let mut lines = Vec::new();
        while let Some(line) = logical_line(&mut text, &mut number).unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["", "vm get   name ", "vm name='a #b' get", ""]);
        assert_eq!(number, 5);
    }
}
