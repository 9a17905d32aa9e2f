//! Tenants, administrators, and the story of everything.

use qvd_model::action::Status;

use super::{Relation, Storage, with_creation};
use crate::Sql;

pub(super) const TENANT: Relation = Relation {
    from: "tenants",
    joins: &[("setup", "LEFT JOIN wat_setups_by_tenants AS setup ON setup.tenant_id = tenants.id")],
    fields: with_creation!(
        "tenants",
        [
            ("id", "tenants.id"),
            ("name", "tenants.name"),
            ("description", "tenants.description"),
            ("language", "setup.language"),
            ("block", "setup.block"),
            ("blocked", "coalesce(tenants.blocked, false)"),
            ("tenant_id", "tenants.id"),
            ("tenant_name", "tenants.name"),
        ]
    ),
    sets: &[],
    tenant: Some("tenants.id"),
    shared: false,
    hidden: Some("tenants.id <> -1"),
    storage: Some(Storage {
        table: "tenants",
        columns: &[("name", "name"), ("description", "description"), ("blocked", "blocked")],
        side: Some(("wat_setups_by_tenants", "tenant_id")),
        side_columns: &[("language", "language"), ("block", "block")],
        constants: &[],
        created: true,
        companions: &[Sql::new(
            "make the console setup of the tenant",
            "INSERT INTO wat_setups_by_tenants (tenant_id, block, language) VALUES ($1, 10, 'auto')",
        )],
        guards: &[(
            Sql::new(
                "see whether the tenant is empty",
                "SELECT string_agg(n || ' ' || what, ', ') FROM (\
                 SELECT count(*) AS n, 'users' AS what FROM users WHERE tenant_id = $1 UNION ALL \
                 SELECT count(*), 'administrators' FROM administrators WHERE tenant_id = $1 UNION ALL \
                 SELECT count(*), 'OSFs' FROM osfs WHERE tenant_id = $1 UNION ALL \
                 SELECT count(*), 'roles' FROM roles WHERE tenant_id = $1 UNION ALL \
                 SELECT count(*), 'properties' FROM properties_list WHERE tenant_id = $1) AS c \
                 WHERE n > 0 HAVING count(*) > 0",
            ),
            Status::HasDependents,
        )],
        belongings: &[Sql::new(
            "remove the settings of the tenant",
            "DELETE FROM configs WHERE tenant_id = $1",
        )],
    }),
};

pub(super) const ADMINISTRATOR: Relation = Relation {
    from: "administrators",
    joins: &[
        ("tenants", "JOIN tenants ON tenants.id = administrators.tenant_id"),
        (
            "setup",
            "LEFT JOIN wat_setups_by_administrators AS setup ON setup.administrator_id = administrators.id",
        ),
    ],
    fields: with_creation!(
        "administrators",
        [
            ("id", "administrators.id"),
            ("name", "administrators.name"),
            ("description", "administrators.description"),
            (
                "roles",
                "(SELECT coalesce(json_object_agg(roles.id, roles.name ORDER BY roles.id), '{}') \
             FROM role_administrator_relations AS held JOIN roles ON roles.id = held.role_id \
             WHERE held.administrator_id = administrators.id)",
            ),
            ("language", "setup.language"),
            ("block", "setup.block"),
            ("tenant_id", "administrators.tenant_id"),
            ("tenant_name", "tenants.name"),
        ]
    ),
    sets: &[],
    tenant: Some("administrators.tenant_id"),
    shared: false,
    hidden: Some("administrators.id <> 0"),
    storage: Some(Storage {
        table: "administrators",
        columns: &[
            ("name", "name"),
            ("description", "description"),
            ("tenant_id", "tenant_id"),
            ("password", "password"),
        ],
        side: Some(("wat_setups_by_administrators", "administrator_id")),
        side_columns: &[("language", "language"), ("block", "block")],
        constants: &[],
        created: true,
        companions: &[Sql::new(
            "make the console setup of the administrator",
            "INSERT INTO wat_setups_by_administrators (administrator_id, block, language) VALUES ($1, 10, 'auto')",
        )],
        guards: &[],
        belongings: &[],
    }),
};

pub(super) const ROLE: Relation = Relation {
    from: "roles",
    joins: &[("tenants", "JOIN tenants ON tenants.id = roles.tenant_id")],
    fields: with_creation!(
        "roles",
        [
            ("name", "roles.name"),
            ("id", "roles.id"),
            ("description", "roles.description"),
            ("fixed", "roles.fixed"),
            ("internal", "roles.internal"),
            (
                "acls",
                "(SELECT json_build_object(\
                 'positive', coalesce(json_agg(acls.name ORDER BY acls.name) FILTER (WHERE own.positive), '[]'), \
                 'negative', coalesce(json_agg(acls.name ORDER BY acls.name) FILTER (WHERE NOT own.positive), '[]')) \
                 FROM acl_role_relations AS own JOIN acls ON acls.id = own.acl_id WHERE own.role_id = roles.id)",
            ),
            (
                "roles",
                "(SELECT coalesce(json_object_agg(below.id, json_build_object('name', below.name, \
                 'tenant_id', below.tenant_id, 'description', below.description, \
                 'fixed', below.fixed::integer, 'internal', below.internal::integer) ORDER BY below.id), '{}') \
                 FROM role_role_relations AS edge JOIN roles AS below ON below.id = edge.inherited_id \
                 WHERE edge.inheritor_id = roles.id)",
            ),
            ("tenant_id", "roles.tenant_id"),
            ("tenant_name", "tenants.name"),
        ]
    ),
    sets: &[],
    tenant: Some("roles.tenant_id"),
    shared: true,
    hidden: None,
    storage: Some(Storage {
        table: "roles",
        columns: &[("name", "name"), ("description", "description"), ("tenant_id", "tenant_id")],
        side: None,
        side_columns: &[],
        constants: &[("fixed", "false"), ("internal", "false")],
        created: true,
        companions: &[],
        guards: &[(
            Sql::new(
                "see whether the role is used",
                "SELECT a.n || ' administrators, ' || r.n || ' roles' FROM \
                 (SELECT count(*) AS n FROM role_administrator_relations WHERE role_id = $1) AS a, \
                 (SELECT count(*) AS n FROM role_role_relations WHERE inherited_id = $1) AS r \
                 WHERE a.n + r.n > 0",
            ),
            Status::HasDependents,
        )],
        belongings: &[],
    }),
};

pub(super) const EVENT: Relation = Relation {
    from: "events",
    joins: &[(
        "owner",
        "LEFT JOIN LATERAL (SELECT CASE events.kind \
         WHEN 'vm' THEN (SELECT users.tenant_id FROM vms JOIN users ON users.id = vms.user_id \
         WHERE vms.id = events.object_id) \
         WHEN 'user' THEN (SELECT users.tenant_id FROM users WHERE users.id = events.object_id) \
         WHEN 'osf' THEN (SELECT osfs.tenant_id FROM osfs WHERE osfs.id = events.object_id) \
         WHEN 'di' THEN (SELECT osfs.tenant_id FROM dis JOIN osfs ON osfs.id = dis.osf_id \
         WHERE dis.id = events.object_id) \
         WHEN 'administrator' THEN (SELECT administrators.tenant_id FROM administrators \
         WHERE administrators.id = events.object_id) \
         WHEN 'role' THEN (SELECT roles.tenant_id FROM roles WHERE roles.id = events.object_id) \
         WHEN 'tenant' THEN events.object_id END AS tenant_id) AS owner ON true",
    )],
    fields: &[
        ("id", "events.id"),
        ("time", "events.time AT TIME ZONE 'UTC'"),
        ("kind", "events.kind"),
        ("object_id", "events.object_id"),
        ("object_name", "events.object_name"),
        ("actor", "events.actor"),
        ("from_state", "events.from_state"),
        ("to_state", "events.to_state"),
        ("code", "events.code"),
        ("text", "events.text"),
        ("tenant_id", "owner.tenant_id"),
    ],
    sets: &[],
    tenant: Some("owner.tenant_id"),
    shared: false,
    hidden: None,
    storage: None,
};

pub(super) const TOKEN: Relation = Relation {
    from: "api_tokens JOIN administrators ON administrators.id = api_tokens.administrator_id",
    joins: &[("tenants", "JOIN tenants ON tenants.id = administrators.tenant_id")],
    fields: &[
        ("id", "api_tokens.id"),
        ("name", "api_tokens.name"),
        ("admin_id", "api_tokens.administrator_id"),
        ("admin_name", "administrators.name"),
        ("read_only", "api_tokens.read_only"),
        ("scope", "api_tokens.scope"),
        ("manages_tokens", "api_tokens.manages_tokens"),
        ("expiration", "api_tokens.expiration"),
        ("creation_date", "api_tokens.creation_date"),
        ("last_used", "api_tokens.last_used"),
        ("tenant_id", "administrators.tenant_id"),
        ("tenant_name", "tenants.name"),
    ],
    sets: &[],
    tenant: Some("administrators.tenant_id"),
    shared: false,
    hidden: None,
    storage: Some(Storage {
        table: "api_tokens",
        columns: &[
            ("name", "name"),
            ("read_only", "read_only"),
            ("scope", "scope"),
            ("manages_tokens", "manages_tokens"),
            ("expiration", "expiration"),
        ],
        side: None,
        side_columns: &[],
        constants: &[],
        created: false,
        companions: &[],
        guards: &[],
        belongings: &[],
    }),
};

pub(super) const SESSION: Relation = Relation {
    from: "session JOIN administrators ON administrators.id = session.administrator_id",
    joins: &[("tenants", "JOIN tenants ON tenants.id = administrators.tenant_id")],
    fields: &[
        ("id", "session.id"),
        ("admin_id", "session.administrator_id"),
        ("admin_name", "administrators.name"),
        ("opened", "session.opened"),
        ("last_used", "session.last_used"),
        ("address", "session.address"),
        ("user_agent", "session.user_agent"),
        ("expires", "(to_timestamp(session.expires) AT TIME ZONE 'UTC')"),
        ("ends", "(session.opened + {longest_session}::bigint * interval '1 second')"),
        ("current", "(session.sid = {own_session})"),
        ("tenant_id", "administrators.tenant_id"),
        ("tenant_name", "tenants.name"),
    ],
    sets: &[],
    tenant: Some("administrators.tenant_id"),
    shared: false,
    hidden: Some("session.expires >= extract(epoch FROM now())"),
    storage: Some(Storage {
        table: "session",
        columns: &[
            ("admin_id", "administrator_id"),
            ("address", "address"),
            ("user_agent", "user_agent"),
            ("opened", "opened"),
        ],
        side: None,
        side_columns: &[],
        constants: &[],
        created: false,
        companions: &[],
        guards: &[],
        belongings: &[],
    }),
};
