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
        (
            "object_deleted",
            "(log.object_id IS NOT NULL AND CASE log.qvd_object \
             WHEN 'vm' THEN NOT EXISTS (SELECT 1 FROM vms WHERE vms.id = log.object_id) \
             WHEN 'user' THEN NOT EXISTS (SELECT 1 FROM users WHERE users.id = log.object_id) \
             WHEN 'host' THEN NOT EXISTS (SELECT 1 FROM hosts WHERE hosts.id = log.object_id) \
             WHEN 'osf' THEN NOT EXISTS (SELECT 1 FROM osfs WHERE osfs.id = log.object_id) \
             WHEN 'di' THEN NOT EXISTS (SELECT 1 FROM dis WHERE dis.id = log.object_id) \
             WHEN 'role' THEN NOT EXISTS (SELECT 1 FROM roles WHERE roles.id = log.object_id) \
             WHEN 'tenant' THEN NOT EXISTS (SELECT 1 FROM tenants WHERE tenants.id = log.object_id) \
             WHEN 'administrator' THEN NOT EXISTS \
             (SELECT 1 FROM administrators WHERE administrators.id = log.object_id) ELSE false END)",
        ),
        (
            "admin_deleted",
            "(log.administrator_id IS NOT NULL AND NOT EXISTS \
             (SELECT 1 FROM administrators WHERE administrators.id = log.administrator_id))",
        ),
        ("superadmin", "log.superadmin"),
    ],
    sets: &[],
    tenant: Some("log.tenant_id"),
    shared: false,
    hidden: None,
    storage: None,
};
