//! The text form of a filter (`spec/cli.md` 1.6): `user~te%, (state=running; state=starting)`.
//!
//! `,` and `;` have equal rank and group to the right; `!` covers everything after it.

use super::lexer::{SyntaxError, Token, TokenKind, quote, tokens};
use super::{Filter, Operand, Operator, Scalar, Test};

/// How deep brackets and negations may nest.
pub const MAX_DEPTH: usize = 32;

/// A place in a list of tokens.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    tokens: &'a [Token],
    next: usize,
    /// Length of the line: the place of its end.
    end: usize,
}

impl<'a> Cursor<'a> {
    /// The start of the tokens of a line that is `end` bytes long.
    pub fn new(tokens: &'a [Token], end: usize) -> Self {
        Self { tokens, next: 0, end }
    }

    /// The token at the place.
    pub fn peek(&self) -> Option<&'a TokenKind> {
        self.peek_at(0)
    }

    /// The token `ahead` places further on.
    pub fn peek_at(&self, ahead: usize) -> Option<&'a TokenKind> {
        self.tokens.get(self.next + ahead).map(|t| &t.kind)
    }

    /// Where the place is in the line.
    pub fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |t| t.span.start)
    }

    /// Goes one token on.
    pub fn advance(&mut self) {
        self.next += 1;
    }

    /// Takes a sign if it is there.
    pub fn accept(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(TokenKind::Sign(s)) if *s == sign);
        self.next += usize::from(found);
        found
    }

    /// Takes a bare word if it is there.
    pub fn accept_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(TokenKind::Word(w)) if w == word);
        self.next += usize::from(found);
        found
    }

    /// Takes a word or quoted text.
    pub fn value(&mut self, expected: &str) -> Result<String, SyntaxError> {
        match self.peek() {
            Some(TokenKind::Word(text) | TokenKind::Quoted(text)) => {
                self.advance();
                Ok(text.clone())
            }
            _ => Err(self.expected(expected)),
        }
    }

    /// An error here: something else was expected.
    pub fn expected(&self, expected: &str) -> SyntaxError {
        let found = match self.peek() {
            None => "the end of the command".to_owned(),
            Some(TokenKind::Sign(sign)) => format!("`{sign}`"),
            Some(TokenKind::Word(text) | TokenKind::Quoted(text)) => format!("`{text}`"),
        };
        SyntaxError::new(self.at(), format!("expected {expected}, found {found}"))
    }

    /// Whether nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.next >= self.tokens.len()
    }

    /// The operator at the place, if there is one.
    fn operator(&self) -> Option<Operator> {
        match self.peek() {
            Some(TokenKind::Sign(sign)) => Operator::parse(sign),
            _ => None,
        }
    }
}

/// Reads a whole line as a filter.
pub fn parse(line: &str) -> Result<Filter, SyntaxError> {
    let tokens = tokens(line)?;
    let mut cursor = Cursor::new(&tokens, line.len());
    let filter = filter(&mut cursor)?;
    if cursor.is_at_end() { Ok(filter) } else { Err(cursor.expected("`,` or `;`")) }
}

/// Reads a filter as far as it goes.
pub fn filter(cursor: &mut Cursor<'_>) -> Result<Filter, SyntaxError> {
    nested(cursor, 0)
}

fn nested(cursor: &mut Cursor<'_>, depth: usize) -> Result<Filter, SyntaxError> {
    if depth > MAX_DEPTH {
        return Err(SyntaxError::new(cursor.at(), "the selection nests too deeply"));
    }
    if cursor.accept("!") {
        return Ok(nested(cursor, depth + 1)?.negated());
    }
    // The terms of a line are collected first and folded from the right afterwards: recursion would make the
    // length of a list count as depth.
    let mut terms = vec![(term(cursor, depth)?, "")];
    while let Some(TokenKind::Sign(sign @ ("," | ";"))) = cursor.peek() {
        let sign = *sign;
        cursor.advance();
        if let Some(last) = terms.last_mut() {
            last.1 = sign;
        }
        if matches!(cursor.peek(), Some(TokenKind::Sign("!"))) {
            terms.push((nested(cursor, depth + 1)?, ""));
            break;
        }
        terms.push((term(cursor, depth)?, ""));
    }
    let folded = terms.into_iter().rev().fold(None, |right, (left, sign)| match right {
        None => Some(left),
        Some(right) if sign == "," => Some(left.and(right)),
        Some(right) => Some(left.or(right)),
    });
    Ok(folded.unwrap_or(Filter::all()))
}

fn term(cursor: &mut Cursor<'_>, depth: usize) -> Result<Filter, SyntaxError> {
    if cursor.accept("(") {
        let inner = nested(cursor, depth + 1)?;
        return if cursor.accept(")") { Ok(inner) } else { Err(cursor.expected("`,`, `;` or `)`")) };
    }
    let field = cursor.value("a name")?;
    let at = cursor.at();
    let operator =
        cursor.operator().ok_or_else(|| cursor.expected("a comparison such as `=`, `!=`, `<` or `~`"))?;
    cursor.advance();
    let operand = operand(cursor)?;
    let fits = match operand {
        Operand::One(_) => true,
        Operand::Many(_) => matches!(operator, Operator::Equal | Operator::Different | Operator::Like),
        Operand::Range(..) => operator == Operator::Equal,
    };
    if !fits {
        return Err(SyntaxError::new(
            at,
            format!("`{}` takes one value, without brackets", operator.as_str()),
        ));
    }
    Ok(Filter::Test(Test { field, operator, operand }))
}

fn operand(cursor: &mut Cursor<'_>) -> Result<Operand, SyntaxError> {
    if !cursor.accept("[") {
        return Ok(Operand::One(Some(cursor.value("a value")?)));
    }
    let first = cursor.value("a value")?;
    if cursor.accept(":") {
        let last = cursor.value("the end of the range")?;
        return if cursor.accept("]") {
            Ok(Operand::Range(first, last))
        } else {
            Err(cursor.expected("`]`"))
        };
    }
    let mut values = vec![Some(first)];
    while cursor.accept(",") {
        values.push(Some(cursor.value("a value")?));
    }
    if cursor.accept("]") { Ok(Operand::Many(values)) } else { Err(cursor.expected("`,` or `]`")) }
}

/// Writes a filter with a bracket around each group, so that nobody has to know how groups nest.
///
/// The text form has no word for NULL; it is written as empty text.
pub fn print(filter: &Filter) -> String {
    let group = |members: &[Filter], sign: &str| {
        members
            .iter()
            .map(|member| match member {
                Filter::Test(_) => print(member),
                other => format!("({})", print(other)),
            })
            .collect::<Vec<_>>()
            .join(sign)
    };
    let written = |value: &Scalar| quote(value.as_deref().unwrap_or_default());
    match filter {
        Filter::And(members) => group(members, ", "),
        Filter::Or(members) => group(members, "; "),
        Filter::Not(inner) => format!("!{}", group(std::slice::from_ref(&**inner), "")),
        Filter::Test(Test { field, operator, operand }) => {
            let value = match operand {
                Operand::One(value) => written(value),
                Operand::Many(values) => {
                    format!("[{}]", values.iter().map(written).collect::<Vec<_>>().join(", "))
                }
                Operand::Range(from, to) => format!("[{}:{}]", quote(from), quote(to)),
            };
            format!("{}{}{value}", quote(field), operator.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::tree;
    use super::*;

    /// `spec/cli.md` 1.6, "Meaning of filters".
    #[test]
    fn grouping_is_to_the_right_and_a_negation_takes_all() {
        for (written, bracketed) in [
            ("a=1, b=2", "a=1, b=2"),
            ("a=1, b=2; c=3", "a=1, (b=2; c=3)"),
            ("a=1; b=2, c=3", "a=1; (b=2, c=3)"),
            ("(a=1; b=2), c=3", "(a=1; b=2), c=3"),
            ("!a=1, b=2", "!(a=1, b=2)"),
            ("!(a=1), b=2", "!(a=1, b=2)"),
            ("(!a=1), b=2", "(!a=1), b=2"),
            ("a=1, !b=2, c=3", "a=1, (!(b=2, c=3))"),
            ("id!=[1,2]", "id!=[1, 2]"),
            ("id=[1:3]", "id=[1:3]"),
            ("name='This is a chain'", "name='This is a chain'"),
            ("user~te%,state=running", "user~te%, state=running"),
            ("t=10:30", "t='10:30'"),
        ] {
            assert_eq!(print(&parse(written).unwrap()), bracketed, "{written}");
        }
    }

    #[test]
    fn errors_say_where_and_what_was_expected() {
        for (written, at, message) in [
            ("a=1,", 4, "expected a name, found the end of the command"),
            ("a 1", 2, "expected a comparison such as `=`, `!=`, `<` or `~`, found `1`"),
            ("(a=1", 4, "expected `,`, `;` or `)`, found the end of the command"),
            ("a<[1,2]", 1, "`<` takes one value, without brackets"),
            ("a=[1:2", 6, "expected `]`, found the end of the command"),
            ("a=1 b=2", 4, "expected `,` or `;`, found `b`"),
        ] {
            let error = parse(written).unwrap_err();
            assert_eq!((error.at, error.message.as_str()), (at, message), "{written}");
        }
        assert!(parse(&"(".repeat(5_000)).is_err());
        assert!(parse(&"!".repeat(5_000)).is_err());
        let long = vec!["a=1"; 5_000].join(",");
        assert_eq!(parse(&long).unwrap().tests().len(), 5_000);
    }

    proptest! {
        #[test]
        fn the_bracketed_form_is_read_back(filter in tree(any::<String>().prop_map(Some))) {
            let printed = print(&filter);
            prop_assert_eq!(parse(&printed), Ok(filter), "{}", printed);
        }

        #[test]
        fn no_line_makes_the_parser_fail(line in "[a-c=<>!~,;()\\[\\]:' ]{0,40}") {
            let _ = parse(&line);
        }
    }
}
