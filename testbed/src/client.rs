//! A user's client.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::display::Display;
use crate::machine::Answer;
use crate::namespace::Namespace;
use crate::programs::program;

/// A `qvdclient` that runs on a machine of the cluster and draws on a display.
pub struct Client {
    process: Option<Child>,
    home: TempDir,
}

impl Client {
    /// Starts one for this user with further options, on the machine of the router. It does not come back by itself,
    /// unless they say so.
    pub fn start(
        cluster: &Cluster,
        display: Option<&Display>,
        user: &str,
        password: &str,
        options: &[&str],
    ) -> Result<Self> {
        Self::start_in(cluster.namespace(), "127.0.0.1", display, user, password, options)
    }

    /// Starts one on any machine; it connects to the router at this address.
    pub fn start_in(
        machine: &Namespace,
        router: &str,
        display: Option<&Display>,
        user: &str,
        password: &str,
        options: &[&str],
    ) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("qvd-client-").tempdir()?;
        let mut command = machine.command(program("qvdclient")?);
        command
            .args(["-h", router, "-u", user])
            .args(options)
            .env_remove("DISPLAY")
            .env("HOME", home.path())
            .env("QVDPASSWORD", password)
            .env("QVDRECONNECT", "0")
            .stdin(Stdio::null())
            .stdout(fs::File::create(home.path().join("out"))?)
            .stderr(fs::File::create(home.path().join("err"))?);
        if let Some(display) = display {
            command.env("DISPLAY", display.name());
        }
        let process = command.spawn().context("cannot start qvdclient")?;
        Ok(Self { process: Some(process), home })
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.path(name)).unwrap_or_default();
        format!("{}{}", read("out"), read("err"))
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> Result<bool> {
        match &mut self.process {
            Some(process) => Ok(process.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Ends it as a user does who closes its terminal, and waits for its end.
    pub fn leave(&mut self) -> Result<Answer> {
        if let Some(process) = &self.process {
            kill(Pid::from_raw(i32::try_from(process.id())?), Signal::SIGTERM)?;
        }
        self.wait(Duration::from_secs(20))
    }

    /// Waits for its end by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<Answer> {
        let mut process = self.process.take().context("the client has ended before")?;
        let pid = Pid::from_raw(i32::try_from(process.id())?);
        let (ended, wait) = mpsc::channel();
        std::thread::spawn(move || {
            // Nobody listens when it took too long.
            let _ = ended.send(process.wait());
        });
        match wait.recv_timeout(limit) {
            Ok(status) => Ok(Answer {
                code: status?.code(),
                out: fs::read_to_string(self.path("out"))?,
                err: fs::read_to_string(self.path("err"))?,
            }),
            Err(_) => {
                kill(pid, Signal::SIGKILL)?;
                bail!("qvdclient did not end within {limit:?}; it said:\n{}", self.said())
            }
        }
    }

    /// Its user's home.
    pub fn home(&self) -> String {
        self.home.path().display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
