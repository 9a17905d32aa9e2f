//! An installation with desktops that users can have.

use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::{Client, Cluster, Display, image, programs};

/// Nothing here takes longer, unless it fails.
pub const LIMIT: Duration = Duration::from_secs(120);

/// One machine with everything; user `u7` has the desktop `d7`.
pub struct Installation {
    pub cluster: Cluster,
    pub image: PathBuf,
}

impl Installation {
    /// With this many desktops, all stopped; `detailed` logs tell how long each step takes.
    pub fn new(desktops: usize, detailed: bool) -> Result<Self> {
        let cluster = Cluster::new()?;
        let image = image::desktop(&programs::program("qvd-vma")?, cluster.directory())?;
        let installation = Self { cluster, image };
        if detailed {
            installation.log_details()?;
        }
        installation.qa4(&["osf", "new", "name=Flavor", "memory=256"])?;
        let image = format!("path={},osf=Flavor", installation.image.display());
        installation.qa4(&["di", "new", &image])?;
        installation.add(0..desktops)?;
        Ok(installation)
    }

    /// Makes more users with desktops.
    pub fn add(&self, numbers: Range<usize>) -> Result<()> {
        for number in numbers {
            self.qa4(&["user", "new", &format!("name=u{number},password=u{number}")])?;
            self.qa4(&["vm", "new", &format!("name=d{number},user=u{number},osf=Flavor")])?;
        }
        Ok(())
    }

    fn log_details(&self) -> Result<()> {
        for name in ["node.conf", "l7r.conf"] {
            let path = self.cluster.data().join("etc").join(name);
            let mut file = OpenOptions::new().append(true).open(path).context("no configuration")?;
            writeln!(file, "log.level = DEBUG")?;
        }
        self.cluster.kill_daemon("qvd-hkd")?;
        self.cluster.kill_daemon("qvd-l7r")?;
        self.cluster.wait_for("select incarnation || state from host_runtimes", "2running", LIMIT)?;
        let end = Instant::now() + LIMIT;
        while self.cluster.process("qvd-l7r")?.is_none() {
            ensure!(Instant::now() < end, "the router does not come back\n{}", self.cluster.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Runs `qa4`; what it printed.
    pub fn qa4(&self, words: &[&str]) -> Result<String> {
        self.cluster.qa4(words)?.good(&format!("qa4 {}", words.join(" ")))
    }

    /// Does something to desktop `d0` and waits until it is in this state.
    pub fn order(&self, verb: &str, state: &str) -> Result<()> {
        self.qa4(&["vm", "name=d0", verb])?;
        self.wait("vm_state", state)
    }

    /// Waits for what stands in the row of `d0`.
    pub fn wait(&self, column: &str, wanted: &str) -> Result<()> {
        let row = format!("select {column} from vm_runtimes join vms on id = vm_id where name = 'd0'");
        self.cluster.wait_for(&row, wanted, LIMIT)
    }

    /// Starts a client of `u0`; until the first pixel, and until the whole desktop is drawn.
    pub fn connect(&self, display: &Display) -> Result<(Client, Duration, Duration)> {
        let begun = Instant::now();
        let client = Client::start(&self.cluster, Some(display), "u0", "u0", &["-n", "-f"])?;
        let shown = appears(display, begun);
        let (first, whole) = shown.with_context(|| format!("{}\n{}", client.said(), self.cluster.logs()))?;
        Ok((client, first, whole))
    }
}

/// Waits for a desktop; how long after `begun` its first pixel came, and all of it.
pub fn appears(display: &Display, begun: Instant) -> Result<(Duration, Duration)> {
    let mut first = None;
    display.wait_for("a desktop", LIMIT, |picture| {
        let share = picture.drawn();
        if share > 0.0 {
            first.get_or_insert(begun.elapsed());
        }
        share > 0.8
    })?;
    let whole = begun.elapsed();
    Ok((first.unwrap_or(whole), whole))
}
