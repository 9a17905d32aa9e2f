//! Who a client says it is: `Authorization` and `Auth-…` headers (`spec/protocol.md` 3.1 and 3.5).

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::headers::Headers;
use super::query::hex;

/// Upstream decodes whatever looks like base64; padding and left-over bits do not matter.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a request authenticates with. Bytes, because clients send several encodings; `Debug` hides secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Login and password.
    Basic {
        /// Never empty, never with a colon.
        login: Vec<u8>,
        /// May be empty; has no line feed.
        password: Zeroizing<Vec<u8>>,
    },
    /// A token.
    Bearer {
        /// The decoded token.
        token: Zeroizing<Vec<u8>>,
    },
}

impl Credentials {
    /// Reads the `Authorization` header; `None` if there is none, or none that can be understood.
    pub fn of(headers: &Headers) -> Option<Self> {
        let value = headers.bytes("Authorization")?;
        let space = value.iter().position(u8::is_ascii_whitespace)?;
        let (scheme, rest) = value.split_at(space);
        let decoded = Zeroizing::new(decode(rest));
        if scheme.eq_ignore_ascii_case(b"Basic") {
            let colon = decoded.iter().position(|b| *b == b':')?;
            let (login, password) = decoded.split_at(colon);
            let password = password.strip_prefix(b":").unwrap_or(password);
            if login.is_empty() || password.contains(&b'\n') {
                return None;
            }
            Some(Self::Basic { login: login.to_vec(), password: Zeroizing::new(password.to_vec()) })
        } else if scheme.eq_ignore_ascii_case(b"Bearer") && !decoded.is_empty() {
            Some(Self::Bearer { token: decoded })
        } else {
            None
        }
    }

    /// The value of the `Authorization` header.
    pub fn header(&self) -> Zeroizing<String> {
        let standard = base64::engine::general_purpose::STANDARD;
        Zeroizing::new(match self {
            Self::Basic { login, password } => {
                let joined = Zeroizing::new([login.as_slice(), b":", password.as_slice()].concat());
                format!("Basic {}", standard.encode(joined.as_slice()))
            }
            Self::Bearer { token } => format!("Bearer {}", standard.encode(token.as_slice())),
        })
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Basic { login, .. } => write!(f, "Basic({}, …)", super::text(login)),
            Self::Bearer { .. } => f.write_str("Bearer(…)"),
        }
    }
}

/// The extra variables of a request: `Auth-<hex of the name>: <base64 of the value>`. Names that are not hex
/// are left out.
pub fn auth_variables(headers: &Headers) -> Vec<(String, String)> {
    headers
        .iter()
        .filter_map(|(name, value)| {
            let (prefix, digits) = name.split_at_checked("Auth-".len())?;
            if !prefix.eq_ignore_ascii_case("Auth-") || digits.is_empty() {
                return None;
            }
            let name = digits
                .as_bytes()
                .chunks(2)
                .map(|pair| match pair {
                    [high, low] => Some((hex(*high)? << 4) | hex(*low)?),
                    _ => None,
                })
                .collect::<Option<Vec<u8>>>()?;
            Some((super::text(&name), super::text(&decode(value))))
        })
        .collect()
}

fn decode(value: &[u8]) -> Vec<u8> {
    let mut symbols: Vec<u8> =
        value.iter().copied().filter(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')).collect();
    // A single left-over symbol holds no whole byte.
    if symbols.len() % 4 == 1 {
        symbols.pop();
    }
    LENIENT.decode(symbols).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> Headers {
        let mut headers = Headers::default();
        assert!(lines.iter().all(|line| headers.add_line(line.as_bytes())));
        headers
    }

    fn basic(login: &str, password: &str) -> Credentials {
        Credentials::Basic {
            login: login.as_bytes().to_vec(),
            password: Zeroizing::new(password.as_bytes().to_vec()),
        }
    }

    #[test]
    fn basic_credentials_split_at_the_first_colon() {
        let given = headers(&["Authorization: Basic am9lQGFjbWU6c2VjcmV0MTIzNDU2"]);
        assert_eq!(Credentials::of(&given), Some(basic("joe@acme", "secret123456")));
        let mut folded = headers(&["authorization: basic am9lQGFjbWU6"]);
        assert!(folded.add_line(b"\tc2VjcmV0MTIzNDU2"));
        assert_eq!(Credentials::of(&folded), Some(basic("joe@acme", "secret123456")));
        assert_eq!(Credentials::of(&headers(&["Authorization: Basic eDo="])), Some(basic("x", "")));
        assert_eq!(Credentials::of(&headers(&["Authorization: Basic eDph!OmI"])), Some(basic("x", "a:b")));
    }

    #[test]
    fn what_cannot_be_a_login_is_none() {
        for value in ["Basic OnB3", "Basic eA==", "Basic eDphCg==", "Digest x", "Bearer ", "Basic"] {
            assert_eq!(Credentials::of(&headers(&[&format!("Authorization: {value}")])), None, "{value}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", basic("joe", "secret")), "Basic(joe, …)");
    }

    #[test]
    fn variables_are_read() {
        let given = headers(&["Auth-484f53544e414d45: dGhpbjAx", "auth-zz: x", "Auth-4: x", "Author: x"]);
        assert_eq!(auth_variables(&given), [("HOSTNAME".to_owned(), "thin01".to_owned())]);
    }

    proptest::proptest! {
        #[test]
        fn what_a_client_writes_a_server_reads(login in "[^:\r\n]+", password in "[^\n]*", token in ".+") {
            let written = basic(&login, &password);
            let line = format!("Authorization: {}", *written.header());
            assert_eq!(Credentials::of(&headers(&[&line])), Some(written));
            let written = Credentials::Bearer { token: Zeroizing::new(token.into_bytes()) };
            let line = format!("Authorization: {}", *written.header());
            assert_eq!(Credentials::of(&headers(&[&line])), Some(written));
        }
    }
}
