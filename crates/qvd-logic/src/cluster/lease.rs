//! The lease of one node, as the node keeps it.
//!
//! ```text
//!            T_stop               T_lost − m
//!   Held ─────────────► Stopping ────────────► Fenced      registering again makes a new lease
//!    ▲                      │                     ▲
//!    └──── any witness ─────┘      disowned ──────┘ (from anywhere)
//! ```

use super::{Limits, Moment, Promise};

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its VMs are its own.
    Held,
    /// They will soon not be: they are being stopped.
    Stopping,
    /// They are not any more, until it has registered again.
    Fenced,
}

/// What happens to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A heartbeat to the row succeeded.
    Row {
        /// When it was sent.
        sent: Moment,
        /// What it wrote.
        wrote: Promise,
        /// Whether there are other nodes that ever ran.
        peers: bool,
    },
    /// The heartbeat file was written.
    File {
        /// When writing began.
        sent: Moment,
    },
    /// Whether the storage is shared with other nodes was found out.
    Shared(bool),
    /// The row says that the node was given up.
    Disowned,
    /// Time passed.
    Elapsed,
}

/// What the owner of a lease is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Stop all VMs gracefully, until this moment at most.
    Stop(Moment),
    /// Kill all VMs.
    Kill,
}

/// The lease of a node that has registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    limits: Limits,
    stage: Stage,
    /// When the last heartbeat that reached the row was sent.
    row: Moment,
    /// When the last heartbeat that reached the file was.
    file: Option<Moment>,
    /// Whether there are other nodes, by the last answer.
    peers: bool,
    /// Whether the row may promise that this node keeps the deadlines.
    bound: bool,
    /// Whether the storage is shared.
    shared: bool,
    /// Whether the row is known to say that the file counts.
    file_counts: bool,
}

impl Lease {
    /// The lease of a node that registered, by a heartbeat that was sent then.
    pub const fn registered(limits: Limits, sent: Moment, wrote: Promise, peers: bool, shared: bool) -> Self {
        Self {
            limits,
            stage: Stage::Held,
            row: sent,
            file: None,
            peers,
            bound: peers || wrote.lease.is_some(),
            shared,
            file_counts: wrote.file && shared,
        }
    }

    /// How the node stands.
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Its times.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the next heartbeat writes to the row.
    pub fn promise(&self) -> Promise {
        Promise { lease: self.peers.then(|| self.limits.lost_after()), file: self.shared }
    }

    /// Whether the heartbeat file counts, as far as the row is known to say so.
    pub const fn file_counts(&self) -> bool {
        self.file_counts
    }

    /// When everything must be dead; `None` for a node that is alone.
    pub fn deadline(&self) -> Option<Moment> {
        self.bound.then(|| self.renewed() + self.limits.kill_after())
    }

    /// When the next event [`Event::Elapsed`] is due.
    pub fn due(&self) -> Option<Moment> {
        match self.stage {
            Stage::Held if self.bound => Some(self.renewed() + self.limits.stop_after()),
            Stage::Stopping => self.deadline(),
            Stage::Held | Stage::Fenced => None,
        }
    }

    /// The last sign of life that others can see.
    fn renewed(&self) -> Moment {
        let file = self.file.filter(|_| self.file_counts);
        file.map_or(self.row, |file| file.max(self.row))
    }

    /// Takes an event at `now`.
    pub fn step(&mut self, now: Moment, event: Event) -> Vec<Effect> {
        // Whatever arrives after the end came too late: others may have seen the end before it.
        if self.stage == Stage::Fenced {
            return Vec::new();
        }
        if event == Event::Disowned || self.deadline().is_some_and(|end| now >= end) {
            self.stage = Stage::Fenced;
            return vec![Effect::Kill];
        }
        match event {
            Event::Row { sent, wrote, peers } => {
                self.row = self.row.max(sent);
                self.peers = peers;
                // Bound as soon as others are known, before the row says so; free once it does not say so any more.
                self.bound = peers || wrote.lease.is_some();
                self.file_counts = wrote.file && self.shared;
            }
            Event::File { sent } => self.file = self.file.max(Some(sent)),
            Event::Shared(shared) => {
                self.shared = shared;
                self.file_counts &= shared;
            }
            Event::Disowned | Event::Elapsed => {}
        }
        let late = self.bound && now.since(self.renewed()) >= self.limits.stop_after();
        match (self.stage, late) {
            (Stage::Held, true) => {
                self.stage = Stage::Stopping;
                self.deadline().map(Effect::Stop).into_iter().collect()
            }
            (Stage::Stopping, false) => {
                self.stage = Stage::Held;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::chart::{Chart, word};

    const fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn limits() -> Limits {
        let s = Duration::from_secs;
        Limits::new(s(5), s(450), s(600)).unwrap()
    }

    fn promise(file: bool) -> Promise {
        Promise { lease: Some(limits().lost_after()), file }
    }

    fn of_two(shared: bool) -> Lease {
        Lease::registered(limits(), at(100), promise(shared), true, shared)
    }

    #[test]
    fn it_stops_then_kills_when_nothing_is_renewed() {
        let mut lease = of_two(false);
        assert_eq!(lease.due(), Some(at(550)));
        assert_eq!(lease.step(at(549), Event::Elapsed), []);
        assert_eq!(lease.step(at(550), Event::Elapsed), [Effect::Stop(at(670))]);
        assert_eq!((lease.stage(), lease.due()), (Stage::Stopping, Some(at(670))));
        assert_eq!(lease.step(at(670), Event::Elapsed), [Effect::Kill]);
        // Nothing but registering again helps now.
        let late = Event::Row { sent: at(660), wrote: promise(false), peers: true };
        assert_eq!(lease.step(at(671), late), []);
        assert_eq!((lease.stage(), lease.due(), lease.deadline()), (Stage::Fenced, None, Some(at(670))));
    }

    #[test]
    fn one_witness_is_enough_if_the_row_says_that_it_counts() {
        for shared in [false, true] {
            let mut lease = of_two(shared);
            lease.step(at(500), Event::File { sent: at(499) });
            let effects = lease.step(at(560), Event::Elapsed);
            assert_eq!(effects.is_empty(), shared);
        }
        // What the file proves ends before the row stops saying so.
        let mut lease = of_two(true);
        lease.step(at(500), Event::File { sent: at(499) });
        assert_eq!(lease.step(at(560), Event::Shared(false)), [Effect::Stop(at(670))]);
        assert!(!lease.promise().file);
    }

    #[test]
    fn a_heartbeat_counts_from_when_it_was_sent() {
        let mut lease = of_two(false);
        lease.step(at(400), Event::Row { sent: at(110), wrote: promise(false), peers: true });
        assert_eq!(lease.deadline(), Some(at(680)));
    }

    #[test]
    fn a_renewal_while_stopping_ends_the_stopping() {
        let mut lease = of_two(false);
        lease.step(at(550), Event::Elapsed);
        lease.step(at(600), Event::Row { sent: at(599), wrote: promise(false), peers: true });
        assert_eq!((lease.stage(), lease.due()), (Stage::Held, Some(at(1049))));
    }

    #[test]
    fn a_node_that_is_alone_holds_for_ever_and_binds_itself_before_it_says_so() {
        let alone = Promise::default();
        let mut lease = Lease::registered(limits(), at(100), alone, false, false);
        assert_eq!((lease.deadline(), lease.due(), lease.promise()), (None, None, alone));
        assert_eq!(lease.step(at(90_000), Event::Elapsed), []);
        lease.step(at(90_001), Event::Row { sent: at(90_000), wrote: alone, peers: true });
        assert_eq!((lease.deadline(), lease.promise()), (Some(at(90_570)), promise(false)));
        // The other node was deleted: free only when the row says nothing any more.
        lease.step(at(90_011), Event::Row { sent: at(90_010), wrote: promise(false), peers: false });
        assert_eq!((lease.deadline(), lease.promise()), (Some(at(90_580)), alone));
        lease.step(at(90_021), Event::Row { sent: at(90_020), wrote: alone, peers: false });
        assert_eq!(lease.deadline(), None);
    }

    #[test]
    fn a_node_that_was_given_up_kills_at_once_even_alone() {
        let mut lease = Lease::registered(limits(), at(100), Promise::default(), false, false);
        assert_eq!(lease.step(at(101), Event::Disowned), [Effect::Kill]);
        assert_eq!(lease.stage(), Stage::Fenced);
    }

    /// A node with a peer, one that shares its storage with it, and one that is alone, in every stage, before and
    /// after each of its deadlines.
    #[test]
    fn lifecycle_md_is_what_the_machine_does() {
        let alone = || Lease::registered(limits(), at(100), Promise::default(), false, false);
        let nodes = [("", of_two(false)), (", storage shared", of_two(true)), (", alone", alone())];
        let mut chart = Chart::default();
        for (kind, node) in &nodes {
            for (stage, since) in [(Stage::Held, 101), (Stage::Stopping, 550), (Stage::Fenced, 670)] {
                let mut before = node.clone();
                before.step(at(since), Event::Elapsed);
                if before.stage() != stage {
                    continue;
                }
                let state = format!("{stage:?}{kind}");
                for (when, now) in [("", since), (", T_stop over", 560), (", T_lost − m over", 680)] {
                    let sent = at(now - 1);
                    let events = [
                        (
                            "Row",
                            Event::Row { sent, wrote: node.promise(), peers: node.promise().lease.is_some() },
                        ),
                        ("File", Event::File { sent }),
                        ("Disowned", Event::Disowned),
                        ("Elapsed", Event::Elapsed),
                    ];
                    for (what, event) in events {
                        let mut after = before.clone();
                        let effects: Vec<String> = after.step(at(now), event).iter().map(word).collect();
                        let next = format!("{:?}{kind}", after.stage());
                        chart.add(&state, &format!("{what}{when}"), &next, &effects);
                    }
                }
            }
        }
        let file = include_str!("LIFECYCLE.md");
        let updated = chart.update(file);
        if std::env::var_os("UPDATE_LIFECYCLE").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/cluster/LIFECYCLE.md"), &updated)
                .unwrap();
        } else {
            assert!(updated == file, "LIFECYCLE.md is not what the machine does; it should be:\n{updated}");
        }
    }
}
