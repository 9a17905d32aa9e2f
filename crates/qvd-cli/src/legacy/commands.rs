//! The subcommands of `qa`.

use crate::noun::{Noun, noun};

/// What a subcommand takes besides options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing.
    Nothing,
    /// These pairs.
    Pairs,
    /// Pairs of any names.
    AnyPairs,
    /// Names.
    Keys,
    /// Arguments of another program after `--`.
    Passed,
}

/// A subcommand.
#[derive(Debug)]
pub(super) struct Subcommand {
    pub(super) object: &'static str,
    pub(super) word: &'static str,
    pub(super) takes: Takes,
    /// Names that must be given; `a|b` is one of both.
    pub(super) required: &'static [&'static str],
    /// Names that may be given.
    pub(super) optional: &'static [&'static str],
    /// It asks when it would apply to everything.
    pub(super) asks: bool,
    /// For administrators only, in the list of the manual.
    pub(super) privileged: bool,
}

const fn subcommand(object: &'static str, word: &'static str, takes: Takes) -> Subcommand {
    Subcommand { object, word, takes, required: &[], optional: &[], asks: false, privileged: false }
}

impl Subcommand {
    const fn needs(mut self, required: &'static [&'static str]) -> Self {
        self.required = required;
        self
    }

    const fn knows(mut self, optional: &'static [&'static str]) -> Self {
        self.optional = optional;
        self
    }

    const fn asks(mut self) -> Self {
        self.asks = true;
        self
    }

    const fn privileged(mut self) -> Self {
        self.privileged = true;
        self
    }

    /// What it is about.
    pub(super) fn noun(&self) -> &'static Noun {
        // Each object of the table is a noun, as a test checks.
        noun(self.object).unwrap_or(crate::noun::VM)
    }

    /// How it is used.
    pub(super) fn help(&self) -> String {
        let mut text = format!("qa {} {}", self.object, self.word);
        for name in self.required {
            match name.split_once('|') {
                Some((one, other)) => text.push_str(&format!(" {one}=VALUE|{other}=VALUE")),
                None => text.push_str(&format!(" {name}=VALUE")),
            }
        }
        for name in self.optional {
            text.push_str(&format!(" [{name}=VALUE]"));
        }
        text.push_str(match self.takes {
            Takes::AnyPairs => " KEY=VALUE ...",
            Takes::Keys => " [KEY ...]",
            Takes::Passed => " -f FILTER [-- ARGUMENTS]",
            Takes::Nothing | Takes::Pairs => "",
        });
        text.push_str(
            "\n\n  -f, --filter K=V,K=V  which objects; * is any text, ? one character: quote them\
             \n  -t, --tenant ID       the tenant, by number or name\
             \n      --force           no questions\
             \n      --strict          no to a question, and objects that are skipped, are failures\
             \n      --direct          over the database, for root on a node while no API runs: lists, vm stop, host block\
             \n  -d, --debug           what the API is asked, without secrets\
             \n  -q, --quiet           no messages and titles\
             \n  -h, --help            this text\n",
        );
        text
    }
}

use Takes::{AnyPairs, Keys, Nothing, Pairs, Passed};

/// Every subcommand.
pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    subcommand("config", "del", Keys).asks(),
    subcommand("config", "get", Keys),
    subcommand("config", "set", AnyPairs),
    subcommand("config", "ssl", Pairs).needs(&["key", "cert"]).knows(&["ca", "crl"]),
    subcommand("di", "add", Pairs).needs(&["path", "osf_id|osf"]).knows(&[
        "version",
        "expire-soft",
        "expire-hard",
    ]),
    subcommand("di", "del", Nothing).asks(),
    subcommand("di", "list", Nothing),
    subcommand("di", "propdel", Keys).asks(),
    subcommand("di", "propget", Keys),
    subcommand("di", "propset", AnyPairs),
    subcommand("di", "tag", Pairs).needs(&["di_id", "tag"]).knows(&["expire-soft", "expire-hard"]),
    subcommand("di", "untag", Pairs).needs(&["di_id", "tag"]).knows(&["expire-soft", "expire-hard"]),
    subcommand("host", "add", Pairs).needs(&["name", "address"]),
    subcommand("host", "block", Nothing).asks(),
    subcommand("host", "counters", Nothing),
    subcommand("host", "del", Nothing).asks(),
    subcommand("host", "list", Nothing),
    subcommand("host", "propdel", Keys).asks(),
    subcommand("host", "propget", Keys),
    subcommand("host", "propset", AnyPairs),
    subcommand("host", "unblock", Nothing).asks(),
    subcommand("osf", "add", Pairs)
        .needs(&["name"])
        .knows(&["memory", "use_overlay", "user_storage_size", "is_application"])
        .privileged(),
    subcommand("osf", "del", Nothing).asks().privileged(),
    subcommand("osf", "list", Nothing),
    subcommand("osf", "propdel", Keys).asks(),
    subcommand("osf", "propget", Keys),
    subcommand("osf", "propset", AnyPairs),
    subcommand("user", "add", Pairs).needs(&["login", "password"]),
    subcommand("user", "del", Nothing).asks(),
    subcommand("user", "list", Nothing),
    subcommand("user", "passwd", Pairs).needs(&["user"]),
    subcommand("user", "propdel", Keys).asks(),
    subcommand("user", "propget", Keys),
    subcommand("user", "propset", AnyPairs),
    subcommand("vm", "add", Pairs)
        .needs(&["name", "user|user_id", "osf|osf_id"])
        .knows(&["ip", "di_tag", "bulk"]),
    subcommand("vm", "block", Nothing).asks(),
    subcommand("vm", "console", Passed),
    subcommand("vm", "counters", Nothing),
    subcommand("vm", "del", Nothing).asks(),
    subcommand("vm", "disconnect_user", Nothing).asks(),
    subcommand("vm", "edit", AnyPairs).asks(),
    subcommand("vm", "list", Nothing),
    subcommand("vm", "propdel", Keys).asks(),
    subcommand("vm", "propget", Keys),
    subcommand("vm", "propset", AnyPairs),
    subcommand("vm", "ssh", Passed),
    subcommand("vm", "start", Nothing).asks(),
    subcommand("vm", "stop", Nothing).asks(),
    subcommand("vm", "unblock", Nothing).asks(),
    subcommand("vm", "vnc", Passed),
];

/// The subcommand of these words.
pub(super) fn find(object: &str, word: &str) -> Option<&'static Subcommand> {
    SUBCOMMANDS.iter().find(|c| (c.object, c.word) == (object, word))
}

/// All of them, for who asks without naming one.
pub(super) fn list() -> String {
    let mut text =
        "Usage: qa OBJECT COMMAND [KEY=VALUE ...] [options]\n\nAvailable subcommands:\n".to_owned();
    for command in SUBCOMMANDS {
        let mark = if command.privileged { " (*)" } else { "" };
        text.push_str(&format!("    {} {}{mark}\n", command.object, command.word));
    }
    text.push_str("\n(*) for administrators only\n`qa OBJECT COMMAND --help` tells how one is used.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_a_noun() {
        for command in SUBCOMMANDS {
            assert_eq!(command.noun().word, command.object);
            assert!(command.help().starts_with(&format!("qa {} {}", command.object, command.word)));
        }
        assert!(list().contains("    osf add (*)\n"));
    }
}
