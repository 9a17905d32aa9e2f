//! The parameters of a session, as `x_start` brings them.

use std::collections::BTreeMap;

/// Names that hold a secret, or parts of such names: never in arguments, where every process can read them.
const SECRET: [&str; 5] = ["auth_token", "qvd.slave.key", "password", "passwd", "secret"];

/// Parameters by name; of several values the last one counts. `Debug` shows the names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// What a caller sent, over what the image sets for callers that send nothing.
    pub(crate) fn new(defaults: &[(String, String)], sent: Vec<(String, String)>) -> Self {
        Self(defaults.iter().cloned().chain(sent).collect())
    }

    /// The value of a parameter; an empty one counts as absent.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// What hooks get as arguments.
    pub(crate) fn public(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all().filter(|(name, _)| !SECRET.iter().any(|secret| name.contains(secret)))
    }

    /// What hooks get in their environment.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_out_of_arguments_and_logs() {
        let sent = [("auth_token", "t0p"), ("qvd.slave.key", "k3y"), ("qvd.client.os", "linux")];
        let sent = sent.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        let parameters = Parameters::new(&[("qvd.client.os".into(), "windows".into())], sent);
        assert_eq!(parameters.public().collect::<Vec<_>>(), [("qvd.client.os", "linux")]);
        assert_eq!(parameters.all().count(), 3);
        assert!(!format!("{parameters:?}").contains("t0p"));
    }
}
