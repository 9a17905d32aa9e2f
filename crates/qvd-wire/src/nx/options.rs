//! The option line that configures one NX session.

use std::fmt::Write;

/// Longest line that nxagent reads; it ignores longer files with a mere warning.
const MAX_LINE: usize = 1024;

/// Names of link speeds, as nxcomp knows them.
const LINKS: [&str; 17] = [
    "modem", "isdn", "adsl", "wan", "lan", "local", "33k", "56k", "64k", "128k", "256k", "640k", "1m", "2m",
    "34m", "10m", "100m",
];

/// Options that a client may add by `qvd.client.nxagent.extra_args`: how it wants to be drawn. None of them
/// opens a port, names a file or a host, or signals a process.
const EXTRA: [&str; 30] = [
    "autodpi",
    "autograb",
    "backingstore",
    "cache",
    "clipboard",
    "composite",
    "copysize",
    "data",
    "defer",
    "delta",
    "images",
    "keyconv",
    "limit",
    "load",
    "magicpixel",
    "memory",
    "menu",
    "pack",
    "render",
    "resize",
    "rootless",
    "save",
    "shmem",
    "shpix",
    "sleep",
    "stream",
    "streaming",
    "strict",
    "taint",
    "tile",
];

/// Why an option line cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A client value holds something else than letters, digits and `_/+-`.
    #[error(
        "invalid characters in parameter {name}: only letters, digits, `_`, `/`, `+` and `-` are allowed"
    )]
    Value {
        /// The parameter, e.g. `qvd.client.keyboard`.
        name: String,
    },
    /// A link speed that nxcomp does not know.
    #[error("qvd.client.link: `{0}` is not a link; use one of modem, isdn, adsl, wan, lan, local")]
    Link(String),
    /// An additional option that clients may not set.
    #[error("qvd.client.nxagent.extra_args: option `{0}` is not one that a client may set")]
    Extra(String),
    /// A name or value would break the line apart.
    #[error("option {0} cannot be written into an option line")]
    Unwritable(String),
    /// The line does not fit.
    #[error("the option line has {0} bytes; nxagent reads {MAX_LINE}")]
    TooLong(usize),
}

/// Whether a client value may be put into an option line.
pub fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_/+-".contains(&b))
}

/// Whether nxcomp knows this link speed.
pub fn is_link(name: &str) -> bool {
    LINKS.contains(&name)
}

/// The client's system in nxagent's words: clients also say `winnt` and `darwin`.
pub fn client_system(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "winnt" => "windows".to_owned(),
        "darwin" => "macosx".to_owned(),
        other => other.to_owned(),
    }
}

/// What a client wants of its session, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientValues {
    options: Vec<(&'static str, String)>,
    extra: Vec<(String, String)>,
}

impl ClientValues {
    /// Takes the five values of `spec/vma.md` 2.1 and the additional options out of the parameters of a
    /// connection. What is absent or empty is left to nxagent.
    pub fn from_parameters<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Result<Self, OptionsError> {
        let mut values = Self::default();
        for option in ["keyboard", "os", "link", "geometry", "fullscreen"] {
            let name = format!("qvd.client.{option}");
            let Some(value) = parameter(&name).filter(|v| !v.is_empty()) else { continue };
            if !is_plain(value) {
                return Err(OptionsError::Value { name });
            }
            match option {
                "os" => values.options.push(("client", client_system(value))),
                "link" if !is_link(value) => return Err(OptionsError::Link(value.to_owned())),
                _ => values.options.push((option, value.to_owned())),
            }
        }
        for word in parameter("qvd.client.nxagent.extra_args").unwrap_or_default().split(',') {
            let word = word.trim();
            if word.is_empty() {
                continue;
            }
            let (name, value) = word.split_once('=').unwrap_or((word, "1"));
            if !EXTRA.contains(&name) || !is_plain(value) {
                return Err(OptionsError::Extra(word.to_owned()));
            }
            values.extra.push((name.to_owned(), value.to_owned()));
        }
        Ok(values)
    }
}

/// An option line in the making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pairs: Vec<(String, String)>,
}

impl Options {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the client wants: its values first, its additional options last.
    pub fn for_client(values: &ClientValues) -> Self {
        let options = values.options.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Self { pairs: options.chain(values.extra.iter().cloned()).collect() }
    }

    /// Sets an option of ours; it replaces what was set before.
    pub fn set(&mut self, name: &str, value: &str) {
        self.pairs.retain(|(n, _)| n != name);
        self.pairs.push((name.to_owned(), value.to_owned()));
    }

    /// The line for this display, as the option file holds it.
    pub fn line(&self, display: u16) -> Result<String, OptionsError> {
        let mut line = String::from("nx/nx");
        for (name, value) in &self.pairs {
            if !name.bytes().all(|b| b.is_ascii_lowercase()) || value.is_empty() || !is_writable(value) {
                return Err(OptionsError::Unwritable(name.clone()));
            }
            // Writing to a String cannot fail.
            let _ = write!(line, ",{name}={value}");
        }
        let _ = writeln!(line, ":{display}");
        if line.len() > MAX_LINE {
            return Err(OptionsError::TooLong(line.len()));
        }
        Ok(line)
    }
}

/// A comma would start another option, a blank or control byte end the line.
fn is_writable(value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_graphic() && b != b',' && b != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn values(pairs: &[(&str, &str)]) -> Result<ClientValues, OptionsError> {
        let map: HashMap<&str, &str> = pairs.iter().copied().collect();
        ClientValues::from_parameters(|name| map.get(name).copied())
    }

    #[test]
    fn a_clients_wishes_become_a_line() {
        let values = values(&[
            ("qvd.client.keyboard", "pc105/es"),
            ("qvd.client.os", "winnt"),
            ("qvd.client.link", "adsl"),
            ("qvd.client.geometry", "1024x768"),
            ("qvd.client.fullscreen", ""),
            ("qvd.client.nxagent.extra_args", "clipboard=both, resize"),
        ])
        .unwrap();
        let mut options = Options::for_client(&values);
        options.set("tolerancechecks", "risky");
        assert_eq!(
            options.line(100).unwrap(),
            "nx/nx,keyboard=pc105/es,client=windows,link=adsl,geometry=1024x768,clipboard=both,resize=1,\
             tolerancechecks=risky:100\n"
        );
    }

    #[test]
    fn what_is_absent_is_left_out() {
        assert_eq!(Options::for_client(&values(&[]).unwrap()).line(7).unwrap(), "nx/nx:7\n");
    }

    #[test]
    fn clients_cannot_smuggle_options() {
        for (name, value) in [
            ("qvd.client.keyboard", "pc105,kill=1"),
            ("qvd.client.geometry", "1x1\noptions=/etc/shadow"),
            ("qvd.client.link", "5m"),
            ("qvd.client.nxagent.extra_args", "accept=10.0.0.9"),
            ("qvd.client.nxagent.extra_args", "cache=1:9"),
            ("qvd.client.nxagent.extra_args", "listen=tcp"),
        ] {
            let error = values(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn ours_win_and_long_lines_are_refused() {
        let mut options = Options::new();
        options.set("state", "/a");
        options.set("state", "/b");
        assert_eq!(options.line(1).unwrap(), "nx/nx,state=/b:1\n");
        options.set("root", &"x".repeat(MAX_LINE));
        assert!(matches!(options.line(1), Err(OptionsError::TooLong(_))));
        options.set("root", "a,b=c");
        assert_eq!(options.line(1), Err(OptionsError::Unwritable("root".into())));
    }

    proptest! {
        #[test]
        fn whatever_a_client_says_stays_in_its_option(name in 0usize..6, value in ".{0,40}") {
            let names = ["keyboard", "os", "link", "geometry", "fullscreen", "nxagent.extra_args"];
            let parameter = format!("qvd.client.{}", names[name]);
            if let Ok(values) = values(&[(parameter.as_str(), value.as_str())]) {
                let line = Options::for_client(&values).line(1).unwrap();
                for pair in line.trim_end().trim_end_matches(":1").split(',').skip(1) {
                    let (name, _) = pair.split_once('=').unwrap();
                    let known = ["keyboard", "client", "link", "geometry", "fullscreen"];
                    prop_assert!(known.contains(&name) || EXTRA.contains(&name), "{}", line);
                }
            }
        }
    }
}
