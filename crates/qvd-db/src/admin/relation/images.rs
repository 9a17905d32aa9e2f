//! Flavours, their disk images, and tags.

use qvd_model::action::Status;

use super::{Relation, Storage, stored_properties, with_creation};
use crate::Sql;

pub(super) const OSF: Relation = Relation {
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
            ("properties", stored_properties!("osf_properties", "osf_id", "osfs.id")),
        ]
    ),
    sets: &[
        ("vm_id", "SELECT vms.id FROM vms WHERE vms.osf_id = osfs.id"),
        ("di_id", "SELECT dis.id FROM dis WHERE dis.osf_id = osfs.id"),
    ],
    tenant: Some("osfs.tenant_id"),
    shared: false,
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
        constants: &[],
        created: true,
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

pub(super) const DI: Relation = Relation {
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
            ("format", "dis.format"),
            ("unpacked_size", "dis.unpacked_size"),
            ("remarks", "dis.remarks"),
            ("tenant_id", "osfs.tenant_id"),
            ("tenant_name", "tenants.name"),
            ("properties", stored_properties!("di_properties", "di_id", "dis.id")),
        ]
    ),
    sets: &[("tags", "SELECT g.tag FROM di_tags AS g WHERE g.di_id = dis.id")],
    tenant: Some("osfs.tenant_id"),
    shared: false,
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
        constants: &[],
        created: true,
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

pub(super) const TAG: Relation = Relation {
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
    shared: false,
    hidden: None,
    storage: None,
};
