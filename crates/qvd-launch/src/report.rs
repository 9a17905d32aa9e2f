//! What the supervisor has to say about its daemons, kept in a file for `qvd status`.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::layout::{Daemon, Layout};

/// The state of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not started yet, or stopped.
    Stopped,
    /// Its process runs; it has not said that it serves.
    Starting,
    /// It serves.
    Ready,
    /// It ended and will be started again.
    Failed,
}

/// One daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonReport {
    /// Its program.
    pub program: String,
    /// Its state.
    pub phase: Phase,
    /// Its process id, while it has one.
    pub pid: Option<u32>,
    /// Processes that were replaced and let their work run out.
    #[serde(default)]
    pub replaced: Vec<u32>,
    /// How often it ended by itself.
    pub failures: u32,
    /// Why it ended last.
    pub problem: Option<String>,
}

/// The whole installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The supervisor itself.
    pub pid: u32,
    /// Its daemons.
    pub daemons: Vec<DaemonReport>,
}

/// Keeps the report up to date. Clones share it.
#[derive(Clone)]
pub struct Reporter {
    layout: Layout,
    report: Arc<Mutex<Report>>,
    changed: watch::Sender<()>,
}

impl Report {
    /// What the supervisor last wrote.
    pub fn read(layout: &Layout) -> Result<Self> {
        let path = layout.report();
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
    }
}

impl Reporter {
    /// A report of daemons that are all still stopped.
    pub fn new(layout: &Layout, daemons: impl Iterator<Item = Daemon>) -> Self {
        let stopped = |daemon: Daemon| DaemonReport {
            program: daemon.program().to_owned(),
            phase: Phase::Stopped,
            pid: None,
            replaced: Vec::new(),
            failures: 0,
            problem: None,
        };
        let report = Report { pid: std::process::id(), daemons: daemons.map(stopped).collect() };
        let reporter = Self {
            layout: layout.clone(),
            report: Arc::new(Mutex::new(report)),
            changed: watch::Sender::new(()),
        };
        reporter.write();
        reporter
    }

    /// Its process runs.
    pub fn started(&self, daemon: Daemon, pid: u32) {
        self.change(daemon, |report| {
            report.phase = Phase::Starting;
            report.pid = Some(pid);
        });
    }

    /// It serves.
    pub fn ready(&self, daemon: Daemon) {
        self.change(daemon, |report| {
            report.phase = Phase::Ready;
            report.problem = None;
        });
    }

    /// Another process of it serves; the one before lets its work run out.
    pub fn replaced(&self, daemon: Daemon, pid: u32) {
        self.change(daemon, |report| report.replaced.extend(report.pid.replace(pid)));
    }

    /// A process that was replaced has ended.
    pub fn run_out(&self, daemon: Daemon, pid: u32) {
        self.change(daemon, |report| report.replaced.retain(|old| *old != pid));
    }

    /// It ended by itself.
    pub fn failed(&self, daemon: Daemon, problem: &str) {
        self.change(daemon, |report| {
            report.phase = Phase::Failed;
            report.pid = None;
            report.failures += 1;
            report.problem = Some(problem.to_owned());
        });
    }

    /// It ended because it was told to.
    pub fn stopped(&self, daemon: Daemon) {
        self.change(daemon, |report| {
            report.phase = Phase::Stopped;
            report.pid = None;
        });
    }

    /// Waits until a daemon serves. An error if it fails before that.
    pub async fn wait_ready(&self, daemon: Daemon) -> Result<()> {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let report = self.lock();
                if let Some(own) = report.daemons.iter().find(|d| d.program == daemon.program()) {
                    match own.phase {
                        Phase::Ready => return Ok(()),
                        Phase::Failed => {
                            anyhow::bail!("{} {}", own.program, own.problem.as_deref().unwrap_or("failed"))
                        }
                        Phase::Stopped | Phase::Starting => {}
                    }
                }
            }
            changed.changed().await?;
        }
    }

    /// Waits until a daemon has no process.
    pub async fn wait_ended(&self, daemon: Daemon) {
        let mut changed = self.changed.subscribe();
        loop {
            let ended = self.lock().daemons.iter().any(|d| d.program == daemon.program() && d.pid.is_none());
            if ended || changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn change(&self, daemon: Daemon, change: impl FnOnce(&mut DaemonReport)) {
        if let Some(report) = self.lock().daemons.iter_mut().find(|d| d.program == daemon.program()) {
            change(report);
        }
        self.write();
        self.changed.send_replace(());
    }

    fn write(&self) {
        let text = serde_json::to_vec_pretty(&*self.lock());
        let path = self.layout.report();
        let fresh = path.with_extension("new");
        let written = text.map_err(std::io::Error::from).and_then(|text| {
            std::fs::write(&fresh, text)?;
            std::fs::rename(&fresh, &path)
        });
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), "report not written: {error}");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
