//! The audit log (`spec/api.md` 4.10).

use super::entities::field;
use super::{Entity, Kind, Object, Tenancy};

pub(super) const LOG: Entity = Entity {
    object: Object::Log,
    fields: &[
        field("id", Kind::Int, "number"),
        field("admin_id", Kind::Int, "number of the administrator"),
        field("admin_name", Kind::Text(80), "name of the administrator at that time"),
        field("tenant_id", Kind::Int, "number of the tenant of the object"),
        field("tenant_name", Kind::Text(80), "name of that tenant at that time"),
        field("action", Kind::Text(80), "what was asked for"),
        field("arguments", Kind::Text(65536), "with which arguments, as JSON; secrets are masked"),
        field("object_id", Kind::Int, "number of the object"),
        field("object_name", Kind::Text(80), "name of the object at that time"),
        field("time", Kind::Moment, "when, UTC"),
        field("antiquity", Kind::Structure, "how long ago").only_shown(),
        field("status", Kind::Int, "the outcome; 0 is success"),
        field("source", Kind::Text(80), "the client, as it calls itself"),
        field("ip", Kind::Text(80), "where the request came from"),
        field("type_of_action", Kind::Text(80), "create, update, delete, exec, see or login"),
        field("qvd_object", Kind::Text(80), "kind of object"),
        field("object_deleted", Kind::Switch, "the object is gone").only_shown(),
        field("admin_deleted", Kind::Switch, "the administrator is gone").only_shown(),
        field("superadmin", Kind::Switch, "it was a super-administrator"),
        field("before", Kind::Text(65536), "what the change replaced, as JSON; secrets are masked"),
        field("after", Kind::Text(65536), "what it was replaced by, as JSON; secrets are masked"),
        field("user_agent", Kind::Text(200), "the program, as its requests say"),
    ],
    aliases: &[
        ("admin", "admin_name"),
        ("object", "object_name"),
        ("type", "type_of_action"),
        ("tenant", "tenant_name"),
    ],
    nested: &[],
    tenancy: Tenancy::Inherited,
    key: "object_name",
    selectors: &[],
    columns: &["time", "admin_name", "type_of_action", "qvd_object", "object_name", "status"],
};
