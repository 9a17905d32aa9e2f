//! `config set`, whose values may hold anything (`spec/cli.md` 1.7, T3 to T5 and T11).
//!
//! The Unix shell has eaten the quotes of `value="this is a value"` or `value='dc=example,dc=com'` before we
//! see them, so a value reaches to the end of its argument.

use qvd_model::filter::lexer::{SyntaxError, TokenKind, tokens};
use qvd_model::filter::text::Cursor;
use qvd_model::filter::{Filter, Operator};

use crate::command::{Assignment, Command, ObjectCommand, Value, Verb};
use crate::grammar::{Line, Parsed, outside_quotes};
use crate::noun::noun;

/// The names that may follow a value.
const NAMES: &[&str] = &["key", "value", "tenant", "tenant_id", "tenant_name"];

/// Reads the line if it is a `config … set`.
pub(crate) fn parse(line: &Line) -> Result<Option<Parsed>, SyntaxError> {
    let text = line.text();
    let Some(start) = arguments_start(text) else { return Ok(None) };
    let Some(noun) = noun("config") else { return Ok(None) };
    let mut notes = Vec::new();
    let mut list: Vec<Assignment> = Vec::new();
    let mut rest = text.get(start..).unwrap_or_default();
    let mut at = start;
    let displaced = displaced_key(rest);
    if displaced {
        let skip = rest.len() - rest.trim_start().len() + "key".len();
        at += skip;
        rest = rest.get(skip..).unwrap_or_default();
        notes.push("understood as: `key` names the value that has no name".to_owned());
    }
    loop {
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        rest = trimmed;
        if rest.is_empty() {
            break;
        }
        if rest == "default" && !list.iter().any(|a| a.name == "value") && !list.is_empty() {
            return reset(list, noun, notes).map(Some);
        }
        let Some((name, after)) = rest.split_once('=') else {
            return Err(SyntaxError::new(at, "expected `name=value`"));
        };
        let mut name = name.trim();
        if name.is_empty() && displaced {
            name = "key";
        }
        if !NAMES.contains(&name) {
            let message =
                format!("`{name}` is not a part of a setting; expected one of {}", NAMES.join(", "));
            return Err(SyntaxError::new(at, message));
        }
        if list.iter().any(|a| a.name == name) {
            return Err(SyntaxError::new(at, format!("`{name}` is given twice")));
        }
        at += rest.len() - after.len();
        let end = line.end_of_argument(at).max(at) - at;
        let argument = after.get(..end.min(after.len())).unwrap_or(after);
        let length = if name == "value" { value_length(argument) } else { simple_length(argument) };
        let (raw, tail) = after.split_at_checked(length).unwrap_or((after, ""));
        list.push(Assignment { name: name.to_owned(), value: Value::One(unquoted(raw.trim(), at)?) });
        at += length;
        rest = tail.trim_start();
        at += tail.len() - rest.len();
        if let Some(next) = rest.strip_prefix(',') {
            at += 1;
            rest = next;
        }
    }
    if list.is_empty() {
        return Err(SyntaxError::new(text.len(), "expected `key=NAME, value=VALUE`"));
    }
    let mut doubt = None;
    if let Some(key) = list.iter().find(|a| a.name == "key")
        && let Value::One(key) = &key.value
        && let Some(tail) = key.strip_prefix("17r.")
    {
        let message = format!("did you mean `l7r.{tail}`? (--force stores `{key}`)");
        doubt = Some(SyntaxError::new(text.find(key).unwrap_or(start), message));
    }
    let selection = leading_selection(text)?;
    if let Some(Filter::Test(test)) = selection
        && let qvd_model::filter::Operand::Many(names) = test.operand
        && let [Some(key)] = names.as_slice()
        && !list.iter().any(|a| a.name == "key")
    {
        list.push(Assignment { name: "key".to_owned(), value: Value::One(key.clone()) });
    }
    let command = Command::Object(ObjectCommand { noun, selection: None, verb: Verb::Set(list) });
    Ok(Some(Parsed { command, notes, doubt }))
}

/// Where the assignments of `config [KEY] set …` begin, if the line is one.
fn arguments_start(text: &str) -> Option<usize> {
    let rest = text.trim_start().strip_prefix("config")?;
    rest.starts_with(char::is_whitespace).then_some(())?;
    let before = text.len() - rest.len();
    let mut words = rest.split_whitespace();
    let (first, second) = (words.next()?, words.next());
    let set = if first == "set" {
        rest.find("set")?
    } else if second == Some("set") && !VERB_LIKE.contains(&first) {
        let after_first = rest.find(first)? + first.len();
        after_first + rest.get(after_first..)?.find("set")?
    } else {
        return None;
    };
    Some(before + set + "set".len())
}

const VERB_LIKE: &[&str] = &["get", "del", "default"];

/// `KEY` or `key=KEY` before `set`.
fn leading_selection(text: &str) -> Result<Option<Filter>, SyntaxError> {
    let word = text.split_whitespace().nth(1).unwrap_or_default();
    if word == "set" {
        return Ok(None);
    }
    let tokens = tokens(word)?;
    let mut cursor = Cursor::new(&tokens, word.len());
    let key = match (cursor.peek(), cursor.peek_at(1), cursor.peek_at(2)) {
        (Some(_), None, None) => cursor.value("a key")?,
        (Some(TokenKind::Word(w)), Some(TokenKind::Sign("=")), Some(_)) if w == "key" || w == "name" => {
            cursor.advance();
            cursor.advance();
            cursor.value("a key")?
        }
        _ => return Err(SyntaxError::new("config ".len(), "expected one key before `set`")),
    };
    Ok(Some(Filter::any_of("key", [key])))
}

/// `set key tenant_id=-1,=NAME,…`: the word `key` stands away from its value.
fn displaced_key(rest: &str) -> bool {
    let Some(after) = rest.trim_start().strip_prefix("key") else { return false };
    let apart = after.starts_with(char::is_whitespace) && !after.trim_start().starts_with('=');
    apart && rest.contains(",=")
}

/// A value goes to the end of its argument unless another name follows.
fn value_length(argument: &str) -> usize {
    let another = |at: usize| {
        let next = argument.get(at + 1..).unwrap_or_default().trim_start();
        NAMES.iter().any(|n| next.strip_prefix(n).is_some_and(|t| t.trim_start().starts_with('=')))
    };
    let end = outside_quotes(argument).find(|(at, c)| *c == ',' && another(*at));
    end.map_or(argument.len(), |(at, _)| at)
}

/// Other values end at the next blank or comma outside quotes.
fn simple_length(argument: &str) -> usize {
    let end = outside_quotes(argument).find(|(_, c)| *c == ',' || c.is_whitespace());
    end.map_or(argument.len(), |(at, _)| at)
}

/// The text of a value that is quoted as a whole; other values stay as they are.
fn unquoted(raw: &str, at: usize) -> Result<String, SyntaxError> {
    if !raw.starts_with(['\'', '"']) {
        return Ok(raw.to_owned());
    }
    let tokens = tokens(raw).map_err(|e| SyntaxError::new(at + e.at, e.message))?;
    match tokens.as_slice() {
        [token] => match &token.kind {
            TokenKind::Quoted(text) => Ok(text.clone()),
            _ => Ok(raw.to_owned()),
        },
        _ => Ok(raw.to_owned()),
    }
}

/// `config set KEY… default` is how the manual writes a reset.
fn reset(
    list: Vec<Assignment>,
    noun: &'static crate::noun::Noun,
    mut notes: Vec<String>,
) -> Result<Parsed, SyntaxError> {
    let tests = list.into_iter().filter_map(|a| match a.value {
        Value::One(value) => Some(Filter::test(a.name, Operator::Equal, value)),
        Value::Many(_) | Value::Ask => None,
    });
    let filter = tests.reduce(Filter::and).unwrap_or(Filter::all());
    notes.push(format!("understood as: config {} default", qvd_model::filter::text::print(&filter)));
    let command = Command::Object(ObjectCommand { noun, selection: Some(filter), verb: Verb::Default });
    Ok(Parsed { command, notes, doubt: None })
}
