//! Help, made from the registry (`spec/cli.md` 2).

use std::fmt::Write as _;

use qvd_model::action::{self, Access, Entity, Tenancy};

use crate::error::Error;
use crate::noun::{NOUNS, Noun, noun};

/// What there is help about.
pub fn topics() -> Vec<&'static str> {
    NOUNS.iter().map(|n| n.word).chain(["filters"]).collect()
}

/// The general help, or the one of a topic.
pub fn text(topic: Option<&str>) -> Result<String, Error> {
    match topic {
        None => Ok(general()),
        Some("filters") => Ok(SELECTIONS.to_owned()),
        Some(word) => match noun(word) {
            Some(noun) => Ok(about(noun)),
            None => {
                let topics: Vec<&str> = NOUNS.iter().map(|n| n.word).collect();
                Err(Error::Usage(format!("no help about `{word}`; topics: filters, {}", topics.join(", "))))
            }
        },
    }
}

fn general() -> String {
    overview() + OPTIONS
}

/// The general help up to the options.
pub(crate) fn overview() -> String {
    let mut text = GENERAL.to_owned();
    let (left, right) = NOUNS.split_at(NOUNS.len().div_ceil(2));
    for (at, noun) in left.iter().enumerate() {
        let other = right.get(at).map(|n| format!("{:<9} {}", n.word, n.title)).unwrap_or_default();
        let line = format!("  {:<9} {:<30} {other}", noun.word, noun.title);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The help of an object: each verb with an example, and its parameters.
pub(crate) fn about(noun: &Noun) -> String {
    let entity = action::entity(noun.object);
    let mut text = format!("{} - {}\n\n", noun.word, noun.title);
    for (title, lines) in groups(noun, entity) {
        for (at, line) in lines.iter().enumerate() {
            let title = if at == 0 { title } else { "" };
            let _ = writeln!(text, "{title:<10} {line}");
        }
    }
    if noun.verbs.iter().any(|verb| ["set", "block", "del", "start"].contains(verb)) {
        text.push_str(
            "\nWithout a selection a change applies to all: one-shot use needs --force, the shell\nasks first.\n",
        );
    }
    text.push('\n');
    for field in entity.fields {
        let uses = [
            (field.create == Access::Required, "new!"),
            (field.create == Access::Optional, "new"),
            (field.update.is_some(), "set"),
            (field.filter, "select"),
            (field.order, "order"),
        ];
        let uses: Vec<&str> = uses.iter().filter(|(used, _)| *used).map(|(_, word)| *word).collect();
        let _ = writeln!(text, "  {:<28} {:<24} {}", field.name, uses.join(" "), field.help);
    }
    if !entity.aliases.is_empty() {
        let aliases: Vec<String> = entity.aliases.iter().map(|(a, name)| format!("{a} = {name}")).collect();
        let _ = writeln!(text, "\n  Also: {}", aliases.join(", "));
    }
    text.push_str("\n\"qa4 usage filters\" explains selections.\n");
    text
}

/// What can be done, in groups, each with a synopsis and examples.
fn groups(noun: &Noun, entity: &Entity) -> Vec<(&'static str, Vec<String>)> {
    let (word, sample) = (noun.word, noun.sample);
    let has = |verb: &str| noun.verbs.contains(&verb);
    let mut groups: Vec<(&'static str, Vec<String>)> = Vec::new();
    let mut add = |title: &'static str, wanted: bool, lines: &[String]| {
        if wanted {
            groups.push((title, lines.to_vec()));
        }
    };
    let arguments = arguments(entity);
    add("Create", has("new"), &[format!("{word} new {arguments}"), format!("  {word} new {}", noun.example)]);
    add(
        "Import",
        has("import"),
        &[format!("{word} import FILE.csv"), format!("  {word} import {word}s.csv")],
    );
    let some = entity.columns.get(..2).unwrap_or_default().join(", ");
    add(
        "List",
        has("get"),
        &[
            format!("{word} [SELECTION] get [FIELDS] [order [asc|desc] FIELDS]"),
            format!("  {word} get"),
            format!("  {word} {sample} get {some} order desc {}", entity.key),
        ],
    );
    if word == "config" {
        add(
            "Change",
            true,
            &[
                "config set key=NAME, value=VALUE [, tenant=NAME]".to_owned(),
                format!("  config set {}", noun.change),
            ],
        );
        add(
            "Reset",
            true,
            &["config SELECTION default | del".to_owned(), format!("  config {sample} default")],
        );
        add(
            "TLS",
            true,
            &[
                "config ssl key=FILE, cert=FILE [, ca=FILE] [, crl=FILE]".to_owned(),
                "  config ssl key=/etc/qvd/key.pem, cert=/etc/qvd/cert.pem".to_owned(),
            ],
        );
        return groups;
    }
    add(
        "Change",
        has("set"),
        &[
            format!("{word} [SELECTION] set NAME=VALUE, ..."),
            format!("  {word} {sample} set {}", noun.change),
        ],
    );
    add(
        "Tags",
        has("tag"),
        &[
            format!("{word} [SELECTION] tag | untag TAG, ..."),
            format!("  {word} {sample}, version=2026-01-31-000 tag testing"),
        ],
    );
    add("Files", has("staging"), &[format!("{word} staging"), format!("  {word} staging")]);
    add(
        "Assign",
        has("assign") && word == "property",
        &[
            "property SELECTION assign | unassign vm|user|host|osf|di, ...".to_owned(),
            format!("  property {sample} assign user, vm"),
        ],
    );
    let given = if word == "role" { "role|acl" } else { "role" };
    add(
        "Assign",
        has("assign") && word != "property",
        &[
            format!("{word} [SELECTION] assign | unassign {given} NAME, ..."),
            format!("  {word} {sample} assign role operators"),
        ],
    );
    add(
        "May",
        has("can"),
        &[format!("{word} SELECTION can [PATTERN]"), format!("  {word} {sample} can user%")],
    );
    add(
        "Compare",
        has("diff"),
        &[format!("{word} SELECTION diff NAME"), format!("  {word} {sample} diff other")],
    );
    add(
        "Properties",
        noun.object.properties().is_some(),
        &[
            format!("{word} [SELECTION] set property KEY=VALUE, ..."),
            format!("{word} [SELECTION] get property [KEY, ...]"),
            format!("{word} [SELECTION] del property KEY, ..."),
            format!("  {word} {sample} set property department=sales"),
        ],
    );
    add(
        "Block",
        has("block"),
        &[format!("{word} [SELECTION] block | unblock"), format!("  {word} {sample} block")],
    );
    add(
        "Drain",
        has("drain"),
        &[
            format!(
                "{word} [SELECTION] drain [TIME]   nobody comes; who is there is asked to leave, and has to at TIME"
            ),
            format!("  {word} {sample} drain now + 2 hours --wait"),
        ],
    );
    add(
        "Run",
        has("start"),
        &[
            format!("{word} [SELECTION] start | stop | disconnect"),
            format!("  {word} {sample} start --wait"),
            format!("  {word} \"user~guest%\" stop"),
        ],
    );
    add(
        "Explain",
        has("explain"),
        &[format!("{word} [SELECTION] explain"), format!("  {word} {sample} explain")],
    );
    add(
        "Reach",
        has("ssh"),
        &[
            format!("{word} SELECTION ssh | vnc | spy | console [-- ARGUMENTS OF THE PROGRAM]"),
            format!("  {word} {sample} ssh -- -l root"),
            format!("  {word} {sample} spy -- -ViewOnly"),
        ],
    );
    add("Remove", has("del"), &[format!("{word} [SELECTION] del"), format!("  {word} {sample} del")]);
    groups
}

/// What must be given to `new`, by readable names; what may be is in the table of parameters.
fn arguments(entity: &Entity) -> String {
    let required = |field: &&action::Field| field.create == Access::Required && field.name != "tenant_id";
    let shown = |field: &action::Field| {
        let name = field.named_by.and_then(|by| entity.aliases.iter().find(|(_, proper)| *proper == by));
        let name = name.map_or(field.name, |(alias, _)| *alias);
        format!("{name}={}", name.to_ascii_uppercase())
    };
    let given: Vec<String> = entity.fields.iter().filter(required).map(shown).collect();
    let tenant = if entity.tenancy == Tenancy::Own { " [, tenant=TENANT]" } else { "" };
    format!("{}{tenant} [, NAME=VALUE, ...]", given.join(", "))
}

const GENERAL: &str = "\
qa4 - manage a QVD installation through its API

  qa4 [options] OBJECT [SELECTION] ACTION [ARGUMENTS]     run one command
  qa4 [options]                                           open the interactive shell
  qa4 [options] --file SCRIPT                             run commands from a file

Session
  usage [COMMAND]   this text, or the help of one command (also: help)
  login             authenticate as another administrator
  logout            forget the current session
  password          change your own password
  totp [on|off]     second factor of your logins: see it, set it up, do without
  totp reset NAME   take the second factor of another administrator away
  block [N]         show or set the page size of listings
  stats             how many objects there are, by kind and state
  whoami            administrator, tenant and API
  doctor            is everything on the way to the API well?
  version           versions of client, API and database
  completion SHELL  completion for bash, zsh, fish or powershell
  manual            this help as a manual page

Objects
";

const OPTIONS: &str = "
Options
  -u, --url URL         address of the API
      --socket PATH     Unix socket of the API, for root on its host
  -t, --tenant NAME     tenant of the administrator (\"*\" for superadmins)
  -l, --login NAME      administrator
  -p, --password TEXT   password (safer: QVD_PASSWORD, a 0600 configuration file, or the prompt)
      --password-file FILE, --password-stdin
                        password from the first line of a file, or of standard input
      --token-file FILE a token in place of login and password (also: QVD_TOKEN)
      --for-tenant NAME tenant of new objects, for superadmins
  -f, --format FORMAT   TABLE, CSV, TSV, JSON, JSONL, YAML, LIST or NAME (also: -o, --output)
      --columns A,B     only these columns
      --no-headers      no titles above listings
      --color WHEN      auto, always or never
      --limit N         at most N rows, or objects that are changed
      --ca FILE         certificate authority of the API
      --pin             trust the certificate that the API has the first time, and no other after that
      --insecure        do not check the API's certificate
      --profile NAME    API and administrator of qa.profile.NAME.* in the configuration files
      --force, --yes    do not ask before changing every object
      --dry-run         show what would change
      --allow-empty     a selection that matches nothing is no failure
      --watch           show a listing again whenever something changes
      --wait            wait until VMs have started or stopped, or hosts are empty
      --no-wait         do not wait until an image is imported
      --server-side     config ssl: the files are on the server
      --strict          no tolerance for slips, or for objects already as wanted
  -q, --quiet           no remarks on standard error
  -v, --verbose         tell where the settings come from, and what is sent
      --timeout TIME    how long an answer may take: seconds, or 5m, 2h
      --file SCRIPT     commands from a file; - is standard input
      --keep-going      go on after a command of the script that failed
      --help            this text
      --version         version of this program

Settings are read from /etc/qvd/qa.conf, then ~/.qvd/qa.conf, then ./qa.conf.
\"qa4 usage filters\" explains selections.
";

pub(crate) const SELECTIONS: &str = "\
SELECTIONS
  Write them between the object and the action.

  vm myvm get               same as  vm name=myvm get
  vm a, b get               the VMs called a or b

  key=value    key!=value    key<value   key<=value   key>value   key>=value
  key~pattern  SQL LIKE: % stands for any text, _ for one character
  key=[1,2,3]  one of       key!=[1,2]  none of       key=[1:9]  from 1 to 9

  A value with blanks or any of  = < > ~ ! , ; ( ) [ ]  needs quotes: name='My desktop'
  In a Unix shell, quote the whole selection as well:  qa4 vm \"name='My desktop'\" get

  ,  and      ;  or      !  not      ( )  grouping
  Without brackets operators group from the right and \"!\" covers everything after it:
     a=1, b=2; c=3     is   a=1, (b=2; c=3)
     !a=1, b=2         is   !(a=1, b=2)
     (!a=1), b=2       negates only the first
";

/// What is read and kept.
pub(crate) const FILES: &[(&str, &str)] = &[
    (
        "/etc/qvd/qa.conf, ~/.qvd/qa.conf, ./qa.conf",
        "settings, the later ones win; the last one only if it is yours alone",
    ),
    ("~/.qvd/qa.session", "the session, for you alone"),
    ("~/.qvd/qa.pins", "certificates that --pin keeps"),
    ("~/.qvd/qa.history", "lines of the shell, without those that hold passwords"),
];

/// What the environment says.
pub(crate) const VARIABLES: &[(&str, &str)] = &[
    (
        "QVD_URL, QVD_SOCKET, QVD_TENANT, QVD_LOGIN, QVD_PASSWORD, QVD_TOKEN",
        "where the API is, and who logs in",
    ),
    ("QVD_CODE", "a code of the second factor"),
    ("QVD_CA, QVD_PIN, QVD_INSECURE", "how its certificate is checked"),
    ("QVD_PROFILE, QVD_CONFIG, QVD_FORMAT", "which settings are used, and the layout"),
    ("HTTPS_PROXY, ALL_PROXY, NO_PROXY", "the proxy on the way to the API, also in lower case"),
    ("NO_COLOR, PAGER", "no colors; the program that shows long listings of the shell"),
];

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::grammar::{Line, parse};
    use crate::options::Options;

    #[test]
    fn every_option_and_command_is_in_the_general_help() {
        let text = general();
        for option in Options::command().get_arguments().filter_map(|a| a.get_long()) {
            assert!(text.contains(&format!("--{option}")), "--{option}");
        }
        for noun in NOUNS {
            assert!(text.contains(noun.title), "{}", noun.word);
        }
    }

    #[test]
    fn every_verb_has_an_example_that_is_understood() {
        for noun in NOUNS {
            let text = about(noun);
            for verb in noun.verbs {
                assert!(text.contains(verb), "{} {verb}", noun.word);
            }
            for (title, lines) in groups(noun, action::entity(noun.object)) {
                let examples = lines.iter().filter_map(|line| line.strip_prefix("  ")).collect::<Vec<_>>();
                assert!(!examples.is_empty(), "{} {title}", noun.word);
                for example in examples {
                    let line = example.replace('"', "").replace(" --wait", "");
                    if let Err(error) = parse(&Line::from_text(&line)) {
                        unreachable!("{}\n{}", error.message, error.caret(&line));
                    }
                }
            }
        }
    }
}
