//! The roles that every database starts with, with the ids of existing databases (`spec/database.md` 9.8).
//!
//! All are fixed and belong to the tenant of global things. Those offered to administrators are bundles of the
//! internal ones, which are bundles of ACLs.

/// One shipped role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// Its fixed id.
    pub id: i32,
    /// Its name.
    pub name: &'static str,
    /// Whether it is a building block, not offered for assignment.
    pub internal: bool,
    /// The ids of the roles it inherits from, ascending.
    pub inherits: &'static [i32],
    /// The ACLs it grants itself, sorted.
    pub own: &'static [&'static str],
    /// The ACLs it refuses to inherit.
    pub refused: &'static [&'static str],
}

const fn role(id: i32, name: &'static str, inherits: &'static [i32], own: &'static [&'static str]) -> Role {
    Role { id, name, internal: true, inherits, own, refused: &[] }
}

/// Every shipped role, by id.
#[rustfmt::skip]
pub const ROLES: &[Role] = &[
    role(1, "Administrators Creator", &[], &["administrator.create.", "administrator.create.language"]),
    role(2, "Administrators Eraser", &[], &["administrator.delete."]),
    role(3, "Administrators Manager", &[1, 2, 4, 5, 6], &[]),
    role(4, "Administrators Operator", &[], &["administrator.update.assign-role"]),
    role(5, "Administrators Reader", &[], &[
        "administrator.see-details.", "administrator.see-main.", "administrator.see.acl-list",
        "administrator.see.acl-list-roles", "administrator.see.created-by",
        "administrator.see.creation-date", "administrator.see.description", "administrator.see.id",
        "administrator.see.language", "administrator.see.log", "administrator.see.roles",
    ]),
    role(6, "Administrators Updater", &[], &[
        "administrator.update.description", "administrator.update.language",
        "administrator.update.password",
    ]),
    role(7, "Images Creator", &[], &[
        "di.create.", "di.create.default", "di.create.generation", "di.create.properties",
        "di.create.tags", "di.create.version",
    ]),
    role(8, "Images Eraser", &[], &["di.delete."]),
    role(9, "Images Manager", &[7, 8, 10, 11, 12], &[]),
    role(10, "Images Operator", &[], &["di.update.block", "di.update.default"]),
    role(11, "Images Reader", &[], &[
        "di.see-details.", "di.see-main.", "di.see.block", "di.see.created-by", "di.see.creation-date",
        "di.see.default", "di.see.description", "di.see.head", "di.see.id", "di.see.log", "di.see.osf",
        "di.see.properties", "di.see.tags", "di.see.version", "di.see.vm-list", "di.see.vm-list-block",
        "di.see.vm-list-expiration", "di.see.vm-list-state", "di.see.vm-list-user-state",
        "di.stats.blocked", "di.stats.summary",
    ]),
    role(12, "Images Updater", &[], &[
        "di.update.auto-publish", "di.update.description", "di.update.properties", "di.update.publish",
        "di.update.tags", "di.update.vms-expiration",
    ]),
    role(13, "Logs Manager", &[], &[
        "log.see-details.", "log.see-main.", "log.see.address", "log.see.administrator",
        "log.see.call-arguments", "log.see.source",
    ]),
    role(14, "Master", &[33, 67], &[]),
    role(15, "Nodes Creator", &[], &["host.create.", "host.create.properties"]),
    role(16, "Nodes Eraser", &[], &["host.delete."]),
    role(17, "Nodes Manager", &[15, 16, 18, 19, 20], &[]),
    role(18, "Nodes Operator", &[], &["host.update.block", "host.update.stop-vms"]),
    role(19, "Nodes Reader", &[], &[
        "host.see-details.", "host.see-main.", "host.see.address", "host.see.block", "host.see.created-by",
        "host.see.creation-date", "host.see.description", "host.see.id", "host.see.log",
        "host.see.properties", "host.see.state", "host.see.vm-list", "host.see.vm-list-block",
        "host.see.vm-list-expiration", "host.see.vm-list-state", "host.see.vm-list-user-state",
        "host.see.vms-info", "host.stats.blocked", "host.stats.running-hosts", "host.stats.summary",
        "host.stats.top-hosts-most-vms",
    ]),
    role(20, "Nodes Updater", &[], &[
        "host.update.address", "host.update.description", "host.update.name", "host.update.properties",
    ]),
    Role { internal: false, refused: &["vm.update.name"],
        ..role(21, "Operator L1", &[35], &[
            "osf.see.vm-list-state",
        ])
    },
    Role { internal: false, ..role(22, "Operator L2", &[21, 34], &[]) },
    Role { internal: false, ..role(23, "Operator L3", &[17, 22, 31, 32, 36], &[]) },
    role(24, "OSFs Creator", &[], &[
        "osf.create.", "osf.create.memory", "osf.create.properties", "osf.create.user-storage",
    ]),
    role(25, "OSFs Eraser", &[], &["osf.delete."]),
    role(26, "OSFs Manager", &[24, 25, 27, 28, 29], &[]),
    role(27, "OSFs Operator", &[], &["osf.see.di-list-default-update", "osf.see.vm-list-state"]),
    role(28, "OSFs Reader", &[], &[
        "osf.see-details.", "osf.see-main.", "osf.see.created-by", "osf.see.creation-date",
        "osf.see.description", "osf.see.di-list", "osf.see.di-list-block", "osf.see.di-list-default",
        "osf.see.di-list-head", "osf.see.di-list-tags", "osf.see.dis-info", "osf.see.id", "osf.see.log",
        "osf.see.memory", "osf.see.overlay", "osf.see.properties", "osf.see.user-storage",
        "osf.see.vm-list", "osf.see.vm-list-block", "osf.see.vm-list-expiration", "osf.see.vm-list-state",
        "osf.see.vm-list-user-state", "osf.see.vms-info", "osf.stats.summary",
    ]),
    role(29, "OSFs Updater", &[], &[
        "osf.update.description", "osf.update.memory", "osf.update.name", "osf.update.properties",
        "osf.update.user-storage",
    ]),
    role(30, "QVD Config Manager", &[], &["config.qvd.", "property.manage.", "property.see-main."]),
    role(31, "QVD Creator", &[7, 24, 51, 60], &[]),
    role(32, "QVD Eraser", &[8, 25, 52, 61], &[]),
    role(33, "QVD Manager", &[9, 26, 30, 53, 62], &[]),
    role(34, "QVD Operator", &[10, 27, 54, 63], &[]),
    role(35, "QVD Reader", &[11, 28, 55, 64], &[]),
    role(36, "QVD Updater", &[12, 29, 56, 65], &[]),
    role(37, "Roles Creator", &[], &["role.create."]),
    role(38, "Roles Eraser", &[], &["role.delete."]),
    role(39, "Roles Manager", &[37, 38, 40, 41, 42], &[]),
    role(40, "Roles Operator", &[], &["role.update.assign-acl", "role.update.assign-role"]),
    role(41, "Roles Reader", &[], &[
        "role.see-details.", "role.see-main.", "role.see.acl-list", "role.see.acl-list-roles",
        "role.see.created-by", "role.see.creation-date", "role.see.description", "role.see.id",
        "role.see.inherited-roles", "role.see.log",
    ]),
    role(42, "Roles Updater", &[], &["role.update.description", "role.update.name"]),
    Role { internal: false,
        ..role(43, "Root", &[50], &[
            "tenant.update.language", "tenant.update.name", "user.see.vm-list",
        ])
    },
    role(44, "Tenants Creator", &[], &["tenant.create."]),
    role(45, "Tenants Eraser", &[], &["tenant.delete.", "tenant.purge."]),
    role(46, "Tenants Manager", &[44, 45, 47, 48, 49], &[]),
    role(47, "Tenants Operator", &[], &["tenant.update.block"]),
    role(48, "Tenants Reader", &[], &[
        "tenant.see-details.", "tenant.see-main.", "tenant.see.block", "tenant.see.blocksize",
        "tenant.see.created-by", "tenant.see.creation-date", "tenant.see.description",
        "tenant.see.di-list", "tenant.see.di-list-block", "tenant.see.di-list-tags", "tenant.see.id",
        "tenant.see.language", "tenant.see.log", "tenant.see.user-list", "tenant.see.user-list-block",
        "tenant.see.vm-list", "tenant.see.vm-list-block", "tenant.see.vm-list-expiration",
        "tenant.see.vm-list-state", "tenant.see.vm-list-user-state",
    ]),
    role(49, "Tenants Updater", &[], &[
        "tenant.update.blocksize", "tenant.update.description", "tenant.update.language",
        "tenant.update.name",
    ]),
    role(50, "Total Master", &[14, 17, 46], &[]),
    role(51, "Users Creator", &[], &["user.create.", "user.create.properties"]),
    role(52, "Users Eraser", &[], &["user.delete."]),
    role(53, "Users Manager", &[51, 52, 54, 55, 56], &[]),
    role(54, "Users Operator", &[], &["user.update.block"]),
    role(55, "Users Reader", &[], &[
        "user.see-details.", "user.see-main.", "user.see.block", "user.see.created-by",
        "user.see.creation-date", "user.see.description", "user.see.id", "user.see.log",
        "user.see.properties", "user.see.vm-list", "user.see.vm-list-block", "user.see.vm-list-expiration",
        "user.see.vm-list-state", "user.see.vm-list-user-state", "user.see.vms-info", "user.stats.blocked",
        "user.stats.connected-users", "user.stats.summary",
    ]),
    role(56, "Users Updater", &[], &[
        "user.update.description", "user.update.password", "user.update.properties",
    ]),
    role(57, "Views Manager", &[58, 59], &[]),
    role(58, "Views Operator", &[], &[
        "views.update.columns", "views.update.filters-desktop", "views.update.filters-mobile",
    ]),
    role(59, "Views Reader", &[], &["views.see-main."]),
    role(60, "VMs Creator", &[], &["vm.create.", "vm.create.di-tag", "vm.create.properties"]),
    role(61, "VMs Eraser", &[], &["vm.delete."]),
    role(62, "VMs Manager", &[60, 61, 63, 64, 65], &[]),
    role(63, "VMs Operator", &[], &[
        "vm.spy.", "vm.spy.interactive", "vm.update.block", "vm.update.disconnect-user", "vm.update.state",
    ]),
    role(64, "VMs Reader", &[], &[
        "vm.see-details.", "vm.see-main.", "vm.see.block", "vm.see.created-by", "vm.see.creation-date",
        "vm.see.description", "vm.see.di", "vm.see.di-tag", "vm.see.di-version", "vm.see.expiration",
        "vm.see.host", "vm.see.id", "vm.see.ip", "vm.see.log", "vm.see.mac", "vm.see.next-boot-ip",
        "vm.see.osf", "vm.see.port-serial", "vm.see.port-ssh", "vm.see.port-vnc", "vm.see.properties",
        "vm.see.state", "vm.see.user", "vm.see.user-state", "vm.stats.blocked", "vm.stats.close-to-expire",
        "vm.stats.running-vms", "vm.stats.summary",
    ]),
    role(65, "VMs Updater", &[], &[
        "vm.update.description", "vm.update.di-tag", "vm.update.expiration", "vm.update.name",
        "vm.update.properties",
    ]),
    role(66, "WAT Config Manager", &[], &["config.wat."]),
    role(67, "WAT Manager", &[3, 13, 39, 57, 66], &[]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::acl_named;

    #[test]
    fn ids_run_without_gaps_and_name_only_what_exists() {
        for (role, id) in ROLES.iter().zip(1..) {
            assert_eq!(role.id, id, "{}", role.name);
            assert!(role.inherits.iter().all(|parent| (1..=67).contains(parent)), "{}", role.name);
            assert!(role.own.iter().chain(role.refused).all(|acl| acl_named(acl).is_some()), "{}", role.name);
            assert!(role.own.is_sorted(), "{}", role.name);
        }
    }

    #[test]
    fn the_catalogue_has_the_documented_size() {
        assert_eq!(ROLES.len(), 67);
        assert_eq!(ROLES.iter().map(|role| role.inherits.len()).sum::<usize>(), 86);
        assert_eq!(ROLES.iter().map(|role| role.own.len() + role.refused.len()).sum::<usize>(), 250);
        let offered: Vec<_> = ROLES.iter().filter(|role| !role.internal).map(|role| role.name).collect();
        assert_eq!(offered, ["Operator L1", "Operator L2", "Operator L3", "Root"]);
    }
}
