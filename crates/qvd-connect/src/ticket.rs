//! With what a client comes back that lost its connection.

use qvd_wire::http::{Credentials, ResponseHead, TICKET};
use zeroize::Zeroizing;

/// What a router gave for coming back to the same desktop: good once, in place of a password, and for some hours. It
/// lives in memory only, and `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(Zeroizing<String>);

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticket(…)")
    }
}

impl Ticket {
    /// The ticket in an answer, if there is one.
    pub(crate) fn of(head: &ResponseHead) -> Option<Self> {
        head.headers.text(TICKET).filter(|text| !text.is_empty()).map(|text| Self(Zeroizing::new(text)))
    }

    /// What to log in with.
    pub fn credentials(&self) -> Credentials {
        Credentials::Bearer { token: Zeroizing::new(self.0.as_bytes().to_vec()) }
    }
}

#[cfg(test)]
impl From<&str> for Ticket {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}
