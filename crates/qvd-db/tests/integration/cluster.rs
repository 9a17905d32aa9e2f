//! Heartbeats, and what becomes of the VMs of a host that has none.

use std::time::Duration;

use qvd_db::cluster::{self, Reclaimed};
use qvd_db::events::{self, Actor};
use qvd_db::hosts::{self, Beat, Capacity, Heartbeat, Incarnation};
use qvd_db::placement::{self, Policy, Refusal};
use qvd_db::{Database, commands, expiry, node};
use qvd_logic::cluster::{Promise, RowMark};
use qvd_logic::placement::Weights;
use qvd_model::event::ObjectKind;
use qvd_model::{Generation, HostId, HostState, VmId, VmState};

use testbed::Scratch;

const PROMISE: Promise = Promise { lease: Some(Duration::from_secs(600)), file: true };

const fn beat(promise: Promise) -> Beat<'static> {
    Beat { pid: 7, promise, storage: Some("s"), period: Duration::from_secs(5) }
}

/// Hosts `a` and `b`, registered and running, and VMs 1 to 4 of one user.
struct Farm {
    scratch: Scratch,
    database: Database,
    nodes: Vec<Incarnation>,
}

impl Farm {
    async fn new(name: &str) -> Self {
        let scratch = Scratch::deployed(name).await;
        let admin = scratch.database();
        let client = admin.client().await.unwrap();
        client
            .batch_execute(
                "INSERT INTO users (id, login, tenant_id, password) VALUES (7, 'u', 1, 'x');
                 INSERT INTO osfs (id, tenant_id, name, memory, use_overlay) VALUES (1, 1, 'o', 256, true);
                 INSERT INTO vms (id, name, user_id, osf_id, di_tag)
                     SELECT n, 'vm' || n, 7, 1, 'default' FROM generate_series(1, 4) AS n;
                 INSERT INTO vm_runtimes (vm_id, vm_state, user_state)
                     SELECT n, 'stopped', 'disconnected' FROM generate_series(1, 4) AS n",
            )
            .await
            .unwrap();
        let database = scratch.database_as("qvd_node");
        let mut nodes = Vec::new();
        for (name, address) in [("a", [10, 0, 0, 1]), ("b", [10, 0, 0, 2])] {
            let actor = Actor::administrator("test");
            let host = hosts::register(&admin, &actor, name, address.into()).await.unwrap();
            let capacity = Capacity { ram: 1000.0, cpu: 1000.0, hypervisors: "lxc" };
            let claimed = hosts::claim(&database, host, beat(PROMISE), capacity).await.unwrap();
            let (own, peers) = claimed.unwrap();
            assert_eq!(peers, !nodes.is_empty(), "only the second finds another one");
            hosts::set_state(&database, own, name, HostState::Running).await.unwrap();
            nodes.push(own);
        }
        Self { scratch, database: admin, nodes }
    }

    async fn run(&self, sql: &str) {
        self.database.client().await.unwrap().batch_execute(sql).await.unwrap();
    }

    async fn text(&self, sql: &str) -> String {
        let row = self.database.client().await.unwrap().query_one(sql, &[]).await.unwrap();
        row.get::<_, Option<String>>(0).unwrap_or_default()
    }

    /// How the first host looks from the second.
    async fn mark(&self) -> RowMark {
        let neighbors = cluster::neighbors(&self.database, self.nodes[1].host).await.unwrap();
        neighbors[0].peer.mark
    }

    async fn reclaim(&self, host: HostId, seen: RowMark) -> Option<Reclaimed> {
        cluster::reclaim(&self.database, &Actor::node("b"), host, seen).await.unwrap()
    }

    async fn start(&self, vm: i32) -> Result<HostId, Refusal> {
        placement::start_vm(&self.database, &Actor::user("u"), VmId(vm), &policy()).await
    }
}

fn policy() -> Policy {
    Policy {
        hypervisor: "lxc".to_owned(),
        weights: Weights { ram: 1.0, cpu: 1.0, random: 0.0 },
        start_blocked: false,
    }
}

#[tokio::test]
async fn an_expired_vm_starts_again_unless_somebody_minds() {
    let farm = Farm::new("expired").await;
    let (database, router) = (farm.scratch.database_as("qvd_node"), farm.scratch.database_as("qvd_l7r"));
    let (host, node) = (farm.nodes[0].host, Actor::node("a"));
    farm.run(&format!(
        "UPDATE vm_runtimes SET host_id = {host}, generation = 5, vm_state = 'running',
             vm_expiration_hard = now() AT TIME ZONE 'UTC'"
    ))
    .await;
    for vm in 1..=4 {
        let (own, name) =
            (node::Ownership { vm: VmId(vm), host, generation: Generation(5) }, format!("vm{vm}"));
        assert!(expiry::stop(&database, &node, host, own.vm).await.unwrap());
        assert!(!expiry::stop(&database, &node, host, own.vm).await.unwrap(), "told twice");
        let states = (VmState::Running, VmState::Stopping);
        node::set_state(&database, &node, own, &name, states, None).await.unwrap();
        match vm {
            2 => drop(commands::stop_vm(&router, &Actor::user("u"), own.vm).await.unwrap()),
            3 => farm.run("UPDATE vm_runtimes SET blocked = true WHERE vm_id = 3").await,
            4 => farm.run("UPDATE host_runtimes SET blocked = true").await,
            _ => {}
        }
        assert!(node::clear(&database, &node, own, &name, None, Some(&policy())).await.unwrap());
        assert!(!node::clear(&database, &node, own, &name, None, Some(&policy())).await.unwrap());
    }
    let rows = "SELECT string_agg(concat_ws(' ', vm_id, host_id IS NOT NULL, generation, vm_state, \
        coalesce(vm_cmd, '-'), restart, vm_expiration_hard IS NULL), '; ' ORDER BY vm_id) FROM vm_runtimes";
    assert_eq!(
        farm.text(rows).await,
        "1 t 6 stopped start f t; 2 f 5 stopped - f t; 3 f 5 stopped - f t; 4 f 5 stopped - f t"
    );
    let client = farm.database.client().await.unwrap();
    let mut told = Vec::new();
    for vm in 1..=4 {
        told.push(events::story(&client, ObjectKind::Vm, vm, 1).await.unwrap().remove(0).code.unwrap());
    }
    assert_eq!(told, ["start", "state", "vm_blocked", "no_host"]);
}

#[tokio::test]
async fn what_a_node_promises_stands_in_its_row() {
    let farm = Farm::new("promises").await;
    let [a, b] = [farm.nodes[0], farm.nodes[1]];
    let seen = cluster::neighbors(&farm.database, b.host).await.unwrap().remove(0);
    assert_eq!((seen.name.as_str(), seen.state, seen.peer.promise), ("a", HostState::Running, PROMISE));
    assert_eq!((seen.peer.storage.as_deref(), seen.peer.is_of_concern), (Some("s"), true));
    let beat = hosts::heartbeat(&farm.database, a, beat(Promise::default())).await.unwrap();
    assert!(matches!(beat, Heartbeat::Own { peers: true, .. }), "{beat:?}");
    let later = cluster::neighbors(&farm.database, b.host).await.unwrap().remove(0);
    assert_eq!((later.peer.promise, &later.peer.storage), (Promise::default(), &None));
    assert_ne!(later.peer.mark, seen.peer.mark);
    assert!(!hosts::standing(&farm.database, a.host).await.unwrap().unwrap().bound);
}

#[tokio::test]
async fn a_lost_host_loses_everything_it_had() {
    let farm = Farm::new("lost").await;
    let [a, b] = [farm.nodes[0], farm.nodes[1]];
    // Running with a client of the other host; with one of its own router; told to start; on the other host.
    farm.run(&format!(
        "UPDATE vm_runtimes SET host_id = {a}, generation = 5, vm_state = 'running', vm_address = '10.0.1.1',
             vm_vma_port = 3030, vma_secret = 's', user_state = 'connected', l7r_host_id = {b} WHERE vm_id = 1;
         UPDATE vm_runtimes SET host_id = {a}, generation = 5, vm_state = 'zombie', user_state = 'connected',
             l7r_host_id = {a}, session_id = 77, l7r_pid = 3 WHERE vm_id = 2;
         UPDATE vm_runtimes SET host_id = {a}, generation = 5, vm_cmd = 'start' WHERE vm_id = 3;
         UPDATE vm_runtimes SET host_id = {b}, generation = 5, vm_state = 'running', user_state = 'connecting',
             l7r_host_id = {a} WHERE vm_id = 4;
         UPDATE host_runtimes SET state = 'starting', cmd = 'stop' WHERE host_id = {a}",
        a = a.host,
        b = b.host
    ))
    .await;
    let seen = farm.mark().await;
    let reclaimed = farm.reclaim(a.host, seen).await.unwrap();
    assert_eq!(reclaimed.vms, [VmId(1), VmId(2), VmId(3)]);
    assert_eq!(reclaimed.sessions, [VmId(2), VmId(4)]);
    let rows = "SELECT string_agg(concat_ws(' ', vm_id, coalesce(host_id, 0), generation, vm_state, \
        coalesce(vm_cmd, '-'), coalesce(failure_code, '-'), user_state, coalesce(l7r_host_id, 0)), '; ' \
        ORDER BY vm_id) FROM vm_runtimes";
    assert_eq!(
        farm.text(rows).await,
        format!(
            "1 0 6 stopped - node_lost connected {b}; 2 0 6 stopped - node_lost disconnected 0; \
             3 0 6 stopped - node_lost disconnected 0; 4 {b} 5 running - - disconnected 0",
            b = b.host
        )
    );
    let left = "SELECT count(*)::text FROM vm_runtimes WHERE vm_id < 4 AND (vm_address IS NOT NULL \
        OR vma_secret IS NOT NULL OR vm_vma_port IS NOT NULL OR l7r_pid IS NOT NULL OR failure_ts IS NULL)";
    assert_eq!(farm.text(left).await, "0");
    let host = "SELECT state || coalesce(cmd, '') FROM host_runtimes ORDER BY host_id LIMIT 1";
    assert_eq!(farm.text(host).await, "lost");
    // Each has its story, and the client whose router is gone can ask why.
    let client = farm.database.client().await.unwrap();
    for (kind, id) in [(ObjectKind::Host, a.host.0), (ObjectKind::Vm, 1), (ObjectKind::Vm, 3)] {
        let line = events::story(&client, kind, id, 1).await.unwrap().remove(0);
        assert_eq!(line.code.as_deref(), Some("node_lost"), "{kind}");
        assert!(line.text.unwrap().contains("longer than its lease"), "{kind}");
    }
    assert_eq!(events::end(&client, 77).await.unwrap().unwrap().0.as_str(), "node_lost");

    // The node that comes back is told, and can write nothing about what it had.
    let told = hosts::heartbeat(&farm.database, a, beat(PROMISE)).await.unwrap();
    assert_eq!(told, Heartbeat::Lost);
    let own = node::Ownership { vm: VmId(1), host: a.host, generation: Generation(5) };
    let states = (VmState::Running, VmState::Stopping);
    let written = node::set_state(&farm.database, &Actor::node("a"), own, "vm1", states, None).await;
    assert_eq!(written.unwrap(), node::Written::Lost);
    // A second look finds nothing more to do.
    assert_eq!(farm.reclaim(a.host, seen).await, Some(Reclaimed::default()));
    assert!(!cluster::neighbors(&farm.database, b.host).await.unwrap()[0].peer.is_of_concern);
}

#[tokio::test]
async fn a_host_that_came_back_is_not_given_up() {
    let farm = Farm::new("came_back").await;
    let a = farm.nodes[0];
    let seen = farm.mark().await;
    hosts::heartbeat(&farm.database, a, beat(PROMISE)).await.unwrap();
    assert_eq!(farm.reclaim(a.host, seen).await, None);
    assert_eq!(farm.text("SELECT string_agg(DISTINCT state, ' ') FROM host_runtimes").await, "running");
    // Several who see the same do it once.
    let seen = farm.mark().await;
    let all: Vec<_> = (0..4)
        .map(|_| {
            let database = farm.database.clone();
            tokio::spawn(async move { cluster::reclaim(&database, &Actor::node("b"), a.host, seen).await })
        })
        .collect();
    for one in all {
        one.await.unwrap().unwrap();
    }
    let lost = "SELECT count(*)::text FROM events WHERE kind = 'host' AND code = 'node_lost'";
    assert_eq!(farm.text(lost).await, "1");
}

#[tokio::test]
async fn starts_are_taken_by_the_daemon_that_has_the_host_row() {
    let farm = Farm::new("claimed_starts").await;
    let a = farm.nodes[0];
    farm.run(&format!("UPDATE vm_runtimes SET host_id = {}, vm_cmd = 'start' WHERE vm_id = 1", a.host)).await;
    let actor = Actor::node("a");
    let old = Incarnation { number: a.number - 1, ..a };
    assert_eq!(node::claim_starts(&farm.database, &actor, old).await.unwrap(), []);
    farm.run(&format!("UPDATE host_runtimes SET state = 'lost' WHERE host_id = {}", a.host)).await;
    assert_eq!(node::claim_starts(&farm.database, &actor, a).await.unwrap(), []);
    farm.run(&format!("UPDATE host_runtimes SET state = 'running' WHERE host_id = {}", a.host)).await;
    assert_eq!(node::claim_starts(&farm.database, &actor, a).await.unwrap(), [(VmId(1), Generation(0))]);
    let own = Heartbeat::Superseded;
    assert_eq!(hosts::heartbeat(&farm.database, old, beat(PROMISE)).await.unwrap(), own);
}

#[tokio::test]
async fn suspect_hosts_get_no_vms_and_the_refusal_says_why() {
    let farm = Farm::new("suspects").await;
    let [a, b] = [farm.nodes[0].host, farm.nodes[1].host];
    let age = |host: HostId, seconds: u32| {
        format!("UPDATE host_runtimes SET ok_ts = now() - interval '{seconds} s' WHERE host_id = {host}")
    };
    farm.run(&age(a, 16)).await;
    assert_eq!(farm.start(1).await.unwrap(), b);
    // One that waited for the other host is given to this one at once.
    farm.run(&format!(
        "UPDATE vm_runtimes SET host_id = {a}, vm_cmd = 'start', generation = 3 WHERE vm_id = 4"
    ))
    .await;
    assert_eq!(farm.start(4).await.unwrap(), b);
    assert_eq!(farm.text("SELECT generation::text FROM vm_runtimes WHERE vm_id = 4").await, "4");
    assert_eq!(farm.start(4).await.unwrap(), b);
    assert_eq!(farm.text("SELECT generation::text FROM vm_runtimes WHERE vm_id = 4").await, "4");
    // A node that writes more often is suspect earlier.
    farm.run(&format!("UPDATE host_runtimes SET beat_seconds = 1 WHERE host_id = {b}")).await;
    farm.run(&age(b, 4)).await;
    let refusal = farm.start(2).await.unwrap_err().to_string();
    assert_eq!(
        refusal,
        "no host can take VM 2: a has had no heartbeat for 16 s, b has had no heartbeat for 4 s"
    );
    let census = hosts::census(&farm.database).await.unwrap();
    let silent: Vec<_> = census.hosts.iter().map(|host| (host.name.as_str(), host.silent)).collect();
    assert_eq!(silent, [("a", Some(16)), ("b", Some(4))]);
}

#[tokio::test]
async fn an_osf_may_name_another_hypervisor() {
    let farm = Farm::new("hypervisors").await;
    let b = farm.nodes[1].host;
    farm.run(
        "INSERT INTO properties_list (id, key, tenant_id) VALUES (1, 'vm.hypervisor', 1);
         INSERT INTO qvd_object_properties_list (id, property_id, qvd_object) VALUES (1, 1, 'osf');
         INSERT INTO osf_properties (osf_id, property_id, value) VALUES (1, 1, 'kvm')",
    )
    .await;
    let refusal = farm.start(1).await.unwrap_err().to_string();
    assert!(refusal.contains("kvm"), "{refusal}");
    farm.run(&format!("UPDATE host_runtimes SET hypervisors = 'lxc, kvm' WHERE host_id = {b}")).await;
    assert_eq!(farm.start(1).await.unwrap(), b);
}

#[tokio::test]
async fn a_host_that_is_off_is_given_up_by_hand() {
    let farm = Farm::new("by_hand").await;
    let a = farm.nodes[0].host;
    farm.run(&format!("UPDATE vm_runtimes SET host_id = {a}, vm_state = 'running' WHERE vm_id = 2")).await;
    let actor = Actor::administrator("root");
    let reclaimed = cluster::give_up(&farm.database, &actor, a).await.unwrap().unwrap();
    assert_eq!(reclaimed.vms, [VmId(2)]);
    assert_eq!(cluster::give_up(&farm.database, &actor, HostId(99)).await.unwrap(), None);
    let why = farm.text("SELECT failure_text FROM vm_runtimes WHERE vm_id = 2").await;
    assert!(why.starts_with("host a was given up: an administrator says that it is off. "), "{why}");
}

#[tokio::test]
async fn events_are_kept_for_so_many_days() {
    let scratch = Scratch::deployed("forgotten").await;
    let client = scratch.database().client().await.unwrap();
    let insert = "INSERT INTO events (kind, object_id, code, time) \
        SELECT 'vm', n, 'x', now() - make_interval(days => n % 3 * 10) FROM generate_series(1, 9000) AS n";
    client.batch_execute(insert).await.unwrap();
    let database = scratch.database_as("qvd_node");
    let both = tokio::join!(node::forget_events(&database, 15), node::forget_events(&database, 15));
    let rest = node::forget_events(&database, 15).await.unwrap();
    assert_eq!(both.0.unwrap() + both.1.unwrap() + rest, 3000);
    let left =
        client.query_one("SELECT count(*), max(now() - time) < '11 days' FROM events", &[]).await.unwrap();
    assert_eq!((left.get::<_, i64>(0), left.get::<_, bool>(1)), (6000, true));
    assert_eq!(node::forget_events(&database, 15).await.unwrap(), 0);
}
