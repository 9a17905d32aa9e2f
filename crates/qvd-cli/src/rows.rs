//! `OBJECT import FILE`: an object for each row of a table.

use qvd_model::action::{self, Status};

use crate::command::{Assignment, Value};
use crate::creation;
use crate::error::Error;
use crate::noun::Noun;
use crate::run::Context;

/// After how many rows somebody who waits is told how far it is.
const STEP: usize = 500;

/// Makes an object of each row. Rows that fail do not keep the others from being made; each is told in the end.
pub(crate) async fn import(context: &mut Context<'_>, noun: &'static Noun, file: &str) -> Result<(), Error> {
    let text = std::fs::read_to_string(file).map_err(|e| Error::Usage(format!("{file}: {e}")))?;
    let wrong = |problem: String| Error::Usage(format!("{file}: {problem}"));
    let mut rows = table(&text).map_err(wrong)?.into_iter();
    let Some((_, titles)) = rows.next() else { return Err(wrong("it has no line of titles".to_owned())) };
    let entity = action::entity(noun.object);
    let is_argument = |title: &str| {
        let field = entity.named_by(title).or_else(|| entity.field(title));
        field.is_some_and(|field| field.create != action::Access::No)
    };
    if let Some(unknown) = titles.iter().find(|title| !is_argument(entity.resolve(title))) {
        return Err(wrong(format!("`{unknown}` is not something that {} are made with", noun.title)));
    }
    let rows: Vec<_> = rows.collect();
    if let Some((line, _)) = rows.iter().find(|(_, cells)| cells.len() != titles.len()) {
        return Err(wrong(format!("line {line} does not have {} values as the first one", titles.len())));
    }
    let mut failures = Vec::new();
    for (at, (line, cells)) in rows.iter().enumerate() {
        if at > 0 && at.is_multiple_of(STEP) {
            context.remark(&format!("{at} of {}", rows.len()));
        }
        let given = titles.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
        let one = |(name, cell): (&String, &String)| Assignment {
            name: name.clone(),
            value: Value::One(cell.clone()),
        };
        match creation::make(context, noun, given.map(one).collect()).await {
            Ok(_) => {}
            // The next row would fare no better.
            Err(error) if !is_about_one(&error) => return Err(at_line(error, *line, at - failures.len())),
            Err(error) => failures.push((format!("line {line}"), error.to_string())),
        }
    }
    let (all, changed) = (rows.len(), rows.len() - failures.len());
    if !failures.is_empty() {
        return Err(Error::Partial { changed, all, failures });
    }
    if context.options.dry_run { Ok(()) } else { context.print_total(changed as u64) }
}

/// Whether a failure is one of the row, and not of the whole undertaking.
fn is_about_one(error: &Error) -> bool {
    match error {
        Error::Refused { code, .. } => {
            *code != Status::ActionNotAllowed.code() && !matches!(error.exit_code(), 1 | 4)
        }
        Error::Usage(_) => true,
        _ => false,
    }
}

/// The failure that ends it all, with what was done before.
fn at_line(error: Error, line: usize, made: usize) -> Error {
    match error {
        Error::Refused { code, message } => {
            Error::Refused { code, message: format!("line {line}, after {made} were made: {message}") }
        }
        Error::Unreachable { place, problem } => {
            Error::Unreachable { place, problem: format!("{problem} (line {line}, after {made} were made)") }
        }
        other => other,
    }
}

/// The rows of a table of values between separators, each with the number of its first line. The separator is the one of
/// `;`, `,` and the tabulator that the first line has; quotes protect it, and are doubled inside.
fn table(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().next().unwrap_or_default();
    let separator = [';', '\t', ','].into_iter().find(|s| first.contains(*s)).unwrap_or(';');
    let mut rows = Vec::new();
    let (mut row, mut cell) = (Vec::new(), String::new());
    let (mut line, mut begun) = (1, 1);
    let (mut quoted, mut was_quoted) = (false, false);
    let mut rest = text.chars().peekable();
    loop {
        let next = rest.next();
        match next {
            Some('"') if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                cell.push('"');
            }
            Some('"') if quoted => quoted = false,
            Some('"') if cell.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            Some('\r') if !quoted && rest.peek() == Some(&'\n') => {}
            Some(c) if !quoted && c == separator => {
                row.push(std::mem::take(&mut cell));
                was_quoted = false;
            }
            Some('\n') | None if !quoted => {
                let is_blank = row.is_empty() && cell.is_empty() && !was_quoted;
                row.push(std::mem::take(&mut cell));
                let whole = std::mem::take(&mut row);
                if !is_blank {
                    rows.push((begun, whole));
                }
                was_quoted = false;
                line += 1;
                begun = line;
                if next.is_none() {
                    return Ok(rows);
                }
            }
            None => return Err(format!("a quote that is opened in the row of line {begun} is not closed")),
            Some(c) => {
                line += usize::from(c == '\n');
                cell.push(c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(text: &str) -> Vec<(usize, Vec<String>)> {
        table(text).unwrap()
    }

    #[test]
    fn tables_have_separators_quotes_and_line_ends() {
        let row =
            |line: usize, cells: &[&str]| (line, cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            cells("\u{feff}name;note\r\nann;\"a;\"\"b\"\"\nc\"\r\n\r\nbob;\n"),
            [row(1, &["name", "note"]), row(2, &["ann", "a;\"b\"\nc"]), row(5, &["bob", ""])]
        );
        assert_eq!(cells("name,note\nann,a;b"), [row(1, &["name", "note"]), row(2, &["ann", "a;b"])]);
        assert_eq!(cells("name\n\"\"\n"), [row(1, &["name"]), row(2, &[""])]);
        assert_eq!(cells(""), []);
        assert!(table("name\n\"x").unwrap_err().contains("line 2"));
    }

    proptest! {
        #[test]
        fn what_is_listed_can_be_imported(rows in prop::collection::vec(prop::collection::vec("[a-z;\"\n ]{1,6}", 2), 1..5)) {
            let quoted = |cell: &String| {
                if cell.contains([';', '"', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.clone() }
            };
            let line = |cells: &Vec<String>| cells.iter().map(quoted).collect::<Vec<_>>().join(";");
            let mut text = "a;b\n".to_owned();
            text.extend(rows.iter().map(|row| format!("{}\n", line(row))));
            let read: Vec<_> = cells(&text).into_iter().skip(1).map(|(_, cells)| cells).collect();
            prop_assert_eq!(read, rows);
        }
    }
}
