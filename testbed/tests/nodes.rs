//! Several nodes: placement, desktops of other nodes, and routers that die.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test says where it failed")]

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use testbed::traces::assert_same;
use testbed::{Client, Display, Farm, Node};

/// How long a first start may take here: the image is unpacked on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Commands act within this, on whichever node.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A session whose router is gone is back within this.
const BACK: Duration = Duration::from_secs(8);

fn host_of(farm: &Farm, vm: &str) -> String {
    farm.vm(vm, "h.name").unwrap()
}

/// Starts a VM and tells where it was placed.
fn start(farm: &Farm, vm: &str) -> String {
    farm.qa4(&["vm", &format!("name={vm}"), "start"]).unwrap();
    host_of(farm, vm)
}

/// Where the documented formula, without its random part, puts the next VM: out of the rows.
fn best(farm: &Farm) -> String {
    farm.value(
        "select h.name from hosts as h join host_runtimes as r on r.host_id = h.id \
         where h.backend and not r.blocked and r.state = 'running' \
         and r.ok_ts > now() at time zone 'UTC' - interval '15 seconds' \
         order by (r.usable_ram + r.usable_cpu) / \
         ((select count(*) from vm_runtimes as v where v.host_id = h.id) + 1) desc limit 1",
    )
    .unwrap()
}

#[test]
fn desktops_are_placed_by_the_documented_formula() {
    let farm = Farm::new(3).unwrap();
    farm.furnish(12).unwrap();
    // Equal hosts get equally many.
    let mut placed: BTreeMap<String, u32> = BTreeMap::new();
    for number in 1..=6 {
        *placed.entry(start(&farm, &format!("vm{number}"))).or_default() += 1;
    }
    assert_eq!(
        placed.into_iter().collect::<Vec<_>>(),
        ["node1", "node2", "node3"].map(|n| (n.to_owned(), 2))
    );

    // Unequal ones by what they have, divided by what is on them.
    for (node, ram) in [("node1", 20_000), ("node2", 60_000), ("node3", 32_000)] {
        farm.value(&format!(
            "update host_runtimes set usable_ram = {ram}, usable_cpu = 8000 \
             where host_id = (select id from hosts where name = '{node}')"
        ))
        .unwrap();
    }
    for number in 7..=9 {
        let expected = best(&farm);
        assert_eq!(start(&farm, &format!("vm{number}")), expected, "vm{number}");
    }

    // The best of all is left out when it is blocked, runs no desktops, or is not heard of.
    farm.value("update host_runtimes set usable_ram = 1000000 where host_id = (select id from hosts where name = 'node3')")
        .unwrap();
    assert_eq!(best(&farm), "node3");
    farm.qa4(&["host", "name=node3", "block"]).unwrap();
    assert_ne!(start(&farm, "vm10"), "node3");
    farm.qa4(&["host", "name=node3", "unblock"]).unwrap();
    farm.value("update hosts set backend = false where name = 'node3'").unwrap();
    assert_ne!(start(&farm, "vm11"), "node3");
    farm.value("update hosts set backend = true where name = 'node3'").unwrap();
    let frozen = farm.node(3).freeze("qvd-hkd").unwrap();
    farm.value(
        "update host_runtimes set ok_ts = ok_ts - interval '1 minute' \
         where host_id = (select id from hosts where name = 'node3')",
    )
    .unwrap();
    assert_ne!(start(&farm, "vm12"), "node3");
    farm.node(3).thaw(frozen).unwrap();
}

/// Processes of the user's session, wherever it runs: they must never change.
fn session(node: &Node) -> Vec<i32> {
    let named = |process: &i32| {
        fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "xterm")
    };
    node.everything().into_iter().filter(named).collect()
}

/// Waits for a client to end, and tells how long that took.
fn ended(client: &mut Client, display: &Display) -> Duration {
    let begun = Instant::now();
    client.wait(LIMIT).unwrap();
    let lasted = begun.elapsed();
    display.wait_for("nothing", LIMIT, |picture| picture.drawn() == 0.0).unwrap();
    lasted
}

#[test]
fn a_desktop_of_one_node_is_reached_through_the_routers_of_all() {
    let mut farm = Farm::new(2).unwrap();
    farm.furnish(2).unwrap();
    let (first, second) = (farm.display().unwrap(), farm.display().unwrap());
    farm.value("update hosts set backend = false where name = 'node1'").unwrap();
    let mut client = farm.connect(1, &first, "user1", START_LIMIT).unwrap();
    farm.wait_vm("vm1", "user_state", "connected", LIMIT).unwrap();
    assert_eq!(farm.vm("vm1", "h.name || ' ' || router.name").unwrap(), "node2 node1");
    // The desktop starts its programs after the first picture.
    let until = Instant::now() + LIMIT;
    while session(farm.node(2)).is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let programs = session(farm.node(2));
    assert!(!programs.is_empty());

    // Another client takes the session over, through the other router.
    let begun = Instant::now();
    let mut other = farm.connect(2, &second, "user1", LIMIT).unwrap();
    eprintln!("taken over by another router in {:?}", begun.elapsed());
    ended(&mut client, &first);
    farm.wait_vm("vm1", "user_state || ' ' || router.name", "connected node2", LIMIT).unwrap();

    // An administrator acts on one node, the router is on the other.
    let begun = Instant::now();
    farm.qa4(&["vm", "name=vm1", "disconnect"]).unwrap();
    farm.wait_vm("vm1", "user_state", "disconnected", LIMIT).unwrap();
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    ended(&mut other, &second);
    assert_eq!(session(farm.node(2)), programs);

    desktops_do_not_see_each_other(&farm);
    let client = router_dies(&farm, &first);
    assert_eq!(session(farm.node(2)), programs);
    node_of_the_router_dies(&mut farm, client, &second);
    assert_eq!(session(farm.node(2)), programs);

    // It stops on one node, told on the other.
    let begun = Instant::now();
    farm.qa4(&["vm", "name=vm1", "stop"]).unwrap();
    farm.wait_vm("vm1", "vm_state in ('stopping', 'stopped')", "t", LIMIT).unwrap();
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    farm.wait_vm("vm1", "vm_state", "stopped", LIMIT).unwrap();
}

/// A router reaches the desktop of another node, a desktop does not.
fn desktops_do_not_see_each_other(farm: &Farm) {
    farm.value("update hosts set backend = (name = 'node1')").unwrap();
    assert_eq!(start(farm, "vm2"), "node1");
    farm.wait_vm("vm2", "vm_state", "running", START_LIMIT).unwrap();
    farm.value("update hosts set backend = (name = 'node2')").unwrap();
    let node = farm.node(1);
    let own = fs::read_link(format!("/proc/{}/ns/net", node.namespace().processes()[0])).unwrap();
    let elsewhere =
        |process: &i32| fs::read_link(format!("/proc/{process}/ns/net")).is_ok_and(|net| net != own);
    let inside = node.everything().into_iter().find(elsewhere).expect("a process of the desktop");
    let (address, agent) = (farm.vm("vm1", "vm_address").unwrap(), farm.vm("vm1", "vm_vma_port").unwrap());
    // Connects, and ends.
    let dial = ["nc", "-w", "2", &address, &agent, "-e", "/bin/true"];
    node.namespace().run("/bin/busybox", &dial).unwrap();
    let mut from_desktop = Command::new("/usr/bin/nsenter");
    from_desktop.arg(format!("--net=/proc/{inside}/ns/net")).arg("/bin/busybox").args(dial);
    assert!(!from_desktop.status().unwrap().success(), "vm2 on node1 reaches vm1 on node2");
}

/// The session stays, its row is cleared by the node, and the next client has it at once.
fn router_dies(farm: &Farm, display: &Display) -> Client {
    let mut client = farm.connect(1, display, "user1", LIMIT).unwrap();
    farm.wait_vm("vm1", "user_state", "connected", LIMIT).unwrap();
    let supervisor = farm.node(1).freeze("supervised by").unwrap();
    farm.node(1).kill_daemon("qvd-l7r").unwrap();
    ended(&mut client, display);
    farm.wait_vm("vm1", "user_state || ' ' || (l7r_instance is null)", "disconnected true", LIMIT).unwrap();
    let begun = Instant::now();
    let mut client = farm.connect(2, display, "user1", LIMIT).unwrap();
    eprintln!("back through another router in {:?}", begun.elapsed());
    kill(supervisor, Signal::SIGCONT).unwrap();
    client.leave().unwrap();
    display.wait_for("nothing", LIMIT, |picture| picture.drawn() == 0.0).unwrap();
    farm.connect(1, display, "user1", LIMIT).unwrap()
}

/// Nobody is left who could clear the row.
fn node_of_the_router_dies(farm: &mut Farm, lost: Client, display: &Display) {
    farm.wait_vm("vm1", "user_state || ' ' || router.name", "connected node1", LIMIT).unwrap();
    farm.power_off(1).unwrap();
    let begun = Instant::now();
    let mut client = farm.connect(2, display, "user1", LIMIT).unwrap();
    eprintln!("back after the router's node died in {:?}", begun.elapsed());
    assert!(begun.elapsed() < BACK, "{:?}", begun.elapsed());
    farm.wait_vm("vm1", "user_state || ' ' || router.name", "connected node2", LIMIT).unwrap();
    drop(lost);
    client.leave().unwrap();
    farm.boot(1).unwrap();
}

#[test]
fn a_node_leaves_nothing_behind() {
    let mut farm = Farm::empty().unwrap();
    farm.add().unwrap();
    let node = farm.node(1);
    node.qvd(&["down"]).unwrap().good("qvd down").unwrap();
    let before = node.traces().unwrap();
    node.up().unwrap().good("qvd up").unwrap();
    let again = node.up().unwrap().good("qvd up").unwrap();
    assert!(again.contains("already up"), "{again}");
    let status = node.qvd(&["status"]).unwrap().good("qvd status").unwrap();
    for word in ["qvd of the farm, 192.0.2.1 port 5433", "node1, 10.73.0.1", "qvd-hkd", "storage"] {
        assert!(status.contains(word), "no {word} in:\n{status}");
    }
    assert!(!status.contains("postgresql"), "{status}");
    farm.furnish(1).unwrap();
    start(&farm, "vm1");
    farm.wait_vm("vm1", "vm_state", "running", START_LIMIT).unwrap();
    node.qvd(&["down"]).unwrap().good("qvd down").unwrap();
    assert_same(&before, &node.traces().unwrap());
    assert_eq!(farm.vm("vm1", "vm_state").unwrap(), "stopped");

    // Its place is taken, and another network is none of the farm's.
    for (options, words) in [
        (["--node", "node2"], "--address 10.73.0.1: host node1 has it"),
        (["--address", "10.91.0.1"], "all hosts of a farm share one /16 network"),
        (["--database-port", "1"], "QVD-DB at 192.0.2.1 port 1 cannot be used as qvd_node"),
        (["--interface", "eth0"], "--interface eth0: it has the address 192.0.2.11"),
        (["--storage", "/nowhere"], "--storage /nowhere: there is no such directory"),
    ] {
        if options[0] == "--address" {
            farm.value("insert into hosts (name, address, frontend, backend) values ('other', '10.73.0.9', true, true)")
                .unwrap();
        }
        let said = node.qvd(&[&["up"], options.as_slice()].concat()).unwrap();
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains(words) && said.err.contains("nothing was changed"), "{}", said.err);
    }
}
