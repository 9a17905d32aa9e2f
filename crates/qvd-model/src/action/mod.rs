//! The registry of the administration plane: which objects there are, what their fields are, which actions
//! exist on them, and who may use what (`spec/api.md` 4, 5 and 7.4).
//!
//! One set of tables in code. The API validates and executes from it, `qa4` takes its names, columns and help
//! from it, and tests walk it, so that a new action cannot be forgotten anywhere. SQL is not here: `qvd-db`
//! maps the fields to columns.

mod actions;
mod entities;
mod field;
mod log;
mod own;
mod properties;
mod resource;
mod roles;
mod statistics;
mod status;
mod tokens;
mod typed;
mod views;

pub use actions::ACTIONS;
pub use field::{Access, Field, InvalidArgument, Kind, Show};
pub use resource::{Method, OPERATIONS, Operation, Subject, Target, operations_at};
pub use statistics::{COUNTERS, Counter};
pub use status::Status;
pub use typed::{PROPERTY_VALUE, typed};

use crate::words::words;

words! {
    /// What an action is about; the word is the one of `log.qvd_object`.
    pub enum Object: "object" {
        /// A VM.
        Vm = "vm",
        /// A user of desktops.
        User = "user",
        /// A server node.
        Host = "host",
        /// A flavour.
        Osf = "osf",
        /// A disk image.
        Di = "di",
        /// A tag of a disk image.
        Tag = "tag",
        /// A tenant.
        Tenant = "tenant",
        /// An administrator.
        Administrator = "administrator",
        /// The administrator who asks.
        OwnAdministrator = "own_administrator",
        /// The tenant of the administrator who asks.
        OwnTenant = "own_tenant",
        /// How the console is set up for the tenant of the administrator who asks.
        ConsoleSetup = "wat_setup_by_tenant",
        /// The certificate of the routers.
        Certificate = "certificate",
        /// How busy a user is.
        UserState = "user_state",
        /// How busy a host is.
        HostState = "host_state",
        /// A line of the audit log.
        Log = "log",
        /// What the console shows to the administrators of a tenant.
        TenantView = "tenant_view",
        /// A column or filter of the registry, as a tenant sees it.
        TenantAttributeView = "tenant_attribute_view",
        /// A custom property, as a tenant sees it.
        TenantPropertyView = "tenant_property_view",
        /// What the console shows to the administrator who asks.
        AdministratorView = "admin_view",
        /// A column or filter of the registry, as the administrator who asks sees it.
        AdministratorAttributeView = "admin_attribute_view",
        /// A custom property, as the administrator who asks sees it.
        AdministratorPropertyView = "admin_property_view",
        /// A configuration setting.
        Config = "config",
        /// A line of an object's story.
        Event = "event",
        /// A token by which a program of an administrator is known.
        Token = "token",
        /// The second factor of the administrator who asks.
        SecondFactor = "second_factor",
        /// A session of an administrator.
        Session = "session",
        /// A role: a bundle of ACLs.
        Role = "role",
        /// An ACL as an administrator has it, by default the one who asks.
        Acl = "acl",
        /// An ACL as an administrator has it.
        AdministratorAcl = "administrator_acl",
        /// An ACL as a role grants it.
        RoleAcl = "role_acl",
        /// A custom property that is known.
        Property = "property",
        /// A property that users may have.
        UserProperty = "user_property",
        /// A property that VMs may have.
        VmProperty = "vm_property",
        /// A property that hosts may have.
        HostProperty = "host_property",
        /// A property that OSFs may have.
        OsfProperty = "osf_property",
        /// A property that disk images may have.
        DiProperty = "di_property",
    }
}

/// What an action does with its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Lists rows.
    List,
    /// Makes one.
    Create,
    /// Makes or changes one, found by its natural key.
    CreateOrUpdate,
    /// Changes the selected ones.
    Update,
    /// Removes the selected ones.
    Delete,
    /// Gives the selected ones an order.
    Execute(Order),
    /// Answers one object of its own shape.
    Inquire(Inquiry),
}

/// An order to VMs, or about second factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// End the connection of its user.
    Disconnect,
    /// Make a new second factor.
    Begin,
    /// Put it in force.
    Confirm,
    /// Do without it again.
    End,
    /// Take that of another administrator away.
    ResetSecondFactor,
}

/// A question that is not a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Inquiry {
    /// Who am I and what may I do: the login call.
    CurrentAdministrator,
    /// Which files wait in the staging directory.
    Staging,
    /// How many ACLs fit patterns, and how many of them are in force.
    AclCounts,
    /// Which clients the log knows.
    LogSources,
    /// How much there is of everything.
    Statistics,
    /// Whether logins need a code.
    SecondFactor,
}

/// One action.
#[derive(Debug, Clone, Copy)]
pub struct Action {
    /// Its name on the wire.
    pub name: &'static str,
    /// What it does.
    pub verb: Verb,
    /// On what.
    pub object: Object,
    /// One of these ACLs is needed; none are listed for actions of every administrator.
    pub acls: &'static [&'static str],
    /// Channels after whose notifications the answer may have changed.
    pub channels: &'static [&'static str],
}

/// One kind of object.
#[derive(Debug, Clone, Copy)]
pub struct Entity {
    /// Which one.
    pub object: Object,
    /// Its fields in the order in which they are listed.
    pub fields: &'static [Field],
    /// Other names that people use for fields, everywhere.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Nested operations, by their flattened name.
    pub nested: &'static [Nested],
    /// How rows belong to tenants.
    pub tenancy: Tenancy,
    /// The field that `qa4` compares a bare name with, and that names a row in messages and records.
    pub key: &'static str,
    /// Filters of `update`, `delete` and `execute`, apart from `id` and `tenant_id`.
    pub selectors: &'static [&'static str],
    /// What `qa4` shows when no fields are asked for, under the name that it is shown by.
    pub columns: &'static [&'static str],
}

/// How the rows of an object belong to tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenancy {
    /// They do not.
    None,
    /// By their own column; a super-administrator names the tenant of new ones.
    Own,
    /// Through the row that they belong to.
    Inherited,
    /// They are the tenants.
    Itself,
}

/// An operation inside an argument whose name begins and ends with two underscores.
#[derive(Debug, Clone, Copy)]
pub struct Nested {
    /// The flattened name, e.g. `__tags_changes__create`.
    pub name: &'static str,
    /// The verb of the action it may be part of.
    pub verb: Verb,
    /// What it does.
    pub change: Change,
    /// One of these ACLs is needed.
    pub acls: &'static [&'static str],
}

/// What a nested operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Gives tags.
    AddTags,
    /// Takes tags away.
    RemoveTags,
    /// Lets kinds of objects have the property.
    AssignProperty,
    /// Gives the object values of properties.
    SetProperties,
    /// Takes values of properties away.
    RemoveProperties,
    /// Lets a role grant ACLs.
    AssignAcls,
    /// Lets a role grant ACLs no more.
    UnassignAcls,
    /// Gives roles.
    AssignRoles,
    /// Takes roles away.
    UnassignRoles,
}

/// The action of this name.
pub fn action(name: &str) -> Option<&'static Action> {
    ACTIONS.iter().find(|a| a.name == name)
}

/// The action that does `verb` to `object`.
pub fn action_for(object: Object, verb: Verb) -> Option<&'static Action> {
    ACTIONS.iter().find(|a| a.object == object && a.verb == verb)
}

/// What is known about an object.
pub const fn entity(object: Object) -> &'static Entity {
    match object {
        Object::Vm => &entities::VM,
        Object::User => &entities::USER,
        Object::Host => &entities::HOST,
        Object::Osf => &entities::OSF,
        Object::Di => &entities::DI,
        Object::Tag => &entities::TAG,
        Object::Tenant => &entities::TENANT,
        Object::Administrator => &entities::ADMINISTRATOR,
        Object::OwnAdministrator => &entities::OWN_ADMINISTRATOR,
        Object::OwnTenant => &own::OWN_TENANT,
        Object::ConsoleSetup => &own::CONSOLE_SETUP,
        Object::Certificate => &own::CERTIFICATE,
        Object::UserState => &own::USER_STATE,
        Object::HostState => &own::HOST_STATE,
        Object::Log => &log::LOG,
        Object::TenantView => &views::TENANT_VIEW,
        Object::TenantAttributeView => &views::TENANT_ATTRIBUTE,
        Object::TenantPropertyView => &views::TENANT_PROPERTY,
        Object::AdministratorView => &views::ADMINISTRATOR_VIEW,
        Object::AdministratorAttributeView => &views::ADMINISTRATOR_ATTRIBUTE,
        Object::AdministratorPropertyView => &views::ADMINISTRATOR_PROPERTY,
        Object::Config => &entities::CONFIG,
        Object::Event => &entities::EVENT,
        Object::Token => &tokens::TOKEN,
        Object::SecondFactor => &tokens::SECOND_FACTOR,
        Object::Session => &tokens::SESSION,
        Object::Role => &roles::ROLE,
        Object::Acl => &roles::ACL,
        Object::AdministratorAcl => &roles::ADMINISTRATOR_ACL,
        Object::RoleAcl => &roles::ROLE_ACL,
        Object::Property => &properties::PROPERTY,
        Object::UserProperty => &properties::USER_PROPERTY,
        Object::VmProperty => &properties::VM_PROPERTY,
        Object::HostProperty => &properties::HOST_PROPERTY,
        Object::OsfProperty => &properties::OSF_PROPERTY,
        Object::DiProperty => &properties::DI_PROPERTY,
    }
}

impl Object {
    /// The objects that have custom properties.
    pub const WITH_PROPERTIES: &'static [Self] = &[Self::Vm, Self::User, Self::Osf, Self::Host, Self::Di];

    /// Whether there is one for each caller, which no filter selects.
    pub const fn is_own(self) -> bool {
        matches!(self, Self::OwnAdministrator | Self::OwnTenant | Self::ConsoleSetup | Self::SecondFactor)
    }

    /// Which properties objects of this kind may have.
    pub const fn properties(self) -> Option<Self> {
        match self {
            Self::User => Some(Self::UserProperty),
            Self::Vm => Some(Self::VmProperty),
            Self::Host => Some(Self::HostProperty),
            Self::Osf => Some(Self::OsfProperty),
            Self::Di => Some(Self::DiProperty),
            _ => None,
        }
    }

    /// Whose properties these are.
    pub const fn of_property(self) -> Option<Self> {
        match self {
            Self::UserProperty => Some(Self::User),
            Self::VmProperty => Some(Self::Vm),
            Self::HostProperty => Some(Self::Host),
            Self::OsfProperty => Some(Self::Osf),
            Self::DiProperty => Some(Self::Di),
            _ => None,
        }
    }
}

impl Change {
    /// Whether its values may be numbers of objects.
    pub const fn takes_numbers(self) -> bool {
        matches!(self, Self::AssignAcls | Self::UnassignAcls | Self::AssignRoles | Self::UnassignRoles)
    }

    /// The status of a value that is none.
    pub const fn no_value(self) -> Status {
        match self {
            Self::AddTags | Self::RemoveTags => Status::NoTag,
            Self::AssignAcls | Self::UnassignAcls => Status::NoAcl,
            Self::AssignRoles | Self::UnassignRoles => Status::NoRole,
            Self::AssignProperty | Self::SetProperties | Self::RemoveProperties => Status::WrongProperty,
        }
    }

    /// The status of a value that cannot be used for it.
    pub const fn wrong_value(self) -> Status {
        match self {
            Self::AddTags | Self::RemoveTags => Status::WrongTag,
            Self::AssignAcls | Self::UnassignAcls => Status::WrongAcl,
            Self::AssignRoles | Self::UnassignRoles => Status::WrongRole,
            Self::AssignProperty | Self::SetProperties | Self::RemoveProperties => Status::WrongProperty,
        }
    }
}

impl Verb {
    /// The word of `log.type_of_action`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::List | Self::Inquire(_) => "see",
            Self::Create => "create",
            Self::CreateOrUpdate => "create_or_update",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Execute(_) => "exec",
        }
    }

    /// Whether it changes something.
    pub const fn changes(self) -> bool {
        !matches!(self, Self::List | Self::Inquire(_))
    }
}

impl Entity {
    /// The field of this name; aliases are resolved.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        let fields: &'static [Field] = self.fields;
        let name = self.resolve(name);
        fields.iter().find(|f| f.name == name)
    }

    /// The proper name for an alias; other names stay as they are.
    pub fn resolve<'a>(&self, name: &'a str) -> &'a str {
        let proper = self.aliases.iter().find(|(alias, _)| *alias == name).map(|(_, proper)| *proper);
        proper.unwrap_or(name)
    }

    /// The proper name where values are read, not written: the `value` of a setting is then the one in force.
    pub fn resolve_read<'a>(&self, name: &'a str) -> &'a str {
        match (self.object, name) {
            (Object::Config, "value") => "operative_value",
            _ => self.resolve(name),
        }
    }

    /// The names that `action` accepts as filters, before ACLs are looked at.
    pub fn accepts_filter(&self, action: &Action, field: &Field) -> bool {
        match action.verb {
            Verb::List => field.filter,
            Verb::Update | Verb::Delete | Verb::Execute(_) if self.object.is_own() => false,
            Verb::Update | Verb::Delete | Verb::Execute(_) => {
                let always = match field.name {
                    "id" => true,
                    "tenant_id" => !matches!(self.tenancy, Tenancy::None | Tenancy::Itself),
                    _ => false,
                };
                always || self.selectors.contains(&field.name)
            }
            Verb::Inquire(Inquiry::AclCounts) => ["admin_id", "role_id", "acl_pattern"].contains(&field.name),
            Verb::Create | Verb::CreateOrUpdate | Verb::Inquire(_) => false,
        }
    }

    /// Filters without one of which `action` would touch too much; none are listed where it cannot.
    pub fn mandatory_filters(&self, action: &Action) -> &'static [&'static str] {
        match (action.verb, self.object) {
            (_, object) if object.is_own() => &[],
            // All of them are meant, within what the caller reaches.
            (_, Object::TenantView | Object::AdministratorView) => &[],
            (Verb::Delete, Object::Config) => &["key"],
            (Verb::List | Verb::Inquire(Inquiry::AclCounts), Object::RoleAcl) => &["role_id"],
            (Verb::Delete, object) if object.of_property().is_some() => &["id", "property_id"],
            (Verb::Update | Verb::Delete | Verb::Execute(Order::ResetSecondFactor), _) => &["id"],
            _ => &[],
        }
    }

    /// The id field that an argument names by a readable one: `user_name` stands for `user_id` in `vm_create`.
    pub fn named_by(&self, name: &str) -> Option<&'static Field> {
        let fields: &'static [Field] = self.fields;
        let name = self.resolve(name);
        fields.iter().find(|f| f.named_by == Some(name))
    }
}

/// Whether the ACL `name` is one that `pattern` means: `*` stands for any text.
pub fn acl_matches(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(head) else { return false };
    let mut parts = tail.split('*');
    let Some(last) = parts.next_back() else { return true };
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_word_resolves() {
        let mut actions = HashSet::new();
        assert!(ACTIONS.iter().all(|a| actions.insert(a.name)));
        for object in Object::ALL {
            let entity = entity(*object);
            assert_eq!(entity.object, *object);
            let mut names = HashSet::new();
            for field in entity.fields {
                assert!(names.insert(field.name), "{object}: {} twice", field.name);
                assert!(!field.help.is_empty(), "{object}: {} has no help", field.name);
            }
            for (alias, proper) in entity.aliases {
                assert!(names.contains(proper), "{object}: {alias} leads nowhere");
                assert!(!names.contains(alias), "{object}: {alias} hides a field");
            }
            for column in entity.columns {
                assert!(names.contains(entity.resolve_read(column)), "{object}: column {column}");
            }
            for selector in entity.selectors {
                assert!(names.contains(selector), "{object}: selector {selector}");
            }
            assert!(names.contains(entity.key), "{object}: key");
        }
    }

    #[test]
    fn what_can_be_changed_belongs_to_an_action() {
        for object in Object::ALL {
            let has = |verb| action_for(*object, verb).is_some();
            let entity = entity(*object);
            let creates = has(Verb::Create) || has(Verb::CreateOrUpdate);
            assert_eq!(creates, entity.fields.iter().any(|f| f.create != Access::No), "{object}");
            let updates = has(Verb::Update) || has(Verb::CreateOrUpdate);
            assert_eq!(updates, entity.fields.iter().any(|f| f.update.is_some()), "{object}");
        }
    }

    #[test]
    fn acl_patterns() {
        assert!(acl_matches("di.create.*", "di.create."));
        assert!(acl_matches("*.see.vm-list", "osf.see.vm-list"));
        assert!(!acl_matches("*.see.vm-list", "osf.see.vm-list-block"));
        assert!(!acl_matches("user.create.", "user.create.properties"));
        assert!(!acl_matches("ab*ba", "aba"));
        assert!(acl_matches("*.stats.*", "vm.stats.blocked"));
        assert!(!acl_matches("*.stats.*", "vm.see.stats"));
    }
}
