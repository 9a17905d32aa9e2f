//! The life of the X session, as a pure machine.
//!
//! ```text
//! Stopped ─Start→ Preparing ─→ Provisioning ─Ready→ Launching ─Waiting→ Listening ⇄ Linking ─Running→ Connected
//!                                                                           ↑                            │
//!                                              Resuming ←Ready─ Waking      │                       Suspending
//!                                                 └──Waiting──────│─────────┘                            │
//!                                                                 └──────────Start── Suspended ←─────────┘
//! ```
//!
//! From every state with an X server, `Stop` leads to Stopping and its end to Stopped.

use qvd_model::SessionState;

/// Where the session is. `fresh` sessions have never had a client, so no desktop runs in them yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Nothing runs.
    Stopped,
    /// The hooks of a start run.
    Preparing,
    /// Account or home are being made.
    Provisioning,
    /// The X server was started and does not wait for a client yet.
    Launching,
    /// The X server waits for a client.
    Listening { fresh: bool },
    /// The router is connected; the X servers of both sides are not yet.
    Linking { fresh: bool },
    /// A client draws.
    Connected,
    /// The X server lets go of its client.
    Suspending,
    /// The session lives without a client.
    Suspended,
    /// The hooks of a resume run.
    Waking,
    /// The X server was told to resume.
    Resuming,
    /// The X server was told to end.
    Stopping,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A router asks for a session.
    Start,
    /// A router asks for a session that has a client.
    Displace,
    /// Account or home are missing.
    Provision,
    /// Preparations of a start or resume are done.
    Ready,
    /// Preparations failed, or a program could not be started.
    Failed,
    /// The X server waits for a client.
    Waiting,
    /// The router connected.
    Linked,
    /// The router's connection ended.
    Unlinked,
    /// The X server has a client.
    Running,
    /// The X server lets go of its client.
    Suspending,
    /// The X server has no client.
    Suspended,
    /// The X server ends.
    Terminating,
    /// The X server has ended.
    Exited,
    /// The desktop has ended.
    DesktopExited,
    /// Somebody asks to suspend.
    Suspend,
    /// Somebody asks to stop.
    Stop,
    /// The state has lasted too long.
    Late,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Run the hooks of a start and provision.
    Prepare,
    /// Give preparations up.
    Abandon,
    /// Run the hooks of a resume.
    Wake,
    /// Start the X server.
    Launch,
    /// Write its options anew and tell it to resume.
    Resume,
    /// Tell it to let go of its client, or to stop waiting for one.
    HangUp,
    /// End what may hold it up when it lets go of its client.
    Hasten,
    /// Tell it to end.
    Terminate,
    /// End it.
    Kill,
    /// Start the desktop.
    StartDesktop,
    /// Let the peer in that asked for the session.
    OpenGate,
    /// Let nobody in, and end the connection that there is.
    CloseGate,
    /// Clean up after the session.
    Clear,
    /// Run the action hook `suspend`, whose result does not matter any more.
    SuspendHook,
    /// Run the state hook.
    StateHook(SessionState),
}

/// Which limit a state has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Initiating,
    Listening,
    Linking,
    Suspending,
    Stopping,
}

/// The event makes no sense in the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

impl State {
    /// The state as callers see it.
    pub(crate) fn public(self) -> SessionState {
        match self {
            Self::Stopped => SessionState::Stopped,
            Self::Preparing | Self::Launching | Self::Waking | Self::Resuming => SessionState::Starting,
            Self::Provisioning => SessionState::Provisioning,
            Self::Listening { .. } | Self::Linking { .. } => SessionState::Listening,
            Self::Connected => SessionState::Connected,
            Self::Suspending => SessionState::Suspending,
            Self::Suspended => SessionState::Suspended,
            Self::Stopping => SessionState::Stopping,
        }
    }

    /// How long the state may last. Preparations have the limits of their hooks.
    pub(crate) fn limit(self) -> Option<Limit> {
        match self {
            Self::Launching | Self::Resuming => Some(Limit::Initiating),
            Self::Listening { .. } => Some(Limit::Listening),
            Self::Linking { .. } => Some(Limit::Linking),
            Self::Suspending => Some(Limit::Suspending),
            Self::Stopping => Some(Limit::Stopping),
            _ => None,
        }
    }

    fn has_server(self) -> bool {
        !matches!(self, Self::Stopped | Self::Preparing | Self::Provisioning)
    }

    /// What the event does to the session. What the X server says a second time, or too late, changes
    /// nothing; what somebody asks for at the wrong time is refused.
    pub(crate) fn step(self, event: Event) -> Result<(Self, Vec<Effect>), Refused> {
        use Effect as Do;
        use Event as On;
        use State as S;
        let stopped = Do::StateHook(SessionState::Stopped);
        let suspended = Do::StateHook(SessionState::Suspended);
        Ok(match (self, event) {
            (S::Stopped, On::Start) => (S::Preparing, vec![Do::Prepare]),
            (S::Preparing, On::Provision) => (S::Provisioning, vec![]),
            (S::Preparing | S::Provisioning, On::Ready) => (S::Launching, vec![Do::Launch]),
            (S::Preparing | S::Provisioning, On::Failed) => (S::Stopped, vec![Do::Clear, stopped]),
            (S::Preparing | S::Provisioning, On::Stop) => (S::Stopped, vec![Do::Abandon, Do::Clear, stopped]),
            (S::Launching, On::Failed) => (S::Stopped, vec![Do::Clear, stopped]),
            (S::Launching, On::Waiting) => (S::Listening { fresh: true }, vec![Do::OpenGate]),

            (S::Suspended, On::Start) => (S::Waking, vec![Do::Wake]),
            (S::Waking, On::Ready) => (S::Resuming, vec![Do::Resume]),
            (S::Waking, On::Failed) => (S::Suspended, vec![]),
            (S::Resuming, On::Failed) => (S::Stopping, vec![Do::Terminate]),
            (S::Resuming, On::Waiting) => (S::Listening { fresh: false }, vec![Do::OpenGate]),

            (S::Listening { fresh }, On::Linked) => (S::Linking { fresh }, vec![]),
            // The peer left before anything reached the X server, or the X server will tell what it does.
            (S::Linking { fresh }, On::Unlinked) => (S::Listening { fresh }, vec![Do::OpenGate, Do::Hasten]),
            (S::Listening { fresh } | S::Linking { fresh }, On::Running) => {
                let connected = Do::StateHook(SessionState::Connected);
                let start = fresh.then_some(Do::StartDesktop);
                (S::Connected, std::iter::once(connected).chain(start).collect())
            }
            // A first client that never came leaves nothing worth keeping; a later one leaves the user's work.
            (S::Listening { fresh: true } | S::Linking { fresh: true }, On::Suspend | On::Late) => {
                (S::Stopping, vec![Do::CloseGate, Do::Terminate])
            }
            (S::Listening { fresh: false } | S::Linking { fresh: false }, On::Suspend | On::Late) => {
                (S::Suspending, vec![Do::CloseGate, Do::HangUp])
            }
            (S::Listening { fresh: false } | S::Linking { fresh: false }, On::Suspending) => {
                (S::Suspending, vec![Do::CloseGate])
            }
            (S::Listening { fresh: false } | S::Linking { fresh: false }, On::Suspended) => {
                (S::Suspended, vec![Do::CloseGate, suspended])
            }

            // The X server will tell that it has noticed.
            (S::Connected, On::Unlinked) => (S::Connected, vec![Do::Hasten]),
            (S::Connected, On::Displace) => (S::Suspending, vec![Do::HangUp, Do::Hasten, Do::SuspendHook]),
            (S::Connected, On::Suspend) => (S::Suspending, vec![Do::HangUp, Do::Hasten]),
            (S::Connected, On::Suspending) => (S::Suspending, vec![Do::CloseGate, Do::SuspendHook]),
            (S::Connected, On::Suspended) => (S::Suspended, vec![Do::CloseGate, Do::SuspendHook, suspended]),
            (S::Suspending, On::Suspended) => (S::Suspended, vec![Do::CloseGate, suspended]),

            (S::Stopping, On::Late) => (S::Stopping, vec![Do::Kill]),
            (S::Launching | S::Resuming | S::Suspending, On::Late) => {
                (S::Stopping, vec![Do::CloseGate, Do::Terminate])
            }
            (S::Stopping, On::Stop) => (S::Stopping, vec![]),
            (state, On::Stop | On::DesktopExited) if state.has_server() => {
                (S::Stopping, vec![Do::Abandon, Do::CloseGate, Do::Terminate])
            }
            (state, On::Terminating) if state.has_server() => (S::Stopping, vec![Do::CloseGate]),
            (state, On::Exited) if state.has_server() => {
                (S::Stopped, vec![Do::Abandon, Do::CloseGate, Do::Clear, stopped])
            }
            (_, On::Start | On::Displace | On::Suspend | On::Stop) => return Err(Refused),
            (state, _) => (state, vec![]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use qvd_logic::chart::{Chart, word};

    const EVENTS: [Event; 17] = [
        Event::Start,
        Event::Displace,
        Event::Provision,
        Event::Ready,
        Event::Failed,
        Event::Waiting,
        Event::Linked,
        Event::Unlinked,
        Event::Running,
        Event::Suspending,
        Event::Suspended,
        Event::Terminating,
        Event::Exited,
        Event::DesktopExited,
        Event::Suspend,
        Event::Stop,
        Event::Late,
    ];

    fn run(mut state: State, events: &[Event]) -> (State, Vec<Effect>) {
        let mut all = Vec::new();
        for event in events {
            let (next, effects) = state.step(*event).unwrap();
            state = next;
            all.extend(effects);
        }
        (state, all)
    }

    const TO_CONNECTED: [Event; 6] =
        [Event::Start, Event::Provision, Event::Ready, Event::Waiting, Event::Linked, Event::Running];

    #[test]
    fn a_first_client_gets_a_desktop_and_a_second_one_the_same() {
        let (state, effects) = run(State::Stopped, &TO_CONNECTED);
        assert_eq!(state, State::Connected);
        assert_eq!(effects.iter().filter(|e| **e == Effect::StartDesktop).count(), 1);
        let leave_and_return = [
            Event::Unlinked,
            Event::Suspending,
            Event::Suspended,
            Event::Start,
            Event::Ready,
            Event::Suspended,
            Event::Waiting,
            Event::Linked,
            Event::Running,
        ];
        let (state, effects) = run(state, &leave_and_return);
        assert_eq!(state, State::Connected);
        assert!(!effects.contains(&Effect::StartDesktop));
        assert!(effects.contains(&Effect::SuspendHook));
    }

    #[test]
    fn a_client_that_never_comes_back_does_not_cost_the_session() {
        let resumed = State::Listening { fresh: false };
        assert_eq!(run(resumed, &[Event::Late, Event::Suspended]).0, State::Suspended);
        assert_eq!(resumed.step(Event::Suspended).unwrap().0, State::Suspended);
        assert_eq!(State::Listening { fresh: true }.step(Event::Late).unwrap().0, State::Stopping);
    }

    #[test]
    fn a_busy_session_is_refused_and_a_hung_server_is_ended() {
        assert_eq!(State::Connected.step(Event::Start), Err(Refused));
        assert_eq!(State::Stopped.step(Event::Suspend), Err(Refused));
        let (state, effects) = run(State::Suspending, &[Event::Late, Event::Late, Event::Exited]);
        assert_eq!(state, State::Stopped);
        assert!(effects.contains(&Effect::Terminate) && effects.contains(&Effect::Kill));
    }

    proptest! {
        /// The gate is open only while the X server waits; a session has one desktop and is cleared once.
        #[test]
        fn whatever_happens(picks in proptest::collection::vec(0usize..17, 0..60)) {
            let mut state = State::Stopped;
            let (mut open, mut desktop) = (false, false);
            for pick in picks {
                let Ok((next, effects)) = state.step(EVENTS[pick]) else { continue };
                for effect in effects {
                    match effect {
                        Effect::OpenGate => open = true,
                        Effect::CloseGate => open = false,
                        Effect::StartDesktop => {
                            prop_assert!(!desktop);
                            desktop = true;
                        }
                        Effect::Clear => {
                            prop_assert_eq!(next, State::Stopped);
                            prop_assert!(state != State::Stopped);
                            desktop = false;
                        }
                        Effect::Launch => prop_assert!(!state.has_server()),
                        Effect::HangUp | Effect::Hasten | Effect::Terminate | Effect::Kill | Effect::Resume => {
                            prop_assert!(state.has_server());
                        }
                        _ => {}
                    }
                }
                state = next;
                // A linked peer stays until its connection ends, hence Connected.
                let may_be_open = matches!(
                    state,
                    State::Listening { .. } | State::Linking { .. } | State::Connected | State::Suspending
                );
                prop_assert!(!open || may_be_open, "{:?}", state);
            }
        }
    }

    #[test]
    fn lifecycle_md_is_what_the_machine_does() {
        let states = [
            State::Stopped,
            State::Preparing,
            State::Provisioning,
            State::Launching,
            State::Listening { fresh: true },
            State::Linking { fresh: true },
            State::Connected,
            State::Suspending,
            State::Suspended,
            State::Waking,
            State::Resuming,
            State::Listening { fresh: false },
            State::Linking { fresh: false },
            State::Stopping,
        ];
        let name = |state: State| match state {
            State::Listening { fresh: true } => "Listening, first client".to_owned(),
            State::Linking { fresh: true } => "Linking, first client".to_owned(),
            other => word(&other),
        };
        let mut chart = Chart::default();
        for state in states {
            for event in EVENTS {
                let Ok((next, effects)) = state.step(event) else { continue };
                let effects: Vec<String> = effects
                    .iter()
                    .map(|effect| match effect {
                        Effect::StateHook(of) => format!("StateHook({of:?})"),
                        other => word(other),
                    })
                    .collect();
                chart.add(&name(state), &word(&event), &name(next), &effects);
            }
        }
        let file = include_str!("LIFECYCLE.md");
        let updated = chart.update(file);
        if std::env::var_os("UPDATE_LIFECYCLE").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/LIFECYCLE.md"), &updated).unwrap();
        } else {
            assert!(updated == file, "LIFECYCLE.md is not what the machine does; it should be:\n{updated}");
        }
    }
}
