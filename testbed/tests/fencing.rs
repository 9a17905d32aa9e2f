//! A node that cannot prove that it lives ends its desktops in time, whatever became of its daemon.

use std::fs;
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use testbed::lease::{LOST, TIMES};
use testbed::{Cluster, image, programs};

/// How long a first start may take here: the image is unpacked on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(40);

/// Registers a host that never ran.
const ADD_OTHER: &str = "with h as (insert into hosts (name, address, frontend, backend) \
    values ('other', '10.3.3.3', true, true) returning id) \
    insert into host_runtimes (host_id, state, blocked, incarnation) select id, 'stopped', false, 0 from h";

/// One machine with a desktop, whose node has a short lease.
struct World {
    cluster: Cluster,
}

impl World {
    fn new() -> Result<Self> {
        let cluster = Cluster::new()?;
        let image = image::desktop(&programs::program("qvd-vma")?, cluster.directory())?;
        let world = Self { cluster };
        world.qa4(&["osf", "new", "name=MyOSF"])?;
        world.qa4(&["di", "new", &format!("path={},osf=MyOSF", image.display())])?;
        world.qa4(&["user", "new", "name=test,password=test"])?;
        world.qa4(&["vm", "new", "name=First,user=test,osf=MyOSF"])?;
        for (key, value) in TIMES {
            let row = format!("insert into configs (tenant_id, key, value) values (-1, '{key}', '{value}')");
            world.cluster.value(&row)?;
        }
        world.restart()?;
        Ok(world)
    }

    fn qa4(&self, words: &[&str]) -> Result<String> {
        self.cluster.qa4(words)?.good(&format!("qa4 {}", words.join(" ")))
    }

    fn host(&self, column: &str) -> Result<String> {
        self.cluster.value(&format!("select {column} from host_runtimes order by host_id limit 1"))
    }

    /// Kills the node daemon and waits for the next one to serve.
    fn restart(&self) -> Result<()> {
        let next = self.host("incarnation")?.parse::<i64>()? + 1;
        self.cluster.kill_daemon("qvd-hkd")?;
        self.serves(next)
    }

    fn serves(&self, incarnation: i64) -> Result<()> {
        let serves = "select (incarnation >= {n} and state = 'running')::text from host_runtimes \
                      order by host_id limit 1";
        self.cluster.wait_for(&serves.replace("{n}", &incarnation.to_string()), "true", LIMIT)
    }

    /// Starts the desktop; its process.
    fn start(&self, limit: Duration) -> Result<i32> {
        self.qa4(&["vm", "name=First", "start"])?;
        self.vm("running", limit)?;
        self.desktop().context("there is no lxc-start")
    }

    fn vm(&self, state: &str, limit: Duration) -> Result<()> {
        let row = "select vm_state from vm_runtimes join vms on id = vm_id where name = 'First'";
        self.cluster.wait_for(row, state, limit)
    }

    /// The container's process.
    fn desktop(&self) -> Option<i32> {
        let named = |process: &i32| {
            fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "lxc-start")
        };
        self.cluster.namespace().processes().into_iter().find(named)
    }

    /// Waits until nothing of the desktop runs; how long it took since `start`.
    fn ends(&self, start: Instant) -> Result<Duration> {
        while self.desktop().is_some() {
            ensure!(start.elapsed() < LIMIT, "the desktop goes on\n{}", self.cluster.logs());
            sleep(Duration::from_millis(20));
        }
        Ok(start.elapsed())
    }

    /// Makes the row of the second VM name the other host.
    fn name_other(&self, set: &str) -> Result<()> {
        let other = "host_id = (select id from hosts where name = 'other')";
        let second = "vm_id = (select id from vms where name = 'Second')";
        self.cluster.value(&format!("update vm_runtimes set {other}, {set} where {second}")).map(drop)
    }

    /// Waits until the second VM was given free, with the reason.
    fn is_given_up(&self, why: &str) -> Result<()> {
        let row = "select concat_ws(' ', vm_state, vm_cmd, host_id, failure_code, \
                   position('{why}' in failure_text) > 0) from vm_runtimes join vms on id = vm_id \
                   where name = 'Second'";
        self.cluster.wait_for(&row.replace("{why}", why), "stopped node_lost t", LIMIT)
    }

    /// From here on there is another node, which ran once.
    fn add_peer(&self) -> Result<()> {
        self.cluster.value(ADD_OTHER)?;
        self.cluster.value("update host_runtimes set incarnation = 1 where incarnation = 0")?;
        self.promises(&LOST.as_secs().to_string())
    }

    /// Waits until the node's row has this lease.
    fn promises(&self, lease: &str) -> Result<()> {
        let row = "select coalesce(lease_seconds::text, 'none') from host_runtimes order by host_id limit 1";
        self.cluster.wait_for(row, lease, LIMIT)
    }
}

#[test]
fn a_node_ends_its_desktops_before_others_may_have_them() {
    let world = World::new().unwrap();
    let desktop = world.start(START_LIMIT).unwrap();

    // A row that names a host which never ran is put right, with the reason.
    world.cluster.value(ADD_OTHER).unwrap();
    world.qa4(&["user", "new", "name=second,password=second"]).unwrap();
    world.qa4(&["vm", "new", "name=Second,user=second,osf=MyOSF"]).unwrap();
    world.name_other("vm_cmd = 'start'").unwrap();
    world.is_given_up("never ran").unwrap();
    // Of one that ran, and knew of nobody, an administrator says it.
    let ran = "update host_runtimes set incarnation = 1, state = 'running', ok_ts = now() - interval '1 h' \
               where incarnation = 0";
    world.cluster.value(ran).unwrap();
    world.name_other("vm_state = 'running'").unwrap();
    let file = world.cluster.data().join("etc/node.conf").display().to_string();
    let give_up = |words: &[&str]| world.cluster.daemon("qvd", &[&["give-up", "-c", &file], words].concat());
    let refused = give_up(&["other"]).unwrap();
    assert!(refused.code != Some(0) && refused.err.contains("--is-off"), "{refused:?}");
    let node = world.cluster.value("select name from hosts order by id limit 1").unwrap();
    let alive = give_up(&[&node, "--is-off"]).unwrap();
    assert!(alive.code != Some(0) && alive.err.contains("is not off"), "{alive:?}");
    give_up(&["other", "--is-off"]).unwrap().good("qvd give-up").unwrap();
    world.is_given_up("an administrator says that it is off").unwrap();
    world.cluster.value("delete from hosts where name = 'other'").unwrap();
    world.promises("none").unwrap();

    // Alone, it keeps them however long the database is away.
    world.cluster.stop_database().unwrap();
    sleep(LOST + Duration::from_secs(3));
    assert_eq!(world.desktop(), Some(desktop), "{}", world.cluster.logs());
    world.cluster.start_database().unwrap();
    world.vm("running", LIMIT).unwrap();

    // With others, a daemon that is started again in time changes nothing; nor does its death while it is.
    world.add_peer().unwrap();
    world.restart().unwrap();
    world.restart().unwrap();
    assert_eq!(world.desktop(), Some(desktop), "{}", world.cluster.logs());

    // A daemon that hangs does: the watchdog ends them.
    let frozen = world.cluster.process("qvd-hkd").unwrap().unwrap();
    let incarnation: i64 = world.host("incarnation").unwrap().parse().unwrap();
    let start = Instant::now();
    kill(frozen, Signal::SIGSTOP).unwrap();
    let took = world.ends(start).unwrap();
    assert!(took < LOST && took > LOST / 2, "{took:?}\n{}", world.cluster.logs());
    eprintln!("the watchdog killed the desktop {took:?} after its daemon was frozen");
    world.vm("running", LIMIT).unwrap();
    // Before the end of its lease it would go on.
    sleep(LOST.saturating_sub(start.elapsed()));
    kill(frozen, Signal::SIGCONT).unwrap();
    world.serves(incarnation + 1).unwrap();
    world.vm("stopped", LIMIT).unwrap();
    world.start(LIMIT).unwrap();

    // So does a node without database: gracefully at first, and in time in any case.
    let start = Instant::now();
    world.cluster.stop_database().unwrap();
    let took = world.ends(start).unwrap();
    assert!(took < LOST && took > LOST / 2, "{took:?}\n{}", world.cluster.logs());
    eprintln!("the node ended the desktop {took:?} after the database went away");
    sleep(LOST.saturating_sub(start.elapsed()));
    world.cluster.start_database().unwrap();
    world.serves(incarnation + 2).unwrap();
    world.vm("stopped", LIMIT).unwrap();
    let desktop = world.start(LIMIT).unwrap();

    // Where a heartbeat file in the storage counts, the database may be away, and the daemon may die meanwhile.
    let file = world.cluster.data().join("etc/node.conf");
    let mut file = fs::File::options().append(true).open(file).unwrap();
    writeln!(file, "internal.hkd.cluster.storage = shared").unwrap();
    world.restart().unwrap();
    assert_eq!(world.host("storage is not null").unwrap(), "t");
    world.cluster.stop_database().unwrap();
    sleep(LOST / 2);
    world.cluster.kill_daemon("qvd-hkd").unwrap();
    sleep(LOST);
    assert_eq!(world.desktop(), Some(desktop), "{}", world.cluster.logs());
    world.cluster.start_database().unwrap();
    world.vm("running", LIMIT).unwrap();
    world.serves(incarnation + 3).unwrap();
    assert_eq!(world.desktop(), Some(desktop), "{}", world.cluster.logs());
}
