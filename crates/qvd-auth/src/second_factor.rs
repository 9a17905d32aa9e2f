//! The second factor of an administrator: codes of six digits that change with time (RFC 6238), and codes for the day
//! when the device is lost.

use qvd_wire::http::encode_component;
use rand::Rng;
use totp_rs::{Builder, Secret, Totp};
use zeroize::Zeroizing;

use crate::token;

/// Bytes of a secret, as RFC 4226 recommends.
const SECRET: usize = 20;
/// Digits of a code.
const DIGITS: usize = 6;
/// How many codes for emergencies there are.
const RECOVERY_CODES: usize = 10;
/// Characters of such a code without its dashes: 80 bits.
const RECOVERY: usize = 16;
/// The same with dashes between groups of four.
const RECOVERY_WRITTEN: usize = 19;

/// What authenticator and server share. Codes are of six digits, every 30 seconds, by HMAC-SHA1: what every
/// authenticator can do. That of the step before and of the one behind are taken too.
pub struct SecondFactor(Totp);

/// The text is no secret that was made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret is not base32 of {SECRET} bytes")]
pub struct InvalidSecret;

/// A code as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code<'a> {
    /// Of this moment.
    Now(&'a str),
    /// For emergencies, as its digest.
    Recovery(String),
}

impl SecondFactor {
    /// A new secret, in base32.
    pub fn fresh() -> Zeroizing<String> {
        let bytes: [u8; SECRET] = rand::random();
        Zeroizing::new(Secret::new(Box::new(bytes)).to_base32())
    }

    /// Reads a secret in base32.
    pub fn new(secret: &str) -> Result<Self, InvalidSecret> {
        let secret = Secret::try_from_base32(secret).map_err(|_| InvalidSecret)?;
        if secret.as_bytes().len() != SECRET {
            return Err(InvalidSecret);
        }
        Builder::new().with_secret(secret).build().map(Self).map_err(|_| InvalidSecret)
    }

    /// The address that authenticators read, from a picture for example.
    pub fn uri(&self, issuer: &str, account: &str) -> Zeroizing<String> {
        let (issuer, account) = (encode_component(issuer), encode_component(account));
        let secret = Zeroizing::new(self.0.secret().to_base32());
        Zeroizing::new(format!(
            "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}",
            secret.as_str()
        ))
    }

    /// The step of time that a code is of, if it is right at `now` in seconds of the epoch. A code must not be taken
    /// twice: whoever asks keeps the step and takes later ones only.
    pub fn step(&self, code: &str, now: u64) -> Option<i64> {
        if code.len() != DIGITS || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        self.0.check(code, now).and_then(|step| i64::try_from(step).ok())
    }
}

impl<'a> Code<'a> {
    /// Reads what somebody typed; `None` if it can be no code.
    pub fn parse(typed: &'a str) -> Option<Self> {
        let typed = typed.trim();
        if typed.len() == DIGITS && typed.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Self::Now(typed));
        }
        let plain: String = typed.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
        let right = plain.len() == RECOVERY && plain.bytes().all(|byte| ALPHABET.contains(&byte));
        right.then(|| Self::Recovery(token::digest(plain.as_bytes())))
    }

    /// Cuts a code off the end of a password: clients that know of no second factor send both in one.
    pub fn behind(password: &'a str) -> Option<(&'a str, Self)> {
        [DIGITS, RECOVERY_WRITTEN].into_iter().find_map(|length| {
            let at = password.len().checked_sub(length)?;
            let (password, code) = password.split_at_checked(at)?;
            // Blanks belong to the password.
            let code = Self::parse(code).filter(|_| code.trim() == code)?;
            (!password.is_empty()).then_some((password, code))
        })
    }
}

const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// New codes for emergencies, as they are written down, each with the digest to keep of it.
pub fn recovery_codes() -> Vec<(Zeroizing<String>, String)> {
    let mut rng = rand::rng();
    (0..RECOVERY_CODES)
        .map(|_| {
            let mut plain = Zeroizing::new(String::new());
            let mut written = Zeroizing::new(String::new());
            for at in 0..RECOVERY {
                let drawn =
                    ALPHABET.get(rng.random_range(0..ALPHABET.len())).copied().map_or('a', char::from);
                if at > 0 && at % 4 == 0 {
                    written.push('-');
                }
                written.push(drawn);
                plain.push(drawn);
            }
            let digest = token::digest(plain.as_bytes());
            (written, digest)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `12345678901234567890`, the secret of the examples of RFC 6238.
    const RFC: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    #[test]
    fn codes_are_those_of_the_rfc() {
        let factor = SecondFactor::new(RFC).unwrap();
        // The last six of its eight digits.
        for (time, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(factor.step(code, time), Some(i64::try_from(time / 30).unwrap()));
            assert_eq!(
                factor.step(code, time + 30),
                Some(i64::try_from(time / 30).unwrap()),
                "a slow typist"
            );
            assert_eq!(factor.step(code, time + 90), None);
        }
        for wrong in ["287083", "", "28708", "2870822", " 287082", "28708x"] {
            assert_eq!(factor.step(wrong, 59), None, "{wrong}");
        }
        assert_eq!(
            factor.uri("QVD", "joe@acme corp").as_str(),
            format!("otpauth://totp/QVD:joe%40acme%20corp?secret={RFC}&issuer=QVD")
        );
    }

    #[test]
    fn secrets_differ_and_only_whole_ones_are_read() {
        let (a, b) = (SecondFactor::fresh(), SecondFactor::fresh());
        assert!(a.len() == 32 && *a != *b && SecondFactor::new(&a).is_ok());
        for bad in ["", "x", "GEZDGNBV", "!!!!", &RFC[1..]] {
            assert!(SecondFactor::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn codes_are_read_alone_or_behind_a_password() {
        let codes = recovery_codes();
        let (written, digest) = &codes[0];
        assert_eq!((codes.len(), written.len()), (10, RECOVERY_WRITTEN));
        let recovery = Code::Recovery(digest.clone());
        assert_eq!(Code::parse(&written.to_ascii_uppercase()), Some(recovery.clone()));
        assert_eq!(Code::parse(&written.replace('-', "")), Some(recovery.clone()));
        assert_eq!(Code::parse(" 123456 "), Some(Code::Now("123456")));
        for bad in ["", "12345", "12345a", "1234567", "abcd-efgh"] {
            assert_eq!(Code::parse(bad), None, "{bad}");
        }
        assert_eq!(Code::behind("secret123456"), Some(("secret", Code::Now("123456"))));
        let both = format!("päss{}", written.as_str());
        assert_eq!(Code::behind(&both), Some(("päss", recovery)));
        for none in ["", "123456", "secret", "secret 12345", "ä12345", "secret123456 "] {
            assert_eq!(Code::behind(none), None, "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_fail(text in ".{0,40}", now: u64) {
            let _ = (Code::parse(&text), SecondFactor::new(&text).is_ok());
            let now = now / 2;
            proptest::prop_assert!(Code::behind(&text).is_none_or(|(rest, _)| text.starts_with(rest)));
            let _ = SecondFactor::new(RFC).unwrap().step(&text, now);
        }
    }
}
