//! VMs, their users, and the hosts that run them.

use qvd_model::action::Status;

use super::{Relation, Storage, stored_properties, with_creation};
use crate::Sql;

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

pub(super) const VM: Relation = Relation {
    from: "vms JOIN vm_runtimes ON vm_runtimes.vm_id = vms.id",
    joins: &[
        ("users", "JOIN users ON users.id = vms.user_id"),
        ("actual", "LEFT JOIN users AS actual ON actual.id = vm_runtimes.real_user_id"),
        ("vm_counters", "LEFT JOIN vm_counters ON vm_counters.vm_id = vms.id"),
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
            ("real_user_name", "actual.login"),
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
            ("run_attempts", "vm_counters.run_attempts"),
            ("run_ok", "vm_counters.run_ok"),
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
            ("properties", stored_properties!("vm_properties", "vm_id", "vms.id")),
        ]
    ),
    sets: &[],
    tenant: Some("users.tenant_id"),
    shared: false,
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
        constants: &[],
        created: true,
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

pub(super) const USER: Relation = Relation {
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
            ("properties", stored_properties!("user_properties", "user_id", "users.id")),
        ]
    ),
    sets: &[],
    tenant: Some("users.tenant_id"),
    shared: false,
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
        constants: &[],
        created: true,
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

pub(super) const HOST: Relation = Relation {
    from: "hosts JOIN host_runtimes ON host_runtimes.host_id = hosts.id",
    joins: &[("host_counters", "LEFT JOIN host_counters ON host_counters.host_id = hosts.id")],
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
                "suspect",
                "(CASE WHEN host_runtimes.state IN ('starting', 'running', 'stopping') \
                 AND extract(epoch FROM now() AT TIME ZONE 'UTC' - host_runtimes.ok_ts) \
                 > 3 * coalesce(host_runtimes.beat_seconds, 5) THEN 'no heartbeat for ' || \
                 extract(epoch FROM now() AT TIME ZONE 'UTC' - host_runtimes.ok_ts)::bigint || ' s' END)",
            ),
            (
                "heartbeat_age",
                "greatest(extract(epoch FROM now() AT TIME ZONE 'UTC' - host_runtimes.ok_ts), 0)::bigint",
            ),
            ("usable_ram", "host_runtimes.usable_ram"),
            ("usable_cpu", "host_runtimes.usable_cpu"),
            ("http_requests", "host_counters.http_requests"),
            ("auth_attempts", "host_counters.auth_attempts"),
            ("auth_ok", "host_counters.auth_ok"),
            ("nx_attempts", "host_counters.nx_attempts"),
            ("nx_ok", "host_counters.nx_ok"),
            ("short_sessions", "host_counters.short_sessions"),
            (
                "number_of_vms_connected",
                "(SELECT count(*) FROM vm_runtimes AS r WHERE r.host_id = hosts.id AND r.vm_state = 'running')::integer",
            ),
            ("properties", stored_properties!("host_properties", "host_id", "hosts.id")),
        ]
    ),
    sets: &[(
        "vm_id",
        "SELECT r.vm_id FROM vm_runtimes AS r JOIN vms ON vms.id = r.vm_id JOIN users ON users.id = vms.user_id \
         WHERE r.host_id = hosts.id AND {own}users.tenant_id",
    )],
    tenant: None,
    shared: false,
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
        constants: &[],
        created: true,
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
