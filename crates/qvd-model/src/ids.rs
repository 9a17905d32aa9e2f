//! Typed row ids. The numbers are the ones of QVD-DB.

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i32);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

ids! {
    /// A tenant. `-1` is the pseudo tenant of global configuration, `0` the one of super-administrators.
    TenantId,
    /// A user of desktops.
    UserId,
    /// An administrator.
    AdminId,
    /// A role of administrators.
    RoleId,
    /// An operating system flavour: run-time parameters and the images made for them.
    OsfId,
    /// A disk image of an OSF.
    DiId,
    /// A virtual desktop, whichever hypervisor runs it.
    VmId,
    /// A server node.
    HostId,
}

impl TenantId {
    /// Owner of the global configuration rows.
    pub const GLOBAL: Self = Self(-1);
    /// Tenant of the super-administrators.
    pub const SUPER: Self = Self(0);
}

/// Counts the owners that a VM row has had; every write of a node is conditioned on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
