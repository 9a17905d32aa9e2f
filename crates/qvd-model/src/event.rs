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

impl EndReason {
    /// Whether the client only lost its way to a session that goes on, so that it may come back by itself.
    pub const fn is_interruption(self) -> bool {
        matches!(self, Self::LinkLost | Self::Drain)
    }

    /// What the user reads, with what to do. `None` where the user ended it.
    pub const fn sentence(self) -> Option<&'static str> {
        Some(match self {
            Self::Left => return None,
            Self::LinkLost => {
                "The network between you and the router failed. The desktop goes on; connect again to continue."
            }
            Self::TakenOver => {
                "Another client took your desktop over. If that was not you, change your password and tell your \
                 administrator; otherwise connect again to have it here."
            }
            Self::Admin => {
                "An administrator ended the connection. The desktop goes on; connect again to continue."
            }
            Self::VmStopped => "Your virtual machine was stopped. Connect again to start it.",
            Self::VmFailed => {
                "Your virtual machine failed. Connect again to start it; if it fails again, ask your administrator."
            }
            Self::Expired => "The time of your virtual machine is over. Connect again to start it anew.",
            Self::Idle => "Nobody used the desktop for too long. It goes on; connect again to continue.",
            Self::Drain => "The router is being stopped. The desktop goes on; connect again to continue.",
            Self::NodeLost => {
                "The server that your virtual machine ran on was lost. Connect again to start it elsewhere."
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_that_the_user_did_not_choose_has_its_own_sentence() {
        let sentences: std::collections::BTreeSet<_> =
            EndReason::ALL.iter().filter_map(|reason| reason.sentence()).collect();
        assert_eq!(sentences.len(), EndReason::ALL.len() - 1);
        assert!(sentences.iter().all(|sentence| sentence.contains("onnect again")));
    }
}
