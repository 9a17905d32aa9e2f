//! The client's half: requests as existing servers need them, and answers with all the quirks that existing
//! servers have (`spec/protocol.md` 2.3, 4.7, 14).

use bytes::BytesMut;

use super::credentials::Credentials;
use super::headers::Headers;
use super::lines::Lines;
use super::query::encode_component;

/// A request under construction. QVD knows only GET, and requests have no body.
#[derive(Debug, Clone)]
pub struct Get {
    target: String,
    fields: Vec<(&'static str, String)>,
}

impl Get {
    /// A request for this path, which needs no encoding.
    pub fn new(path: &str) -> Self {
        Self { target: path.to_owned(), fields: Vec::new() }
    }

    /// Adds a pair to the query.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(&encode_component(name));
        self.target.push('=');
        self.target.push_str(&encode_component(value));
        self
    }

    /// Adds a header field. `name` is sent in exactly this case: existing servers compare it so.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds `Authorization`.
    #[must_use]
    pub fn credentials(self, credentials: &Credentials) -> Self {
        let value = credentials.header().as_str().to_owned();
        self.field("Authorization", value)
    }

    /// Asks to leave HTTP for another protocol.
    #[must_use]
    pub fn upgrade(self, protocol: &str) -> Self {
        self.field("Connection", "Upgrade").field("Upgrade", protocol)
    }

    /// The bytes of the request.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = format!("GET {} HTTP/1.1\r\n", self.target);
        for (name, value) in &self.fields {
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// Status line and header fields of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The three digits.
    pub status: u16,
    /// The reason, perhaps empty.
    pub reason: String,
    /// The header fields; lines without a colon, which upstream sends in one case, are left out.
    pub headers: Headers,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A 1xx other than 101: more will come.
    Interim(ResponseHead),
    /// A 101: what follows is no longer HTTP; see [`ResponseParser::into_rest`].
    Switched(ResponseHead),
    /// The end of the exchange, with its body.
    Final(ResponseHead, Vec<u8>),
}

/// Why an answer cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Something else than HTTP answers.
    #[error("the peer does not speak HTTP: `{0}`")]
    NotHttp(String),
    /// The head is larger than a QVD server would send.
    #[error("the head of the answer is too large")]
    HeadTooLarge,
    /// The body is larger than asked for.
    #[error("the body of the answer is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// The answer uses a transfer coding, which QVD servers do not.
    #[error("the answer uses transfer coding `{0}`, which QVD servers do not")]
    Coding(String),
    /// The length of the body is not a number.
    #[error("the answer has a malformed Content-Length")]
    Length,
    /// The connection ended inside an answer.
    #[error("the connection ended in the middle of an answer")]
    Truncated,
}

const MAX_HEAD: usize = 64 * 1024;

#[derive(Debug)]
enum State {
    /// Before a status line.
    Start,
    /// Between status line and blank line.
    Head(ResponseHead),
    /// Inside a body whose length is known, or which lasts until the connection ends.
    Body { head: ResponseHead, length: Option<usize> },
}

/// Turns bytes into answers, one after the other.
#[derive(Debug)]
pub struct ResponseParser {
    max_body: usize,
    lines: Lines,
    consumed: usize,
    /// Whether the peer has shown that it speaks HTTP.
    greeted: bool,
    state: State,
}

impl ResponseParser {
    /// A parser that accepts bodies up to `max_body` bytes.
    pub fn new(max_body: usize) -> Self {
        Self { max_body, lines: Lines::default(), consumed: 0, greeted: false, state: State::Start }
    }

    /// Takes bytes as they arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.lines.feed(bytes);
    }

    /// The next answer, or `None` if more bytes are needed.
    pub fn answer(&mut self) -> Result<Option<Answer>, ResponseError> {
        loop {
            match std::mem::replace(&mut self.state, State::Start) {
                State::Start => {
                    let Some(line) = self.head_line()? else { return Ok(None) };
                    // A multi-line progress text makes upstream end the head early: what is left of it
                    // stands where a status line should.
                    if let Some(head) = status_line(&line) {
                        self.greeted = true;
                        self.state = State::Head(head);
                    } else if !self.greeted && !line.is_empty() {
                        return Err(ResponseError::NotHttp(excerpt(&line)));
                    }
                }
                State::Head(mut head) => {
                    let Some(line) = self.head_line()? else {
                        self.state = State::Head(head);
                        return Ok(None);
                    };
                    if !line.is_empty() {
                        head.headers.add_line(&line);
                        self.state = State::Head(head);
                        continue;
                    }
                    self.consumed = 0;
                    match head.status {
                        101 => return Ok(Some(Answer::Switched(head))),
                        100..=199 => return Ok(Some(Answer::Interim(head))),
                        _ => self.state = State::Body { length: self.body_length(&head)?, head },
                    }
                }
                State::Body { head, length: Some(length) } if self.lines.pending().len() >= length => {
                    return Ok(Some(Answer::Final(head, self.lines.take(length).to_vec())));
                }
                State::Body { head, length } => {
                    self.state = State::Body { head, length };
                    return if self.lines.pending().len() > self.max_body {
                        Err(ResponseError::BodyTooLarge(self.max_body))
                    } else {
                        Ok(None)
                    };
                }
            }
        }
    }

    /// The connection ended: the answer whose body lasts until then, `None` between answers.
    pub fn finish(mut self) -> Result<Option<Answer>, ResponseError> {
        match std::mem::replace(&mut self.state, State::Start) {
            State::Body { head, length: None } => {
                Ok(Some(Answer::Final(head, self.lines.take(usize::MAX).to_vec())))
            }
            State::Start if self.lines.pending().is_empty() => Ok(None),
            _ => Err(ResponseError::Truncated),
        }
    }

    /// The bytes after the last answer: after `101` the beginning of the raw stream.
    pub fn into_rest(mut self) -> BytesMut {
        self.lines.take(usize::MAX)
    }

    fn head_line(&mut self) -> Result<Option<BytesMut>, ResponseError> {
        let Some(line) = self.lines.line() else {
            let pending = self.lines.pending();
            if !self.greeted && !could_be_status(pending) {
                return Err(ResponseError::NotHttp(excerpt(pending)));
            }
            return if self.consumed.saturating_add(pending.len()) > MAX_HEAD {
                Err(ResponseError::HeadTooLarge)
            } else {
                Ok(None)
            };
        };
        self.consumed = self.consumed.saturating_add(line.len()).saturating_add(1);
        if self.consumed > MAX_HEAD { Err(ResponseError::HeadTooLarge) } else { Ok(Some(line)) }
    }

    fn body_length(&self, head: &ResponseHead) -> Result<Option<usize>, ResponseError> {
        if let Some(coding) = head.headers.text("Transfer-Encoding").filter(|c| c != "identity") {
            return Err(ResponseError::Coding(coding));
        }
        let Some(length) = head.headers.text("Content-Length") else { return Ok(None) };
        let length = length.parse().map_err(|_| ResponseError::Length)?;
        if length > self.max_body {
            return Err(ResponseError::BodyTooLarge(self.max_body));
        }
        Ok(Some(length))
    }
}

/// `HTTP/x.y`, a code, perhaps a reason.
fn status_line(line: &[u8]) -> Option<ResponseHead> {
    let line = super::text(line.strip_prefix(b"HTTP/")?);
    let mut words = line.splitn(3, ' ');
    words.next()?;
    let status = words.next()?.trim().parse().ok().filter(|code| (100..=999).contains(code))?;
    let reason = words.next().unwrap_or_default().to_owned();
    Some(ResponseHead { status, reason, headers: Headers::default() })
}

/// Whether bytes without a line end may still become the first status line.
fn could_be_status(pending: &[u8]) -> bool {
    let trimmed = pending.trim_ascii_start();
    let compared = trimmed.len().min(b"HTTP/".len());
    b"HTTP/".starts_with(trimmed.get(..compared).unwrap_or_default())
}

fn excerpt(bytes: &[u8]) -> String {
    super::text(bytes).chars().take(40).filter(|c| !c.is_control()).collect()
}
