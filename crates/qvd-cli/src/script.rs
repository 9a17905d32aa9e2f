//! Scripts: one command a line.

use std::io::{self, BufRead};

use crate::error::Error;
use crate::grammar::{Line, outside_quotes};
use crate::run::Runner;

impl Runner<'_> {
    /// Runs the lines of a script.
    ///
    /// The result is the error of the first line that failed, or with `--keep-going` the one with the highest
    /// exit code, together with the name and number of its line.
    pub async fn script(&mut self, name: &str, lines: &mut dyn BufRead) -> Result<(), (String, Error)> {
        let mut worst: Option<(String, Error)> = None;
        let mut number = 0;
        loop {
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
            let place = format!("{name}:{first}: ");
            if !self.options().keep_going {
                return Err((place, error));
            }
            self.complain(&place, &error);
            if worst.as_ref().is_none_or(|(_, w)| w.exit_code() < error.exit_code()) {
                worst = Some((place, error));
            }
        }
        // Each was told where it happened.
        worst.map_or(Ok(()), |(_, error)| Err((String::new(), Error::Told(Box::new(error)))))
    }
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
pub(crate) fn without_comment(line: &str) -> &str {
    let begins =
        |at: usize| line.get(..at).is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t']));
    let comment = outside_quotes(line).find(|(at, c)| *c == '#' && begins(*at));
    comment.and_then(|(at, _)| line.get(..at)).unwrap_or(line)
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
