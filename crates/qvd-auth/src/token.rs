//! Bearer tokens: 256 bits, kept as a digest (`spec/protocol.md` 3.6, S4).
//!
//! A ticket, with which a client that lost its connection comes back, shows by its first characters that it is one, so
//! that it is never tried where only other tokens are good, and the other way around.

use rand::Rng;
use rand::distr::Alphanumeric;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Characters of a token; 43 of `0-9A-Za-z` hold 256 bits.
const LENGTH: usize = 43;

/// A new token.
pub fn fresh() -> Zeroizing<String> {
    Zeroizing::new(rand::rng().sample_iter(Alphanumeric).take(LENGTH).map(char::from).collect())
}

/// What tickets begin with. Tokens have letters and digits only.
const TICKET: &str = "ticket-";

/// A new ticket.
pub fn fresh_ticket() -> Zeroizing<String> {
    Zeroizing::new(format!("{TICKET}{}", *fresh()))
}

/// Whether a token is a ticket.
pub fn is_ticket(token: &[u8]) -> bool {
    token.starts_with(TICKET.as_bytes())
}

/// What is stored in place of a token: `sha256:` and hexadecimal digits.
pub fn digest(token: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(token) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_their_digests_do_not_reveal_them() {
        let (a, b) = (fresh(), fresh());
        assert!(a.len() == 43 && *a != *b);
        assert!(is_ticket(fresh_ticket().as_bytes()) && !is_ticket(a.as_bytes()));
        assert_eq!(digest(b"abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
