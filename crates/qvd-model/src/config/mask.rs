//! Secrets in what is written down.

use serde_json::{Value, json};

use super::is_secret;

/// What stands for a secret.
pub const MASK: &str = "**********";

/// Puts asterisks in place of what must not be read in a log: members whose names say that they are secret, the value of
/// a secret setting, and private keys.
pub fn masked(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let secret_setting = members.get("key").and_then(Value::as_str).is_some_and(is_secret);
            let mask = |name: &str| is_secret(name) || name == "code" || (secret_setting && name == "value");
            let members = members
                .iter()
                .map(|(name, v)| (name.clone(), if mask(name) { json!(MASK) } else { masked(v) }));
            Value::Object(members.collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(masked).collect()),
        Value::String(text) if text.contains("PRIVATE KEY-----") => json!(MASK),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_are() {
        let arguments = json!({
            "name": "x", "password": "p", "nested": [{"api_token": "t", "n": 1}],
            "setting": {"key": "auth.ldap.bindpass", "value": "v"}, "code": "123456",
            "key": "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----",
        });
        let masked = masked(&arguments).to_string();
        for secret in ["\"p\"", "\"t\"", "\"v\"", "123456", "BEGIN"] {
            assert!(!masked.contains(secret), "{masked}");
        }
        assert!(masked.contains("\"x\"") && masked.contains("\"n\":1"));
    }
}
