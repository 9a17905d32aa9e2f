//! Kills of daemons at random moments, and what was lost by them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::{Client, Cluster, Display, agents, image, programs};

/// How long all desktops may take to start: the image is unpacked once, and then everything at the same time.
const START_LIMIT: Duration = Duration::from_secs(300);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Kills happen within this after the one before.
const MOMENT: Duration = Duration::from_millis(700);
/// What a user's session is known by: a program that the desktop starts once.
const PROGRAM: &str = "xterm";
/// A desktop without a client that starts and stops while daemons die.
const RESTLESS: &str = "restless";

/// How much is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Desktops with a client each.
    pub desktops: u32,
    /// Kills of each daemon.
    pub kills: u32,
    /// What random moments are made of.
    pub seed: u64,
}

impl Plan {
    /// This plan, changed by `QVD_SOAK_DESKTOPS`, `QVD_SOAK_KILLS` and `QVD_SOAK_SEED`.
    pub fn from_environment(self) -> Result<Self> {
        let number = |name: &str| -> Result<Option<u64>> {
            let Ok(text) = std::env::var(name) else { return Ok(None) };
            text.parse().map(Some).with_context(|| format!("{name}={text} is no number"))
        };
        Ok(Self {
            desktops: number("QVD_SOAK_DESKTOPS")?.map_or(Ok(self.desktops), u32::try_from)?,
            kills: number("QVD_SOAK_KILLS")?.map_or(Ok(self.kills), u32::try_from)?,
            seed: number("QVD_SOAK_SEED")?.unwrap_or(self.seed),
        })
    }
}

/// What kills of one daemon did.
#[derive(Debug, Clone, Default)]
pub struct Losses {
    /// Its program.
    pub daemon: &'static str,
    /// How often it was killed.
    pub kills: u32,
    /// Sessions that were gone afterwards.
    pub sessions: usize,
    /// Connections that were gone afterwards.
    pub connections: usize,
    /// The longest time until everything was as before.
    pub slowest: Duration,
}

/// What all of it did.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was done.
    pub plan: Plan,
    /// What it took.
    pub lasted: Duration,
    /// By daemon.
    pub losses: Vec<Losses>,
    /// Processes, mounts, control groups, links, firewall rules, records and rows that were left in the end.
    pub left: Vec<String>,
}

impl Report {
    /// The losses by one daemon.
    pub fn of(&self, daemon: &str) -> &Losses {
        self.losses.iter().find(|losses| losses.daemon == daemon).unwrap_or(&self.losses[0])
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { desktops, kills, seed } = self.plan;
        let seconds = self.lasted.as_secs();
        writeln!(f, "{desktops} desktops, {kills} kills of each daemon, seed {seed}, {seconds} s")?;
        writeln!(f, "killed    times  sessions lost  connections lost  as before after")?;
        for Losses { daemon, kills, sessions, connections, slowest } in &self.losses {
            writeln!(
                f,
                "{daemon:<8} {kills:>6} {sessions:>14} {connections:>17} {:>14.1} s",
                slowest.as_secs_f64()
            )?;
        }
        if self.left.is_empty() {
            write!(f, "left behind: nothing")
        } else {
            write!(f, "left behind: {:#?}", self.left)
        }
    }
}

/// Everything that is there while daemons die.
struct World {
    cluster: Cluster,
    display: Display,
    clients: Vec<Client>,
}

/// Makes everything, kills as planned, takes everything down, and tells what was lost.
pub fn run(plan: Plan) -> Result<Report> {
    let began = Instant::now();
    let cluster = Cluster::machine()?;
    let before = cluster.traces()?;
    let mut world = World::new(cluster, plan.desktops)?;
    eprintln!("{} desktops with their clients after {:?}", plan.desktops, began.elapsed());
    let mut random = StdRng::seed_from_u64(plan.seed);
    let daemons = ["qvd-hkd", "qvd-api", "qvd-l7r"];
    let mut order: Vec<usize> = (0..plan.kills).flat_map(|_| 0..daemons.len()).collect();
    order.shuffle(&mut random);
    let mut losses = daemons.map(|daemon| Losses { daemon, ..Losses::default() });
    for (number, which) in order.into_iter().enumerate() {
        world.stir()?;
        std::thread::sleep(random.random_range(Duration::ZERO..MOMENT));
        world.kill(&mut losses[which]).with_context(|| format!("kill {number}, of {}", daemons[which]))?;
        if number % 25 == 24 {
            eprintln!("{} kills after {:?}", number + 1, began.elapsed());
        }
    }
    let left = world.end(&before)?;
    Ok(Report { plan, lasted: began.elapsed(), losses: losses.to_vec(), left })
}

impl World {
    fn new(cluster: Cluster, desktops: u32) -> Result<Self> {
        cluster.up()?.good("qvd up")?;
        let image = image::desktop(&programs::program("qvd-vma")?, cluster.directory())?;
        let display = Display::within(cluster.namespace(), 1024, 768)?;
        let mut world = Self { cluster, display, clients: Vec::new() };
        world.qa4(&["osf", "new", "name=MyOSF"])?;
        world.qa4(&["di", "new", &format!("path={},osf=MyOSF", image.display())])?;
        let users = (1..=desktops).map(user).chain([RESTLESS.to_owned()]);
        for name in users {
            world.qa4(&["user", "new", &format!("name={name},password={name}")])?;
            world.qa4(&["vm", "new", &format!("name={name},user={name},osf=MyOSF")])?;
        }
        for number in 1..=desktops {
            let client = world.connect(&user(number))?;
            world.clients.push(client);
        }
        world.all_connected(START_LIMIT)?;
        world.all_sessions(START_LIMIT)?;
        Ok(world)
    }

    fn qa4(&self, words: &[&str]) -> Result<String> {
        self.cluster.qa4(words)?.good(&format!("qa4 {}", words.join(" ")))
    }

    fn connect(&self, user: &str) -> Result<Client> {
        Client::start(&self.cluster, Some(&self.display), user, user, &["-n"])
    }

    fn all_connected(&self, limit: Duration) -> Result<()> {
        let connected = "select count(*) from vm_runtimes where user_state = 'connected'";
        let waited = self.cluster.wait_for(connected, &self.clients.len().to_string(), limit);
        waited.with_context(|| self.clients.iter().map(Client::said).collect::<String>())?;
        agents::settle(&self.cluster.data().join("storage"), limit)
    }

    /// Sessions by their program and when it started.
    fn sessions(&self) -> BTreeSet<(i32, u64)> {
        let of = |process: i32| {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
            (name.trim() == PROGRAM).then_some((process, started))
        };
        self.cluster.everything().into_iter().filter_map(of).collect()
    }

    fn all_sessions(&self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while self.sessions().len() < self.clients.len() {
            ensure!(Instant::now() < end, "only {} desktops have their programs", self.sessions().len());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Has the restless desktop started or stopped, so that the node has something to do.
    fn stir(&self) -> Result<()> {
        let row =
            format!("select vm_state from vm_runtimes join vms on id = vm_id where name = '{RESTLESS}'");
        let verb = match self.cluster.value(&row)?.as_str() {
            "stopped" => "start",
            "running" => "stop",
            _ => return Ok(()),
        };
        // The node may be between two daemons, which is no reason to wait.
        self.cluster.qa4(&["vm", &format!("name={RESTLESS}"), verb]).map(drop)
    }

    /// Kills a daemon, waits until everything is as before, and counts what is not.
    fn kill(&mut self, losses: &mut Losses) -> Result<()> {
        let sessions = self.sessions();
        const LIVES: &str = "select incarnation from host_runtimes";
        let next = self.cluster.value(LIVES)?.parse::<i64>()? + 1;
        self.cluster.kill_daemon(losses.daemon)?;
        let began = Instant::now();
        match losses.daemon {
            "qvd-hkd" => {
                let serves = "select incarnation || ' ' || state from host_runtimes";
                self.cluster.wait_for(serves, &format!("{next} running"), LIMIT)?;
                losses.connections += self.reconnect(false)?;
            }
            "qvd-api" => {
                ensure!(self.qa4(&["vm", "get"])?.contains(RESTLESS));
                losses.connections += self.reconnect(false)?;
            }
            "qvd-l7r" => losses.connections += self.reconnect(true)?,
            other => bail!("{other} is no daemon"),
        }
        losses.slowest = losses.slowest.max(began.elapsed());
        losses.kills += 1;
        let lost = sessions.difference(&self.sessions()).count();
        if lost > 0 {
            eprintln!("{lost} sessions lost by a kill of {}\n{}", losses.daemon, self.story()?);
            losses.sessions += lost;
            // Whoever lost the session has lost the client with it.
            self.reconnect(false)?;
            self.all_sessions(LIMIT)?;
        }
        Ok(())
    }

    /// Connects whoever has lost the connection, and tells how many had. `all`: everybody has.
    fn reconnect(&mut self, all: bool) -> Result<usize> {
        let mut lost = 0;
        for index in 0..self.clients.len() {
            if all || !self.clients[index].runs()? {
                let ended = self.clients[index].wait(LIMIT)?;
                ensure!(all || ended.code.is_some(), "a client was killed: {ended:?}");
                self.clients[index] = self.connect(&user(u32::try_from(index)? + 1))?;
                lost += 1;
            }
        }
        if lost > 0 {
            self.all_connected(LIMIT)?;
        }
        Ok(lost)
    }

    /// The latest events, to find out why something was lost.
    fn story(&self) -> Result<String> {
        self.cluster.value(
            "select string_agg(line, E'\\n') from (select object_name || ' ' || code || ': ' || text as line \
             from events order by id desc limit 30) as latest",
        )
    }

    /// Takes everything down; what is left that was not there before.
    fn end(self, before: &BTreeSet<String>) -> Result<Vec<String>> {
        let Self { cluster, display, clients } = self;
        drop(clients);
        let gone = "select count(*) from vm_runtimes where user_state <> 'disconnected'";
        cluster.wait_for(gone, "0", LIMIT)?;
        let stopping = cluster.qa4(&["vm", "state=running", "stop"])?;
        ensure!(stopping.code == Some(0), "{stopping:?}");
        cluster.wait_for("select count(*) from vm_runtimes where vm_state <> 'stopped'", "0", LIMIT * 3)?;
        let mut left = rows(&cluster)?;
        cluster.qvd(&["down"])?.good("qvd down")?;
        drop(display);
        left.extend(cluster.lasting(before)?);
        left.extend(entries(&cluster.data().join("run/vm")));
        left.extend(entries(&cluster.data().join("run/lxc")));
        left.extend(entries(&cluster.data().join("run/l7r/instances")));
        Ok(left)
    }
}

/// Rows that say more than that a VM is stopped and nobody is there.
fn rows(cluster: &Cluster) -> Result<Vec<String>> {
    let odd = cluster.value(
        "select string_agg(vms.name || ' ' || row_to_json(r)::text, E'\\n') from vm_runtimes as r \
         join vms on vms.id = r.vm_id where r.host_id is not null or r.vm_cmd is not null or r.user_cmd is not null \
         or r.l7r_host_id is not null or r.l7r_instance is not null or r.session_id is not null \
         or r.vm_address is not null or r.user_state <> 'disconnected'",
    )?;
    Ok(odd.lines().map(str::to_owned).collect())
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

fn user(number: u32) -> String {
    format!("user{number}")
}
