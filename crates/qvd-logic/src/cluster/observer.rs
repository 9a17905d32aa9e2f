//! What one node concludes about the others. Every node does; there is no leader.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use qvd_model::HostId;

use super::{Moment, Promise};

/// A heartbeat as it stands in a host row. Only whether it changes matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowMark {
    /// Counts registrations.
    pub incarnation: i64,
    /// The database's clock at the heartbeat, in microseconds; `None` before the first.
    pub beat: Option<i64>,
}

/// A heartbeat as it stands in a file. Only whether it changes matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMark {
    /// The registration it belongs to.
    pub incarnation: i64,
    /// Counts heartbeats.
    pub count: u64,
}

/// The row of another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The host.
    pub host: HostId,
    /// Its last heartbeat.
    pub mark: RowMark,
    /// What its node promised.
    pub promise: Promise,
    /// The storage in which its heartbeat file lies, if that counts.
    pub storage: Option<String>,
    /// Whether there is anything to reclaim: it claims to live, or something names it.
    pub is_of_concern: bool,
}

/// The heartbeat files of the own storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Which storage it is.
    pub storage: String,
    /// The heartbeats in it.
    pub marks: BTreeMap<HostId, FileMark>,
}

/// What is concluded about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// There is nothing to do about it.
    Fine,
    /// Its row has not changed for this long; why it is not reclaimed.
    Silent(Duration, Silence),
    /// Its lease has ended, and everything on it with that: what it had may be given away, if the row still shows
    /// this heartbeat.
    Lost(RowMark),
}

/// Why a silent host is not reclaimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// Its lease may last this much longer.
    Leased(Duration),
    /// Its heartbeat file is renewed.
    FileRenewed,
    /// Its heartbeat file lies in another storage.
    ElsewhereStored,
    /// The own storage cannot be read.
    StorageAway,
    /// It knew of no other node, so it may run its VMs for ever.
    Alone,
    /// The database was away a while ago: others get time to come back.
    Outage(Duration),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leased(left) => {
                write!(f, "its VMs are given free in {} s unless it comes back", left.as_secs())
            }
            Self::FileRenewed => {
                f.write_str("it still writes its heartbeat file: it lacks only the database")
            }
            Self::ElsewhereStored => {
                f.write_str("its heartbeat file lies in a storage that is not mounted here")
            }
            Self::StorageAway => f.write_str("its heartbeat file cannot be read from here"),
            Self::Alone => f.write_str(
                "it knew of no other host, so its VMs may still run; if its machine is off, say so: \
                 qvd give-up HOST --is-off",
            ),
            Self::Outage(left) => {
                write!(f, "the database was away; nothing is given free for another {} s", left.as_secs())
            }
        }
    }
}

/// Something seen, and since when it looks like this.
#[derive(Debug, Clone, Copy)]
struct Sighting<T> {
    mark: T,
    since: Moment,
}

impl<T: PartialEq + Copy> Sighting<T> {
    /// Looks again. Something new was there at `after` at the latest.
    fn update(slot: Option<Self>, mark: T, after: Moment) -> Self {
        slot.filter(|seen| seen.mark == mark).unwrap_or(Self { mark, since: after })
    }
}

/// Watches the other hosts from one node.
#[derive(Debug, Clone)]
pub struct Observer {
    beat: Duration,
    long_delay: Duration,
    not_before: Moment,
    rows: BTreeMap<HostId, Sighting<RowMark>>,
    files: BTreeMap<HostId, Sighting<Option<FileMark>>>,
    shares: bool,
}

impl Observer {
    /// An observer that begins now. `beat` is the period of heartbeats, `long_delay`
    /// `internal.hkd.agent.cluster_monitor.long_delay`.
    pub const fn new(beat: Duration, long_delay: Duration, now: Moment) -> Self {
        // Whoever begins has to look for as long as a lease lasts anyway; only outages need a delay of their own.
        Self {
            beat,
            long_delay,
            not_before: now,
            rows: BTreeMap::new(),
            files: BTreeMap::new(),
            shares: false,
        }
    }

    /// The database was away: everybody gets time to come back before anybody is given up.
    pub fn outage(&mut self, now: Moment) {
        self.not_before = now + self.long_delay;
    }

    /// Whether another node was seen to write to the own storage, which is thus shared.
    pub const fn shares(&self) -> bool {
        self.shares
    }

    /// Concludes from the rows of all other hosts and from the files of the own storage, which were read between
    /// `before` and `after`.
    pub fn observe(
        &mut self,
        before: Moment,
        after: Moment,
        peers: &[Peer],
        files: Option<&Files>,
    ) -> Vec<(HostId, Finding)> {
        self.rows.retain(|host, _| peers.iter().any(|peer| peer.host == *host));
        self.files.retain(|host, _| peers.iter().any(|peer| peer.host == *host));
        peers.iter().map(|peer| (peer.host, self.conclude(before, after, peer, files))).collect()
    }

    fn conclude(&mut self, before: Moment, after: Moment, peer: &Peer, files: Option<&Files>) -> Finding {
        let row = Sighting::update(self.rows.get(&peer.host).copied(), peer.mark, after);
        self.rows.insert(peer.host, row);
        if let Some(files) = files {
            let old = self.files.get(&peer.host).copied();
            let mark = files.marks.get(&peer.host).copied();
            self.shares |= old.is_some_and(|seen| mark.is_some() && seen.mark != mark);
            self.files.insert(peer.host, Sighting::update(old, mark, after));
        }
        let silent = before.since(row.since);
        if !peer.is_of_concern {
            return Finding::Fine;
        }
        let never_ran = peer.mark.incarnation == 0;
        if silent < self.beat.saturating_mul(3) && !never_ran {
            return Finding::Fine;
        }
        match self.hindrance(before, peer, files, silent) {
            Some(why) => Finding::Silent(silent, why),
            None => Finding::Lost(peer.mark),
        }
    }

    fn hindrance(
        &self,
        before: Moment,
        peer: &Peer,
        files: Option<&Files>,
        silent: Duration,
    ) -> Option<Silence> {
        if before < self.not_before {
            return Some(Silence::Outage(self.not_before.since(before)));
        }
        if peer.mark.incarnation == 0 {
            // No node ever registered for it: nothing can run there.
            return None;
        }
        let Some(lease) = peer.promise.lease else { return Some(Silence::Alone) };
        if peer.promise.file {
            let Some(files) = files else { return Some(Silence::StorageAway) };
            if peer.storage.as_ref() != Some(&files.storage) {
                return Some(Silence::ElsewhereStored);
            }
            let seen = self.files.get(&peer.host)?;
            let unchanged = before.since(seen.since);
            if silent >= lease && unchanged < lease {
                return Some(Silence::FileRenewed);
            }
        }
        (silent < lease).then(|| Silence::Leased(lease.saturating_sub(silent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(5);
    const LEASE: Duration = Duration::from_secs(600);

    const fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn peer(beat: i64, file: bool) -> Peer {
        Peer {
            host: HostId(2),
            mark: RowMark { incarnation: 1, beat: Some(beat) },
            promise: Promise { lease: Some(LEASE), file },
            storage: file.then(|| "s".to_owned()),
            is_of_concern: true,
        }
    }

    fn files(storage: &str, count: u64) -> Files {
        let mark = FileMark { incarnation: 1, count };
        Files { storage: storage.to_owned(), marks: BTreeMap::from([(HostId(2), mark)]) }
    }

    fn look(observer: &mut Observer, seconds: u64, peer: &Peer, files: Option<&Files>) -> Finding {
        observer.observe(at(seconds), at(seconds), std::slice::from_ref(peer), files).remove(0).1
    }

    #[test]
    fn a_silent_host_is_suspect_and_then_lost_with_the_heartbeat_that_was_seen() {
        let mut observer = Observer::new(BEAT, LEASE, at(0));
        let peer = peer(7, false);
        assert_eq!(look(&mut observer, 100, &peer, None), Finding::Fine);
        assert_eq!(look(&mut observer, 114, &peer, None), Finding::Fine);
        let left = Silence::Leased(Duration::from_secs(585));
        assert_eq!(look(&mut observer, 115, &peer, None), Finding::Silent(Duration::from_secs(15), left));
        assert_eq!(look(&mut observer, 700, &peer, None), Finding::Lost(peer.mark));
    }

    #[test]
    fn reading_takes_time_and_the_doubt_favors_the_host() {
        let mut observer = Observer::new(BEAT, LEASE, at(0));
        let peer = peer(7, false);
        observer.observe(at(0), at(60), std::slice::from_ref(&peer), None);
        let found = observer.observe(at(659), at(720), std::slice::from_ref(&peer), None).remove(0).1;
        assert!(matches!(found, Finding::Silent(..)), "{found:?}");
    }

    #[test]
    fn a_file_that_is_renewed_or_cannot_be_seen_protects_the_host() {
        let mut observer = Observer::new(BEAT, LEASE, at(0));
        let peer = peer(7, true);
        look(&mut observer, 100, &peer, Some(&files("s", 1)));
        look(&mut observer, 600, &peer, Some(&files("s", 2)));
        assert!(observer.shares());
        let silent = Duration::from_secs(600);
        let found = look(&mut observer, 700, &peer, Some(&files("s", 2)));
        assert_eq!(found, Finding::Silent(silent, Silence::FileRenewed));
        assert_eq!(look(&mut observer, 700, &peer, None), Finding::Silent(silent, Silence::StorageAway));
        let other = look(&mut observer, 700, &peer, Some(&files("t", 2)));
        assert_eq!(other, Finding::Silent(silent, Silence::ElsewhereStored));
        assert_eq!(look(&mut observer, 1200, &peer, Some(&files("s", 2))), Finding::Lost(peer.mark));
    }

    #[test]
    fn whoever_knew_of_nobody_is_never_given_up_and_whoever_never_ran_at_once() {
        let mut observer = Observer::new(BEAT, LEASE, at(0));
        let alone = Peer { promise: Promise::default(), ..peer(7, false) };
        look(&mut observer, 0, &alone, None);
        let found = look(&mut observer, 90_000, &alone, None);
        assert_eq!(found, Finding::Silent(Duration::from_secs(90_000), Silence::Alone));
        let never = Peer { mark: RowMark { incarnation: 0, beat: None }, ..alone };
        assert_eq!(look(&mut observer, 90_001, &never, None), Finding::Lost(never.mark));
        let unconcerned = Peer { is_of_concern: false, ..never };
        assert_eq!(look(&mut observer, 90_002, &unconcerned, None), Finding::Fine);
    }

    #[test]
    fn after_an_outage_everybody_gets_time() {
        let mut observer = Observer::new(BEAT, LEASE, at(0));
        let peer = peer(7, false);
        look(&mut observer, 0, &peer, None);
        observer.outage(at(1000));
        let found = look(&mut observer, 1300, &peer, None);
        let left = Silence::Outage(Duration::from_secs(300));
        assert_eq!(found, Finding::Silent(Duration::from_secs(1300), left));
        assert_eq!(look(&mut observer, 1600, &peer, None), Finding::Lost(peer.mark));
    }
}
