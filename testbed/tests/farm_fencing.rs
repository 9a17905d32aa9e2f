//! Nodes that die, freeze, sleep and are cut off: their desktops start elsewhere, and never are there two of one.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::lease::{LOST, TIMES};
use testbed::{Farm, Fault, Lan};

/// How long a first start may take here: the image is unpacked on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a machine that slept past its lease may need to kill what woke up with it.
const AWAKE: Duration = Duration::from_secs(2);

/// Sees every container of the farm that is not frozen, all the time.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Option<String>>,
    /// Two of one are no fault while this is set.
    pardon: Arc<AtomicBool>,
}

impl Watcher {
    fn start(farm: &Farm) -> Self {
        let directories = directories(farm);
        let (stop, pardon) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (stopped, pardoned) = (stop.clone(), pardon.clone());
        let thread = spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let double = containers(&directories).into_iter().find(|(_, processes)| processes.len() > 1);
                if let Some((name, processes)) = double
                    && !pardoned.load(Ordering::Relaxed)
                {
                    return Some(format!("{name} runs as {processes:?} at the same time"));
                }
                sleep(Duration::from_millis(10));
            }
            None
        });
        Self { stop, thread, pardon }
    }

    fn finish(self) -> Option<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Some("the watcher panicked".to_owned()))
    }
}

/// Where the nodes of a farm keep their containers.
fn directories(farm: &Farm) -> Vec<String> {
    farm.nodes().iter().map(|node| node.data().display().to_string()).collect()
}

/// The containers that run, by name, with the numbers of their `lxc-start`.
fn containers(directories: &[String]) -> BTreeMap<String, Vec<i32>> {
    let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((command, rest)) = stat.rsplit_once(") ") else { continue };
        if !command.ends_with("(lxc-start") || !matches!(rest.chars().next(), Some('R' | 'S' | 'D')) {
            continue;
        }
        let arguments = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let ours = arguments.split('\0').any(|word| directories.iter().any(|path| word.starts_with(path)));
        // Only the first process of a start: children have the same arguments until they execute something.
        let parent =
            rest.split(' ').nth(1).and_then(|parent| fs::read_to_string(format!("/proc/{parent}/comm")).ok());
        if ours && parent.is_none_or(|name| name.trim() != "lxc-start") {
            let name = arguments.split('\0').find(|word| word.starts_with("qvd-")).unwrap_or_default();
            found.entry(name.to_owned()).or_default().push(process);
        }
    }
    found
}

/// A farm with a desktop on each node but the first.
struct World {
    farm: Farm,
}

impl World {
    fn new(nodes: u8) -> Result<Self> {
        let farm = Farm::new(nodes)?;
        farm.furnish(u32::from(nodes) - 1)?;
        for (key, value) in TIMES {
            farm.configure(key, value)?;
        }
        let world = Self { farm };
        for number in 1..=nodes {
            world.farm.node(number).kill_daemon("qvd-hkd")?;
        }
        // The lease is the short one, and everybody has found out that the storage is shared.
        let ready = "select (bool_and(state = 'running' and lease_seconds = 12 and storage is not null))::text \
                     from host_runtimes";
        world.farm.wait_for(ready, "true", LIMIT)?;
        for number in 2..=nodes {
            world.only(number)?;
            world.start(number - 1, number, START_LIMIT)?;
        }
        world.only(1)?;
        Ok(world)
    }

    /// Lets only this node take new VMs.
    fn only(&self, number: u8) -> Result<()> {
        let blocked =
            "update host_runtimes set blocked = host_id <> (select id from hosts where name = '{n}')";
        self.farm.value(&blocked.replace("{n}", &format!("node{number}"))).map(drop)
    }

    /// Starts a VM, which has to come up on this node.
    fn start(&self, vm: u8, number: u8, limit: Duration) -> Result<()> {
        self.farm.qa4(&["vm", &format!("name=vm{vm}"), "start"])?;
        let wanted = format!("running node{number}");
        self.farm.wait_vm(&format!("vm{vm}"), "r.vm_state || ' ' || h.name", &wanted, limit)
    }

    /// The name of a VM's container.
    fn container(&self, vm: u8) -> Result<String> {
        Ok(format!("qvd-{}", self.farm.vm(&format!("vm{vm}"), "r.vm_id")?))
    }

    /// The processes of a VM's containers.
    fn containers(&self, vm: u8) -> Result<Vec<i32>> {
        Ok(containers(&directories(&self.farm)).remove(&self.container(vm)?).unwrap_or_default())
    }

    /// Waits until the VM was given free because its host was lost.
    fn is_free(&self, vm: u8) -> Result<()> {
        let columns = "concat_ws(' ', r.vm_state, h.name, r.failure_code)";
        self.farm.wait_vm(&format!("vm{vm}"), columns, "stopped node_lost", LIMIT)
    }

    fn serves(&self, number: u8) -> Result<()> {
        let row =
            format!("select state from host_runtimes join hosts on id = host_id where name = 'node{number}'");
        self.farm.wait_for(&row, "running", LIMIT)
    }

    /// Waits until nothing of a VM runs, and tells how long that took since its node was cut off; it has to be
    /// before others may have it.
    fn ends(&self, container: &str, since: Instant) -> Result<Duration> {
        let directories = directories(&self.farm);
        while containers(&directories).contains_key(container) {
            ensure!(since.elapsed() < LOST, "{container} runs after {LOST:?}\n{}", self.farm.logs());
            sleep(Duration::from_millis(10));
        }
        Ok(since.elapsed())
    }
}

#[test]
fn desktops_of_lost_nodes_start_elsewhere_and_never_twice() {
    let mut world = World::new(5).unwrap();
    let watcher = Watcher::start(&world.farm);

    // Node 2 loses power, the daemon of node 3 hangs, node 4 is cut off from everything, node 5 from the database.
    let (hanging, alone) = (world.container(2).unwrap(), world.container(3).unwrap());
    let start = Instant::now();
    // All at once: no daemon sees its desktop end.
    world.farm.node(2).freeze_all().unwrap();
    world.farm.power_off(2).unwrap();
    let since_frozen = Instant::now();
    let frozen = world.farm.node(3).freeze("qvd-hkd").unwrap();
    let since_cut = Instant::now();
    world.farm.node(4).database().fail(Fault::Silence);
    world.farm.node(4).cut_storage().unwrap();
    world.farm.node(5).database().fail(Fault::Silence);
    let kept = world.containers(4).unwrap();

    // All of them are suspect at first: the reason is shown, and a VM that waits for one is placed anew.
    let suspects = "select count(*)::text from host_runtimes where extract(epoch from now() at time zone 'UTC' - ok_ts) > 3";
    world.farm.wait_for(suspects, "4", LIMIT).unwrap();
    let shown = world.farm.qa4(&["host", "get"]).unwrap();
    for number in 2..=5 {
        let line = shown.lines().find(|line| line.contains(&format!("node{number}"))).unwrap_or_default();
        assert!(line.contains("no heartbeat for"), "{shown}");
    }

    let cut = world.ends(&alone, since_cut).unwrap();
    let hung = world.ends(&hanging, since_frozen).unwrap();
    eprintln!("desktops ended {hung:?} after their daemon froze, {cut:?} after their node was cut off");
    for vm in 1..=3 {
        world.is_free(vm).unwrap();
        eprintln!("vm{vm} was free {:?} after its node was lost", start.elapsed());
        world.start(vm, 1, LIMIT).unwrap();
    }
    let story = world.farm.qa4(&["vm", "name=vm1", "explain"]).unwrap();
    assert!(story.contains("host node2 was given up"), "{story}");

    // Whoever has one witness is never given up.
    sleep((LOST + LOST / 2).saturating_sub(start.elapsed()));
    assert_eq!(world.farm.vm("vm4", "r.vm_state || ' ' || h.name").unwrap(), "running node5");
    assert_eq!(world.containers(4).unwrap(), kept);
    let log = world.farm.node(1).logs();
    assert!(log.contains("it lacks only the database"), "{log}");

    // Each comes back, with nothing of what it lost.
    world.farm.boot(2).unwrap();
    world.farm.node(3).thaw(frozen).unwrap();
    world.farm.node(4).restore_storage().unwrap();
    for number in [4, 5] {
        world.farm.node(number).database().fail(Fault::None);
    }
    for number in 2..=5 {
        world.serves(number).with_context(|| format!("node{number}")).unwrap();
    }
    assert_eq!(world.containers(4).unwrap(), kept);
    for vm in 1..=3 {
        assert_eq!(
            world.farm.vm(&format!("vm{vm}"), "r.vm_state || ' ' || h.name").unwrap(),
            "running node1"
        );
    }

    // A machine that sleeps cannot kill what it runs before it wakes up, but then it does at once.
    world.farm.node(5).freeze_all().unwrap();
    // Stopped processes keep their addresses, unlike a machine that sleeps.
    world.farm.plug(5, Lan::Desks, false).unwrap();
    world.is_free(4).unwrap();
    world.start(4, 1, LIMIT).unwrap();
    watcher.pardon.store(true, Ordering::Relaxed);
    let awake = Instant::now();
    world.farm.plug(5, Lan::Desks, true).unwrap();
    world.farm.node(5).thaw_all().unwrap();
    while world.containers(4).unwrap().len() > 1 {
        assert!(awake.elapsed() < AWAKE, "{}", world.farm.logs());
    }
    eprintln!("what woke up with a machine was dead after {:?}", awake.elapsed());
    watcher.pardon.store(false, Ordering::Relaxed);
    world.serves(5).unwrap();
    assert_eq!(world.farm.vm("vm4", "r.vm_state || ' ' || h.name").unwrap(), "running node1");
    assert_eq!(watcher.finish(), None);
}
