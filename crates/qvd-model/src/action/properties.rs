//! Custom properties: the catalogue, and which kinds of objects may have which (`spec/api.md` 4.12 and 4.13).

use super::field::{Field, Kind};
use super::{Change, Entity, Nested, Object, Tenancy, Verb};

const fn field(name: &'static str, kind: Kind, help: &'static str) -> Field {
    Field::new(name, kind, help)
}

const fn assignment(name: &'static str) -> Field {
    field(name, Kind::Int, "number of the assignment to that kind of object, or 0").only_shown()
}

const TENANT_NAME: Field =
    field("tenant_name", Kind::Login(80), "tenant it belongs to").for_super().only_shown();

/// The values of an object's properties, with keys.
pub(super) const fn stored_properties(see: &'static [&'static str]) -> Field {
    field("properties", Kind::Structure, "values of its custom properties").see(see).only_shown()
}

/// Giving and taking values of properties, when an object is made and later.
pub(super) const fn nested_properties(
    create: &'static [&'static str],
    update: &'static [&'static str],
) -> [Nested; 3] {
    [
        Nested { name: "__properties__", verb: Verb::Create, change: Change::SetProperties, acls: create },
        Nested {
            name: "__properties_changes__delete",
            verb: Verb::Update,
            change: Change::RemoveProperties,
            acls: update,
        },
        Nested {
            name: "__properties_changes__set",
            verb: Verb::Update,
            change: Change::SetProperties,
            acls: update,
        },
    ]
}

pub(super) const PROPERTY: Entity = Entity {
    object: Object::Property,
    fields: &[
        field("id", Kind::Int, "number"),
        field("property_id", Kind::Int, "same as id").only_shown(),
        field("tenant_id", Kind::Int, "number of its tenant").required().named_by("tenant_name"),
        field("key", Kind::Text(1024), "name").required().updated(&[]),
        field("description", Kind::Text(1024), "free text").optional(&[]).updated(&[]),
        assignment("in_user"),
        assignment("in_vm"),
        assignment("in_host"),
        assignment("in_osf"),
        assignment("in_di"),
        TENANT_NAME,
    ],
    aliases: &[("name", "key"), ("tenant", "tenant_name")],
    nested: &[Nested {
        name: "__property_assign__",
        verb: Verb::Create,
        change: Change::AssignProperty,
        acls: &["property.manage."],
    }],
    tenancy: Tenancy::Own,
    key: "key",
    selectors: &[],
    columns: &["id", "key", "description"],
};

const ASSIGNMENT: &[Field] = &[
    field("id", Kind::Int, "number of the assignment").unfiltered(),
    field("property_id", Kind::Int, "number of the property").unfiltered().required(),
    field("key", Kind::Text(1024), "name of the property").unfiltered(),
    field("description", Kind::Text(1024), "free text").only_shown(),
    field("tenant_id", Kind::Int, "number of its tenant").for_super().unordered(),
    TENANT_NAME,
];

const fn assignments(object: Object) -> Entity {
    Entity {
        object,
        fields: ASSIGNMENT,
        aliases: &[],
        nested: &[],
        tenancy: Tenancy::Inherited,
        key: "key",
        selectors: &["property_id"],
        columns: &["id", "property_id", "key", "description"],
    }
}

pub(super) const USER_PROPERTY: Entity = assignments(Object::UserProperty);
pub(super) const VM_PROPERTY: Entity = assignments(Object::VmProperty);
pub(super) const HOST_PROPERTY: Entity = assignments(Object::HostProperty);
pub(super) const OSF_PROPERTY: Entity = assignments(Object::OsfProperty);
pub(super) const DI_PROPERTY: Entity = assignments(Object::DiProperty);
