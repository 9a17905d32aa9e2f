//! What the console shows.

use super::Relation;

pub(super) const TENANT_VIEW: Relation = Relation {
    from: "operative_views_in_tenants AS shown",
    joins: &[],
    fields: &[
        // They have no number; this makes their order complete.
        (
            "id",
            "(shown.tenant_id, shown.qvd_object::text, shown.field, shown.view_type, shown.device_type, shown.property)",
        ),
        ("tenant_id", "shown.tenant_id"),
        ("field", "shown.field"),
        ("visible", "shown.visible"),
        ("view_type", "shown.view_type::text"),
        ("device_type", "shown.device_type::text"),
        ("qvd_object", "shown.qvd_object::text"),
        ("property", "shown.property"),
    ],
    sets: &[],
    tenant: Some("shown.tenant_id"),
    shared: true,
    hidden: None,
    storage: None,
};
