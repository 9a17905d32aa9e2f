//! Custom properties: the catalogue, and which kinds of objects may have which.

use super::{Relation, Storage};

macro_rules! assignment {
    ($kind:literal) => {
        concat!(
            "coalesce((SELECT q.id FROM qvd_object_properties_list AS q \
             WHERE q.property_id = properties_list.id AND q.qvd_object = '",
            $kind,
            "'), 0)"
        )
    };
}

pub(super) const PROPERTY: Relation = Relation {
    from: "properties_list",
    joins: &[("tenants", "JOIN tenants ON tenants.id = properties_list.tenant_id")],
    fields: &[
        ("id", "properties_list.id"),
        ("property_id", "properties_list.id"),
        ("tenant_id", "properties_list.tenant_id"),
        ("key", "properties_list.key"),
        ("description", "properties_list.description"),
        ("in_user", assignment!("user")),
        ("in_vm", assignment!("vm")),
        ("in_host", assignment!("host")),
        ("in_osf", assignment!("osf")),
        ("in_di", assignment!("di")),
        ("tenant_name", "tenants.name"),
    ],
    sets: &[],
    tenant: Some("properties_list.tenant_id"),
    shared: false,
    hidden: None,
    storage: Some(Storage {
        table: "properties_list",
        columns: &[("key", "key"), ("description", "description"), ("tenant_id", "tenant_id")],
        side: None,
        side_columns: &[],
        constants: &[],
        created: false,
        companions: &[],
        guards: &[],
        belongings: &[],
    }),
};

macro_rules! assignments {
    ($kind:literal) => {
        Relation {
            from: "qvd_object_properties_list AS assigned \
                   JOIN properties_list ON properties_list.id = assigned.property_id",
            joins: &[("tenants", "JOIN tenants ON tenants.id = properties_list.tenant_id")],
            fields: &[
                ("id", "assigned.id"),
                ("property_id", "assigned.property_id"),
                ("key", "properties_list.key"),
                ("description", "properties_list.description"),
                ("tenant_id", "properties_list.tenant_id"),
                ("tenant_name", "tenants.name"),
            ],
            sets: &[],
            tenant: Some("properties_list.tenant_id"),
            shared: false,
            hidden: Some(concat!("assigned.qvd_object = '", $kind, "'")),
            storage: Some(Storage {
                table: "qvd_object_properties_list",
                columns: &[("property_id", "property_id")],
                side: None,
                side_columns: &[],
                constants: &[("qvd_object", concat!("'", $kind, "'"))],
                created: false,
                companions: &[],
                guards: &[],
                belongings: &[],
            }),
        }
    };
}

pub(super) const USER_PROPERTY: Relation = assignments!("user");
pub(super) const VM_PROPERTY: Relation = assignments!("vm");
pub(super) const HOST_PROPERTY: Relation = assignments!("host");
pub(super) const OSF_PROPERTY: Relation = assignments!("osf");
pub(super) const DI_PROPERTY: Relation = assignments!("di");
