//! What the console shows.

use super::Relation;

pub(super) const TENANT_VIEW: Relation = Relation {
    from: "operative_views_in_tenants AS shown",
    joins: &[],
    fields: &[
        // They have no number; this makes their order complete.
        (
            "id",
            "(lpad(shown.tenant_id::text, 10, '0') || '/' || shown.qvd_object::text || '/' || shown.field || '/' || \
             shown.view_type::text || '/' || shown.device_type::text || '/' || lpad(shown.property::text, 10, '0'))",
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
