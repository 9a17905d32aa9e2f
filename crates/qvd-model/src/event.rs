//! The story of an object: one line of table `events` for each thing that happened to it.

use crate::words::words;

words! {
    /// What an event is about.
    pub enum ObjectKind: "object kind" {
        /// A VM.
        Vm = "vm",
        /// A server node.
        Host = "host",
        /// A user of desktops.
        User = "user",
        /// A disk image.
        Di = "di",
        /// A flavour.
        Osf = "osf",
        /// A configuration key.
        Config = "config",
        /// An administrator.
        Administrator = "administrator",
        /// A role.
        Role = "role",
        /// A tenant.
        Tenant = "tenant",
    }
}

words! {
    /// Why a connection ended: the closed list of DESIGN 4.10.
    pub enum EndReason: "end reason" {
        /// The client closed it.
        Left = "left",
        /// The link broke.
        LinkLost = "link_lost",
        /// Another client took the session.
        TakenOver = "taken_over",
        /// An administrator disconnected it.
        Admin = "admin",
        /// The VM was stopped.
        VmStopped = "vm_stopped",
        /// The VM failed.
        VmFailed = "vm_failed",
        /// The VM expired.
        Expired = "expired",
        /// Nobody used it.
        Idle = "idle",
        /// The router drains for an upgrade.
        Drain = "drain",
        /// The node was lost.
        NodeLost = "node_lost",
    }
}
