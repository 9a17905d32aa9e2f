//! The syntax of configuration files: Java properties as existing QVD files use them
//! (`spec/config-keys.md` 3).

use std::path::{Path, PathBuf};

/// One `key = value` of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, unescaped.
    pub key: String,
    /// The value, unescaped; trailing blanks are part of it.
    pub value: String,
    /// Line on which the entry starts, from 1.
    pub line: usize,
}

/// A line that is not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: key `{key}` has no separator; write `{key} =` for an empty value", path.display())]
pub struct Malformed {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// What stands there.
    pub key: String,
}

/// Decodes a file: ISO-8859-1 in old files, UTF-8 in new ones, with or without a byte order mark.
pub fn decode(bytes: &[u8]) -> String {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    }
}

/// Parses the text of a file; `path` is only used in errors.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, Malformed> {
    let normalized = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = normalized.split('\n').enumerate();
    let mut entries = Vec::new();
    while let Some((index, first)) = lines.next() {
        let first = first.trim_start_matches(BLANK);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while continues(&logical) {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(BLANK));
        }
        let (key, value) = split(&logical);
        let key = unescape(key);
        match value {
            Some(value) => entries.push(Entry { key, value: unescape(value), line: index + 1 }),
            None => return Err(Malformed { path: path.to_owned(), line: index + 1, key }),
        }
    }
    Ok(entries)
}

const BLANK: [char; 3] = [' ', '\t', '\u{c}'];

/// An odd number of backslashes at the end joins the next line.
fn continues(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

/// Splits at the first unescaped blank, `=` or `:`; `None` if there is no separator.
fn split(line: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    let end = line.char_indices().find_map(|(at, c)| {
        let found = !escaped && (BLANK.contains(&c) || c == '=' || c == ':');
        escaped = c == '\\' && !escaped;
        found.then_some(at)
    });
    let Some(end) = end else { return (line, None) };
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(BLANK);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, Some(rest.trim_start_matches(BLANK)))
}

/// Resolves escapes; a backslash before any other character is kept.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some(c @ ('\\' | '"' | '\'' | ' ' | '=' | ':' | '#' | '!')) => out.push(c),
            Some('u') => {
                let digits: String = chars.clone().take(4).collect();
                match u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32) {
                    Some(decoded) if digits.len() == 4 => {
                        out.push(decoded);
                        chars.nth(3);
                    }
                    _ => out.push_str("\\u"),
                }
            }
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

/// Writes one entry so that [`parse`] reads it back.
pub fn format(key: &str, value: &str) -> String {
    let escape = |text: &str, specials: &[char]| {
        let mut out = String::new();
        for (at, c) in text.chars().enumerate() {
            match c {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\\' => out.push_str("\\\\"),
                '\u{c}' => out.push_str("\\u000c"),
                '\t' => out.push_str("\\t"),
                c if specials.contains(&c) || (at == 0 && c == ' ') => {
                    out.push('\\');
                    out.push(c);
                }
                c => out.push(c),
            }
        }
        out
    };
    format!("{} = {}\n", escape(key, &[' ', '=', ':', '#', '!']), escape(value, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> (String, String) {
        let entries = parse(Path::new("node.conf"), text).unwrap();
        assert_eq!(entries.len(), 1, "{text}");
        (entries[0].key.clone(), entries[0].value.clone())
    }

    #[test]
    fn documented_examples() {
        for (text, key, value) in [
            ("key1 = value one   ", "key1", "value one   "),
            ("key2: colon value", "key2", "colon value"),
            ("key3 space value", "key3", "space value"),
            ("key6 = \"quoted value\"", "key6", "\"quoted value\""),
            ("key9 = first \\\n  second", "key9", "first second"),
            ("key\\ 10 = x", "key 10", "x"),
            ("key13=@\\#", "key13", "@#"),
            ("key17 = a\\n\\\n\\  b", "key17", "a\n  b"),
            ("a = b # c", "a", "b # c"),
            ("k = a=b", "k", "a=b"),
            ("k =", "k", ""),
            ("k = \\u00e1\\q", "k", "á\\q"),
            ("k = v\r", "k", "v"),
        ] {
            assert_eq!(one(text), (key.to_owned(), value.to_owned()), "{text}");
        }
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_lines_are_counted() {
        let entries = parse(Path::new("f"), "# c\n\n ! d\n  a = 1\nb = 2 \\\n 3\nc = 4").unwrap();
        assert_eq!(entries.iter().map(|e| e.line).collect::<Vec<_>>(), [4, 5, 7]);
    }

    #[test]
    fn a_key_alone_is_an_error_with_file_line_and_key() {
        let error = parse(Path::new("/etc/qvd/node.conf"), "a = 1\nnodename\n").unwrap_err().to_string();
        assert!(error.starts_with("/etc/qvd/node.conf:2: key `nodename`"), "{error}");
    }

    #[test]
    fn old_files_are_latin_1() {
        assert_eq!(decode(b"a = caf\xe9"), "a = café");
        assert_eq!(decode("a = café".as_bytes()), "a = café");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(key in "[a-zA-Z0-9 .=:#!\\\\-]{1,20}", value in "[^\u{0}]{0,60}") {
            let entries = parse(Path::new("f"), &format(&key, &value)).unwrap();
            prop_assert_eq!(entries.len(), 1);
            prop_assert_eq!(&entries[0].key, &key);
            prop_assert_eq!(&entries[0].value, &value);
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = parse(Path::new("f"), &text);
        }
    }
}
