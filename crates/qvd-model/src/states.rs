//! Public states (what is) and commands (what somebody wants) of VMs, sessions and hosts.
//!
//! Spelled as in the look-up tables of QVD-DB (`vm_states`, `vm_cmds`, `user_states`, …).

use crate::words::words;

words! {
    /// `vm_runtimes.vm_state`.
    pub enum VmState: "VM state" {
        /// Nothing runs and nothing is mounted.
        Stopped = "stopped",
        /// A node is preparing or booting it.
        Starting = "starting",
        /// Its agent answers.
        Running = "running",
        /// A node is taking it down.
        Stopping = "stopping",
        /// Cleaning up failed; the node retries.
        Zombie = "zombie",
        /// Its agent is silent and it is kept for inspection.
        Debugging = "debugging",
    }
}

words! {
    /// `vm_runtimes.vm_cmd`.
    pub enum VmCommand: "VM command" {
        /// Start a stopped VM.
        Start = "start",
        /// Stop a VM, gracefully first.
        Stop = "stop",
        /// Reserved by the schema; nobody gives it.
        Busy = "busy",
    }
}

words! {
    /// `vm_runtimes.user_state`: the connection of a client to the session.
    pub enum UserState: "user state" {
        /// No client.
        Disconnected = "disconnected",
        /// A router has the session and prepares it.
        Connecting = "connecting",
        /// Bytes flow.
        Connected = "connected",
    }
}

words! {
    /// `vm_runtimes.user_cmd`.
    pub enum UserCommand: "user command" {
        /// End the connection; the session is suspended.
        Abort = "abort",
    }
}

words! {
    /// The X session of a desktop, as its agent tells it (`x_state`, `spec/vma.md` 4.1).
    pub enum SessionState: "session state" {
        /// No session.
        Stopped = "stopped",
        /// A session is being started or resumed.
        Starting = "starting",
        /// The user's account or home is being made.
        Provisioning = "provisioning",
        /// The session waits for the link of a client.
        Listening = "listening",
        /// A client is linked.
        Connected = "connected",
        /// The session lets go of its client.
        Suspending = "suspending",
        /// The session lives without a client.
        Suspended = "suspended",
        /// The session ends.
        Stopping = "stopping",
    }
}

words! {
    /// `host_runtimes.state`.
    pub enum HostState: "host state" {
        /// No HKD.
        Stopped = "stopped",
        /// HKD prepares the node.
        Starting = "starting",
        /// HKD takes commands.
        Running = "running",
        /// HKD leaves.
        Stopping = "stopping",
        /// Peers gave it up.
        Lost = "lost",
    }
}

words! {
    /// `host_runtimes.cmd`.
    pub enum HostCommand: "host command" {
        /// Stop all VMs and the HKD.
        Stop = "stop",
    }
}

impl VmState {
    /// The states in which a command may be given (`spec/database.md` 11.9).
    pub const fn accepts(self, command: VmCommand) -> bool {
        match command {
            VmCommand::Start => matches!(self, Self::Stopped),
            VmCommand::Stop => matches!(self, Self::Starting | Self::Running | Self::Debugging),
            VmCommand::Busy => false,
        }
    }
}

impl UserState {
    /// Whether `user_cmd` may be set to `abort` in this state.
    pub const fn accepts_abort(self) -> bool {
        matches!(self, Self::Connecting | Self::Connected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_unknown_ones_name_the_choices() {
        for state in VmState::ALL {
            assert_eq!(state.as_str().parse::<VmState>().unwrap(), *state);
        }
        let error = "gone".parse::<UserState>().unwrap_err().to_string();
        assert_eq!(error, "`gone` is not a user state; expected one of disconnected, connecting, connected");
    }

    #[test]
    fn commands_are_accepted_only_where_the_schema_says() {
        assert!(VmState::Stopped.accepts(VmCommand::Start));
        assert!(!VmState::Running.accepts(VmCommand::Start));
        assert!(VmState::Debugging.accepts(VmCommand::Stop));
        assert!(!VmState::Zombie.accepts(VmCommand::Stop));
    }
}
