//! Why a session ended, as its client asks afterwards: the stream itself cannot say it, since existing clients hand
//! every byte of it to nxproxy.

use qvd_model::event::EndReason;
use serde_json::{Value, json};

use crate::json::ascii;

/// The end of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEnd {
    /// Why.
    pub reason: EndReason,
    /// What is known besides.
    pub text: String,
}

/// The body of the answer.
pub fn encode_end(end: &SessionEnd) -> Vec<u8> {
    let body = json!({ "reason": end.reason.as_str(), "text": end.text });
    format!("{}\n", ascii(&body.to_string())).into_bytes()
}

/// What the answer says; `None` for a reason that is not known here, or no answer at all.
pub fn decode_end(body: &[u8]) -> Option<SessionEnd> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let reason = body.get("reason")?.as_str()?.parse().ok()?;
    let text = body.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(SessionEnd { reason, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_arrives() {
        for reason in EndReason::ALL {
            let end = SessionEnd { reason: *reason, text: "bye \u{e9}\n".to_owned() };
            let body = encode_end(&end);
            assert!(body.is_ascii());
            assert_eq!(decode_end(&body), Some(end));
        }
    }

    #[test]
    fn what_other_servers_say_is_no_reason() {
        for body in ["", "Not Found\r\n", "[]", "{\"reason\": \"eaten\"}", "{\"reason\": 7}"] {
            assert_eq!(decode_end(body.as_bytes()), None, "{body}");
        }
        assert_eq!(decode_end(b"{\"reason\": \"idle\"}").unwrap().text, "");
    }
}
