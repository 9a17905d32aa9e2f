//! Runs commands.

use std::io::{IsTerminal, Write, stdin};

use qvd_model::action::{self, Entity, Kind, Verb as Does};
use qvd_model::filter::{Filter, Operand, Operator, Scalar};

use crate::api::{Api, Call, ask_line, ask_password};
use crate::command::{Command, ObjectCommand, Verb};
use crate::completion::Names;
use crate::error::Error;
use crate::grammar::{self, Line, Parsed};
use crate::options::{Options, Settings};
use crate::output::{Format, Listing, Style, unwritten};
use crate::pages::{self, Pages};
use crate::suggestion::suggested;
use crate::{
    change, clock, creation, doctor, drain, explain, grant, help, listing, property, reach, rows,
    second_factor, setting,
};

/// Who gives the commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The arguments of the program.
    Once,
    /// A script, which can be asked nothing.
    Script,
    /// Somebody in the shell.
    Shell,
}

/// Runs commands for one process. The API is called only when a command needs it, on one connection.
pub struct Runner<'a> {
    options: &'a Options,
    settings: Settings,
    api: Option<Api>,
    out: &'a mut dyn Write,
    mode: Mode,
    page_size: u32,
}

/// What a command works with.
pub(crate) struct Context<'c> {
    pub(crate) api: &'c mut Api,
    pub(crate) options: &'c Options,
    pub(crate) out: &'c mut dyn Write,
    pub(crate) mode: Mode,
    /// How listings are shown page by page; `None` if they are not.
    pub(crate) pages: Option<Pages>,
}

/// Rows of a page of the shell at its start.
const PAGE_SIZE: u32 = 25;

/// Reads a line; what is a slip only with `--force`.
pub(crate) fn read(line: &Line, force: bool) -> Result<Parsed, Error> {
    let wrong = |source| Error::Syntax { line: line.text().to_owned(), source };
    let mut parsed = grammar::parse(line).map_err(wrong)?;
    match parsed.doubt.take() {
        Some(doubt) if !force => Err(wrong(doubt)),
        _ => Ok(parsed),
    }
}

impl<'a> Runner<'a> {
    /// A runner that prints results to `out`.
    pub fn new(options: &'a Options, settings: Settings, mode: Mode, out: &'a mut dyn Write) -> Self {
        Self { options, settings, api: None, out, mode, page_size: PAGE_SIZE }
    }

    /// Runs one line; `false` if it asks to leave.
    pub async fn line(&mut self, line: &Line) -> Result<bool, Error> {
        let Parsed { command, notes, .. } = read(line, self.options.force)?;
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
                let at_terminal = self.mode == Mode::Shell && std::io::stdout().is_terminal();
                match self.settings.pager.as_ref().filter(|_| at_terminal) {
                    Some(program) => pages::pipe(program, text.as_bytes())?,
                    None => self.write(&text)?,
                }
            }
            Command::PageSize(None) => self.write(&format!("{}\n", self.page_size))?,
            Command::PageSize(Some(size)) => self.page_size = size,
            Command::Statistics => self.statistics().await?,
            Command::Version => self.version().await?,
            Command::WhoAmI => {
                let mut who = doctor::whoami(self.api().await?).await?;
                who.choose(&self.options.columns)?;
                who.print(self.settings.style, self.out)?;
            }
            Command::Doctor => self.doctor().await?,
            Command::Login => {
                let ask = self.mode == Mode::Shell;
                self.api().await?.log_in(ask).await?;
            }
            Command::Logout => self.api().await?.log_out().await?,
            Command::Password => self.password().await?,
            Command::SecondFactor(wish) => {
                let text = second_factor::run(self.api().await?, &wish).await?;
                self.write(&text)?;
            }
            Command::Object(command) => self.object(command).await?,
        }
        Ok(true)
    }

    async fn object(&mut self, command: ObjectCommand) -> Result<(), Error> {
        let (mode, options, page_size) = (self.mode, self.options, self.page_size);
        let pager = self.settings.pager.clone();
        if self.api.is_none() {
            self.api = Some(Api::open(&self.settings).await?);
        }
        let Some(api) = &mut self.api else { return Ok(()) };
        let paged = mode == Mode::Shell
            && api.settings().style.format == Format::Table
            && std::io::stdout().is_terminal();
        let pages = paged.then_some(Pages { size: page_size, program: pager });
        let mut context = Context { api, options, out: self.out, mode, pages };
        let ObjectCommand { noun, selection, verb } = command;
        let entity = action::entity(noun.object);
        let selection = selection.map(|filter| timed(understood(filter, entity), entity)).transpose()?;
        let asked = selection.clone();
        let outcome = match verb {
            Verb::Get { fields, order } => listing::get(&mut context, noun, selection, fields, order).await,
            Verb::New(assignments) => creation::create(&mut context, noun, assignments).await,
            Verb::Import(file) => rows::import(&mut context, noun, &file).await,
            Verb::GetProperties(keys) => property::get(&mut context, noun, selection, &keys).await,
            Verb::SetProperties(assignments) => {
                property::register(&mut context, noun, selection.clone(), &assignments).await?;
                change::change(&mut context, noun, selection, Verb::SetProperties(assignments)).await
            }
            Verb::Assign { kinds, undo } => {
                let does = if undo { Does::Delete } else { Does::Create };
                property::assign(&mut context, noun, selection, &kinds, does).await
            }
            Verb::Can(pattern) => grant::can(&mut context, noun, selection, pattern).await,
            Verb::Diff(other) => grant::diff(&mut context, noun, selection, &other).await,
            Verb::Ssl(assignments) => setting::ssl(&mut context, assignments).await,
            Verb::Staging => listing::staging(&mut context).await,
            Verb::Drain(limit) => drain::drain(&mut context, noun, selection, limit).await,
            Verb::Explain => explain::explain(&mut context, noun, selection).await,
            Verb::Reach { way, passed } => reach::go(context.api, way, selection, &passed).await,
            verb if noun.object == action::Object::Config => {
                setting::change(&mut context, noun, selection, verb).await
            }
            verb => change::change(&mut context, noun, selection, verb).await,
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(suggested(context.api, noun, asked.as_ref(), error).await),
        }
    }

    /// The connection; it is made now if it was not needed before.
    pub(crate) async fn api(&mut self) -> Result<&mut Api, Error> {
        if self.api.is_none() {
            self.api = Some(Api::open(&self.settings).await?);
        }
        self.api.as_mut().ok_or_else(|| Error::Usage("no connection".to_owned()))
    }

    /// `stats`: the counters that the administrator may see.
    async fn statistics(&mut self) -> Result<(), Error> {
        let call = Call::new(action::Object::Vm, Does::Inquire(action::Inquiry::Statistics))?;
        let answer = self.api().await?.call(&call).await?;
        let style = self.settings.style;
        listing::statistics(answer, &self.options.columns)?.print(style, self.out)
    }

    /// `doctor`: all that could be looked at is shown, also when something failed in between.
    async fn doctor(&mut self) -> Result<(), Error> {
        let (mut findings, failed) = doctor::examine(&self.settings).await;
        findings.choose(&self.options.columns)?;
        findings.print(self.settings.style, self.out)?;
        let problem = serde_json::json!("problem");
        match (failed, findings.rows.iter().filter(|row| row.get("result") == Some(&problem)).count()) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(()),
            (None, count) => Err(Error::Unwell(count)),
        }
    }

    async fn version(&mut self) -> Result<(), Error> {
        let info = self.api().await?.info().await?;
        let version = |part: &str| {
            let text = info.members.get("version").and_then(|v| v.get(part))?.as_str()?;
            Some(text.to_owned())
        };
        let database = version("database").unwrap_or_else(|| "Unknown".to_owned());
        let api = version("api").unwrap_or_else(|| "Unknown".to_owned());
        self.write(&format!("{database}\nqa4 {}\nAPI {api}\n", env!("CARGO_PKG_VERSION")))
    }

    /// `password`: the own one, after a look at who asks.
    async fn password(&mut self) -> Result<(), Error> {
        if self.mode == Mode::Script {
            return Err(Error::Usage("`password` asks questions, which a script cannot answer".to_owned()));
        }
        let api = self.api().await?;
        if !api.needs_no_login() {
            let current = ask_password("Current password: ")?;
            api.log_in_with(&current).await?;
        }
        let new = new_password()?;
        change::own_password(api, &new).await?;
        api.remember_password(&new);
        Ok(())
    }

    /// Writes a result.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), Error> {
        write(self.out, text)
    }

    /// Names for completion; the connection is made if it needs no question.
    pub(crate) async fn names(&mut self, wanted: Names) -> Vec<String> {
        match self.api().await {
            Ok(api) => api.names(wanted).await,
            Err(_) => Vec::new(),
        }
    }

    /// The command that was under way is given up.
    pub(crate) fn abandon(&mut self) {
        if let Some(api) = &mut self.api {
            api.abandon_request();
        }
    }

    /// Shows what is written, when somebody waits for it.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.out.flush().map_err(unwritten)
    }

    /// Everything that options, environment and files say.
    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Tells an error, with the place in the script where it happened.
    pub(crate) fn complain(&self, place: &str, error: &Error) {
        complain(self.settings.style.format, place, error);
    }

    /// The options of the program.
    pub const fn options(&self) -> &'a Options {
        self.options
    }
}

/// Tells an error: as JSON beside results in JSON, otherwise as a sentence.
pub(crate) fn complain(format: Format, place: &str, error: &Error) {
    match (format, error) {
        (_, Error::Told(_) | Error::Ended(_)) => {}
        (Format::Json | Format::JsonLines, _) => eprintln!("{}", error.json()),
        _ => eprintln!("qa4: {place}{error}"),
    }
}

/// The selection in the API's names. An image is also found by the name that its file had before the import.
fn understood(filter: Filter, entity: &Entity) -> Filter {
    let filter = filter.rename(&|name| Some(entity.resolve_read(name).to_owned()));
    if entity.field("file").is_none() { filter } else { with_file_names(filter) }
}

/// Moments as the API reads them.
fn timed(filter: Filter, entity: &Entity) -> Result<Filter, Error> {
    let each =
        |members: Vec<Filter>| members.into_iter().map(|m| timed(m, entity)).collect::<Result<Vec<_>, _>>();
    Ok(match filter {
        Filter::And(members) => Filter::And(each(members)?),
        Filter::Or(members) => Filter::Or(each(members)?),
        Filter::Not(inner) => Filter::Not(Box::new(timed(*inner, entity)?)),
        Filter::Test(mut test) if entity.field(&test.field).is_some_and(|f| f.kind == Kind::Moment) => {
            let scalar = |value: Scalar| value.map(|text| clock::compared(&text)).transpose();
            test.operand = match test.operand {
                Operand::One(one) => Operand::One(scalar(one)?),
                Operand::Many(many) => Operand::Many(many.into_iter().map(scalar).collect::<Result<_, _>>()?),
                Operand::Range(from, to) => Operand::Range(clock::compared(&from)?, clock::compared(&to)?),
            };
            Filter::Test(test)
        }
        other => other,
    })
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
        if self.mode != Mode::Shell {
            return Err(Error::Unconfirmed(format!(
                "{question} Select some, or add --force for all of them"
            )));
        }
        self.ask(question)
    }

    /// Asks for a yes where somebody is there; scripts go on.
    pub(crate) fn confirm_if_asked(&self, question: &str) -> Result<(), Error> {
        if self.options.force || self.mode == Mode::Script || !stdin().is_terminal() {
            return Ok(());
        }
        self.ask(question)
    }

    fn ask(&self, question: &str) -> Result<(), Error> {
        match ask_line(&format!("{question} y/n: "))?.to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Error::Unconfirmed("nothing was changed".to_owned())),
        }
    }

    /// How results are printed.
    pub(crate) const fn style(&self) -> Style {
        self.api.settings().style
    }

    /// Prints a whole listing.
    pub(crate) fn print(&mut self, mut listing: Listing) -> Result<(), Error> {
        listing.choose(&self.options.columns)?;
        let style = self.style();
        listing.print(style, self.out)
    }

    /// Prints how many objects were reached.
    pub(crate) fn print_total(&mut self, total: u64) -> Result<(), Error> {
        crate::output::print_total(total, self.style(), self.out)
    }

    /// A remark for people.
    pub(crate) fn remark(&self, text: &str) {
        if !self.options.quiet {
            eprintln!("qa4: {text}");
        }
    }
}

/// Writes results.
pub(crate) fn write(out: &mut dyn Write, text: &str) -> Result<(), Error> {
    out.write_all(text.as_bytes()).map_err(unwritten)
}
