//! Every part but the desktop is killed at some moment: the desktop stays, and row and world agree.

use std::fs;
use std::ops::Deref;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::desktops::LIMIT;
use testbed::traces::assert_same;
use testbed::{Client, Cluster, Desktops};

/// How long a first start may take here: the image is unpacked on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Within this everything is as before the database broke off.
const DATABASE_LIMIT: Duration = Duration::from_secs(10);

/// One machine with two desktops, and what may happen to it.
struct World(Desktops);

impl Deref for World {
    type Target = Desktops;

    fn deref(&self) -> &Desktops {
        &self.0
    }
}

impl World {
    /// Every `lxc-start`.
    fn containers(&self) -> Result<Vec<i32>> {
        let running = self.running()?.into_iter();
        Ok(running.filter(|(_, name)| name == "lxc-start").map(|(process, _)| process).collect())
    }

    /// Waits until nothing of `Second` is here; `others` is how many other containers there are.
    fn nothing_is_left(&self, others: usize) -> Result<()> {
        let vm = self.cluster.value("select id from vms where name = 'Second'")?;
        let (group, mount) = (format!("/{}/qvd-{vm}", self.cluster.bridge()), format!("/{vm}-fs "));
        let end = Instant::now() + LIMIT;
        loop {
            let mut left: Vec<String> = self.cluster.traces()?.into_iter().collect();
            left.retain(|line| line.contains(&group) || line.contains(&mount));
            for kept in ["run/vm", "run/lxc"].map(|name| self.cluster.data().join(name)) {
                let ours = [kept.join(&vm), kept.join(format!("qvd-{vm}"))];
                left.extend(ours.iter().filter(|path| path.exists()).map(|path| path.display().to_string()));
            }
            let containers = self.containers()?;
            if left.is_empty() && containers.len() == others {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{left:?}, {containers:?}\n{}", self.cluster.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills the node daemon and waits for the next one to serve.
    fn kill_node(&self) -> Result<()> {
        const LIVES: &str = "select incarnation from host_runtimes";
        let next = self.cluster.value(LIVES)?.parse::<i64>()? + 1;
        self.cluster.kill_daemon("qvd-hkd")?;
        let serves = "select incarnation || ' ' || state from host_runtimes";
        self.cluster.wait_for(serves, &format!("{next} running"), LIMIT)
    }
}

#[test]
fn every_part_may_die_but_the_desktop() {
    let cluster = Cluster::machine().unwrap();
    let before = cluster.traces().unwrap();
    let world = World(Desktops::on(cluster).unwrap());
    node_dies_while_it_unpacks(&world).unwrap();
    let mut client = world.connect(START_LIMIT).unwrap();
    let session = world.session().unwrap();

    node_dies(&world, &mut client).unwrap();
    assert_eq!(world.session().unwrap(), session);
    for pause in [0, 250] {
        node_dies_while_it_starts_a_desktop(&world, Duration::from_millis(pause)).unwrap();
        assert_eq!(world.session().unwrap(), session);
    }
    node_loses_its_row(&world).unwrap();
    what_nobody_knows_is_found(&world).unwrap();
    assert_eq!(world.session().unwrap(), session);
    interface_dies(&world).unwrap();
    database_breaks_off(&world).unwrap();
    assert!(client.runs().unwrap(), "{}", client.said());
    assert_eq!(world.value("First", "user_state").unwrap(), "connected");
    assert_eq!(world.session().unwrap(), session);

    let mut client = router_dies(&world, client).unwrap();
    assert_eq!(world.session().unwrap(), session);

    supervisor_dies(&world, &mut client).unwrap();
    assert_eq!(world.session().unwrap(), session);
    let mut client = world.connect(LIMIT).unwrap();
    assert_eq!(world.session().unwrap(), session);

    world.cluster.qvd(&["down"]).unwrap().good("qvd down").unwrap();
    client.wait(LIMIT).unwrap();
    let World(Desktops { cluster, display }) = world;
    drop(display);
    assert_same(&before, &cluster.traces().unwrap());
    assert_eq!(fs::read_dir(cluster.data().join("run/vm")).unwrap().count(), 0, "records are left");
}

fn node_dies(world: &World, client: &mut Client) -> Result<()> {
    let stamp = world.value("First", "vm_state_ts")?;
    world.kill_node()?;
    ensure!(client.runs()?, "{}", client.said());
    ensure!(world.value("First", "vm_state || ' ' || user_state")? == "running connected");
    ensure!(world.value("First", "vm_state_ts")? == stamp, "its state was written again");
    ensure!(world.cluster.logs().contains("adopted"), "{}", world.cluster.logs());
    Ok(())
}

/// Nothing runs yet: the start is undone, and the reason told.
fn node_dies_while_it_unpacks(world: &World) -> Result<()> {
    world.qa4(&["vm", "name=Second", "start"])?;
    world.wait("Second", "vm_state || ' ' || start_step", "starting unpack")?;
    world.kill_node()?;
    world.wait("Second", "vm_state", "stopped")?;
    let row = "failure_code || ' ' || (host_id is null) || ' ' || (vm_address is null)";
    let row = world.value("Second", row)?;
    ensure!(row == "hypervisor_exited true true", "{row}");
    world.nothing_is_left(0)
}

/// The start is finished or undone; in either case the next one is as good as any.
fn node_dies_while_it_starts_a_desktop(world: &World, pause: Duration) -> Result<()> {
    let others = world.containers()?.len();
    world.qa4(&["vm", "name=Second", "start"])?;
    world.wait("Second", "vm_state in ('starting', 'running')", "t")?;
    std::thread::sleep(pause);
    world.kill_node()?;
    world.wait("Second", "vm_state in ('running', 'stopped')", "t")?;
    let state = world.value("Second", "vm_state")?;
    eprintln!("killed {pause:?} into a start: {state}, {}", world.value("Second", "failure_text")?);
    if state == "stopped" {
        ensure!(world.value("Second", "failure_text is not null and host_id is null")? == "t");
        world.nothing_is_left(others)?;
        world.qa4(&["vm", "name=Second", "start"])?;
        world.wait("Second", "vm_state", "running")?;
    }
    world.qa4(&["vm", "name=Second", "stop"])?;
    world.wait("Second", "vm_state", "stopped")?;
    world.nothing_is_left(others)
}

/// A daemon that finds another one in its row ends, and the next one takes the row back.
fn node_loses_its_row(world: &World) -> Result<()> {
    let stolen = "update host_runtimes set incarnation = incarnation + 10 returning incarnation";
    let stolen = world.cluster.value(stolen)?;
    let stolen: i64 = stolen.lines().next().unwrap_or_default().parse()?;
    let host = world.cluster.value("select id from hosts")?;
    world.cluster.value(&format!("notify qvd_cmd_for_host{host}"))?;
    let serves = "select incarnation || ' ' || state from host_runtimes";
    world.cluster.wait_for(serves, &format!("{} running", stolen + 1), LIMIT)?;
    ensure!(world.cluster.logs().contains("is not ours any more"), "{}", world.cluster.logs());
    Ok(())
}

/// Records that are none, and containers without record and row.
fn what_nobody_knows_is_found(world: &World) -> Result<()> {
    let others = world.containers()?;
    let records = world.cluster.data().join("run/vm");
    let vm = world.cluster.value("select id from vms where name = 'Second'")?;
    let start = || -> Result<i32> {
        world.qa4(&["vm", "name=Second", "start"])?;
        world.wait("Second", "vm_state", "running")?;
        let started = world.containers()?.into_iter().find(|process| !others.contains(process));
        started.context("there is no new lxc-start")
    };

    // Its record is spoilt; beside it are some that never were any.
    start()?;
    fs::write(records.join(&vm).join("record.json"), "{")?;
    fs::write(records.join("4711"), "no directory")?;
    fs::create_dir(records.join("4712"))?;
    world.kill_node()?;
    world.wait("Second", "vm_state || ' ' || failure_code", "stopped hypervisor_exited")?;
    ensure!(world.value("Second", "failure_text")?.contains("record.json"));
    world.nothing_is_left(others.len())?;

    // Neither record nor row, once with and once without the lxc-start.
    for killed in [false, true] {
        let container = start()?;
        let node = world.cluster.process("qvd-hkd")?.context("there is no node daemon")?;
        kill(node, Signal::SIGSTOP)?;
        if killed {
            kill(Pid::from_raw(container), Signal::SIGKILL)?;
        }
        fs::remove_dir_all(records.join(&vm))?;
        let forget = "update vm_runtimes set vm_state = 'stopped', host_id = null where vm_id = ";
        world.cluster.value(&format!("{forget}{vm}"))?;
        world.kill_node()?;
        world.nothing_is_left(others.len())?;
    }
    let left: Vec<_> = fs::read_dir(&records)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(left.len() == others.len(), "{left:?}");
    Ok(())
}

fn interface_dies(world: &World) -> Result<()> {
    world.cluster.kill_daemon("qvd-api")?;
    // The socket is the supervisor's: what is asked meanwhile waits for the next one.
    ensure!(world.qa4(&["vm", "get"])?.contains("First"));
    Ok(())
}

fn database_breaks_off(world: &World) -> Result<()> {
    for kills in [false, true] {
        if kills {
            world.cluster.kill_database()?;
        } else {
            world.cluster.restart_database()?;
        }
        let back = Instant::now();
        // The first question may still meet a connection that is gone.
        while !world.cluster.qa4(&["vm", "get"])?.out.contains("First") {
            ensure!(back.elapsed() < DATABASE_LIMIT, "{}", world.cluster.logs());
        }
        eprintln!("the API answers {:?} after the database", back.elapsed());
    }
    // Commands reach the node and rows reach the router again.
    world.qa4(&["vm", "name=Second", "start"])?;
    world.wait("Second", "vm_state", "running")?;
    world.qa4(&["vm", "name=Second", "stop"])?;
    world.wait("Second", "vm_state", "stopped")
}

/// The connection is lost, the session is not: the next client has it at once.
fn router_dies(world: &World, mut client: Client) -> Result<Client> {
    // While the supervisor sleeps there is no next router that could release what the dead one had.
    let supervisor = world.cluster.process("supervised by")?.context("there is no supervisor")?;
    kill(supervisor, Signal::SIGSTOP)?;
    world.cluster.kill_daemon("qvd-l7r")?;
    client.wait(LIMIT)?;
    world.wait("First", "user_state || ' ' || (l7r_instance is null)", "disconnected true")?;
    kill(supervisor, Signal::SIGCONT)?;
    world.display.wait_for("nothing", LIMIT, |picture| picture.drawn() == 0.0)?;
    let lost = Instant::now();
    let client = world.connect(DATABASE_LIMIT)?;
    eprintln!("the session is back {:?} after the router died", lost.elapsed());
    Ok(client)
}

fn supervisor_dies(world: &World, client: &mut Client) -> Result<()> {
    let supervisor = world.cluster.process("supervised by")?.context("there is no supervisor")?;
    kill(supervisor, Signal::SIGKILL)?;
    client.wait(LIMIT)?;
    world.display.wait_for("nothing", LIMIT, |picture| picture.drawn() == 0.0)?;
    world.cluster.up()?.good("qvd up")?;
    world.wait("First", "vm_state", "running")
}
