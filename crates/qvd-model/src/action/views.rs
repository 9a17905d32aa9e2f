//! Which columns and filters the console shows (`spec/api.md` 4.14 and 5.11).

use super::entities::{OWN_TENANT_ID, field};
use super::{Entity, Field, Kind, Object, Tenancy};

const VIEW_TYPES: Kind = Kind::Word(&["list_column", "filter"]);
const DEVICE_TYPES: Kind = Kind::Word(&["desktop", "mobile"]);
const OBJECTS: Kind =
    Kind::Word(&["user", "vm", "log", "host", "osf", "di", "role", "administrator", "tenant"]);

const FIELD: Field = field("field", Kind::Text(64), "column or filter");
const VISIBLE: Field = field("visible", Kind::Switch, "it is shown");
const VIEW_TYPE: Field = field("view_type", VIEW_TYPES, "list_column or filter");
const DEVICE_TYPE: Field = field("device_type", DEVICE_TYPES, "desktop or mobile");
const OBJECT: Field = field("qvd_object", OBJECTS, "kind of object");

const fn argument(field: Field) -> Field {
    field.hidden().only_shown().required()
}

const SET_VISIBLE: Field = VISIBLE.hidden().only_shown().optional(&[]).updated(&[]);
const SET_PROPERTY: Field =
    argument(field("qvd_obj_prop_id", Kind::Int, "number of the assignment of a property"));

const fn entity(object: Object, fields: &'static [Field], tenancy: Tenancy, key: &'static str) -> Entity {
    Entity { object, fields, aliases: &[], nested: &[], tenancy, key, selectors: &[], columns: &[] }
}

pub(super) const TENANT_VIEW: Entity = Entity {
    selectors: &["qvd_object"],
    ..entity(
        Object::TenantView,
        &[
            field("tenant_id", Kind::Int, "number of the tenant"),
            FIELD,
            VISIBLE,
            VIEW_TYPE,
            DEVICE_TYPE,
            OBJECT,
            field("property", Kind::Int, "number of the custom property, or 0"),
        ],
        Tenancy::Own,
        "field",
    )
};

pub(super) const ADMINISTRATOR_VIEW: Entity = Entity {
    selectors: &["qvd_object"],
    ..entity(Object::AdministratorView, &[FIELD, OBJECT], Tenancy::None, "field")
};

pub(super) const TENANT_ATTRIBUTE: Entity = entity(
    Object::TenantAttributeView,
    &[
        OWN_TENANT_ID,
        argument(FIELD),
        argument(VIEW_TYPE),
        argument(DEVICE_TYPE),
        argument(OBJECT),
        SET_VISIBLE,
    ],
    Tenancy::Own,
    "field",
);

pub(super) const ADMINISTRATOR_ATTRIBUTE: Entity = entity(
    Object::AdministratorAttributeView,
    &[argument(FIELD), argument(VIEW_TYPE), argument(DEVICE_TYPE), argument(OBJECT), SET_VISIBLE],
    Tenancy::None,
    "field",
);

const PROPERTY: &[Field] = &[SET_PROPERTY, argument(VIEW_TYPE), argument(DEVICE_TYPE), SET_VISIBLE];

pub(super) const TENANT_PROPERTY: Entity =
    entity(Object::TenantPropertyView, PROPERTY, Tenancy::None, "qvd_obj_prop_id");

pub(super) const ADMINISTRATOR_PROPERTY: Entity =
    entity(Object::AdministratorPropertyView, PROPERTY, Tenancy::None, "qvd_obj_prop_id");
