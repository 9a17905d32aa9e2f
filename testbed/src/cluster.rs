//! A QVD installation on one machine: database, API, node and router.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::{Answer, Machine, run};
use crate::rows::Rows;

/// One machine with an installation made by `qvd up`: database, API, node and router.
#[derive(Debug)]
pub struct Cluster {
    machine: Machine,
    rows: Rows,
}

impl Deref for Cluster {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Cluster {
    /// A machine on which nothing runs yet.
    pub fn machine() -> Result<Self> {
        let machine = Machine::create()?;
        let rows = Rows::at(machine.data().join("postgres/run"));
        Ok(Self { machine, rows })
    }

    /// A machine with everything up.
    pub fn new() -> Result<Self> {
        let cluster = Self::machine()?;
        cluster.up()?.good("qvd up")?;
        Ok(cluster)
    }

    /// Runs `qvd up`.
    pub fn up(&self) -> Result<Answer> {
        self.qvd(&["up", "--bridge", self.bridge()])
    }

    /// Starts the database again after a test has ended it.
    pub fn start_database(&self) -> Result<()> {
        self.pg_ctl(&["start"])
    }

    /// Ends the database, whoever is connected.
    pub fn stop_database(&self) -> Result<()> {
        self.pg_ctl(&["stop", "-m", "immediate"])
    }

    /// Breaks the database off in the middle of everything, and starts it again.
    pub fn restart_database(&self) -> Result<()> {
        self.pg_ctl(&["restart", "-m", "immediate"])
    }

    /// Kills the database, whose supervisor has to start it again.
    pub fn kill_database(&self) -> Result<()> {
        let file = self.data().join("postgres/data/postmaster.pid");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let process = text.lines().next().unwrap_or_default().trim().parse().context("no process id")?;
        kill(Pid::from_raw(process), Signal::SIGKILL).context("cannot kill the database")
    }

    fn pg_ctl(&self, words: &[&str]) -> Result<()> {
        let mut command = self.namespace().command("/usr/bin/setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(newest_pg_ctl()?);
        command.args(words).args(["-w", "-s", "-D"]).arg(self.data().join("postgres/data"));
        command.arg("-l").arg(self.data().join("postgres/log/postgresql.log"));
        run(command)?.good(&format!("pg_ctl {}", words.join(" "))).map(drop)
    }

    /// One value from the database, as text.
    pub fn value(&self, statement: &str) -> Result<String> {
        self.rows.value(statement)
    }

    /// Waits until the database has this value.
    pub fn wait_for(&self, statement: &str, wanted: &str, limit: Duration) -> Result<()> {
        self.rows.wait_for(statement, wanted, limit).with_context(|| self.logs())
    }
}

fn newest_pg_ctl() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("install the package postgresql")?;
    let programs = versions.flatten().map(|version| version.path().join("bin/pg_ctl"));
    programs.filter(|path| path.exists()).max().context("there is no pg_ctl below /usr/lib/postgresql")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        // The data directory can only go when nothing is mounted in it any more, and control groups outlive namespaces.
        if let Err(error) = self.qvd(&["down"]) {
            eprintln!("qvd down: {error:#}");
        }
    }
}
