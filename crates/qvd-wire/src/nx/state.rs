//! The words that nxagent writes into its state file.

/// What nxagent says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum XServerState {
    /// It waits for its first client.
    Starting,
    /// A client is connected.
    Running,
    /// It lets go of its client.
    Suspending,
    /// It has no client and waits to be resumed.
    Suspended,
    /// It waits for the client of a resumed session.
    Resuming,
    /// It ends.
    Terminating,
    /// It has ended.
    Terminated,
}

impl XServerState {
    /// Reads the content of a state file; `None` if it is empty or half-written.
    pub fn parse(content: &[u8]) -> Option<Self> {
        let word = std::str::from_utf8(content).ok()?.trim();
        Some(match word {
            "STARTING" => Self::Starting,
            "RUNNING" => Self::Running,
            "SUSPENDING" => Self::Suspending,
            "SUSPENDED" => Self::Suspended,
            "RESUMING" => Self::Resuming,
            "TERMINATING" => Self::Terminating,
            "TERMINATED" => Self::Terminated,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_with_or_without_a_line_end() {
        assert_eq!(XServerState::parse(b"RUNNING"), Some(XServerState::Running));
        assert_eq!(XServerState::parse(b"SUSPENDED\n"), Some(XServerState::Suspended));
        assert_eq!(XServerState::parse(b""), None);
        assert_eq!(XServerState::parse(b"SUSPEN"), None);
    }
}
