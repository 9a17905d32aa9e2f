//! A machine whose users have desktops.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Client, Cluster, Display, image, programs};

/// How long anything but a first start may take.
pub const LIMIT: Duration = Duration::from_secs(30);

/// What of a desktop must never change: the container, and what the user sees.
const SESSION: [&str; 4] = ["lxc-start", "nxagent", "openbox", "xterm"];

/// One machine whose user `test` has the desktop `First`, and user `other` another one, `Second`.
pub struct Desktops {
    /// The machine.
    pub cluster: Cluster,
    /// Where the clients of `test` draw.
    pub display: Display,
}

impl Desktops {
    /// Brings a machine up and makes users and desktops, none of which runs yet.
    pub fn on(cluster: Cluster) -> Result<Self> {
        cluster.up()?.good("qvd up")?;
        let image = image::desktop(&programs::program("qvd-vma")?, cluster.directory())?;
        let display = Display::within(cluster.namespace(), 1024, 768)?;
        let desktops = Self { cluster, display };
        desktops.qa4(&["osf", "new", "name=MyOSF"])?;
        desktops.qa4(&["di", "new", &format!("path={},osf=MyOSF", image.display())])?;
        for (user, vm) in [("test", "First"), ("other", "Second")] {
            desktops.qa4(&["user", "new", &format!("name={user},password={user}")])?;
            desktops.qa4(&["vm", "new", &format!("name={vm},user={user},osf=MyOSF")])?;
        }
        Ok(desktops)
    }

    /// Runs `qa4`, which must succeed.
    pub fn qa4(&self, words: &[&str]) -> Result<String> {
        self.cluster.qa4(words)?.good(&format!("qa4 {}", words.join(" ")))
    }

    /// A client that draws.
    pub fn connect(&self, limit: Duration) -> Result<Client> {
        self.connect_on(&self.display, limit, &["-f"])
    }

    /// A client that draws on this display, with these options.
    pub fn connect_on(&self, display: &Display, limit: Duration, options: &[&str]) -> Result<Client> {
        let options: Vec<&str> = std::iter::once(&"-n").chain(options).copied().collect();
        let client = Client::start(&self.cluster, Some(display), "test", "test", &options)?;
        let shown = display.wait_for("a desktop", limit, |picture| picture.drawn() > 0.8);
        shown.with_context(|| format!("{}\n{}", client.said(), self.cluster.logs()))?;
        self.wait("First", "user_state", "connected")?;
        Ok(client)
    }

    /// A column of the runtime row of a VM.
    pub fn value(&self, vm: &str, column: &str) -> Result<String> {
        self.cluster.value(&row(vm, column))
    }

    /// Waits until a column of the runtime row of a VM has this value.
    pub fn wait(&self, vm: &str, column: &str, wanted: &str) -> Result<()> {
        self.cluster.wait_for(&row(vm, column), wanted, LIMIT)
    }

    /// What runs of all desktops: `lxc-start` and everything below it, as number and name.
    pub fn running(&self) -> Result<BTreeSet<(i32, String)>> {
        let mut found = BTreeSet::new();
        let mut waiting: Vec<i32> = self.cluster.namespace().processes();
        waiting.retain(|process| name(*process) == "lxc-start");
        while let Some(process) = waiting.pop() {
            found.insert((process, name(process)));
            // It may have ended since it was listed.
            for thread in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
                waiting.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
            }
        }
        Ok(found)
    }

    /// The oldest of each name that must never change; nxagent has passing children of its own name.
    pub fn session(&self) -> Result<BTreeMap<&'static str, i32>> {
        let running = self.running()?;
        let mut session = BTreeMap::new();
        for part in SESSION {
            let named = running.iter().filter(|(_, name)| name == part).map(|(process, _)| *process);
            // Numbers start over; the oldest is not always the lowest.
            let oldest = named.filter_map(|process| Some((started(process)?, process))).min();
            session.insert(part, oldest.with_context(|| format!("no {part} in {running:?}"))?.1);
        }
        Ok(session)
    }
}

/// When a process started, in clock ticks since boot.
fn started(process: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn row(vm: &str, column: &str) -> String {
    format!("select {column} from vm_runtimes join vms on id = vm_id where name = '{vm}'")
}

fn name(process: i32) -> String {
    fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default().trim().to_owned()
}
