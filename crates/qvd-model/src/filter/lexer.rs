//! Words, quoted text and signs of the command language (`spec/cli.md` 1.6).

use std::ops::Range;

/// One piece of a line, and where it stands (bytes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it stands in the line.
    pub span: Range<usize>,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKind {
    /// A bare word; may be a keyword.
    Word(String),
    /// Quoted text; always a plain value.
    Quoted(String),
    /// A sign, e.g. `<=`.
    Sign(&'static str),
}

/// A line that cannot be understood: where, and what would have been right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// Byte offset of the place.
    pub at: usize,
    /// What is wrong and what was expected.
    pub message: String,
}

impl SyntaxError {
    /// An error at a place.
    pub fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    /// The line with a caret below the place.
    pub fn caret(&self, line: &str) -> String {
        let before = line.get(..self.at.min(line.len())).unwrap_or(line);
        format!("{line}\n{}^", " ".repeat(before.chars().count()))
    }
}

/// Longest first, so that `<=` is not read as `<`.
const SIGNS: &[&str] = &["!=", "<=", ">=", "=", "<", ">", "~", ",", ";", "!", "(", ")", "[", "]", ":"];

/// Splits a line into tokens.
///
/// A colon separates only inside brackets, where it makes a range; elsewhere it belongs to the word, so that
/// addresses and times need no quotes.
pub fn tokens(line: &str) -> Result<Vec<Token>, SyntaxError> {
    let mut tokens = Vec::new();
    let mut brackets = 0usize;
    let mut at = 0;
    while let Some(rest) = line.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(first) = rest.chars().next() else { break };
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (kind, length) = if first == '\'' || first == '"' {
            quoted(rest, first).ok_or_else(|| SyntaxError::new(at, "unterminated quote"))?
        } else if let Some(sign) =
            SIGNS.iter().find(|s| rest.starts_with(**s) && (**s != ":" || brackets > 0))
        {
            match *sign {
                "[" => brackets += 1,
                "]" => brackets = brackets.saturating_sub(1),
                _ => {}
            }
            (TokenKind::Sign(sign), sign.len())
        } else {
            let end = rest.find(|c| ends_word(c, brackets > 0)).unwrap_or(rest.len());
            (TokenKind::Word(rest.get(..end).unwrap_or_default().to_owned()), end)
        };
        tokens.push(Token { kind, span: at..at + length });
        at += length;
    }
    Ok(tokens)
}

/// Writes a value so that it is read back as one: bare if it can be, otherwise in quotes.
pub fn quote(value: &str) -> String {
    let bare = !value.is_empty() && !value.chars().any(|c| ends_word(c, true));
    if bare {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn ends_word(c: char, in_brackets: bool) -> bool {
    c.is_whitespace() || "=<>,;()[]!~'\"".contains(c) || (in_brackets && c == ':')
}

/// Text up to the closing quote and the bytes it took, quotes included.
fn quoted(rest: &str, quote: char) -> Option<(TokenKind, usize)> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.peek() {
                Some(&(_, escaped)) if escaped == quote || escaped == '\\' => {
                    text.push(escaped);
                    chars.next();
                }
                _ => text.push('\\'),
            },
            c if c == quote => return Some((TokenKind::Quoted(text), at + c.len_utf8())),
            c => text.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colons_separate_only_in_brackets() {
        let kinds: Vec<_> = tokens("a=ldap://h:389,b=[1:3]").unwrap().into_iter().map(|t| t.kind).collect();
        let word = |w: &str| TokenKind::Word(w.to_owned());
        let sign = TokenKind::Sign;
        assert_eq!(
            kinds,
            [
                word("a"),
                sign("="),
                word("ldap://h:389"),
                sign(","),
                word("b"),
                sign("="),
                sign("["),
                word("1"),
                sign(":"),
                word("3"),
                sign("]"),
            ]
        );
    }

    #[test]
    fn an_open_quote_is_shown() {
        let line = "user name=x set description=don't, blocked=1";
        let error = tokens(line).unwrap_err();
        assert_eq!(error.caret(line), format!("{line}\n{}^", " ".repeat(31)));
    }

    proptest! {
        #[test]
        fn a_quoted_value_is_one_token(value: String) {
            let read = tokens(&quote(&value)).unwrap();
            prop_assert_eq!(read.len(), 1);
            let (TokenKind::Word(text) | TokenKind::Quoted(text)) = read[0].kind.clone() else {
                return Err(TestCaseError::fail("a sign"));
            };
            prop_assert_eq!(text, value);
        }

        #[test]
        fn any_line_is_split_or_refused(line: String) {
            if let Ok(tokens) = tokens(&line) {
                for token in tokens {
                    prop_assert!(line.get(token.span.clone()).is_some());
                }
            }
        }
    }
}
