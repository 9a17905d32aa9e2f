//! Never two writers of one VM, though nodes die, freeze and are cut off (`spec/node.md` 2.14 and 15.3).
//!
//! A node holds its VMs by a *lease* ([`Lease`]). Two *witnesses* tell others that it lives: its host row, and a
//! heartbeat file where the storage is shared. In the row it *promises* within which time after its last heartbeat
//! it will have ended everything, and whether the file counts ([`Promise`]). It keeps that promise alone, without
//! database or network; others ([`Observer`]) give its VMs away only after that time.
//!
//! ```text
//!  last successful heartbeat, as sent      T_stop                T_lost − m            T_lost
//!  ├──────────────────────────────────────┼─────────────────────┼─────────────────────┼──────────►
//!  node    Held: serves                     Stopping: gracefully   Fenced: kills all      (all is dead)
//!  peers   after 3 periods suspect                                                        may reclaim
//! ```
//!
//! What makes it safe, whatever else happens:
//!
//! 1. The node counts from the moment a heartbeat was *sent*, peers from the moment they *saw* it, which is later.
//! 2. Nobody reads the clock of somebody else: a peer measures on its own boot-time clock how long a witness has not
//!    *changed*. Clocks that jump change nothing.
//! 3. A promise binds from before it is written, and ends after its withdrawal is written.
//! 4. Reclaiming is a compare-and-set on the heartbeat that the peer saw.
//! 5. A node that let its lease lapse stays fenced until it has registered again, which a heartbeat file cannot do.
//!
//! A node that knows of no other one that ever ran promises nothing, and never fences itself; so nobody may give its
//! VMs away but an administrator.

mod lease;
mod limits;
mod observer;

pub use lease::{Effect, Event, Lease, Stage};
pub use limits::{Limits, Unsafe};
pub use observer::{FileMark, Files, Finding, Observer, Peer, RowMark, Silence};

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A reading of the clock that counts from the boot of a machine, time asleep included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

impl Moment {
    /// How long ago `earlier` was; nothing if it was later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s after boot", self.0.as_secs_f64())
    }
}

/// What a host row says about the lease of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Promise {
    /// Within this time after its last heartbeat the node will have ended all its VMs; `None`: it will not.
    pub lease: Option<Duration>,
    /// Whether its heartbeat file counts as well.
    pub file: bool,
}
