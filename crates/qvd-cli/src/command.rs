//! What a line means.

use qvd_model::filter::Filter;

use crate::noun::Noun;

/// A line, understood.
#[derive(Debug, Clone)]
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
    /// Show the versions.
    Version,
    /// Leave the shell.
    Quit,
    /// An empty line.
    Nothing,
}

/// A verb on selected objects.
#[derive(Debug, Clone)]
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
    /// Give something to it: a property to kinds of objects.
    Assign(Vec<String>),
    /// Take something from it.
    Unassign(Vec<String>),
    /// Go back to the built-in value of a setting.
    Default,
    /// Tell their story.
    Explain,
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

impl Verb {
    /// The word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Get { .. } => "get",
            Self::New(_) => "new",
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
            Self::Assign(_) => "assign",
            Self::Unassign(_) => "unassign",
            Self::Default => "default",
            Self::Explain => "explain",
        }
    }
}
