//! The interactive shell: lines are edited, remembered and completed.
//!
//! The line editor blocks, so it has a thread of its own. It asks this side for lines' fates and for names of
//! objects; this side owns the connection.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;
use rustyline::completion::{Completer, Pair};
use rustyline::config::{BellStyle, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::completion::{self, Names, wanted};
use crate::error::Error;
use crate::grammar::Line;
use crate::options::{Options, Settings};
use crate::run::{Mode, Runner};
use crate::script::without_comment;

const PROMPT: &str = "> ";
/// How long names are waited for, so that the key does not seem dead.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many lines are remembered.
const HISTORY: usize = 1000;

/// What the editor tells.
enum Event {
    /// A line was typed.
    Line(String),
    /// Ctrl-C.
    Interrupted,
    /// The end of input, or an editor that cannot go on.
    End,
    /// Names are wanted for completion.
    Names(Names, mpsc::SyncSender<Vec<String>>),
}

/// Reads and runs lines until somebody leaves.
pub(crate) async fn run(runner: &mut Runner<'_>) -> Result<(), Error> {
    let history = runner.settings().history_file.clone();
    let (events, mut inbox) = channel(1);
    let (go_on, permission) = mpsc::sync_channel(1);
    let editor = std::thread::Builder::new()
        .name("editor".to_owned())
        .spawn(move || edit(history, &events, &permission))
        .map_err(|e| Error::Usage(format!("the line editor does not start: {e}")))?;
    let outcome = talk(runner, &mut inbox, &go_on).await;
    // Without permission to go on, the editor ends.
    drop((go_on, inbox));
    if editor.join().is_err() {
        return Err(Error::Usage("the line editor failed".to_owned()));
    }
    outcome
}

async fn talk(
    runner: &mut Runner<'_>,
    inbox: &mut Receiver<Event>,
    go_on: &mpsc::SyncSender<()>,
) -> Result<(), Error> {
    let mut interrupted = false;
    let mut failed = false;
    while go_on.send(()).is_ok() {
        let event = loop {
            match inbox.recv().await {
                Some(Event::Names(wanted, reply)) => {
                    let names = tokio::time::timeout(PATIENCE, runner.names(wanted)).await;
                    if names.is_err() {
                        runner.abandon();
                    }
                    // The editor may have given up waiting.
                    let _ = reply.send(names.unwrap_or_default());
                }
                other => break other,
            }
        };
        match event {
            Some(Event::Line(text)) => {
                interrupted = false;
                // Pasted text may hold several.
                for line in text.lines() {
                    match command(runner, line).await {
                        Ok(true) => {}
                        Ok(false) => return ended(failed),
                        Err(error) => {
                            failed = true;
                            runner.complain("", &error);
                        }
                    }
                    runner.flush()?;
                }
            }
            Some(Event::Interrupted) if interrupted => return Err(Error::Told(Box::new(Error::Interrupted))),
            Some(Event::Interrupted) => {
                interrupted = true;
                eprintln!("qa4: q, quit or exit leaves, and so does Ctrl-C again");
            }
            Some(Event::End | Event::Names(..)) | None => break,
        }
    }
    ended(failed)
}

/// Each failure was told when it happened.
fn ended(failed: bool) -> Result<(), Error> {
    if failed { Err(Error::Told(Box::new(Error::CommandsFailed))) } else { Ok(()) }
}

/// Runs one line; Ctrl-C gives it up.
async fn command(runner: &mut Runner<'_>, text: &str) -> Result<bool, Error> {
    let line = Line::from_text(without_comment(text));
    let outcome = tokio::select! {
        outcome = runner.line(&line) => Some(outcome),
        _ = tokio::signal::ctrl_c() => None,
    };
    outcome.unwrap_or_else(|| {
        runner.abandon();
        Err(Error::Interrupted)
    })
}

/// The editor's own thread.
fn edit(history: Option<PathBuf>, events: &Sender<Event>, permission: &mpsc::Receiver<()>) {
    let builder = Config::builder()
        .completion_type(CompletionType::List)
        .bell_style(BellStyle::None)
        .auto_add_history(false)
        .history_ignore_space(true);
    let Ok(builder) = builder.max_history_size(HISTORY) else { return };
    let Ok(mut editor) = Editor::<Assistant, FileHistory>::with_config(builder.build()) else { return };
    editor.set_helper(Some(Assistant { events: events.clone(), known: HashMap::new().into() }));
    if let Some(file) = &history {
        if let Some(directory) = file.parent() {
            // Without a directory there is no history, and the file says so when it is saved.
            let _ = std::fs::create_dir_all(directory);
        }
        // The first time there is none.
        let _ = editor.load_history(file);
    }
    while permission.recv().is_ok() {
        if let Some(assistant) = editor.helper_mut() {
            assistant.known.get_mut().clear();
        }
        let event = match editor.readline(PROMPT) {
            Ok(line) => {
                if is_worth_remembering(&line) {
                    remember(&mut editor, history.as_ref(), &line);
                }
                Event::Line(line)
            }
            Err(ReadlineError::Interrupted) => Event::Interrupted,
            Err(_) => Event::End,
        };
        if events.blocking_send(event).is_err() {
            return;
        }
    }
}

fn remember(editor: &mut Editor<Assistant, FileHistory>, file: Option<&PathBuf>, line: &str) {
    let added = editor.add_history_entry(line).unwrap_or(false);
    if let Some(file) = file.filter(|_| added)
        && let Err(error) = editor.append_history(file)
    {
        eprintln!("qa4: cannot keep the line in {}: {error}", file.display());
    }
}

/// Secrets stay out of the history.
fn is_worth_remembering(line: &str) -> bool {
    !line.trim().is_empty() && !line.contains("passw")
}

/// Completes words. Names of objects are remembered while one line is typed.
struct Assistant {
    events: Sender<Event>,
    known: std::cell::RefCell<HashMap<Names, Vec<String>>>,
}

impl Assistant {
    fn names(&self, wanted: Names) -> Vec<String> {
        if let Some(known) = self.known.borrow().get(&wanted) {
            return known.clone();
        }
        let (reply, answer) = mpsc::sync_channel(1);
        if self.events.blocking_send(Event::Names(wanted, reply)).is_err() {
            return Vec::new();
        }
        let names = answer.recv().unwrap_or_default();
        self.known.borrow_mut().insert(wanted, names.clone());
        names
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let wanted = wanted(line.get(..pos).unwrap_or(line));
        let names: Vec<String> = wanted.names.iter().flat_map(|n| self.names(*n)).collect();
        let pair = |text: String| Pair { display: text.clone(), replacement: text };
        Ok((wanted.start, wanted.candidates(&names).into_iter().map(pair).collect()))
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}

impl Validator for Assistant {}

impl Helper for Assistant {}

/// What bash, zsh and fish ask: the words that may replace `current` at the end of `line`. It says nothing about
/// errors, and asks nobody anything.
pub(crate) async fn complete(current: &str, line: &str, out: &mut dyn Write) {
    let (program, command) = completion::command_of(line);
    let found = if command.starts_with('-') || current.starts_with('-') {
        completion::options(current)
    } else {
        let wanted = wanted(command);
        let names = tokio::time::timeout(PATIENCE, names(&program, &wanted.names)).await.unwrap_or_default();
        let all = wanted.candidates(&names);
        all.iter().filter_map(|c| completion::for_unix_shell(c, &wanted.typed, current)).collect()
    };
    for candidate in found {
        // Nobody reads an error here.
        let _ = writeln!(out, "{candidate}");
    }
}

async fn names(program: &[String], wanted: &[Names]) -> Vec<String> {
    let Ok(mut options) = Options::try_parse_from(program) else { return Vec::new() };
    options.quiet = true;
    let environment = |name: &str| std::env::var(name).ok();
    let Ok(settings) = Settings::load(&options, &environment) else { return Vec::new() };
    let mut nothing = std::io::sink();
    let mut runner = Runner::new(&options, settings, Mode::Script, &mut nothing);
    let mut names = Vec::new();
    for wanted in wanted {
        names.extend(runner.names(*wanted).await);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_remembered() {
        assert!(is_worth_remembering("vm get"));
        assert!(!is_worth_remembering("user new name=a, password=s3cr3t"));
        assert!(!is_worth_remembering("user a set passwd=s3cr3t"));
        assert!(!is_worth_remembering("  "));
    }
}
