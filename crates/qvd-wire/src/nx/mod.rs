//! NX, as far as QVD looks into it: option lines, the first bytes of a link, the agent's state words
//! (`spec/protocol.md` 6.3 and 6.4, `spec/vma.md` 6 and 16).

mod options;
mod state;

pub use options::{ClientValues, Options, OptionsError, client_system, is_link, is_plain};
pub use state::XServerState;

/// What a client's nxproxy, which speaks first, says first.
pub const GREETING: &[u8] = b"NXPROXY-";

/// The offset from a display number to the TCP port of its NX link.
pub const PORT_BASE: u16 = 4000;

/// What the first bytes of a link say about the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// An nxproxy.
    Proxy,
    /// Possibly an nxproxy; more bytes will tell.
    Undecided,
    /// Something else.
    Stranger,
}

/// Judges the first bytes that came from the client's side.
pub fn greeting(bytes: &[u8]) -> Greeting {
    if bytes.starts_with(GREETING) {
        Greeting::Proxy
    } else if GREETING.starts_with(bytes) {
        Greeting::Undecided
    } else {
        Greeting::Stranger
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_proxy_is_known_by_its_first_bytes() {
        assert_eq!(greeting(b"NXPROXY-3.5.0-3.5.99 "), Greeting::Proxy);
        assert_eq!(greeting(b""), Greeting::Undecided);
        assert_eq!(greeting(b"NXPR"), Greeting::Undecided);
        assert_eq!(greeting(b"GET / HTTP/1.1\r\n"), Greeting::Stranger);
        assert_eq!(greeting(b"NXPROXX"), Greeting::Stranger);
    }

    proptest! {
        #[test]
        fn more_bytes_never_change_a_verdict(bytes in "[NXPROY-]{0,10}", more in "[NXPROY-]{0,4}") {
            let before = greeting(bytes.as_bytes());
            let after = greeting([bytes.as_bytes(), more.as_bytes()].concat().as_slice());
            prop_assert!(before == Greeting::Undecided || before == after);
        }
    }
}
