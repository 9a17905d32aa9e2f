//! Names of the NOTIFY channels (`spec/database.md` 8). Notifications are doorbells: they carry no data.

use crate::ids::HostId;

/// Rows of `configs` or `ssl_configs` changed.
pub const CONFIG_CHANGED: &str = "qvd_config_changed";
/// A line was added to `changes`.
pub const CHANGES: &str = "qvd_changes";
/// Somebody may do more or less than before, or is known no more.
pub const ACCESS_CHANGED: &str = "qvd_access_changed";
/// A VM row, or its runtime row, changed.
pub const VM_CHANGED: &str = "vm_changed";
/// The state of a desktop changed as its user sees it.
pub const DESKTOP_CHANGED: &str = "desktop_changed";
/// A host or its runtime row changed.
pub const HOST_CHANGED: &str = "host_changed";
/// A disk image was deleted.
pub const DI_DELETED: &str = "di_deleted";
/// A VM was deleted.
pub const VM_DELETED: &str = "vm_deleted";

/// A command waits in `host_runtimes.cmd` of this host.
pub fn host_command(host: HostId) -> String {
    format!("qvd_cmd_for_host{host}")
}

/// A command waits in `vm_runtimes.vm_cmd` of a VM assigned to this host.
pub fn vm_command(host: HostId) -> String {
    format!("qvd_cmd_for_vm_on_host{host}")
}

/// A command waits in `vm_runtimes.user_cmd` of a session whose router runs on this host.
pub fn user_command(router_host: HostId) -> String {
    format!("qvd_cmd_for_user_on_host{router_host}")
}
