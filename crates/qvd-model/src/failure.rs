//! Why something that a user or an administrator asked for did not happen.
//!
//! A failure is a code for programs, the object it is about, what was found, and a sentence that says what to
//! do. It is stored with the row, written to `events`, shown by the client, `qa4` and the log.

use crate::words::words;

words! {
    /// The closed list of failure codes. The word is stable: scripts and tests rely on it.
    pub enum FailureCode: "failure code" {
        /// The OSF has no image with the VM's tag.
        NoImage = "no_image",
        /// Several images of the OSF carry the VM's tag.
        SeveralImages = "several_images",
        /// The image with the VM's tag is blocked.
        ImageBlocked = "image_blocked",
        /// The image with the VM's tag is not published yet.
        ImageNotPublished = "image_not_published",
        /// The image's file is not in the image directory.
        ImageMissing = "image_missing",
        /// The image's file is not what the hypervisor needs.
        ImageInvalid = "image_invalid",
        /// The image's content is not what was registered.
        ImageChanged = "image_changed",
        /// Overlay, home or base tree is in use by somebody else.
        StorageBusy = "storage_busy",
        /// A directory of the storage cannot be written, or is full.
        StorageFailed = "storage_failed",
        /// No host can take the VM.
        NoHost = "no_host",
        /// Bridge, address or firewall could not be set up.
        NetworkFailed = "network_failed",
        /// The hypervisor refused to start, or ended while starting.
        HypervisorExited = "hypervisor_exited",
        /// The agent in the desktop did not answer in time.
        AgentSilent = "agent_silent",
        /// The agent in the desktop refused or failed.
        AgentFailed = "agent_failed",
        /// The image has no X server for the session.
        XServerMissing = "x_server_missing",
        /// The X session did not come up.
        XSessionFailed = "x_session_failed",
        /// Somebody stopped the VM meanwhile.
        Cancelled = "cancelled",
        /// The node gave the VM up, or lost it.
        Fenced = "fenced",
        /// Its host was given up by the others.
        NodeLost = "node_lost",
        /// A configuration value is wrong.
        Configuration = "configuration",
        /// No HKD takes the command.
        NodeNotRunning = "node_not_running",
        /// The database did not answer.
        DatabaseAway = "database_away",
        /// Login or password is wrong.
        LoginRejected = "login_rejected",
        /// The VM is not there, or belongs to somebody else.
        UnknownVm = "unknown_vm",
        /// An administrator blocked the VM.
        VmBlocked = "vm_blocked",
        /// An administrator blocked the user.
        UserBlocked = "user_blocked",
        /// The host is blocked or not running.
        HostUnavailable = "host_unavailable",
        /// Another client has the session and did not let go in time.
        TakeoverTimeout = "takeover_timeout",
        /// Something took longer than its limit.
        Timeout = "timeout",
        /// A fault of ours; the log has more.
        Internal = "internal",
    }
}

impl FailureCode {
    /// What whoever reads it should do, as a sentence.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NoImage => "Give one image of the OSF that tag, or change the VM's tag.",
            Self::SeveralImages => "Leave the tag on one image of the OSF only.",
            Self::ImageBlocked => "Unblock the image, or move the tag to another one.",
            Self::ImageNotPublished => "Publish the image, or move the tag to a published one.",
            Self::ImageMissing => {
                "Copy the file into path.storage.images, or delete the image and register it again."
            }
            Self::ImageInvalid => "Register a tar archive of a root file system (gzip, bzip2, xz or zstd).",
            Self::ImageChanged => "Register changed content as a new image.",
            Self::StorageBusy => {
                "See which process of which node holds it; it is released when that VM has stopped."
            }
            Self::StorageFailed => "Check space, permissions and mount of the directory.",
            Self::NoHost => "Start or unblock a host, or see why its heartbeat is late: qa4 host get.",
            Self::NetworkFailed => "Check vm.network.* and the bridge of the node.",
            Self::HypervisorExited => "Read the captured output of the hypervisor in the node's log.",
            Self::AgentSilent => "Check that the image starts qvd-vma and gets its address.",
            Self::AgentFailed => "Read the agent's log inside the desktop.",
            Self::XServerMissing => "Install nxagent in the image and register the new image.",
            Self::XSessionFailed => "Read the session's log inside the desktop.",
            Self::Cancelled => "Start it again if that was not intended.",
            Self::Fenced => "It may be started again, on another host.",
            Self::NodeLost => "Start it again; it will run on another host.",
            Self::Configuration => "Correct the value.",
            Self::NodeNotRunning => "Start qvd-hkd on that host.",
            Self::DatabaseAway => {
                "Start PostgreSQL, or check database.* in the configuration file; then try again."
            }
            Self::LoginRejected => "Check login and password.",
            Self::UnknownVm => "Choose a VM of your own list.",
            Self::VmBlocked => "Ask your administrator to unblock it.",
            Self::UserBlocked => "Ask your administrator to unblock your account.",
            Self::HostUnavailable => "Try another router, or ask your administrator.",
            Self::TakeoverTimeout => "Close the other client and try again.",
            Self::Timeout => "Try again; if it stays, ask your administrator.",
            Self::Internal => "Ask your administrator to look at the log.",
        }
    }
}

/// One failure: what kind, about what, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("{detail}. {}", code.advice())]
pub struct Failure {
    /// For programs.
    pub code: FailureCode,
    /// For people: names the object and what was found; no full stop at the end.
    pub detail: String,
}

impl Failure {
    /// A failure about what `detail` names.
    pub fn new(code: FailureCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_what_and_what_to_do() {
        let failure = Failure::new(FailureCode::NoImage, "OSF 3 has no image with tag `default`");
        assert_eq!(
            failure.to_string(),
            "OSF 3 has no image with tag `default`. Give one image of the OSF that tag, or change the VM's tag."
        );
    }

    #[test]
    fn every_advice_is_a_sentence() {
        for code in FailureCode::ALL {
            assert!(code.advice().ends_with('.'), "{code}");
        }
    }
}
