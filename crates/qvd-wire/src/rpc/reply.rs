//! Replies: what an agent writes and a caller reads.

use qvd_model::{Failure, FailureCode};
use serde_json::Value;

use crate::http::{self, Status};
use crate::json::ascii;

/// The body is neither one JSON value nor an empty string and a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a reply: {0}")]
pub struct MalformedReply(String);

/// What a method answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Its result.
    Value(Value),
    /// It refused or failed; the message has no line end.
    Error(String),
}

impl Reply {
    /// The reply `null`: done, nothing to tell.
    pub const DONE: Self = Self::Value(Value::Null);

    /// A reply that is one word.
    pub fn word(word: impl Into<String>) -> Self {
        Self::Value(Value::String(word.into()))
    }

    /// An error with a code, for callers that tell failures apart; old ones show the text as it is.
    pub fn failure(failure: &Failure) -> Self {
        Self::Error(format!("{}: {}", failure.code, failure.detail))
    }

    /// The reply as an answer of [`crate::http`].
    pub fn to_http(&self) -> http::Reply {
        let json = match self {
            Self::Value(value) => value.to_string(),
            Self::Error(message) => format!("\"\",{}", Value::String(message.clone())),
        };
        http::Reply::new(Status::Ok, "application/json-simplerpc", format!("{}\n\r\n", ascii(&json)))
    }

    /// Reads the body of a 2xx answer.
    pub fn decode(body: &[u8]) -> Result<Self, MalformedReply> {
        let list = [b"[", body, b"]"].concat();
        let mut elements: Vec<Value> =
            serde_json::from_slice(&list).map_err(|error| MalformedReply(error.to_string()))?;
        match (elements.pop(), elements.pop(), elements.len()) {
            (Some(value), None, _) => Ok(Self::Value(value)),
            (Some(Value::String(message)), Some(Value::String(mark)), 0) if mark.is_empty() => {
                Ok(Self::Error(message.trim_end().to_owned()))
            }
            _ => Err(MalformedReply("neither one value nor an error".to_owned())),
        }
    }
}

/// The failure that an error of a method tells: the code it starts with, otherwise `agent_failed`.
pub fn failure_of(message: &str) -> Failure {
    let coded = message.split_once(": ").and_then(|(code, text)| Some((code.parse().ok()?, text)));
    let (code, detail) = coded.unwrap_or((FailureCode::AgentFailed, message));
    Failure::new(code, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn body(reply: &Reply) -> String {
        String::from_utf8(reply.to_http().body().to_vec()).unwrap()
    }

    #[test]
    fn bodies_are_those_of_the_specification() {
        assert_eq!(body(&Reply::Value(json!(1))), "1\n\r\n");
        assert_eq!(body(&Reply::word("listening")), "\"listening\"\n\r\n");
        assert_eq!(body(&Reply::DONE), "null\n\r\n");
        assert_eq!(body(&Reply::Error("busy \u{1f600}".into())), "\"\",\"busy \\ud83d\\ude00\"\n\r\n");
    }

    #[test]
    fn the_head_is_what_existing_callers_look_for() {
        let head = String::from_utf8(Reply::word("starting").to_http().head()).unwrap();
        assert_eq!(
            head,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json-simplerpc\r\nContent-Length: 13\r\n\r\n"
        );
    }

    #[test]
    fn replies_of_existing_agents_are_read() {
        let error = Reply::decode(b"\"\",\"session busy, suspending it\\n\"\n\r\n").unwrap();
        assert_eq!(error, Reply::Error("session busy, suspending it".into()));
        assert!(Reply::decode(b"<html>").is_err() && Reply::decode(b"1,2,3").is_err());
        assert!(Reply::decode(b"\"x\",\"y\"").is_err() && Reply::decode(b"").is_err());
    }

    #[test]
    fn failures_keep_their_code() {
        let failure = Failure::new(FailureCode::XServerMissing, "/usr/bin/nxagent is not in the image");
        let Reply::Error(message) = Reply::failure(&failure) else { panic!("not an error") };
        assert_eq!(failure_of(&message), failure);
        assert_eq!(failure_of("busy: wait"), Failure::new(FailureCode::AgentFailed, "busy: wait"));
    }

    proptest! {
        #[test]
        fn what_is_replied_is_read(word in ".{0,40}", error in any::<bool>()) {
            let word = word.trim_end().to_owned();
            let reply = if error { Reply::Error(word) } else { Reply::word(word) };
            prop_assert_eq!(Reply::decode(reply.to_http().body()).unwrap(), reply);
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Reply::decode(&bytes);
        }
    }
}
