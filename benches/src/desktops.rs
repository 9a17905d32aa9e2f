//! Real desktops: how soon a user sees one, many at once, and what they cost when nobody uses them.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::{Cluster, Display};

use crate::by_hand;
use crate::installation::{Installation, LIMIT};
use crate::phases::{Logs, Phases};
use crate::table::{Table, spread};
use crate::usage;

/// How long users look at their desktop, and then at something else. X servers take a moment to let go.
const LOOK: Duration = Duration::from_millis(500);

/// From the start of a client to the first pixel of its desktop.
pub fn pixel(table: &mut Table, runs: usize) -> Result<()> {
    let installation = Installation::new(1, true)?;
    let display = Display::within(installation.cluster.namespace(), 1024, 768)?;
    let begun = Instant::now();
    installation.order("start", "running")?;
    let unpacked = format!("{:.1} s", begun.elapsed().as_secs_f64());
    table.row("first start of an image, with unpacking", unpacked, "", "");

    let cases =
        [("suspended", "p95 ≤ 0.5 s"), ("running, new session", "p95 ≤ 0.5 s"), ("stopped", "p95 ≤ 1.5 s")];
    for (case, budget) in cases {
        let (mut firsts, mut wholes, mut phases) = (Vec::new(), Vec::new(), Phases::default());
        for run in 0..=runs {
            if case != "suspended" || run == 0 {
                installation.order("stop", "stopped")?;
            }
            if case != "stopped" && (case != "suspended" || run == 0) {
                installation.order("start", "running")?;
            }
            let logs = Logs::begin(&installation.cluster.data().join("log"));
            let (mut client, first, whole) = installation.connect(&display)?;
            // The first one makes what the others find.
            if run > 0 {
                logs.end(&mut phases, first, whole)?;
                firsts.push(first);
                wholes.push(whole);
            }
            std::thread::sleep(LOOK);
            client.leave()?;
            installation.wait("user_state", "disconnected")?;
            display.wait_for("nothing", LIMIT, |picture| picture.drawn() == 0.0)?;
            std::thread::sleep(LOOK);
        }
        let what = format!("login → first pixel, {case}");
        let beside = format!("whole desktop: {}", spread(&wholes));
        table.row(&what, spread(&firsts), beside, budget);
        table.row("— of which, in ms", phases.to_string(), "", "");
    }
    by_hand::measure(table, &installation, &display, runs)
}

/// Many desktops at once, then what they cost when nobody uses them.
pub fn farm(table: &mut Table, starts: usize, idle: usize, seconds: u64) -> Result<()> {
    let installation = Installation::new(starts, false)?;
    let cluster = &installation.cluster;
    installation.order("start", "running")?;
    installation.order("stop", "stopped")?;

    start(&installation, 0, starts)?.tell(table, &format!("{starts} desktops started at once"));
    if idle > starts {
        installation.add(starts..idle)?;
        start(&installation, starts, idle)?.tell(table, &format!("{} more", idle - starts));
    }
    observe(table, cluster, starts.max(idle), Duration::from_secs(seconds))
}

struct Starts {
    times: Vec<Duration>,
    wall: Duration,
    failed: usize,
}

impl Starts {
    fn tell(&self, table: &mut Table, what: &str) {
        let figure = format!("{:.1} s, {} failed", self.wall.as_secs_f64(), self.failed);
        let beside = format!("from the order to `running`, each: {}", spread(&self.times));
        table.row(what, figure, beside, "0 failed");
    }
}

/// Starts the desktops `from..to`, which are those that do not run yet, with one command.
fn start(installation: &Installation, from: usize, to: usize) -> Result<Starts> {
    let cluster = &installation.cluster;
    let names: Vec<String> = (from..to).map(|number| format!("d{number}")).collect();
    let ids = cluster.value(&format!(
        "select string_agg(id::text, ',') from vms where name in ('{}')",
        names.join("','")
    ))?;
    let clock = cluster.value("select extract(epoch from clock_timestamp())")?.parse::<f64>()?;
    let begun = Instant::now();
    installation.qa4(&["vm", "state=stopped", "start"])?;
    let settled = format!(
        "select count(*) from vm_runtimes where vm_id in ({ids}) and (vm_state = 'running' or vm_state = 'stopped' and failure_code is not null)"
    );
    cluster.wait_for(&settled, &(to - from).to_string(), Duration::from_secs(300))?;
    let wall = begun.elapsed();
    let rows = cluster.value(&format!(
        "select string_agg(at::text, ',') from (select max(extract(epoch from time)) as at from events \
         where kind = 'vm' and object_id in ({ids}) and to_state = 'running' \
         and extract(epoch from time) > {clock} group by object_id) as started"
    ))?;
    let times = rows.split(',').map(|at| Ok(Duration::from_secs_f64(at.parse::<f64>()? - clock)));
    let times: Vec<Duration> = times.collect::<Result<_>>()?;
    Ok(Starts { failed: to - from - times.len(), times, wall })
}

/// What a node costs on which nobody does anything.
fn observe(table: &mut Table, cluster: &Cluster, desktops: usize, time: Duration) -> Result<()> {
    // What the starts have left to do is not idleness.
    std::thread::sleep(Duration::from_secs(20));
    cluster.value("alter system set log_statement = 'all'")?;
    cluster.value("alter system set log_line_prefix = '%u '")?;
    cluster.value("select pg_reload_conf()")?;
    let process = |name: &str| -> Result<u32> {
        let process = cluster.process(name)?.with_context(|| format!("{name} does not run"))?;
        Ok(process.as_raw().unsigned_abs())
    };
    let daemons = ["qvd-hkd", "qvd-l7r", "qvd-api"];
    let pids = daemons.map(process).into_iter().collect::<Result<Vec<_>>>()?;
    let read = || -> Result<Vec<(Duration, u64)>> {
        pids.iter().map(|pid| Ok((usage::process(*pid)?, usage::switches(*pid)?))).collect()
    };
    let before = read()?;
    let logged = statements(cluster)?;
    std::thread::sleep(time);
    let after = read()?;
    let asked = statements(cluster)?;
    let budgets = ["≤ 0.5 % of a core", "", ""];
    for (index, name) in daemons.iter().enumerate() {
        let (Some(old), Some(new), Some(pid)) = (before.get(index), after.get(index), pids.get(index)) else {
            continue;
        };
        let share = (new.0 - old.0).as_secs_f64() / time.as_secs_f64() * 100.0;
        let wakes = (new.1 - old.1) as f64 / time.as_secs_f64();
        let memory = usage::own_memory(*pid)? as f64 / f64::from(1 << 20);
        let what = format!("{name} with {desktops} idle desktops");
        let beside = format!("{wakes:.1} wake-ups/s, {memory:.1} MiB of its own");
        table.row(&what, format!("{share:.2} % of a core"), beside, budgets.get(index).unwrap_or(&""));
    }
    let mut words = Vec::new();
    let mut total = 0;
    for (role, count) in &asked {
        let count = count - logged.get(role).copied().unwrap_or_default();
        if role != "postgres" {
            total += count;
            words.push(format!("{role} {:.2}", count as f64 / time.as_secs_f64()));
        }
    }
    let figure = format!("{:.2}/s", total as f64 / time.as_secs_f64());
    table.row("database statements of the idle node", figure, words.join(", "), "≤ 2/s");

    let members = cluster.everything();
    let inside: Vec<i32> =
        members.into_iter().filter(|pid| is_of_a_desktop(*pid, cluster.bridge())).collect();
    let memory: u64 = inside.iter().filter_map(|pid| usage::share_of_memory(*pid)).sum();
    let each = memory as f64 / desktops as f64 / f64::from(1 << 20);
    let beside = format!("{:.1} processes each", inside.len() as f64 / desktops as f64);
    table.row("memory of an idle desktop, no session", format!("{each:.1} MiB"), beside, "");
    ensure!(!inside.is_empty(), "no desktop runs");
    Ok(())
}

/// How many statements each role has made since all are logged.
fn statements(cluster: &Cluster) -> Result<BTreeMap<String, u64>> {
    let log = fs::read_to_string(cluster.data().join("postgres/log/postgresql.log"))?;
    let mut counts = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("LOG:  execute") || line.contains("LOG:  statement:"))
    {
        if let Some(role) = line.split_whitespace().next() {
            *counts.entry(role.to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}

fn is_of_a_desktop(pid: i32, parent: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .is_ok_and(|groups| groups.contains(&format!("/{parent}/")))
}
