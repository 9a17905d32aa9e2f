//! Watches the other nodes and gives free what lost ones had. Every node does, there is no leader.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use qvd_db::cluster::{self, Neighbor};
use qvd_logic::cluster::{Files, Finding, Observer, Silence, Stage};
use qvd_model::HostId;
use rand::Rng;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::clock;
use crate::keeper::limits;
use crate::node::Node;
use crate::witness::Witness;

/// How often a node that is alone looks for rows that name hosts which never ran.
const SWEEP: Duration = Duration::from_secs(30);

/// Looks at the other nodes, often while there are some. `shares` is told when one of them turns out to write to
/// the same storage.
pub async fn watch(node: Arc<Node>, witness: Option<Witness>, shares: Option<watch::Sender<bool>>) {
    let values = node.config.now();
    let long_delay = values.seconds("internal.hkd.agent.cluster_monitor.long_delay");
    let (limits, long_delay) = match (limits(&values), long_delay) {
        (Ok(limits), Ok(delay)) => (limits, delay.max(limits.lost_after())),
        (Err(problem), _) => return error!("other nodes are not watched: {problem}"),
        (_, Err(problem)) => return error!("other nodes are not watched: {problem}"),
    };
    let beat = limits.beat();
    let mut watching = Watching {
        observer: Observer::new(beat, long_delay, clock::now()),
        blind: BTreeSet::new(),
        said: BTreeMap::new(),
        node,
        witness,
        shares,
    };
    let mut peers = watching.node.peers.subscribe();
    loop {
        // A host that never ran is no peer, but rows may name it.
        let waited = tokio::time::timeout(SWEEP, peers.wait_for(|there_are| *there_are));
        if matches!(waited.await, Ok(Err(_))) {
            return;
        }
        // Not all at the same time.
        let pause = beat.mul_f64(rand::rng().random_range(0.8..1.2));
        tokio::time::sleep(pause).await;
        if *watching.node.stage.borrow() == Stage::Held {
            watching.look(beat).await;
        }
    }
}

struct Watching {
    node: Arc<Node>,
    observer: Observer,
    witness: Option<Witness>,
    shares: Option<watch::Sender<bool>>,
    /// What cannot be seen at the moment, so that it is said once.
    blind: BTreeSet<&'static str>,
    /// What was said last about hosts that are silent.
    said: BTreeMap<HostId, Discriminant<Silence>>,
}

impl Watching {
    async fn look(&mut self, limit: Duration) {
        let before = clock::now();
        let read = tokio::time::timeout(limit, cluster::neighbors(&self.node.database, self.node.own.host));
        let neighbors = match read.await {
            Ok(Ok(neighbors)) => neighbors,
            Ok(Err(problem)) => return self.outage(&problem),
            Err(_) => return self.outage(&"it does not answer"),
        };
        self.blind.remove("the database");
        let files = self.files(limit).await;
        let peers: Vec<_> = neighbors.iter().map(|neighbor| neighbor.peer.clone()).collect();
        let found = self.observer.observe(before, clock::now(), &peers, files.as_ref());
        if self.observer.shares()
            && let Some(shares) = self.shares.take()
        {
            shares.send_replace(true);
        }
        for (neighbor, (host, finding)) in neighbors.iter().zip(found) {
            self.say(neighbor, &finding);
            if let Finding::Lost(seen) = finding {
                self.give_up(neighbor, host, seen).await;
            }
        }
    }

    fn outage(&mut self, problem: &dyn fmt::Display) {
        self.observer.outage(clock::now());
        self.cannot_see("the database", problem);
    }

    fn cannot_see(&mut self, what: &'static str, problem: &dyn fmt::Display) {
        if self.blind.insert(what) {
            warn!("other nodes cannot be seen in {what}: {problem}");
        }
    }

    /// A storage that hangs is one that cannot be read.
    async fn files(&mut self, limit: Duration) -> Option<Files> {
        let witness = self.witness.clone()?;
        let read = tokio::time::timeout(limit, tokio::task::spawn_blocking(move || witness.read())).await;
        match read {
            Ok(Ok(Ok(files))) => {
                self.blind.remove("the storage");
                return Some(files);
            }
            Ok(Ok(Err(problem))) => self.cannot_see("the storage", &problem),
            Ok(Err(problem)) => self.cannot_see("the storage", &problem),
            Err(_) => self.cannot_see("the storage", &"it does not answer"),
        }
        None
    }

    /// Says what changed about a host, once.
    fn say(&mut self, neighbor: &Neighbor, finding: &Finding) {
        let Neighbor { name: host, peer, .. } = neighbor;
        let Finding::Silent(silent, why) = finding else {
            if self.said.remove(&peer.host).is_some() && *finding == Finding::Fine {
                info!(host, "is there again");
            }
            return;
        };
        let kind = discriminant(why);
        if self.said.insert(peer.host, kind) != Some(kind) {
            warn!(host, "suspect: no heartbeat for {} s; {why}", silent.as_secs());
        }
    }

    async fn give_up(&self, neighbor: &Neighbor, host: HostId, seen: qvd_logic::cluster::RowMark) {
        let Neighbor { name, .. } = neighbor;
        match cluster::reclaim(&self.node.database, &self.node.actor, host, seen).await {
            Ok(Some(reclaimed)) => warn!(
                host = name,
                "lost and given up: {} VMs may be started on other nodes, {} sessions are released",
                reclaimed.vms.len(),
                reclaimed.sessions.len()
            ),
            Ok(None) => info!(host = name, "came back just before it was given up"),
            Err(problem) => warn!(host = name, "not given up yet: {problem}"),
        }
    }
}
