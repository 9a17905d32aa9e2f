//! The actions as operations on resources: `/api/v2` and its OpenAPI document are made of this (`spec/api.md` 13.1).
//!
//! ```text
//! list              GET    /vms                 one of them       GET    /vms/{id}
//! create            POST   /vms
//! create or update  PUT    /config              of a known name    PUT    /config/{key}
//! update            PATCH  /vms/{id}            of several        PATCH  /vms?id=…
//! delete            DELETE /vms/{id}            of several        DELETE /vms?id=…
//! order             POST   /vms/{id}/start      to several        POST   /vms/start?id=…
//! inquire           GET    /stats
//! ```

use std::sync::LazyLock;

use super::{ACTIONS, Action, Inquiry, Object, Order, Verb, entity};
use crate::words::words;

words! {
    /// A method of HTTP.
    pub enum Method: "method" {
        /// Reads.
        Get = "GET",
        /// Makes one, or gives an order.
        Post = "POST",
        /// Makes one or changes it, found by what it is called.
        Put = "PUT",
        /// Changes.
        Patch = "PATCH",
        /// Removes.
        Delete = "DELETE",
    }
}

/// What an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The one object whose number, or key, is in the path.
    Item,
    /// The objects that the query selects; for lists, those that are shown.
    Selection,
    /// The kind of object as a whole, or the one there is for each caller.
    Whole,
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// How it is asked for.
    pub method: Method,
    /// Where, below `/api/v2`; `{id}` stands for a number, `{key}` for the name of a setting.
    pub path: String,
    /// On what.
    pub target: Target,
    /// What it does.
    pub action: &'static Action,
}

/// Every operation, in the order of the actions.
pub static OPERATIONS: LazyLock<Vec<Operation>> =
    LazyLock::new(|| ACTIONS.iter().flat_map(operations).collect());

/// The one object that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// By its number.
    Number(i32),
    /// By its key.
    Key(String),
}

impl Subject {
    /// Its number, if it has one.
    pub const fn number(&self) -> Option<i32> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Key(_) => None,
        }
    }
}

/// The operations at a path such as `/vms/7/start`, and the object in it.
pub fn operations_at(path: &str) -> (Vec<&'static Operation>, Option<Subject>) {
    let mut subject = None;
    let found = OPERATIONS.iter().filter(|operation| match fits(&operation.path, path) {
        Some(found) => {
            subject = subject.take().or(found);
            true
        }
        None => false,
    });
    (found.collect(), subject)
}

/// Whether a path is one of a template; with the object in it, if there is one.
fn fits(template: &str, path: &str) -> Option<Option<Subject>> {
    let (mut expected, mut given) = (template.split('/'), path.split('/'));
    let mut subject = None;
    loop {
        match (expected.next(), given.next()) {
            (None, None) => return Some(subject),
            (Some("{id}"), Some(text)) if text.bytes().all(|b| b.is_ascii_digit()) => {
                subject = Some(Subject::Number(text.parse().ok()?));
            }
            // Keys have no characters that would have to be written otherwise in an address.
            (Some("{key}"), Some(text)) if !text.is_empty() && !text.contains('%') => {
                subject = Some(Subject::Key(text.to_owned()));
            }
            (Some(expected), Some(given)) if expected == given => {}
            _ => return None,
        }
    }
}

fn operations(action: &'static Action) -> Vec<Operation> {
    let collection = format!("/{}", action.object.collection());
    let named = action.object == Object::Config;
    let item = format!("{collection}/{{{}}}", if named { "key" } else { "id" });
    let operation = |method, path: &str, target| Operation { method, path: path.to_owned(), target, action };
    match action.verb {
        Verb::List if action.object.is_own() => vec![operation(Method::Get, &collection, Target::Whole)],
        Verb::List => {
            let mut all = vec![operation(Method::Get, &collection, Target::Selection)];
            if named || entity(action.object).has_items(action) {
                all.push(operation(Method::Get, &item, Target::Item));
            }
            all
        }
        Verb::Create => vec![operation(Method::Post, &collection, Target::Whole)],
        Verb::CreateOrUpdate => {
            let mut all = vec![operation(Method::Put, &collection, Target::Whole)];
            if named {
                all.push(operation(Method::Put, &item, Target::Item));
            }
            all
        }
        Verb::Update if action.object.is_own() => {
            vec![operation(Method::Patch, &collection, Target::Whole)]
        }
        Verb::Update => vec![
            operation(Method::Patch, &item, Target::Item),
            operation(Method::Patch, &collection, Target::Selection),
        ],
        Verb::Delete => {
            let all = operation(Method::Delete, &collection, Target::Selection);
            if named || entity(action.object).mandatory_filters(action).contains(&"id") {
                vec![operation(Method::Delete, &item, Target::Item), all]
            } else {
                vec![all]
            }
        }
        Verb::Execute(order) if action.object.is_own() => {
            vec![operation(Method::Post, &format!("{collection}/{}", order.as_str()), Target::Whole)]
        }
        Verb::Execute(order) => vec![
            operation(Method::Post, &format!("{item}/{}", order.as_str()), Target::Item),
            operation(Method::Post, &format!("{collection}/{}", order.as_str()), Target::Selection),
        ],
        Verb::Inquire(inquiry) => {
            let (path, target) = match inquiry {
                Inquiry::CurrentAdministrator | Inquiry::SecondFactor => (collection, Target::Whole),
                Inquiry::Staging => (format!("{collection}/staging"), Target::Whole),
                Inquiry::AclCounts => (format!("{collection}/counts"), Target::Selection),
                Inquiry::LogSources => (format!("{collection}/sources"), Target::Whole),
                Inquiry::Statistics => ("/stats".to_owned(), Target::Whole),
            };
            vec![operation(Method::Get, &path, target)]
        }
    }
}

impl Order {
    /// The word of the path.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Disconnect => "disconnect",
            Self::Begin => "begin",
            Self::Confirm => "confirm",
            Self::End => "end",
            Self::ResetSecondFactor => "reset-second-factor",
        }
    }
}

impl super::Entity {
    /// Whether one row can be asked for by its number.
    fn has_items(&self, list: &Action) -> bool {
        self.field("id").is_some_and(|id| id.filter) && self.mandatory_filters(list).is_empty()
    }

    /// The fields by which the state of an object is told from an earlier one before it is changed: those that
    /// administrators give, not those that the installation's work moves.
    pub fn administered(&self) -> impl Iterator<Item = &'static super::Field> {
        let fields: &'static [super::Field] = self.fields;
        fields.iter().filter(|field| {
            let given = field.create != super::Access::No || field.update.is_some();
            let held = ["properties", "tags", "roles", "acls"].contains(&field.name);
            (given || held) && field.show != super::Show::Never
        })
    }
}

impl Object {
    /// The name of its resource.
    pub const fn collection(self) -> &'static str {
        match self {
            Self::Vm => "vms",
            Self::User => "users",
            Self::Host => "hosts",
            Self::Osf => "osfs",
            Self::Di => "images",
            Self::Tag => "image-tags",
            Self::Tenant => "tenants",
            Self::Administrator => "administrators",
            Self::OwnAdministrator => "me",
            Self::OwnTenant => "me/tenant",
            Self::ConsoleSetup => "console-setup",
            Self::Certificate => "certificate",
            Self::UserState => "user-states",
            Self::HostState => "host-states",
            Self::Log => "log",
            Self::TenantView => "tenant-views",
            Self::TenantAttributeView => "tenant-views/attributes",
            Self::TenantPropertyView => "tenant-views/properties",
            Self::AdministratorView => "me/views",
            Self::AdministratorAttributeView => "me/views/attributes",
            Self::AdministratorPropertyView => "me/views/properties",
            Self::Config => "config",
            Self::Event => "events",
            Self::Token => "tokens",
            Self::SecondFactor => "me/second-factor",
            Self::Session => "sessions",
            Self::Role => "roles",
            Self::Acl => "acls",
            Self::AdministratorAcl => "administrator-acls",
            Self::RoleAcl => "role-acls",
            Self::Property => "properties",
            Self::UserProperty => "user-properties",
            Self::VmProperty => "vm-properties",
            Self::HostProperty => "host-properties",
            Self::OsfProperty => "osf-properties",
            Self::DiProperty => "image-properties",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_action_is_an_operation_and_none_hides_another() {
        let mut places = HashSet::new();
        for operation in OPERATIONS.iter() {
            assert!(places.insert((operation.method, operation.path.clone())), "{operation:?}");
            let path = operation.path.replace("{id}", "7").replace("{key}", "l7r.port");
            let (found, subject) = operations_at(&path);
            assert!(found.iter().any(|o| o.path == operation.path && o.method == operation.method));
            assert!(found.iter().all(|o| o.path == operation.path), "{} is ambiguous", operation.path);
            let named = match operation.path.split_once('{') {
                Some((_, rest)) if rest.starts_with("id") => Some(Subject::Number(7)),
                Some(_) => Some(Subject::Key("l7r.port".to_owned())),
                None => None,
            };
            assert_eq!(subject, named);
            assert_eq!(operation.target == Target::Item, subject.is_some());
        }
        for action in ACTIONS {
            assert!(OPERATIONS.iter().any(|o| o.action.name == action.name), "{}", action.name);
        }
    }

    #[test]
    fn numbers_in_paths_are_numbers() {
        for path in [
            "/config/",
            "/config/a%2fb",
            "/config/a/b",
            "/vms/x",
            "/vms/-1",
            "/vms/7/",
            "/vms/99999999999",
            "/vms//",
            "vms",
            "/nothing",
            "",
        ] {
            assert!(operations_at(path).0.is_empty(), "{path}");
        }
        assert_eq!(operations_at("/vms/7/start").1, Some(Subject::Number(7)));
    }
}
