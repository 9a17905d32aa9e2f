//! Calls: what a caller writes and an agent reads.

use zeroize::Zeroizing;

use super::BASE;
use crate::http::{self, Get, Limits, Method, Version};

/// How long a call may be: the whole parameter bag of `x_start` travels in the target.
pub const LIMITS: Limits = Limits { head: 64 * 1024, target: 60 * 1024, fields: 100 };

/// A call that is about to be made.
///
/// `Debug` shows the method only: arguments and header may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    method: String,
    arguments: Vec<(String, String)>,
    secret: Option<Zeroizing<String>>,
}

impl Call {
    /// A call without arguments.
    pub fn new(method: impl Into<String>) -> Self {
        Self { method: method.into(), arguments: Vec::new(), secret: None }
    }

    /// Adds arguments, in order.
    #[must_use]
    pub fn with_arguments<N, V>(mut self, arguments: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<String>,
    {
        self.arguments.extend(arguments.into_iter().map(|(n, v)| (n.into(), v.into())));
        self
    }

    /// Sends the desktop's secret along as `Authorization: Bearer`.
    #[must_use]
    pub fn with_secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = Some(Zeroizing::new(secret.into()));
        self
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The bytes of the call.
    pub fn encode(&self) -> Vec<u8> {
        let mut get = Get::new(&format!("{BASE}{}", self.method));
        for (name, value) in &self.arguments {
            get = get.query(name, value);
        }
        if let Some(secret) = &self.secret {
            get = get.field("Authorization", format!("Bearer {}", secret.as_str()));
        }
        get.field("User-Agent", "QVD/4.3").encode()
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("method", &self.method).finish_non_exhaustive()
    }
}

/// A call as the agent got it.
///
/// `Debug` shows the method only: arguments and header may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The method; `None` if verb and path are not those of a method, which deserves a 404.
    pub method: Option<String>,
    /// The arguments, in order; an argument without a value is empty.
    pub arguments: Vec<(String, String)>,
    /// What followed `Bearer `.
    pub secret: Option<Zeroizing<String>>,
    /// Whether the caller wants the connection closed after the reply.
    pub close: bool,
}

impl From<http::Request> for Request {
    fn from(request: http::Request) -> Self {
        let word = request
            .path
            .strip_prefix(BASE)
            .filter(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        let secret = request.headers.text("Authorization");
        let arguments = request.query.iter().map(|(n, v)| (n.to_owned(), v.unwrap_or_default().to_owned()));
        Self {
            method: word.filter(|_| request.method == Method::Get).map(str::to_owned),
            arguments: arguments.collect(),
            secret: secret.and_then(|v| v.strip_prefix("Bearer ").map(|s| Zeroizing::new(s.to_owned()))),
            close: request.version == Version::Http10 || request.headers.has_token("Connection", "close"),
        }
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestParser;
    use proptest::prelude::*;

    fn decode(text: &[u8]) -> Request {
        let mut parser = RequestParser::new(LIMITS);
        parser.feed(text);
        parser.request().unwrap().unwrap().into()
    }

    #[test]
    fn a_call_reads_as_documented() {
        let call = Call::new("x_start")
            .with_arguments([("qvd.client.keyboard", "pc105/es"), ("qvd.vm.user.name", "joe")])
            .with_secret("5ec");
        let text = String::from_utf8(call.encode()).unwrap();
        assert_eq!(
            text,
            "GET /vma/x_start?qvd.client.keyboard=pc105%2Fes&qvd.vm.user.name=joe HTTP/1.1\r\n\
             Authorization: Bearer 5ec\r\nUser-Agent: QVD/4.3\r\n\r\n"
        );
        assert!(!format!("{call:?}").contains("5ec"));
    }

    #[test]
    fn calls_of_existing_routers_and_nodes_are_read() {
        let request = decode(b"GET /vma/x_state HTTP/1.1\r\nUser-Agent: QVD::HTTPC/0.01 (linux)\r\n\r\n");
        assert_eq!((request.method.as_deref(), request.close), (Some("x_state"), false));
        let request = decode(b"\nGET /vma/ping? HTTP/1.1\nHost: 10.0.0.2:3030\nConnection: close\n\n");
        assert_eq!((request.method.as_deref(), request.close), (Some("ping"), true));
        assert!(request.arguments.is_empty());
    }

    #[test]
    fn other_verbs_and_paths_are_no_methods() {
        for target in ["POST /vma/ping", "GET /vma/", "GET /vma/a/b", "GET /", "GET /vma/p%69ng"] {
            assert_eq!(decode(format!("{target} HTTP/1.1\r\n\r\n").as_bytes()).method, None, "{target}");
        }
    }

    proptest! {
        #[test]
        fn what_is_called_is_read(
            method in "[a-z_]{1,12}",
            arguments in proptest::collection::vec((".{1,8}", ".{0,12}"), 0..6),
            secret in proptest::option::of("[0-9a-f]{8,64}"),
        ) {
            let mut call = Call::new(method.clone()).with_arguments(arguments.clone());
            if let Some(secret) = &secret {
                call = call.with_secret(secret.clone());
            }
            let request = decode(&call.encode());
            prop_assert_eq!(request.method, Some(method));
            prop_assert_eq!(request.arguments, arguments);
            prop_assert_eq!(request.secret.map(|s| s.to_string()), secret);
        }
    }
}
