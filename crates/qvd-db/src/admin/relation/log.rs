//! The audit log.

use super::Relation;

pub(super) const LOG: Relation = Relation {
    from: "log",
    joins: &[],
    fields: &[
        ("id", "log.id"),
        ("admin_id", "log.administrator_id"),
        ("admin_name", "log.administrator_name"),
        ("tenant_id", "log.tenant_id"),
        ("tenant_name", "log.tenant_name"),
        ("action", "log.action"),
        ("arguments", "log.arguments"),
        ("object_id", "log.object_id"),
        ("object_name", "log.object_name"),
        ("time", "log.time"),
        (
            "antiquity",
            "(SELECT json_build_object('months', (extract(year FROM i) * 12 + extract(month FROM i))::integer, \
             'days', extract(day FROM i)::integer, 'hours', extract(hour FROM i)::integer, \
             'minutes', extract(minute FROM i)::integer, 'seconds', trunc(extract(second FROM i))::integer) \
             FROM age(now() AT TIME ZONE 'UTC', log.time) AS i)",
        ),
        ("status", "log.status"),
        ("source", "log.source"),
        ("ip", "log.ip"),
        ("type_of_action", "log.type_of_action"),
        ("qvd_object", "log.qvd_object"),
        // Not by EXISTS, for which the whole table would be read into a hash.
        (
            "object_deleted",
            "(log.object_id IS NOT NULL AND CASE log.qvd_object \
             WHEN 'vm' THEN (SELECT vms.id FROM vms WHERE vms.id = log.object_id) IS NULL \
             WHEN 'user' THEN (SELECT users.id FROM users WHERE users.id = log.object_id) IS NULL \
             WHEN 'host' THEN (SELECT hosts.id FROM hosts WHERE hosts.id = log.object_id) IS NULL \
             WHEN 'osf' THEN (SELECT osfs.id FROM osfs WHERE osfs.id = log.object_id) IS NULL \
             WHEN 'di' THEN (SELECT dis.id FROM dis WHERE dis.id = log.object_id) IS NULL \
             WHEN 'role' THEN (SELECT roles.id FROM roles WHERE roles.id = log.object_id) IS NULL \
             WHEN 'tenant' THEN (SELECT tenants.id FROM tenants WHERE tenants.id = log.object_id) IS NULL \
             WHEN 'administrator' THEN (SELECT administrators.id FROM administrators \
             WHERE administrators.id = log.object_id) IS NULL ELSE false END)",
        ),
        (
            "admin_deleted",
            "(log.administrator_id IS NOT NULL AND (SELECT administrators.id FROM administrators \
             WHERE administrators.id = log.administrator_id) IS NULL)",
        ),
        ("superadmin", "log.superadmin"),
        ("before", "log.before"),
        ("after", "log.after"),
        ("user_agent", "log.user_agent"),
    ],
    sets: &[],
    tenant: Some("log.tenant_id"),
    shared: false,
    hidden: None,
    storage: None,
};
