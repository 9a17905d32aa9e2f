//! Header fields as they were received.

/// Header fields in order. Names are kept as received and looked up without regard to case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

/// Whether a byte may be in a header name (`spec/protocol.md` 2.2).
const fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'_' | b'-' | b'.')
}

impl Headers {
    /// The last value of this name, without the space around it.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

    /// The last value of this name as text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.bytes(name).map(super::text)
    }

    /// Whether the comma-separated values of this name contain a word, without regard to case.
    pub fn has_token(&self, name: &str, word: &str) -> bool {
        self.iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .flat_map(|(_, value)| value.split(|b| *b == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    }

    /// All fields in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one line of a head; whether it was a field, or the continuation of one.
    pub(super) fn add_line(&mut self, line: &[u8]) -> bool {
        if line.first().is_some_and(u8::is_ascii_whitespace) {
            let Some((_, value)) = self.0.last_mut() else { return false };
            value.push(b' ');
            value.extend_from_slice(line.trim_ascii());
            return true;
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else { return false };
        let (name, value) = line.split_at(colon);
        let Ok(name) = std::str::from_utf8(name) else { return false };
        if name.is_empty() || !name.bytes().all(in_name) {
            return false;
        }
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii().to_vec();
        self.0.push((name.to_owned(), value));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> Headers {
        let mut headers = Headers::default();
        for line in lines {
            assert!(headers.add_line(line.as_bytes()), "{line}");
        }
        headers
    }

    #[test]
    fn lookup_ignores_case_and_the_last_one_counts() {
        let headers = headers(&["connection: Keep-Alive, upgrade", "UPGRADE:  QVD/1.0 ", "Upgrade: other"]);
        assert!(headers.has_token("Connection", "Upgrade"));
        assert!(headers.has_token("Upgrade", "QVD/1.0"));
        assert_eq!(headers.text("Upgrade").unwrap(), "other");
    }

    #[test]
    fn folded_lines_continue_the_field_before() {
        assert_eq!(headers(&["A: one", "  two"]).text("a").unwrap(), "one two");
        assert!(!Headers::default().add_line(b" two"));
    }

    #[test]
    fn lines_that_are_no_fields_are_refused() {
        for line in ["403 Forbidden", "a b: c", ": x", "caf\u{e9}: x", "a|b: x"] {
            assert!(!Headers::default().add_line(line.as_bytes()), "{line}");
        }
    }
}
