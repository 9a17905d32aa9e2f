//! Queries: decoding as existing routers do, encoding as existing clients do (`spec/protocol.md` 2.2).

/// Decoded pairs of a query, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, Option<String>)>);

impl Query {
    /// Decodes the part of a target after `?`: pairs split at `&`, then at the first `=`.
    pub fn decode(raw: &[u8]) -> Self {
        let pairs = raw.split(|b| *b == b'&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| match pair.iter().position(|b| *b == b'=') {
                    Some(at) => {
                        let (name, value) = pair.split_at(at);
                        (decode(name), Some(decode(value.strip_prefix(b"=").unwrap_or(value))))
                    }
                    None => (decode(pair), None),
                })
                .collect(),
        )
    }

    /// The value of the last pair with this name; a name without `=` has none.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).and_then(|(_, value)| value.as_deref())
    }

    /// All pairs in order; a name without `=` has no value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }
}

fn decode(raw: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push((high << 4) | low);
                    rest = tail;
                }
                _ => bytes.push(b'%'),
            },
            (byte, _) => bytes.push(*byte),
        }
    }
    super::text(&bytes)
}

pub(super) fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Percent-encodes a name or value: `A-Za-z0-9-._~` stay, everything else becomes `%HH` in upper case.
pub fn encode_component(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Decodes what [`encode_component`] has made.
pub fn decode_component(text: &str) -> String {
    decode(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_follows_the_upstream_router() {
        let query = Query::decode(b"id=12&a=b=c&plus=a+b&hex=%C3%a9&bad=%zz%4&&none&id=13");
        assert_eq!(query.value("id"), Some("13"));
        assert_eq!(query.value("a"), Some("b=c"));
        assert_eq!(query.value("plus"), Some("a b"));
        assert_eq!(query.value("hex"), Some("\u{e9}"));
        assert_eq!(query.value("bad"), Some("%zz%4"));
        assert_eq!(query.value("none"), None);
        assert_eq!(query.iter().count(), 7);
    }

    #[test]
    fn raw_latin_1_is_understood() {
        assert_eq!(Query::decode(b"n=\xe9").value("n"), Some("\u{e9}"));
    }

    #[test]
    fn encoding_is_that_of_the_perl_client() {
        assert_eq!(encode_component("pc105/es a~b"), "pc105%2Fes%20a~b");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_encoded_is_decoded_again(text in ".*") {
            let raw = format!("k={}", encode_component(&text));
            assert_eq!(Query::decode(raw.as_bytes()).value("k"), Some(text.as_str()));
        }
    }
}
