//! The request for the screen of a session: an upgrade beside the calls (`spec/protocol.md` 7.5).

use super::BASE;
use crate::http::{Get, Method, Request, decode_component, encode_component};

/// The word that stands in place of a method.
const WORD: &str = "vnc_connect";

/// Fields that agents of existing images ignore.
const ONLY: &str = "X-QVD-View-Only";
const VIEWER: &str = "X-QVD-Viewer";

/// Characters of a viewer's name.
const MAX_NAME: usize = 80;

/// The caller does not ask to leave HTTP for RFB (426).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the screen is shown by RFB only: ask with `Connection: Upgrade` and `Upgrade: VNC`")]
pub struct NoUpgrade;

/// Who wants to see the screen, and what for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Keys and pointer do nothing. Callers that do not say keep them back themselves.
    pub only: bool,
    /// What the viewer is called, where the caller says it.
    pub viewer: Option<String>,
}

impl View {
    /// The bytes of the request.
    pub fn encode(&self, secret: Option<&str>) -> Vec<u8> {
        let mut get = Get::new(&format!("{BASE}{WORD}")).upgrade("VNC");
        if let Some(secret) = secret {
            get = get.field("Authorization", format!("Bearer {secret}"));
        }
        if self.only {
            get = get.field(ONLY, "1");
        }
        if let Some(viewer) = &self.viewer {
            get = get.field(VIEWER, encode_component(viewer));
        }
        get.encode()
    }

    /// What a request asks for; `None` if it is one of the calls.
    pub fn read(request: &Request) -> Option<Result<Self, NoUpgrade>> {
        if request.method != Method::Get || request.path.strip_prefix(BASE) != Some(WORD) {
            return None;
        }
        let headers = &request.headers;
        if !headers.has_token("Connection", "Upgrade") || !headers.has_token("Upgrade", "VNC") {
            return Some(Err(NoUpgrade));
        }
        let viewer = headers.text(VIEWER).map(|viewer| decode_component(&viewer));
        // It is shown, and written to logs.
        let viewer = viewer.map(|name| name.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect());
        let viewer = viewer.filter(|name: &String| !name.is_empty());
        Some(Ok(Self { only: headers.has_token(ONLY, "1"), viewer }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::RequestParser;
    use crate::rpc::LIMITS;

    fn read(text: &[u8]) -> Option<Result<View, NoUpgrade>> {
        let mut parser = RequestParser::new(LIMITS);
        parser.feed(text);
        View::read(&parser.request().unwrap().unwrap())
    }

    #[test]
    fn callers_of_existing_consoles_are_understood() {
        let old = b"GET /vma/vnc_connect HTTP/1.1\nConnection: Upgrade\nUpgrade: VNC\n\n";
        assert_eq!(read(old), Some(Ok(View::default())));
        assert_eq!(read(b"GET /vma/vnc_connect HTTP/1.1\r\n\r\n"), Some(Err(NoUpgrade)));
        assert_eq!(read(b"GET /vma/ping HTTP/1.1\r\n\r\n"), None);
        assert_eq!(read(b"POST /vma/vnc_connect HTTP/1.1\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn what_is_asked_is_read(only: bool, viewer in proptest::option::of("[^\\p{Cc}]{1,20}")) {
            let view = View { only, viewer };
            prop_assert_eq!(read(&view.encode(Some("5ec"))), Some(Ok(view)));
        }
    }
}
