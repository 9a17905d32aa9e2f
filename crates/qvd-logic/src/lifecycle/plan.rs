//! The steps of a start, and what undoes each.

/// A step of a start, in order (`spec/node.md` 4.4, 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Read VM, user, OSF and image; choose names and addresses; make the secret.
    Plan,
    /// Remove what an earlier life of the same VM may have left.
    Sweep,
    /// Unpack the image, once for all VMs.
    Unpack,
    /// Wait for a slot: bounds how many VMs start at the same time.
    Slot,
    /// Make or reuse the writable layer.
    Overlay,
    /// Mount the root file system.
    Mount,
    /// Make the home.
    Home,
    /// Register address and firewall.
    Network,
    /// Write the hypervisor's definition.
    Define,
    /// Start the hypervisor.
    Launch,
}

/// What is undone after a start failed or a VM stopped, latest step first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Undo {
    /// Give the slot back.
    Slot,
    /// Discard the writable layer, unless it persists.
    Overlay,
    /// Unmount everything at or below the root.
    Mount,
    /// Remove address and firewall.
    Network,
    /// Remove the hypervisor's definition.
    Define,
    /// Kill all processes.
    Processes,
}

impl Step {
    /// The first step.
    pub const FIRST: Self = Self::Plan;

    /// Every step, in order.
    pub const ALL: &'static [Self] = &[
        Self::Plan,
        Self::Sweep,
        Self::Unpack,
        Self::Slot,
        Self::Overlay,
        Self::Mount,
        Self::Home,
        Self::Network,
        Self::Define,
        Self::Launch,
    ];

    /// The step after this one.
    pub fn next(self) -> Option<Self> {
        Self::ALL.iter().copied().skip_while(|step| *step != self).nth(1)
    }

    /// What undoes it. A home outlives its VM, and a base tree belongs to all VMs of its image.
    pub const fn undo(self) -> Option<Undo> {
        match self {
            Self::Plan | Self::Sweep | Self::Unpack | Self::Home => None,
            Self::Slot => Some(Undo::Slot),
            Self::Overlay => Some(Undo::Overlay),
            Self::Mount => Some(Undo::Mount),
            Self::Network => Some(Undo::Network),
            Self::Define => Some(Undo::Define),
            Self::Launch => Some(Undo::Processes),
        }
    }

    /// Whether it may be dropped half-way: it takes long and leaves nothing that its undo would race with.
    pub const fn is_abandonable(self) -> bool {
        matches!(self, Self::Plan | Self::Unpack | Self::Slot)
    }

    /// The word that stands for the step in the row and in `explain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Sweep => "sweep",
            Self::Unpack => "unpack",
            Self::Slot => "slot",
            Self::Overlay => "overlay",
            Self::Mount => "mount",
            Self::Home => "home",
            Self::Network => "network",
            Self::Define => "define",
            Self::Launch => "launch",
        }
    }
}
