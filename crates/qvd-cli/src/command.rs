//! What a line means.

use qvd_model::filter::{Filter, lexer, text};

use crate::noun::{NOUNS, Noun, VERBS};
use crate::reach::{Way, words::quoted};

/// A line, understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Something about objects.
    Object(ObjectCommand),
    /// Help, in general or about a topic.
    Usage(Option<String>),
    /// Log in and keep the session.
    Login,
    /// Forget the session.
    Logout,
    /// Change the own password.
    Password,
    /// Look at second factors, or change them.
    SecondFactor(SecondFactor),
    /// Show the size of a page of listings, or set it.
    PageSize(Option<u32>),
    /// Count the objects.
    Statistics,
    /// Show who we are to the API.
    WhoAmI,
    /// Look whether everything on the way to the API is well.
    Doctor,
    /// Show the versions.
    Version,
    /// Leave the shell.
    Quit,
    /// An empty line.
    Nothing,
}

/// What is to be done about a second factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecondFactor {
    /// Tell whether there is one.
    See,
    /// Set the own one up.
    On,
    /// Do without the own one.
    Off,
    /// Take away that of the administrator of this name.
    Reset(String),
}

/// A verb on selected objects.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectCommand {
    /// Of which kind.
    pub noun: &'static Noun,
    /// Which ones; `None` if the line does not say, which means all.
    pub selection: Option<Filter>,
    /// What is done.
    pub verb: Verb,
}

/// What is done to objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// List them.
    Get {
        /// Columns as typed; the usual ones if empty.
        fields: Vec<String>,
        /// How they are sorted.
        order: Option<Order>,
    },
    /// Make one.
    New(Vec<Assignment>),
    /// Make one for each row of a file.
    Import(String),
    /// Change them.
    Set(Vec<Assignment>),
    /// Set `blocked`.
    Block(bool),
    /// Remove them.
    Delete,
    /// Start VMs.
    Start,
    /// Stop VMs.
    Stop,
    /// Disconnect the users of VMs.
    Disconnect,
    /// Give tags.
    Tag(Vec<String>),
    /// Take tags away.
    Untag(Vec<String>),
    /// Show the values of custom properties; all of them if none is named.
    GetProperties(Vec<String>),
    /// Give values to custom properties.
    SetProperties(Vec<Assignment>),
    /// Take the values of custom properties away.
    DeleteProperties(Vec<String>),
    /// Let kinds of objects have a property, or no longer.
    Assign {
        /// The kinds.
        kinds: Vec<String>,
        /// No longer.
        undo: bool,
    },
    /// Give roles or ACLs, or take them away.
    Grant {
        /// Which of the two.
        what: Grant,
        /// Their names or numbers.
        names: Vec<String>,
        /// Take them away.
        undo: bool,
    },
    /// Show what they may do; all of it if there is no pattern.
    Can(Option<String>),
    /// Show what only one of them and this other one may do.
    Diff(String),
    /// Go back to the built-in value of a setting.
    Default,
    /// Replace the certificate and key of the routers.
    Ssl(Vec<Assignment>),
    /// Empty hosts, by this time at the latest.
    Drain(Option<String>),
    /// Tell their story.
    Explain,
    /// Go into the one that is selected.
    Reach {
        /// Which way.
        way: Way,
        /// Arguments of the program that is run for it.
        passed: Vec<String>,
    },
    /// List the files that wait in the staging directory.
    Staging,
}

/// What administrators and roles are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Roles.
    Roles,
    /// ACLs.
    Acls,
}

/// How a listing is sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// From high to low.
    pub descending: bool,
    /// By which fields, as typed.
    pub fields: Vec<String>,
}

/// `name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The name as typed.
    pub name: String,
    /// The value.
    pub value: Value,
}

/// The value of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    One(String),
    /// `[a, b]`; only tags take it.
    Many(Vec<String>),
    /// Not given: it is asked for.
    Ask,
}

impl Grant {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Roles => "role",
            Self::Acls => "acl",
        }
    }
}

impl Verb {
    /// The word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Get { .. } => "get",
            Self::New(_) => "new",
            Self::Import(_) => "import",
            Self::Set(_) => "set",
            Self::Block(true) => "block",
            Self::Block(false) => "unblock",
            Self::Delete => "del",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Disconnect => "disconnect",
            Self::Tag(_) => "tag",
            Self::Untag(_) => "untag",
            Self::GetProperties(_) => "get property",
            Self::SetProperties(_) => "set property",
            Self::DeleteProperties(_) => "del property",
            Self::Assign { undo: false, .. } | Self::Grant { undo: false, .. } => "assign",
            Self::Assign { .. } | Self::Grant { .. } => "unassign",
            Self::Can(_) => "can",
            Self::Diff(_) => "diff",
            Self::Default => "default",
            Self::Ssl(_) => "ssl",
            Self::Drain(_) => "drain",
            Self::Explain => "explain",
            Self::Reach { way, .. } => way.word(),
            Self::Staging => "staging",
        }
    }
}

impl Command {
    /// The line in the one spelling that needs no tolerance, with a bracket around each group of the selection.
    pub fn print(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Usage(None) => "usage".to_owned(),
            Self::Usage(Some(topic)) => format!("usage {}", lexer::quote(topic)),
            Self::Login => "login".to_owned(),
            Self::Logout => "logout".to_owned(),
            Self::Password => "password".to_owned(),
            Self::SecondFactor(SecondFactor::See) => "totp".to_owned(),
            Self::SecondFactor(SecondFactor::On) => "totp on".to_owned(),
            Self::SecondFactor(SecondFactor::Off) => "totp off".to_owned(),
            Self::SecondFactor(SecondFactor::Reset(name)) => format!("totp reset {}", lexer::quote(name)),
            Self::PageSize(None) => "block".to_owned(),
            Self::PageSize(Some(size)) => format!("block {size}"),
            Self::Statistics => "stats".to_owned(),
            Self::WhoAmI => "whoami".to_owned(),
            Self::Doctor => "doctor".to_owned(),
            Self::Version => "version".to_owned(),
            Self::Quit => "quit".to_owned(),
            Self::Object(ObjectCommand { noun, selection, verb }) => {
                let selection =
                    selection.as_ref().map(|f| format!(" {}", text::print(f))).unwrap_or_default();
                let tail = tail(verb);
                let blank = if tail.is_empty() { "" } else { " " };
                format!("{}{selection} {}{blank}{tail}", noun.word, verb.word())
            }
        }
    }
}

/// What follows the verb.
fn tail(verb: &Verb) -> String {
    match verb {
        Verb::Get { fields, order } => {
            let mut parts = Vec::new();
            if !fields.is_empty() {
                parts.push(words(fields));
            }
            if let Some(order) = order {
                let direction = if order.descending { "desc" } else { "asc" };
                parts.push(format!("order {direction} {}", words(&order.fields)));
            }
            parts.join(" ")
        }
        Verb::New(list) | Verb::Set(list) | Verb::SetProperties(list) | Verb::Ssl(list) => {
            list.iter().map(assignment).collect::<Vec<_>>().join(", ")
        }
        Verb::Tag(names)
        | Verb::Untag(names)
        | Verb::GetProperties(names)
        | Verb::DeleteProperties(names) => words(names),
        Verb::Import(name) | Verb::Diff(name) => word(name),
        Verb::Assign { kinds, .. } => words(kinds),
        Verb::Grant { what, names, .. } => format!("{} {}", what.word(), words(names)),
        Verb::Drain(limit) => limit.as_deref().map(word).unwrap_or_default(),
        Verb::Reach { passed, .. } => quoted(passed),
        Verb::Can(pattern) => pattern.as_deref().map(word).unwrap_or_default(),
        Verb::Block(_)
        | Verb::Delete
        | Verb::Start
        | Verb::Stop
        | Verb::Disconnect
        | Verb::Default
        | Verb::Explain
        | Verb::Staging => String::new(),
    }
}

fn assignment(Assignment { name, value }: &Assignment) -> String {
    match value {
        Value::One(value) => format!("{}={}", lexer::quote(name), lexer::quote(value)),
        Value::Many(values) => format!("{}=[{}]", lexer::quote(name), words(values)),
        Value::Ask => word(name),
    }
}

fn words(names: &[String]) -> String {
    names.iter().map(|name| word(name)).collect::<Vec<_>>().join(", ")
}

/// A name, in quotes also where the bare word would mean something else.
fn word(name: &str) -> String {
    let reserved = VERBS.contains(&name)
        || NOUNS.iter().any(|n| n.word == name)
        || matches!(name, "order" | "by" | "asc" | "desc" | "delete");
    if reserved { format!("'{name}'") } else { lexer::quote(name) }
}
