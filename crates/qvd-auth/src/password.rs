//! Argon2id, at the same price for everybody.
//!
//! A stored hash reads `$qa1$SALT$TAG`: Argon2id version 19 with 19 MiB, two passes and one lane, a salt of
//! 16 bytes and a tag of 24, in unpadded base64. That is 60 characters and fits the 64 of the documented
//! column, which the usual PHC text does not. Other costs will get another word than `qa1`.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::legacy;
use crate::workers::Workers;

const PREFIX: &str = "$qa1$";
const SALT: usize = 16;
const TAG: usize = 24;
const MEMORY_KIB: u32 = 19 * 1024;
/// The same in blocks of one KiB.
const BLOCKS: usize = 19 * 1024;
const PASSES: u32 = 2;

/// Longest password that is looked at, in bytes.
const MAX_PASSWORD: usize = 1024;

/// Why a password could not be hashed or checked. Says nothing about the password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The password is empty or longer than anybody types.
    #[error("a password must have 1 to {MAX_PASSWORD} bytes")]
    Length,
    /// The hash function refused.
    #[error("cannot hash a password: {0}")]
    Hash(argon2::Error),
    /// The system gives no thread or memory for it.
    #[error("cannot check a password: no thread or memory for it: {0}")]
    NoThread(std::io::Error),
    /// The process is ending.
    #[error("cannot check a password: the process is ending")]
    Ending,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The password is right.
    Accepted {
        /// What to store in place of an old hash.
        replacement: Option<String>,
    },
    /// It is wrong, or there is nothing to compare it with; both cost the same time.
    Rejected,
}

/// Hashes and checks passwords on threads of their own, a few at a time and the others in turn. Clones share them.
#[derive(Debug, Clone)]
pub struct Hasher {
    workers: Arc<Workers>,
}

impl Hasher {
    /// Works on up to `parallel` passwords at a time; each takes 19 MiB, until nobody has come for a few seconds.
    pub fn new(parallel: usize) -> Self {
        Self { workers: Workers::new(parallel, BLOCKS) }
    }

    /// A hash to store.
    pub async fn hash(&self, password: &[u8]) -> Result<String, PasswordError> {
        if password.is_empty() || password.len() > MAX_PASSWORD {
            return Err(PasswordError::Length);
        }
        let password = Zeroizing::new(password.to_vec());
        self.run(move |memory| hash(&password, memory)).await
    }

    /// Compares a password with what the user's row holds. `salt` is that of old hashes.
    pub async fn verify(
        &self,
        password: &[u8],
        stored: Option<String>,
        salt: &str,
    ) -> Result<Verdict, PasswordError> {
        let usable = !password.is_empty() && password.len() <= MAX_PASSWORD;
        let password = Zeroizing::new(password.get(..MAX_PASSWORD).unwrap_or(password).to_vec());
        let salt = salt.to_owned();
        let verdict = self.run(move |memory| verify(&password, stored.as_deref(), &salt, memory)).await?;
        Ok(if usable { verdict } else { Verdict::Rejected })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut [Block]) -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let (answer, answered) = oneshot::channel();
        let job = move |memory: &mut [Block]| {
            // Whoever has left while others were served needs no answer.
            if !answer.is_closed() {
                let _ = answer.send(work(memory));
            }
        };
        self.workers.submit(Box::new(job)).map_err(PasswordError::NoThread)?;
        answered.await.map_err(|_| PasswordError::Ending)?
    }
}

/// Every path does exactly one run of Argon2id.
fn verify(
    password: &[u8],
    stored: Option<&str>,
    salt: &str,
    memory: &mut [Block],
) -> Result<Verdict, PasswordError> {
    match stored {
        Some(old) if legacy::is_legacy_hash(old) => {
            let right = legacy::matches(password, salt, old);
            let replacement = hash(password, memory)?;
            Ok(if right { Verdict::Accepted { replacement: Some(replacement) } } else { Verdict::Rejected })
        }
        Some(stored) => match parse(stored) {
            Some((salt, expected)) => {
                let right = derive(password, &salt, memory)?.ct_eq(&expected).into();
                Ok(if right { Verdict::Accepted { replacement: None } } else { Verdict::Rejected })
            }
            None => refuse(password, memory),
        },
        None => refuse(password, memory),
    }
}

fn refuse(password: &[u8], memory: &mut [Block]) -> Result<Verdict, PasswordError> {
    derive(password, &[0; SALT], memory).map(|_| Verdict::Rejected)
}

fn hash(password: &[u8], memory: &mut [Block]) -> Result<String, PasswordError> {
    let salt: [u8; SALT] = rand::random();
    let tag = derive(password, &salt, memory)?;
    Ok(format!("{PREFIX}{}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(tag)))
}

#[cfg(test)]
thread_local! {
    static RUNS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

fn derive(password: &[u8], salt: &[u8; SALT], memory: &mut [Block]) -> Result<[u8; TAG], PasswordError> {
    #[cfg(test)]
    RUNS.set(RUNS.get() + 1);
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(TAG)).map_err(PasswordError::Hash)?;
    let mut tag = [0; TAG];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, &mut tag, memory)
        .map_err(PasswordError::Hash)?;
    Ok(tag)
}

fn parse(stored: &str) -> Option<([u8; SALT], [u8; TAG])> {
    let (salt, tag) = stored.strip_prefix(PREFIX)?.split_once('$')?;
    let salt = STANDARD_NO_PAD.decode(salt).ok()?.try_into().ok()?;
    let tag = STANDARD_NO_PAD.decode(tag).ok()?.try_into().ok()?;
    Some((salt, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_fits_the_column_and_accepts_its_password_only() {
        let hasher = Hasher::new(2);
        let stored = hasher.hash(b"secret").await.unwrap();
        assert!(stored.len() <= 64, "{stored}");
        assert_ne!(stored, hasher.hash(b"secret").await.unwrap());
        let verdict = hasher.verify(b"secret", Some(stored.clone()), "qvd1234").await.unwrap();
        assert_eq!(verdict, Verdict::Accepted { replacement: None });
        for wrong in [b"Secret".as_slice(), b"", b"secret "] {
            let verdict = hasher.verify(wrong, Some(stored.clone()), "qvd1234").await.unwrap();
            assert_eq!(verdict, Verdict::Rejected);
        }
    }

    #[tokio::test]
    async fn an_old_hash_is_accepted_once_and_replaced() {
        let hasher = Hasher::new(1);
        let old = legacy::legacy_hash(b"secret", "qvd1234");
        let verdict = hasher.verify(b"secret", Some(old.clone()), "qvd1234").await.unwrap();
        let Verdict::Accepted { replacement: Some(new) } = verdict else { panic!("{verdict:?}") };
        let verdict = hasher.verify(b"secret", Some(new), "other").await.unwrap();
        assert_eq!(verdict, Verdict::Accepted { replacement: None });
        assert_eq!(hasher.verify(b"wrong", Some(old), "qvd1234").await.unwrap(), Verdict::Rejected);
    }

    #[tokio::test]
    async fn nothing_to_compare_with_is_a_rejection() {
        let hasher = Hasher::new(1);
        for stored in [None, Some(String::new()), Some("$qa1$short$short".to_owned()), Some("*".to_owned())] {
            assert_eq!(hasher.verify(b"x", stored, "qvd1234").await.unwrap(), Verdict::Rejected);
        }
        // An old hash of the empty password is no way in.
        let empty = legacy::legacy_hash(b"", "qvd1234");
        assert_eq!(hasher.verify(b"", Some(empty), "qvd1234").await.unwrap(), Verdict::Rejected);
        assert!(matches!(hasher.hash(b"").await, Err(PasswordError::Length)));
    }

    #[test]
    fn every_answer_costs_one_run_of_the_hash() {
        let mut memory = vec![Block::default(); BLOCKS];
        let known = hash(b"secret", &mut memory).unwrap();
        let old = legacy::legacy_hash(b"secret", "qvd1234");
        for stored in [Some(known.as_str()), Some(old.as_str()), Some("garbage"), None] {
            for password in [b"secret".as_slice(), b"wrong"] {
                RUNS.set(0);
                verify(password, stored, "qvd1234", &mut memory).unwrap();
                assert_eq!(RUNS.get(), 1, "{stored:?}");
            }
        }
    }
}
