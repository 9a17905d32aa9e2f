//! The server's other half: answers in the exact bytes that existing clients need (rules R2 to R10).

/// The statuses that QVD servers send, each with its reason: Qt needs one (rule R2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the HTTP registry")]
pub enum Status {
    Ok,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    RequestTimeout,
    UriTooLong,
    Unprocessable,
    UpgradeRequired,
    TooManyRequests,
    HeadTooLarge,
    Internal,
    Unavailable,
    Version,
}

impl Status {
    /// The three digits.
    pub const fn code(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::RequestTimeout => 408,
            Self::UriTooLong => 414,
            Self::Unprocessable => 422,
            Self::UpgradeRequired => 426,
            Self::TooManyRequests => 429,
            Self::HeadTooLarge => 431,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::Version => 505,
        }
    }

    /// The reason phrase, never empty.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::BadRequest => "Bad Request",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::RequestTimeout => "Request Timeout",
            Self::UriTooLong => "URI Too Long",
            Self::Unprocessable => "Unprocessable Entity",
            Self::UpgradeRequired => "Upgrade Required",
            Self::TooManyRequests => "Too Many Requests",
            Self::HeadTooLarge => "Request Header Fields Too Large",
            Self::Internal => "Internal Server Error",
            Self::Unavailable => "Service Unavailable",
            Self::Version => "HTTP Version Not Supported",
        }
    }
}

/// A final answer. Head and body are two buffers: write them one after the other, each flushed, so that
/// they travel in two TLS records (rules R8 and R10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    status: Status,
    fields: Vec<(&'static str, String)>,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Reply {
    /// An answer with this body; an empty one is replaced by the reason, as Qt waits for ever on length 0.
    pub fn new(status: Status, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        let mut body = body.into();
        if body.is_empty() {
            body = format!("{}\r\n", status.reason()).into_bytes();
        }
        let mut fields = Vec::new();
        if status == Status::Unauthorized {
            fields.push(("WWW-Authenticate", "Basic realm=\"QVD\"".to_owned()));
        }
        Self { status, fields, content_type, body }
    }

    /// A `text/plain` answer.
    pub fn text(status: Status, body: impl Into<String>) -> Self {
        Self::new(status, "text/plain", body.into())
    }

    /// A 200 with JSON.
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::new(Status::Ok, "application/json", body)
    }

    /// Adds a header field. `name` is sent in exactly this case.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The bytes of the head.
    pub fn head(&self) -> Vec<u8> {
        let mut fields = self.fields.clone();
        fields.push(("Content-Type", self.content_type.to_owned()));
        fields.push(("Content-Length", self.body.len().to_string()));
        head(self.status.code(), self.status.reason(), &fields)
    }

    /// The bytes of the body, at least one.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Longest progress text, in bytes.
const MAX_PROGRESS: usize = 400;

/// The `102` that tells a waiting client what happens; made one line, whatever the text holds.
pub fn progress(text: &str) -> Vec<u8> {
    interim(super::VM_INFO, text)
}

/// The same in another header field.
pub fn interim(name: &'static str, text: &str) -> Vec<u8> {
    let mut line = one_line(text);
    while line.len() > MAX_PROGRESS {
        line.pop();
    }
    head(102, "Processing", &[(name, line)])
}

/// The head of a `101`, complete with these fields; it must go out in one write (rule R8).
pub fn switching(fields: &[(&'static str, String)]) -> Vec<u8> {
    head(101, "Switching Protocols", fields)
}

fn head(code: u16, reason: &str, fields: &[(&'static str, String)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {code} {reason}\r\n");
    for (name, value) in fields {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(&one_line(value));
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// The key of a session's slave channel: 64 characters of `A-Za-z0-9`. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct SlaveKey(String);

impl SlaveKey {
    /// How many characters a key has.
    pub const LENGTH: usize = 64;

    /// Accepts a key of the right shape.
    pub fn new(key: &str) -> Option<Self> {
        let fits = key.len() == Self::LENGTH && key.bytes().all(|b| b.is_ascii_alphanumeric());
        fits.then(|| Self(key.to_owned()))
    }

    /// The characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SlaveKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SlaveKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_logins_look_as_upstream() {
        let reply = Reply::text(Status::Unauthorized, "Login rejected\r\n");
        assert_eq!(
            String::from_utf8(reply.head()).unwrap(),
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"QVD\"\r\n\
             Content-Type: text/plain\r\nContent-Length: 16\r\n\r\n"
        );
        assert_eq!(reply.body(), b"Login rejected\r\n");
    }

    #[test]
    fn no_answer_is_empty() {
        let reply = Reply::text(Status::NotFound, "");
        assert_eq!(reply.body(), b"Not Found\r\n");
        assert!(String::from_utf8(reply.head()).unwrap().contains("Content-Length: 11\r\n"));
    }

    #[test]
    fn progress_stays_one_line() {
        let bytes = String::from_utf8(progress("a\r\nSet-Cookie: b\n\nc")).unwrap();
        assert_eq!(bytes, "HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: a  Set-Cookie: b  c\r\n\r\n");
        assert!(progress(&"\u{e9}".repeat(1000)).len() < 500);
    }

    #[test]
    fn slave_keys_are_64_alphanumerics() {
        assert!(SlaveKey::new(&"aZ09".repeat(16)).is_some());
        assert!(SlaveKey::new(&"a".repeat(63)).is_none());
        assert!(SlaveKey::new(&"-".repeat(64)).is_none());
    }
}
