//! The password hash of existing databases (`spec/database.md` 10.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Characters of an unpadded base64 of 32 bytes.
const LENGTH: usize = 43;

/// One SHA-256 over the installation's salt and the password, as unpadded base64.
pub fn legacy_hash(password: &[u8], salt: &str) -> String {
    STANDARD_NO_PAD.encode(Sha256::new().chain_update(salt).chain_update(password).finalize())
}

/// Whether a stored value is of the old kind; such values are replaced at the next login.
pub fn is_legacy_hash(stored: &str) -> bool {
    stored.len() == LENGTH && stored.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

pub(crate) fn matches(password: &[u8], salt: &str, stored: &str) -> bool {
    legacy_hash(password, salt).as_bytes().ct_eq(stored.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_formula_is_kept() {
        // printf qvd1234secret | openssl dgst -sha256 -binary | base64
        let stored = legacy_hash(b"secret", "qvd1234");
        assert_eq!(stored, EXPECTED);
        assert!(is_legacy_hash(&stored) && matches(b"secret", "qvd1234", &stored));
        assert!(!matches(b"secret", "other", &stored) && !matches(b"Secret", "qvd1234", &stored));
        assert!(!is_legacy_hash("$qa1$x") && !is_legacy_hash(""));
    }

    const EXPECTED: &str = "gF7cemH4TAk9hgXhfRbmGsabY4w5p4fdOGj2A4/hK/w";
}
