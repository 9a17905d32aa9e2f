//! Where the fields of the registry are kept.

use qvd_model::action::{Kind, Object, Status, entity};

use crate::Sql;

/// How an object lies in tables.
pub(crate) struct Relation {
    /// The main table, under its own name, with everything that is always there.
    pub(crate) from: &'static str,
    /// Further tables by alias, later ones may need earlier ones; they are joined when something names them.
    pub(crate) joins: &'static [(&'static str, &'static str)],
    /// Expressions of the fields.
    pub(crate) fields: &'static [(&'static str, &'static str)],
    /// Fields with several values per row, as queries of one column: a comparison holds if it does for one of them.
    pub(crate) sets: &'static [(&'static str, &'static str)],
    /// The tenant of a row; `None` if rows have none.
    pub(crate) tenant: Option<&'static str>,
    /// Rows that nobody sees.
    pub(crate) hidden: Option<&'static str>,
    /// Tables and columns that are written.
    pub(crate) storage: Option<Storage>,
}

/// Stands for the configured first half of hardware addresses.
pub(crate) const MAC_PREFIX: &str = "{mac_prefix}";

/// What is written for an object.
pub(crate) struct Storage {
    /// The table of the object.
    pub(crate) table: &'static str,
    /// Columns of that table by field.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    /// The table beside it, and its column with the id of the object.
    pub(crate) side: Option<(&'static str, &'static str)>,
    /// Columns of the side table by field.
    pub(crate) side_columns: &'static [(&'static str, &'static str)],
    /// Rows that are made together with it; `$1` is its id.
    pub(crate) companions: &'static [Sql],
    /// What forbids its deletion: a row means refusal, its first column is the reason. `$1` is its id.
    pub(crate) guards: &'static [(Sql, Status)],
    /// What goes before it; `$1` is its id.
    pub(crate) belongings: &'static [Sql],
}

impl Relation {
    /// The expression of a field.
    pub(crate) fn expression(&self, field: &str) -> Option<&'static str> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, expression)| *expression)
    }

    /// The tables that expressions name.
    pub(crate) fn tables(&self, mut text: String) -> String {
        let mut wanted = Vec::new();
        for (alias, join) in self.joins.iter().rev() {
            if text.contains(&format!("{alias}.")) {
                text.push_str(join);
                wanted.push(*join);
            }
        }
        wanted.reverse();
        std::iter::once(self.from).chain(wanted).collect::<Vec<_>>().join(" ")
    }
}

/// The relation of an object; settings are not rows but layers, so they have none.
pub(crate) const fn relation(object: Object) -> Option<&'static Relation> {
    match object {
        Object::Vm => Some(&VM),
        Object::User => Some(&USER),
        Object::Host => Some(&HOST),
        Object::Osf => Some(&OSF),
        Object::Di => Some(&DI),
        Object::Tag => Some(&TAG),
        Object::Tenant => Some(&TENANT),
        Object::Administrator | Object::OwnAdministrator => Some(&ADMINISTRATOR),
        Object::Event => Some(&EVENT),
        Object::Config => None,
    }
}

/// The fixed statements of the relations.
pub(crate) fn statements() -> impl Iterator<Item = Sql> {
    let storages = Object::ALL.iter().filter_map(|o| relation(*o)?.storage.as_ref());
    storages.flat_map(|s| {
        let guards = s.guards.iter().map(|(sql, _)| *sql);
        s.companions.iter().copied().chain(guards).chain(s.belongings.iter().copied())
    })
}

/// How a field is shown.
pub(crate) fn shown(object: Object, field: &str, expression: &str) -> String {
    match entity(object).field(field).map(|f| f.kind) {
        Some(Kind::Switch) => format!("CASE WHEN {expression} THEN 1 ELSE 0 END"),
        Some(Kind::Moment) => format!("to_char({expression}, 'YYYY-MM-DD\"T\"HH24:MI:SS')"),
        _ => expression.to_owned(),
    }
}

/// The parts of the time until a moment, all negative or zero when it is past.
macro_rules! time_until {
    ($moment:literal) => {
        concat!(
            "CASE WHEN ",
            $moment,
            " IS NOT NULL THEN (SELECT json_build_object(",
            "'months', (extract(year FROM i) * 12 + extract(month FROM i))::integer, ",
            "'days', extract(day FROM i)::integer, 'hours', extract(hour FROM i)::integer, ",
            "'minutes', extract(minute FROM i)::integer, 'seconds', trunc(extract(second FROM i))::integer, ",
            "'expired', CASE WHEN ",
            $moment,
            " <= now() AT TIME ZONE 'UTC' THEN 1 ELSE 0 END) ",
            "FROM age(",
            $moment,
            ", now() AT TIME ZONE 'UTC') AS i) END"
        )
    };
}

/// Creation columns of a main table.
macro_rules! with_creation {
    ($table:literal, [$($pair:expr),* $(,)?]) => {
        &[
            $($pair,)*
            ("creation_date", concat!($table, ".creation_date")),
            ("creation_admin_id", concat!($table, ".creation_admin_id")),
            ("creation_admin_name", concat!($table, ".creation_admin_name")),
        ]
    };
}

const VM: Relation = Relation {
    from: "vms JOIN vm_runtimes ON vm_runtimes.vm_id = vms.id JOIN users ON users.id = vms.user_id",
    joins: &[
        ("tenants", "JOIN tenants ON tenants.id = users.tenant_id"),
        ("osfs", "JOIN osfs ON osfs.id = vms.osf_id"),
        ("hosts", "LEFT JOIN hosts ON hosts.id = vm_runtimes.host_id"),
        (
            "booted",
            "LEFT JOIN LATERAL (SELECT dis.id, dis.path, dis.version FROM dis \
             JOIN di_tags ON di_tags.di_id = dis.id AND di_tags.tag = vms.di_tag \
             JOIN di_runtimes ON di_runtimes.di_id = dis.id AND di_runtimes.state = 'published' \
             WHERE dis.osf_id = vms.osf_id ORDER BY dis.id DESC LIMIT 1) AS booted ON true",
        ),
        ("running", "LEFT JOIN dis AS running ON running.id = vm_runtimes.current_di_id"),
    ],
    fields: with_creation!(
        "vms",
        [
            ("id", "vms.id"),
            ("name", "vms.name"),
            ("description", "vms.description"),
            ("user_id", "vms.user_id"),
            ("user_name", "users.login"),
            ("osf_id", "vms.osf_id"),
            ("osf_name", "osfs.name"),
            ("di_tag", "vms.di_tag"),
            ("blocked", "coalesce(vm_runtimes.blocked, false)"),
            ("expiration_soft", "vm_runtimes.vm_expiration_soft"),
            ("expiration_hard", "vm_runtimes.vm_expiration_hard"),
            ("state", "vm_runtimes.vm_state"),
            ("step", "vm_runtimes.start_step"),
            ("failure_code", "vm_runtimes.failure_code"),
            ("failure_text", "vm_runtimes.failure_text"),
            ("host_id", "vm_runtimes.host_id"),
            ("host_name", "hosts.name"),
            ("di_id", "booted.id"),
            ("di_name", "booted.path"),
            ("di_version", "booted.version"),
            ("user_state", "vm_runtimes.user_state"),
            ("ip", "vms.ip"),
            (
                "mac",
                "{mac_prefix} || ':' || lpad(to_hex(split_part(vms.ip, '.', 2)::integer), 2, '0') || ':' || \
             lpad(to_hex(split_part(vms.ip, '.', 3)::integer), 2, '0') || ':' || \
             lpad(to_hex(split_part(vms.ip, '.', 4)::integer), 2, '0')",
            ),
            ("next_boot_ip", "vm_runtimes.vm_address"),
            ("ip_in_use", "vm_runtimes.vm_address"),
            ("di_id_in_use", "vm_runtimes.current_di_id"),
            ("di_name_in_use", "coalesce(running.path, '')"),
            ("di_version_in_use", "coalesce(running.version, '')"),
            ("ssh_port", "vm_runtimes.vm_ssh_port"),
            ("vnc_port", "vm_runtimes.vm_vnc_port"),
            ("serial_port", "vm_runtimes.vm_serial_port"),
            ("storage", "vms.storage"),
            ("time_until_expiration_soft", time_until!("vm_runtimes.vm_expiration_soft")),
            ("time_until_expiration_hard", time_until!("vm_runtimes.vm_expiration_hard")),
            ("tenant_id", "users.tenant_id"),
            ("tenant_name", "tenants.name"),
        ]
    ),
    sets: &[],
    tenant: Some("users.tenant_id"),
    hidden: None,
    storage: Some(Storage {
        table: "vms",
        columns: &[
            ("name", "name"),
            ("description", "description"),
            ("user_id", "user_id"),
            ("osf_id", "osf_id"),
            ("di_tag", "di_tag"),
            ("ip", "ip"),
            ("storage", "storage"),
        ],
        side: Some(("vm_runtimes", "vm_id")),
        side_columns: &[
            ("blocked", "blocked"),
            ("expiration_soft", "vm_expiration_soft"),
            ("expiration_hard", "vm_expiration_hard"),
        ],
        companions: &[
            Sql::new(
                "make the runtime row of the VM",
                "INSERT INTO vm_runtimes (vm_id, vm_state, user_state, blocked) \
                 VALUES ($1, 'stopped', 'disconnected', false)",
            ),
            Sql::new("make the counters of the VM", "INSERT INTO vm_counters (vm_id) VALUES ($1)"),
        ],
        guards: &[(
            Sql::new(
                "see whether the VM is stopped",
                "SELECT CASE WHEN vm_state = 'stopped' THEN 'about to start' ELSE vm_state END \
                 FROM vm_runtimes WHERE vm_id = $1 AND (vm_state <> 'stopped' OR vm_cmd = 'start') FOR UPDATE",
            ),
            Status::VmNotStopped,
        )],
        belongings: &[],
    }),
};

const USER: Relation = Relation {
    from: "users",
    joins: &[("tenants", "JOIN tenants ON tenants.id = users.tenant_id")],
    fields: with_creation!(
        "users",
        [
            ("id", "users.id"),
            ("name", "users.login"),
            ("description", "users.description"),
            ("blocked", "users.blocked"),
            ("number_of_vms", "(SELECT count(*) FROM vms WHERE vms.user_id = users.id)"),
            (
                "number_of_vms_connected",
                "(SELECT count(*) FROM vms JOIN vm_runtimes AS r ON r.vm_id = vms.id \
             WHERE vms.user_id = users.id AND r.user_state = 'connected')",
            ),
            ("tenant_id", "users.tenant_id"),
            ("tenant_name", "tenants.name"),
        ]
    ),
    sets: &[],
    tenant: Some("users.tenant_id"),
    hidden: None,
    storage: Some(Storage {
        table: "users",
        columns: &[
            ("name", "login"),
            ("description", "description"),
            ("blocked", "blocked"),
            ("tenant_id", "tenant_id"),
            ("password", "password"),
        ],
        side: None,
        side_columns: &[],
        companions: &[],
        guards: &[(
            Sql::new(
                "see whether the user has VMs",
                "SELECT count(*) || ' VMs' FROM vms WHERE user_id = $1 HAVING count(*) > 0",
            ),
            Status::HasDependents,
        )],
        belongings: &[],
    }),
};

const HOST: Relation = Relation {
    from: "hosts JOIN host_runtimes ON host_runtimes.host_id = hosts.id",
    joins: &[],
    fields: with_creation!(
        "hosts",
        [
            ("id", "hosts.id"),
            ("name", "hosts.name"),
            ("description", "hosts.description"),
            ("address", "hosts.address"),
            ("blocked", "host_runtimes.blocked"),
            ("frontend", "hosts.frontend"),
            ("backend", "hosts.backend"),
            ("state", "host_runtimes.state"),
            (
                "number_of_vms_connected",
                "(SELECT count(*) FROM vm_runtimes AS r WHERE r.host_id = hosts.id AND r.vm_state = 'running')::integer",
            ),
        ]
    ),
    sets: &[("vm_id", "SELECT r.vm_id FROM vm_runtimes AS r WHERE r.host_id = hosts.id")],
    tenant: None,
    hidden: None,
    storage: Some(Storage {
        table: "hosts",
        columns: &[
            ("name", "name"),
            ("description", "description"),
            ("address", "address"),
            ("frontend", "frontend"),
            ("backend", "backend"),
        ],
        side: Some(("host_runtimes", "host_id")),
        side_columns: &[("blocked", "blocked")],
        companions: &[
            Sql::new(
                "make the runtime row of the host",
                "INSERT INTO host_runtimes (host_id, state, blocked) VALUES ($1, 'stopped', false)",
            ),
            Sql::new("make the counters of the host", "INSERT INTO host_counters (host_id) VALUES ($1)"),
        ],
        guards: &[
            (
                Sql::new(
                    "see whether the host runs",
                    "SELECT state FROM host_runtimes WHERE host_id = $1 AND state = 'running' FOR UPDATE",
                ),
                Status::HostRunning,
            ),
            (
                Sql::new(
                    "see whether VMs need the host",
                    "SELECT count(*) || ' VMs' FROM vm_runtimes WHERE host_id = $1 OR l7r_host_id = $1 \
                     HAVING count(*) > 0",
                ),
                Status::HasDependents,
            ),
        ],
        belongings: &[],
    }),
};

const OSF: Relation = Relation {
    from: "osfs",
    joins: &[("tenants", "JOIN tenants ON tenants.id = osfs.tenant_id")],
    fields: with_creation!(
        "osfs",
        [
            ("id", "osfs.id"),
            ("name", "osfs.name"),
            ("description", "osfs.description"),
            ("overlay", "osfs.use_overlay"),
            ("user_storage", "osfs.user_storage_size"),
            ("memory", "osfs.memory"),
            ("number_of_vms", "(SELECT count(*) FROM vms WHERE vms.osf_id = osfs.id)"),
            ("number_of_dis", "(SELECT count(*) FROM dis WHERE dis.osf_id = osfs.id)"),
            ("osd_id", "osfs.osd_id"),
            ("tenant_id", "osfs.tenant_id"),
            ("tenant_name", "tenants.name"),
        ]
    ),
    sets: &[
        ("vm_id", "SELECT vms.id FROM vms WHERE vms.osf_id = osfs.id"),
        ("di_id", "SELECT dis.id FROM dis WHERE dis.osf_id = osfs.id"),
    ],
    tenant: Some("osfs.tenant_id"),
    hidden: None,
    storage: Some(Storage {
        table: "osfs",
        columns: &[
            ("name", "name"),
            ("description", "description"),
            ("overlay", "use_overlay"),
            ("user_storage", "user_storage_size"),
            ("memory", "memory"),
            ("osd_id", "osd_id"),
            ("tenant_id", "tenant_id"),
        ],
        side: None,
        side_columns: &[],
        companions: &[],
        guards: &[(
            Sql::new(
                "see whether the OSF is used",
                "SELECT v.n || ' VMs, ' || d.n || ' images' FROM \
                 (SELECT count(*) AS n FROM vms WHERE osf_id = $1) AS v, \
                 (SELECT count(*) AS n FROM dis WHERE osf_id = $1) AS d WHERE v.n + d.n > 0",
            ),
            Status::HasDependents,
        )],
        belongings: &[],
    }),
};

const DI: Relation = Relation {
    from: "dis JOIN di_runtimes ON di_runtimes.di_id = dis.id JOIN osfs ON osfs.id = dis.osf_id",
    joins: &[("tenants", "JOIN tenants ON tenants.id = osfs.tenant_id")],
    fields: with_creation!(
        "dis",
        [
            ("id", "dis.id"),
            ("disk_image", "dis.path"),
            ("file", "regexp_replace(dis.path, '^' || dis.id || '-', '')"),
            ("description", "dis.description"),
            ("version", "dis.version"),
            ("osf_id", "dis.osf_id"),
            ("osf_name", "osfs.name"),
            ("blocked", "dis.blocked"),
            (
                "tags",
                "(SELECT coalesce(json_agg(json_build_object('id', g.id, 'tag', g.tag, 'fixed', g.fixed) \
             ORDER BY g.tag), '[]') FROM di_tags AS g WHERE g.di_id = dis.id)",
            ),
            ("state", "di_runtimes.state::text"),
            ("state_ts", "di_runtimes.state_ts"),
            ("elapsed_time", "di_runtimes.elapsed_time"),
            ("auto_publish", "(di_runtimes.auto_publish <> 0)"),
            ("foreign_id", "di_runtimes.foreign_id"),
            ("expiration_time_soft", "di_runtimes.expiration_time_soft"),
            ("expiration_time_hard", "di_runtimes.expiration_time_hard"),
            ("percentage", "di_runtimes.percentage"),
            ("error_code", "di_runtimes.error_code"),
            ("status_message", "di_runtimes.status_message"),
            ("sha256", "dis.sha256"),
            ("size", "dis.size"),
            ("tenant_id", "osfs.tenant_id"),
            ("tenant_name", "tenants.name"),
        ]
    ),
    sets: &[],
    tenant: Some("osfs.tenant_id"),
    hidden: None,
    storage: Some(Storage {
        table: "dis",
        columns: &[
            ("disk_image", "path"),
            ("description", "description"),
            ("version", "version"),
            ("osf_id", "osf_id"),
            ("blocked", "blocked"),
        ],
        side: Some(("di_runtimes", "di_id")),
        side_columns: &[
            ("auto_publish", "auto_publish"),
            ("expiration_time_soft", "expiration_time_soft"),
            ("expiration_time_hard", "expiration_time_hard"),
        ],
        companions: &[Sql::new(
            "make the runtime row of the image",
            "INSERT INTO di_runtimes (di_id, state, state_ts) \
             VALUES ($1, 'new', extract(epoch FROM now())::integer)",
        )],
        guards: &[
            (
                Sql::new(
                    "see whether VMs run the image",
                    "SELECT count(*) || ' VMs' FROM vm_runtimes WHERE current_di_id = $1 HAVING count(*) > 0",
                ),
                Status::ImageInUse,
            ),
            (
                Sql::new(
                    "see whether VMs boot from the image",
                    "SELECT count(*) || ' VMs' FROM vms JOIN dis ON dis.osf_id = vms.osf_id \
                     JOIN di_runtimes ON di_runtimes.di_id = dis.id AND di_runtimes.state = 'published' \
                     JOIN di_tags ON di_tags.di_id = dis.id AND di_tags.tag = vms.di_tag \
                     WHERE dis.id = $1 HAVING count(*) > 0",
                ),
                Status::HasDependents,
            ),
        ],
        belongings: &[],
    }),
};

const TAG: Relation = Relation {
    from: "di_tags JOIN dis ON dis.id = di_tags.di_id JOIN osfs ON osfs.id = dis.osf_id",
    joins: &[("tenants", "JOIN tenants ON tenants.id = osfs.tenant_id")],
    fields: &[
        ("osf_id", "dis.osf_id"),
        ("di_id", "di_tags.di_id"),
        ("name", "di_tags.tag"),
        ("id", "di_tags.id"),
        ("tenant_id", "osfs.tenant_id"),
        ("tenant_name", "tenants.name"),
    ],
    sets: &[],
    tenant: Some("osfs.tenant_id"),
    hidden: None,
    storage: None,
};

const TENANT: Relation = Relation {
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
    hidden: Some("tenants.id <> -1"),
    storage: Some(Storage {
        table: "tenants",
        columns: &[("name", "name"), ("description", "description"), ("blocked", "blocked")],
        side: Some(("wat_setups_by_tenants", "tenant_id")),
        side_columns: &[("language", "language"), ("block", "block")],
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

const ADMINISTRATOR: Relation = Relation {
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
        companions: &[Sql::new(
            "make the console setup of the administrator",
            "INSERT INTO wat_setups_by_administrators (administrator_id, block, language) VALUES ($1, 10, 'auto')",
        )],
        guards: &[],
        belongings: &[],
    }),
};

const EVENT: Relation = Relation {
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
    hidden: None,
    storage: None,
};

#[cfg(test)]
mod tests {
    use qvd_model::action::Access;

    use super::*;

    /// A field without a place would be refused only when somebody uses it.
    #[test]
    fn every_field_of_the_registry_has_a_place() {
        for object in Object::ALL {
            let Some(relation) = relation(*object) else { continue };
            for field in entity(*object).fields {
                let used = field.filter || field.order || field.show != qvd_model::action::Show::Never;
                let set = relation.sets.iter().any(|(name, _)| *name == field.name);
                assert!(
                    !used || set || relation.expression(field.name).is_some(),
                    "{object}: {}",
                    field.name
                );
                if field.create == Access::No && field.update.is_none() {
                    continue;
                }
                let storage = relation.storage.as_ref().unwrap();
                let mut columns = storage.columns.iter().chain(storage.side_columns);
                assert!(
                    columns.any(|(name, _)| *name == field.name),
                    "{object}: {} is not stored",
                    field.name
                );
            }
        }
    }
}
