//! The server's half: requests out of whatever arrives.

use bytes::BytesMut;

use super::headers::Headers;
use super::lines::Lines;
use super::query::Query;

/// How much a peer may send before its request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of request line and headers together.
    pub head: usize,
    /// Bytes of the target alone; real ones have 1 to 2 KiB.
    pub target: usize,
    /// Number of header lines.
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: 16 * 1024, target: 8 * 1024, fields: 100 }
    }
}

/// The methods that mean something on a QVD port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// The only one with endpoints.
    Get,
    /// Load balancers may use it on `/qvd/ping`.
    Head,
    /// Any other word.
    Other(String),
}

/// The versions that are answered with more than 505 somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Load balancers may use it on `/qvd/ping`.
    Http10,
    /// Every QVD client.
    Http11,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its version.
    pub version: Version,
    /// The path as sent, never percent-decoded; of an absolute target the part after the authority.
    pub path: String,
    /// The decoded query.
    pub query: Query,
    /// Its header fields.
    pub headers: Headers,
}

/// Why a connection cannot go on. Each means: send the answer, if there is one, and close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The version is missing or is not 1.0 or 1.1 (505).
    #[error("HTTP version not supported")]
    Version,
    /// The first line is not a request line (400).
    #[error("malformed request line")]
    RequestLine,
    /// A line of the head is not a header field (400).
    #[error("malformed header line")]
    HeaderLine,
    /// The target exceeds [`Limits::target`] (414).
    #[error("request target too long")]
    TargetTooLong,
    /// The head exceeds [`Limits::head`] or [`Limits::fields`] (431).
    #[error("request head too large")]
    HeadTooLarge,
    /// An NX link starts where a request is expected; no answer would be read (rule R17).
    #[error("NX data instead of a request")]
    NxLink,
}

#[derive(Debug)]
struct Line {
    method: Method,
    version: Version,
    path: String,
    query: Query,
}

/// Turns bytes into requests, one after the other.
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    lines: Lines,
    /// Bytes of the current head that were consumed already.
    consumed: usize,
    line: Option<Line>,
    headers: Headers,
}

impl RequestParser {
    /// A parser at the beginning of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, lines: Lines::default(), consumed: 0, line: None, headers: Headers::default() }
    }

    /// Takes bytes as they arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.lines.feed(bytes);
    }

    /// The next whole request, or `None` if more bytes are needed. After an error the parser is of no use.
    pub fn request(&mut self) -> Result<Option<Request>, RequestError> {
        loop {
            let Some(line) = self.lines.line() else { return self.incomplete() };
            self.consumed = self.consumed.saturating_add(line.len()).saturating_add(2);
            if self.consumed > self.limits.head {
                return Err(self.too_large(line.len()));
            }
            if self.line.is_none() {
                if !line.is_empty() {
                    self.line = Some(self.request_line(&line)?);
                }
            } else if line.is_empty() {
                return Ok(self.complete());
            } else if self.headers.len() >= self.limits.fields {
                return Err(RequestError::HeadTooLarge);
            } else if !self.headers.add_line(&line) {
                return Err(RequestError::HeaderLine);
            }
        }
    }

    /// Whether a request has begun but is not whole.
    pub fn in_request(&self) -> bool {
        self.line.is_some() || !self.lines.pending().is_empty()
    }

    /// The bytes after the last request: what a client sent without waiting for `101`.
    pub fn into_rest(mut self) -> BytesMut {
        self.lines.take(usize::MAX)
    }

    fn incomplete(&self) -> Result<Option<Request>, RequestError> {
        let pending = self.lines.pending();
        if self.line.is_none() && pending.starts_with(b"NXPROXY-") {
            return Err(RequestError::NxLink);
        }
        if self.consumed.saturating_add(pending.len()) > self.limits.head {
            return Err(self.too_large(pending.len()));
        }
        Ok(None)
    }

    fn too_large(&self, line: usize) -> RequestError {
        if self.line.is_none() && line > self.limits.target {
            RequestError::TargetTooLong
        } else {
            RequestError::HeadTooLarge
        }
    }

    fn complete(&mut self) -> Option<Request> {
        self.consumed = 0;
        let headers = std::mem::take(&mut self.headers);
        let Line { method, version, path, query } = self.line.take()?;
        Some(Request { method, version, path, query, headers })
    }

    /// word, whitespace, target (which may hold spaces and 8-bit bytes), optional whitespace, version.
    fn request_line(&self, line: &[u8]) -> Result<Line, RequestError> {
        let word = line.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        let (method, rest) = line.split_at(word);
        if method.is_empty() || !rest.first().is_some_and(u8::is_ascii_whitespace) {
            return Err(RequestError::RequestLine);
        }
        let rest = rest.trim_ascii();
        let at = rest.len().checked_sub(b"HTTP/1.1".len()).ok_or(RequestError::Version)?;
        let (target, version) = rest.split_at(at);
        let version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            _ => return Err(RequestError::Version),
        };
        let target = target.trim_ascii_end();
        if target.is_empty() {
            return Err(RequestError::RequestLine);
        }
        if target.len() > self.limits.target {
            return Err(RequestError::TargetTooLong);
        }
        let mut parts = target.splitn(2, |b| *b == b'?');
        let path = super::text(without_authority(parts.next().unwrap_or_default()));
        let query = Query::decode(parts.next().unwrap_or_default());
        let method = match method {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            other => Method::Other(super::text(other)),
        };
        Ok(Line { method, version, path, query })
    }
}

/// The path of an absolute target such as `https://router:8443/qvd/ping`.
fn without_authority(path: &[u8]) -> &[u8] {
    let Some(rest) = path.strip_prefix(b"https://").or_else(|| path.strip_prefix(b"http://")) else {
        return path;
    };
    let authority = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
    rest.split_at(authority).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Option<Request>, RequestError> {
        let mut parser = RequestParser::new(Limits::default());
        parser.feed(bytes);
        parser.request()
    }

    #[test]
    fn grammar_is_as_wide_as_upstream() {
        let request =
            parse(b"\r\n\nGET /qvd/connect_to_vm?id=1&a=x y\xe9HTTP/1.1\nX: y\n\n").unwrap().unwrap();
        assert_eq!(request.query.value("a"), Some("x y\u{e9}"));
        let request = parse(b"GET https://router:8443/qvd/ping HTTP/1.1\r\n\r\n").unwrap().unwrap();
        assert_eq!(request.path, "/qvd/ping");
        let request = parse(b"GET /qvd/list_of_vm? HTTP/1.1\r\n\r\n").unwrap().unwrap();
        assert_eq!((request.path.as_str(), request.query.iter().count()), ("/qvd/list_of_vm", 0));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let cases: &[(&[u8], RequestError)] = &[
            (b"GET /qvd/ping HTTP/2.0\r\n", RequestError::Version),
            (b"GET /qvd/ping\r\n", RequestError::Version),
            (b"{}\r\n", RequestError::RequestLine),
            (b"GET HTTP/1.1\r\n", RequestError::RequestLine),
            (b"GET / HTTP/1.1\r\nno colon\r\n", RequestError::HeaderLine),
            (b"NXPROXY-3.5.0-3.5.99 ", RequestError::NxLink),
        ];
        for (bytes, error) in cases {
            assert_eq!(parse(bytes), Err(*error), "{}", super::super::text(bytes));
        }
    }

    #[test]
    fn limits_hold_whether_lines_end_or_not() {
        assert_eq!(parse(&[b'a'; 20_000]), Err(RequestError::TargetTooLong));
        let long = [b"GET /".as_slice(), &[b'a'; 9000], b" HTTP/1.1\r\n"].concat();
        assert_eq!(parse(&long), Err(RequestError::TargetTooLong));
        let many = [b"GET / HTTP/1.1\r\n".as_slice(), &b"a: b\r\n".repeat(200)].concat();
        assert_eq!(parse(&many), Err(RequestError::HeadTooLarge));
        let wide = [b"GET / HTTP/1.1\r\na: ".as_slice(), &[b'x'; 20_000]].concat();
        assert_eq!(parse(&wide), Err(RequestError::HeadTooLarge));
        assert_eq!(parse(&b"\n".repeat(20_000)), Err(RequestError::HeadTooLarge));
    }

    #[test]
    fn requests_follow_each_other_and_the_rest_is_kept() {
        let mut parser = RequestParser::new(Limits::default());
        parser.feed(b"GET /a HTTP/1.1\n\nGET /b HTTP/1.1\n\nNXPROXY");
        assert_eq!(parser.request().unwrap().unwrap().path, "/a");
        assert_eq!(parser.request().unwrap().unwrap().path, "/b");
        assert_eq!(&parser.into_rest()[..], b"NXPROXY");
    }
}
