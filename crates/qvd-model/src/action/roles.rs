//! Roles, and the lists of ACLs (`spec/api.md` 4.9 and 4.15).

use super::entities::{OWN_TENANT_ID, TENANT_NAME, creation, description, field, id};
use super::{Change, Entity, Field, Kind, Nested, Object, Tenancy, Verb};

const CREATION: [Field; 3] = creation([&["role.see.creation-date"], &["role.see.created-by"]]);

const ASSIGN_ACL: &[&str] = &["role.update.assign-acl"];
const ASSIGN_ROLE: &[&str] = &["role.update.assign-role"];

const fn nested(name: &'static str, verb: Verb, change: Change, acls: &'static [&'static str]) -> Nested {
    Nested { name, verb, change, acls }
}

pub(super) const ROLE: Entity = Entity {
    object: Object::Role,
    fields: &[
        field("name", Kind::Text(64), "name").required().updated(&["role.update.name"]),
        id(),
        description(&["role.see.description"], &["role.update.description"]),
        field("fixed", Kind::Switch, "part of the installation"),
        field("internal", Kind::Switch, "a building block of other roles"),
        field("acls", Kind::Structure, "ACLs that it grants, and does not pass on, itself")
            .see(&["role.see.acl-list"])
            .only_shown(),
        field("roles", Kind::Structure, "roles that it inherits from")
            .see(&["role.see.acl-list", "role.see.acl-list-roles", "role.see.inherited-roles"])
            .only_shown(),
        CREATION[0],
        CREATION[1],
        CREATION[2],
        OWN_TENANT_ID,
        TENANT_NAME,
    ],
    aliases: &[("tenant", "tenant_name")],
    nested: &[
        nested("__roles__", Verb::Create, Change::AssignRoles, ASSIGN_ROLE),
        nested("__acls__", Verb::Create, Change::AssignAcls, ASSIGN_ACL),
        nested("__acls_changes__unassign_acls", Verb::Update, Change::UnassignAcls, ASSIGN_ACL),
        nested("__roles_changes__unassign_roles", Verb::Update, Change::UnassignRoles, ASSIGN_ROLE),
        nested("__roles_changes__assign_roles", Verb::Update, Change::AssignRoles, ASSIGN_ROLE),
        nested("__acls_changes__assign_acls", Verb::Update, Change::AssignAcls, ASSIGN_ACL),
    ],
    tenancy: Tenancy::Own,
    key: "name",
    selectors: &[],
    columns: &["id", "name", "fixed", "internal"],
};

const HOLD_ROLE: &[&str] = &["administrator.update.assign-role"];

/// Giving roles to administrators and taking them away.
pub(super) const HELD_ROLES: &[Nested] = &[
    nested("__roles__", Verb::Create, Change::AssignRoles, HOLD_ROLE),
    nested("__roles_changes__unassign_roles", Verb::Update, Change::UnassignRoles, HOLD_ROLE),
    nested("__roles_changes__assign_roles", Verb::Update, Change::AssignRoles, HOLD_ROLE),
];

const ACL_ID: Field = field("id", Kind::Int, "number");
const ACL_TEXT: Field = field("name", Kind::Text(64), "name");
const ACL_ROLES: Field = field("roles", Kind::Structure, "roles that it comes from").only_shown();
const ACL_OPERATIVE: Field = field("operative", Kind::Switch, "whether it is in force");
const ACL_DESCRIPTION: Field = field("description", Kind::Text(80), "what it permits");
const ACL_NAME: Field = field("acl_name", Kind::Text(64), "same as name").hidden().unordered();
const ACL_PATTERN: Field =
    field("acl_pattern", Kind::Text(64), "what is counted; % stands for any text").hidden().only_shown();

const IN_ADMINISTRATOR: &[Field] = &[
    ACL_ID,
    ACL_TEXT,
    ACL_ROLES,
    ACL_OPERATIVE,
    ACL_DESCRIPTION,
    ACL_NAME,
    field("admin_id", Kind::Int, "number of the administrator").hidden().unordered(),
    ACL_PATTERN,
];

const IN_ROLE: &[Field] = &[
    ACL_ID,
    ACL_TEXT,
    ACL_ROLES,
    ACL_OPERATIVE,
    ACL_DESCRIPTION,
    ACL_NAME,
    field("role_id", Kind::Int, "number of the role").hidden().unordered(),
    ACL_PATTERN,
];

const fn acls(object: Object, fields: &'static [Field]) -> Entity {
    Entity {
        object,
        fields,
        aliases: &[],
        nested: &[],
        tenancy: Tenancy::None,
        key: "name",
        selectors: &[],
        columns: &["id", "name"],
    }
}

pub(super) const ACL: Entity = acls(Object::Acl, IN_ADMINISTRATOR);
pub(super) const ADMINISTRATOR_ACL: Entity = acls(Object::AdministratorAcl, IN_ADMINISTRATOR);
pub(super) const ROLE_ACL: Entity = acls(Object::RoleAcl, IN_ROLE);
