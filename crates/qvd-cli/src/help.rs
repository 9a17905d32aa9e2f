//! Help, made from the registry (`spec/cli.md` 2).

use std::fmt::Write as _;

use qvd_model::action::{self, Access};

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
    let mut text = GENERAL.to_owned();
    for noun in NOUNS {
        let _ = writeln!(text, "  {:<9} {}", noun.word, noun.title);
    }
    text.push_str(OPTIONS);
    text
}

fn about(noun: &Noun) -> String {
    let entity = action::entity(noun.object);
    let word = noun.word;
    let mut text = format!("{word} - {}\n\n", noun.title);
    for verb in noun.verbs {
        let line = match *verb {
            "get" => format!("{word} [SELECTION] get [FIELDS] [order [asc|desc] FIELDS]"),
            "new" => {
                format!("{word} new {}\n    for example: {word} new {}", arguments(entity), noun.example)
            }
            "set" if word == "config" => "config set key=NAME, value=VALUE [, tenant=NAME]".to_owned(),
            "set" => format!("{word} [SELECTION] set NAME=VALUE, ..."),
            "tag" | "untag" => format!("{word} [SELECTION] {verb} TAG, ..."),
            "assign" | "unassign" => format!("{word} SELECTION {verb} vm|user|host|osf|di, ..."),
            other => format!("{word} [SELECTION] {other}"),
        };
        let _ = writeln!(text, "  {line}");
    }
    if noun.object.properties().is_some() {
        let _ = writeln!(text, "  {word} [SELECTION] set property KEY=VALUE, ...");
        let _ = writeln!(text, "  {word} [SELECTION] get property [KEY, ...]");
        let _ = writeln!(text, "  {word} [SELECTION] del property KEY, ...");
    }
    text.push_str("\nWithout a selection a change applies to all: it needs --force, the shell asks.\n\n");
    for field in entity.fields {
        let uses = [
            (field.create == Access::Required, "new!"),
            (field.create == Access::Optional, "new"),
            (field.update.is_some(), "set"),
            (field.filter, "select"),
            (field.order, "order"),
        ];
        let uses: Vec<&str> = uses.iter().filter(|(used, _)| *used).map(|(_, word)| *word).collect();
        let _ = writeln!(text, "  {:<28} {:<26} {}", field.name, uses.join(" "), field.help);
    }
    if !entity.aliases.is_empty() {
        let aliases: Vec<String> = entity.aliases.iter().map(|(a, name)| format!("{a} = {name}")).collect();
        let _ = writeln!(text, "\n  Also: {}", aliases.join(", "));
    }
    text.push_str("\n\"qa4 usage filters\" explains selections.\n");
    text
}

fn arguments(entity: &action::Entity) -> String {
    let shown = |field: &action::Field| {
        let name = field.named_by.and_then(|by| entity.aliases.iter().find(|(_, proper)| *proper == by));
        let name = name.map_or(field.name, |(alias, _)| *alias);
        let required = field.create == Access::Required && name != "tenant";
        if required { format!("{name}=…") } else { format!("[{name}=…]") }
    };
    let given = entity.fields.iter().filter(|f| f.create != Access::No);
    given.map(shown).collect::<Vec<_>>().join(", ")
}

const GENERAL: &str = "\
qa4 - manage a QVD installation through its API

  qa4 [options] OBJECT [SELECTION] ACTION [ARGUMENTS]     run one command
  qa4 [options]                                           run commands that are typed
  qa4 [options] --file SCRIPT                             run commands from a file

Session
  usage [TOPIC]     this text, or the help about one topic (also: help)
  login             authenticate as another administrator
  logout            forget the current session
  password          change your own password
  version           versions of database and client

Objects
";

const OPTIONS: &str = "
Options
  -u, --url URL         address of the API
      --socket PATH     Unix socket of the API, for root on its host
  -t, --tenant NAME     tenant of the administrator (\"*\" for super-administrators)
  -l, --login NAME      administrator
  -p, --password TEXT   password (safer: QVD_PASSWORD, a 0600 configuration file, or the prompt)
      --for-tenant NAME tenant of new objects, for super-administrators
  -f, --format FORMAT   TABLE, CSV or JSON
      --no-headers      no titles above listings
      --limit N         at most N rows
      --ca FILE         certificate authority of the API
      --insecure        do not check the API's certificate
      --force, --yes    do not ask before changing every object
      --dry-run         show what would change
      --no-wait         do not wait until an image is imported
      --strict          no tolerance for slips, or for objects already as wanted
  -q, --quiet           no remarks on standard error
      --timeout SECONDS how long an answer may take
      --file SCRIPT     commands from a file; - is standard input
      --keep-going      go on after a command of the script that failed
      --help            this text
      --version         version of this program

Settings are read from /etc/qvd/qa.conf, then ~/.qvd/qa.conf, then ./qa.conf.
\"qa4 usage filters\" explains selections.
";

const SELECTIONS: &str = "\
SELECTIONS
  They stand between the object and the action.

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
