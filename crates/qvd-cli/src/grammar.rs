//! From a line to a command: the grammar of `spec/cli.md` 1.6 with the tolerances of 1.7.
//!
//! Nothing that could be read as "all objects" by mistake is accepted: a selection stands before the verb,
//! and whatever follows a verb that takes nothing is an error (1.8).

use qvd_model::filter::lexer::{SyntaxError, TokenKind, tokens};
use qvd_model::filter::text::{self, Cursor};
use qvd_model::filter::{Filter, Operand, Operator, Test};
use qvd_model::nearest;

use crate::command::{Assignment, Command, Grant, ObjectCommand, Order, SecondFactor, Value, Verb};
use crate::config_set;
use crate::noun::{NOUNS, Noun, VERBS, noun};
use crate::reach::{self, Way};

/// A command, and how parts of the line were read that are not written as the grammar wants them.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The command.
    pub command: Command,
    /// One sentence each.
    pub notes: Vec<String>,
    /// What is most likely a slip, and is done only with `--force`.
    pub doubt: Option<SyntaxError>,
}

/// Reads one line.
pub fn parse(line: &Line) -> Result<Parsed, SyntaxError> {
    if let Some(parsed) = config_set::parse(line)? {
        return Ok(parsed);
    }
    if let Some((head, words)) = reach::words::split(line) {
        let mut parsed = read(&head)?;
        if let Command::Object(ObjectCommand { verb: Verb::Reach { passed, .. }, .. }) = &mut parsed.command {
            *passed = words;
        }
        return Ok(parsed);
    }
    read(line)
}

fn read(line: &Line) -> Result<Parsed, SyntaxError> {
    let text = line.text();
    let tokens = tokens(text)?;
    let mut cursor = Cursor::new(&tokens, text.len());
    let mut notes = Vec::new();
    let command = command(&mut cursor, text, &mut notes)?;
    if !cursor.is_at_end() {
        return Err(cursor.expected("the end of the command"));
    }
    if let Command::Object(ObjectCommand { selection: Some(filter), .. }) = &command
        && is_subtle(filter)
    {
        notes.push(format!("selection understood as: {}", text::print(filter)));
    }
    Ok(Parsed { command, notes, doubt: None })
}

/// A line of the shell or a script, or the arguments of the program joined by blanks.
#[derive(Debug, Clone)]
pub struct Line {
    text: String,
    /// Where each argument ends.
    ends: Vec<usize>,
}

impl Line {
    /// The arguments of the program. Each stays one piece for values that reach to its end.
    pub fn from_arguments<S: AsRef<str>>(arguments: &[S]) -> Self {
        let mut text = String::new();
        let mut ends = Vec::new();
        for argument in arguments {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(argument.as_ref());
            ends.push(text.len());
        }
        Self { text, ends }
    }

    /// One line.
    pub fn from_text(text: &str) -> Self {
        Self { text: text.to_owned(), ends: vec![text.len()] }
    }

    /// The arguments of the program, if they are several; one alone is a line.
    pub(crate) fn arguments(&self) -> Option<Vec<&str>> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|end| end.saturating_add(1)));
        let pieces = starts.zip(&self.ends).filter_map(|(from, to)| self.text.get(from..*to));
        (self.ends.len() > 1).then(|| pieces.collect())
    }

    /// The whole line.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the argument that contains byte `at` ends.
    pub fn end_of_argument(&self, at: usize) -> usize {
        self.ends.iter().copied().find(|end| *end >= at).unwrap_or(self.text.len())
    }
}

/// The characters of a text that stand outside quotes, with their places.
pub(crate) fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    text.char_indices().filter(move |(_, c)| match quote {
        Some(open) => {
            if *c == open {
                quote = None;
            }
            false
        }
        None if matches!(c, '\'' | '"') => {
            quote = Some(*c);
            false
        }
        None => true,
    })
}

fn command(cursor: &mut Cursor<'_>, text: &str, notes: &mut Vec<String>) -> Result<Command, SyntaxError> {
    let word = match cursor.peek() {
        None => return Ok(Command::Nothing),
        Some(TokenKind::Word(word)) => word.as_str(),
        Some(_) => return Err(cursor.expected("a command or an object")),
    };
    if let Some(noun) = noun(word) {
        cursor.advance();
        return subject(cursor, text, noun, notes).map(Command::Object);
    }
    let simple = match word {
        "usage" | "help" => {
            cursor.advance();
            let topic = if cursor.is_at_end() { None } else { Some(cursor.value("a topic")?) };
            return Ok(Command::Usage(topic));
        }
        "block" => {
            cursor.advance();
            return page_size(cursor);
        }
        "totp" => {
            cursor.advance();
            return second_factor(cursor).map(Command::SecondFactor);
        }
        "login" => Command::Login,
        "logout" => Command::Logout,
        "password" => Command::Password,
        "stats" => Command::Statistics,
        "version" => Command::Version,
        "whoami" => Command::WhoAmI,
        "doctor" => Command::Doctor,
        "q" | "quit" | "exit" => Command::Quit,
        unknown => {
            let nouns = || NOUNS.iter().map(|n| n.word);
            let hint = nearest(unknown, nouns().chain(SESSION_WORDS.iter().copied()));
            let hint = hint.map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
            let nouns = nouns().collect::<Vec<_>>().join(", ");
            return Err(SyntaxError::new(
                cursor.at(),
                format!("expected one of {nouns} (see `qa4 usage`), found `{unknown}`{hint}"),
            ));
        }
    };
    cursor.advance();
    Ok(simple)
}

/// The words of the session that begin a line.
pub const SESSION_WORDS: &[&str] = &[
    "usage", "help", "login", "logout", "password", "totp", "block", "stats", "whoami", "doctor", "version",
    "quit", "exit",
];

fn second_factor(cursor: &mut Cursor<'_>) -> Result<SecondFactor, SyntaxError> {
    if cursor.is_at_end() {
        return Ok(SecondFactor::See);
    }
    let at = cursor.at();
    match cursor.value("on, off or reset")?.as_str() {
        "on" => Ok(SecondFactor::On),
        "off" => Ok(SecondFactor::Off),
        "reset" => cursor.value("the name of an administrator").map(SecondFactor::Reset),
        _ => Err(SyntaxError::new(at, "expected on, off or reset")),
    }
}

fn page_size(cursor: &mut Cursor<'_>) -> Result<Command, SyntaxError> {
    if cursor.is_at_end() {
        return Ok(Command::PageSize(None));
    }
    let at = cursor.at();
    match cursor.value("a number of rows")?.parse() {
        Ok(size) if size > 0 => Ok(Command::PageSize(Some(size))),
        _ => Err(SyntaxError::new(at, "expected a number of rows, 1 or more")),
    }
}

fn subject(
    cursor: &mut Cursor<'_>,
    text: &str,
    noun: &'static Noun,
    notes: &mut Vec<String>,
) -> Result<ObjectCommand, SyntaxError> {
    let selection_at = cursor.at();
    let selection =
        if is_verb(cursor, noun) || cursor.is_at_end() { None } else { Some(selection(cursor, noun)?) };
    let verb_at = cursor.at();
    if cursor.is_at_end()
        && let Some(Filter::Test(Test { operand: Operand::Many(names), .. })) = &selection
        && let [Some(name)] = names.as_slice()
        && let Some(meant) = nearest(name, noun.verbs.iter().copied())
    {
        let message = format!("expected a verb: {}; did you mean `{meant}`?", noun.verbs.join(", "));
        return Err(SyntaxError::new(selection_at, message));
    }
    let (word, of_properties) = verb_word(cursor, noun, notes)?;
    let tail_at = cursor.at();
    let verb = match word {
        "get" if of_properties && cursor.is_at_end() => Verb::GetProperties(Vec::new()),
        "get" if of_properties => Verb::GetProperties(values(cursor, "a property")?),
        "set" if of_properties => Verb::SetProperties(assignments(cursor, noun, word, notes)?),
        "del" if of_properties => Verb::DeleteProperties(values(cursor, "a property")?),
        "get" => get(cursor)?,
        "new" if selection.is_some() => {
            return Err(SyntaxError::new(verb_at, "`new` takes no selection: write the values after it"));
        }
        "import" if selection.is_some() => {
            return Err(SyntaxError::new(verb_at, "`import` takes no selection"));
        }
        "import" => Verb::Import(cursor.value("the name of a file")?),
        "new" => Verb::New(assignments(cursor, noun, word, notes)?),
        "set" => Verb::Set(assignments(cursor, noun, word, notes)?),
        "tag" => Verb::Tag(values(cursor, "a tag")?),
        "untag" => Verb::Untag(values(cursor, "a tag")?),
        "assign" | "unassign" => assignment(cursor, noun, word == "unassign")?,
        "diff" => Verb::Diff(cursor.value("the name of another one")?),
        "can" if cursor.is_at_end() => Verb::Can(None),
        "can" => Verb::Can(Some(cursor.value("a pattern of ACLs")?)),
        "block" => Verb::Block(true),
        "unblock" => Verb::Block(false),
        "del" => Verb::Delete,
        "start" => Verb::Start,
        "stop" => Verb::Stop,
        "disconnect" => Verb::Disconnect,
        "default" => Verb::Default,
        "drain" => Verb::Drain(time(cursor, text)?),
        "ssl" | "staging" if selection.is_some() => {
            return Err(SyntaxError::new(verb_at, format!("`{word}` takes no selection")));
        }
        "staging" => Verb::Staging,
        "ssl" => Verb::Ssl(assignments(cursor, noun, word, notes)?),
        other => match Way::of(other) {
            // What is passed on was cut off before.
            Some(way) => Verb::Reach { way, passed: Vec::new() },
            None => Verb::Explain,
        },
    };
    if cursor.is_at_end() {
        return Ok(ObjectCommand { noun, selection, verb });
    }
    let takes_nothing = cursor.at() == tail_at;
    let rest = text.get(tail_at..).unwrap_or_default().trim();
    let named = rest.contains(['=', '~', '<', '>']);
    let names_selection = selection.is_none() && (named || takes_nothing);
    let message = if names_selection {
        format!("put the filter before the action: {} {rest} {word}", noun.word)
    } else if takes_nothing {
        format!("`{word}` takes nothing; expected the end of the command")
    } else {
        return Err(cursor.expected("`,` or the end of the command"));
    };
    Err(SyntaxError::new(if names_selection { tail_at } else { cursor.at() }, message))
}

/// A time at the end of the line, which needs no quotes there.
fn time(cursor: &mut Cursor<'_>, text: &str) -> Result<Option<String>, SyntaxError> {
    let at = cursor.at();
    match cursor.peek() {
        None => return Ok(None),
        Some(TokenKind::Quoted(_)) => return cursor.value("a time").map(Some),
        Some(_) => {}
    }
    let rest = text.get(at..).unwrap_or_default().trim();
    // What looks like a selection is one that stands at the wrong place.
    if rest.contains(['=', '~', '<', '>', ',']) {
        return Ok(None);
    }
    while !cursor.is_at_end() {
        cursor.advance();
    }
    Ok(Some(rest.to_owned()))
}

/// The verb that stands here, and whether it is about custom properties (`set property`, `property set`).
fn verb_word(
    cursor: &mut Cursor<'_>,
    noun: &'static Noun,
    notes: &mut Vec<String>,
) -> Result<(&'static str, bool), SyntaxError> {
    let at = cursor.at();
    let expected = || format!("a verb: {}", noun.verbs.join(", "));
    let Some(TokenKind::Word(word)) = cursor.peek() else { return Err(cursor.expected(&expected())) };
    let has_properties = noun.object.properties().is_some();
    let verb = |word: &str| noun.verbs.iter().find(|v| **v == word).copied();
    // `delete` is the manual's slip; it is known only where a property follows, never for objects.
    let about_property = |word: &str| match word {
        "get" | "set" | "del" => verb(word),
        "delete" => verb("del"),
        _ => None,
    };
    if has_properties
        && word == "property"
        && let Some(TokenKind::Word(next)) = cursor.peek_at(1)
        && let Some(found) = about_property(next)
    {
        cursor.advance();
        cursor.advance();
        notes.push(format!("understood as: {found} property"));
        return Ok((found, true));
    }
    let property_follows = matches!(cursor.peek_at(1), Some(TokenKind::Word(w)) if w == "property")
        && !matches!(cursor.peek_at(2), Some(TokenKind::Sign(_)));
    if has_properties && property_follows {
        let Some(found) = about_property(word) else {
            return Err(SyntaxError::new(at, format!("`{word} property` is not known; use get, set or del")));
        };
        if word == "delete" {
            notes.push("understood as: del property".to_owned());
        }
        cursor.advance();
        cursor.advance();
        return Ok((found, true));
    }
    let Some(found) = verb(word) else {
        return Err(if VERBS.contains(&word.as_str()) {
            SyntaxError::new(
                at,
                format!("`{word}` is not available for {}; expected {}", noun.title, expected()),
            )
        } else {
            let hint = nearest(word, noun.verbs.iter().copied());
            let mut error = cursor.expected(&expected());
            if let Some(meant) = hint {
                error.message.push_str(&format!("; did you mean `{meant}`?"));
            }
            error
        });
    };
    cursor.advance();
    Ok((found, false))
}

/// What follows `assign`: kinds of objects for a property, otherwise `role` or `acl` with names.
fn assignment(cursor: &mut Cursor<'_>, noun: &Noun, undo: bool) -> Result<Verb, SyntaxError> {
    let grants: &[Grant] = match noun.word {
        "role" => &[Grant::Roles, Grant::Acls],
        "admin" => &[Grant::Roles],
        _ => return Ok(Verb::Assign { kinds: values(cursor, "a kind of object")?, undo }),
    };
    match grants.iter().find(|grant| cursor.accept_word(grant.word())) {
        Some(what) => Ok(Verb::Grant { what: *what, names: values(cursor, "a name")?, undo }),
        None => {
            let words: Vec<_> = grants.iter().map(|g| format!("`{}`", g.word())).collect();
            Err(cursor.expected(&words.join(" or ")))
        }
    }
}

/// Whether a verb stands here, not a name that is spelled like one. A verb that the noun lacks is a name if a verb
/// of the noun follows: there is a tenant called `default`.
fn is_verb(cursor: &Cursor<'_>, noun: &Noun) -> bool {
    let Some(TokenKind::Word(word)) = cursor.peek() else { return false };
    let compared = matches!(cursor.peek_at(1), Some(TokenKind::Sign(s)) if *s != "(" && *s != "!");
    let verb_follows =
        matches!(cursor.peek_at(1), Some(TokenKind::Word(next)) if noun.verbs.contains(&next.as_str()));
    let own = noun.verbs.contains(&word.as_str());
    let deletes_property =
        word == "delete" && matches!(cursor.peek_at(1), Some(TokenKind::Word(next)) if next == "property");
    !compared && (own || deletes_property || (VERBS.contains(&word.as_str()) && !verb_follows))
}

fn selection(cursor: &mut Cursor<'_>, noun: &'static Noun) -> Result<Filter, SyntaxError> {
    let key = qvd_model::action::entity(noun.object).key;
    let bare = |cursor: &Cursor<'_>, at: usize| {
        let value = matches!(cursor.peek_at(at), Some(TokenKind::Word(_) | TokenKind::Quoted(_)));
        let compared = match cursor.peek_at(at + 1) {
            Some(TokenKind::Sign(sign)) => Operator::parse(sign).is_some(),
            _ => false,
        };
        value && !compared
    };
    let negated = matches!(cursor.peek(), Some(TokenKind::Sign("!")));
    if !bare(cursor, usize::from(negated)) {
        return text::filter(cursor);
    }
    cursor.accept("!");
    let mut names = vec![Some(cursor.value("a name")?)];
    while cursor.accept(",") || cursor.accept(";") {
        if !bare(cursor, 0) {
            return Err(cursor.expected("another name (names and comparisons cannot be mixed)"));
        }
        names.push(Some(cursor.value("a name")?));
    }
    let operator = if negated { Operator::Different } else { Operator::Equal };
    Ok(Filter::Test(Test { field: key.to_owned(), operator, operand: Operand::Many(names) }))
}

fn get(cursor: &mut Cursor<'_>) -> Result<Verb, SyntaxError> {
    let mut fields = Vec::new();
    let bracketed = cursor.accept("(");
    if !cursor.is_at_end() && !starts_order(cursor) {
        fields = values(cursor, "a field")?;
    }
    if bracketed && !cursor.accept(")") {
        return Err(cursor.expected("`,` or `)`"));
    }
    if cursor.is_at_end() {
        return Ok(Verb::Get { fields, order: None });
    }
    if !cursor.accept_word("order") {
        // The caller says that a selection stands in the wrong place, if one does.
        return if matches!(cursor.peek(), Some(TokenKind::Sign(sign)) if Operator::parse(sign).is_some()) {
            Ok(Verb::Get { fields, order: None })
        } else {
            Err(cursor.expected("`,`, `order` or the end of the command"))
        };
    }
    cursor.accept_word("by");
    let descending = cursor.accept_word("desc");
    if !descending {
        cursor.accept_word("asc");
    }
    let order = Order { descending, fields: values(cursor, "a field to order by")? };
    Ok(Verb::Get { fields, order: Some(order) })
}

/// `order` is the keyword when a field follows it; `get order` asks for a field of that name.
fn starts_order(cursor: &Cursor<'_>) -> bool {
    let keyword = matches!(cursor.peek(), Some(TokenKind::Word(w)) if w == "order");
    keyword && matches!(cursor.peek_at(1), Some(TokenKind::Word(_) | TokenKind::Quoted(_)))
}

fn values(cursor: &mut Cursor<'_>, expected: &str) -> Result<Vec<String>, SyntaxError> {
    let mut values = vec![cursor.value(expected)?];
    while cursor.accept(",") {
        values.push(cursor.value(expected)?);
    }
    Ok(values)
}

fn assignments(
    cursor: &mut Cursor<'_>,
    noun: &Noun,
    verb: &str,
    notes: &mut Vec<String>,
) -> Result<Vec<Assignment>, SyntaxError> {
    let mut list: Vec<Assignment> = Vec::new();
    loop {
        let at = cursor.at();
        let name = cursor.value("a name, as in `name=value`")?;
        if list.iter().any(|a| a.name == name) {
            return Err(SyntaxError::new(at, format!("`{name}` is given twice")));
        }
        let value = if cursor.accept("=") {
            let several = (noun.word, verb) == ("di", "new") && matches!(name.as_str(), "tags" | "tag");
            assigned(cursor, several)?
        } else if matches!(name.as_str(), "password" | "passwd") {
            Value::Ask
        } else {
            return Err(cursor.expected("`=`"));
        };
        list.push(Assignment { name, value });
        if cursor.accept(",") {
            continue;
        }
        let another = matches!(cursor.peek(), Some(TokenKind::Word(_) | TokenKind::Quoted(_)))
            && matches!(cursor.peek_at(1), Some(TokenKind::Sign("=")));
        if !another {
            return Ok(list);
        }
        notes.push("understood as: a comma between the assignments".to_owned());
    }
}

fn assigned(cursor: &mut Cursor<'_>, several: bool) -> Result<Value, SyntaxError> {
    if !several || !cursor.accept("[") {
        return Ok(Value::One(cursor.value("a value")?));
    }
    let values = values(cursor, "a value")?;
    if cursor.accept("]") { Ok(Value::Many(values)) } else { Err(cursor.expected("`,` or `]`")) }
}

/// Whether people tend to read a selection otherwise than it is: `,` and `;` at one level, or a `!` that covers
/// several terms.
fn is_subtle(filter: &Filter) -> bool {
    match filter {
        Filter::And(members) | Filter::Or(members) => {
            members.iter().any(|m| matches!(m, Filter::And(_) | Filter::Or(_)) || is_subtle(m))
        }
        Filter::Not(inner) => !matches!(**inner, Filter::Test(_)),
        Filter::Test(_) => false,
    }
}
