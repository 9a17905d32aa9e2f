//! One node of a farm, each part of which can be killed, frozen and cut off.

use std::ops::Deref;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::{Answer, Machine};
use crate::proxy::Proxy;

/// A machine that has joined a farm. Its name is `node1`, `node2` and so on.
#[derive(Debug)]
pub struct Node {
    pub(crate) machine: Machine,
    /// Counts from 1.
    pub(crate) number: u8,
    /// Its way to the database.
    pub(crate) proxy: Proxy,
    /// Words of `qvd up`.
    pub(crate) options: Vec<String>,
    pub(crate) storage: String,
}

impl Deref for Node {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Node {
    /// Its name.
    pub fn name(&self) -> String {
        format!("node{}", self.number)
    }

    /// Where its router and API listen.
    pub fn router(&self) -> String {
        format!("192.0.2.{}", 10 + self.number)
    }

    /// Its address in the desktop network.
    pub fn address(&self) -> String {
        format!("10.73.0.{}", self.number)
    }

    /// Runs `qvd up` with the options of a node that joins.
    pub fn up(&self) -> Result<Answer> {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.qvd(&[&["up"], options.as_slice()].concat())
    }

    /// Its connections to the database, which can be made to fail.
    pub fn database(&self) -> &Proxy {
        &self.proxy
    }

    /// Stops a daemon without ending it.
    pub fn freeze(&self, daemon: &str) -> Result<Pid> {
        self.signal(daemon, Signal::SIGSTOP)
    }

    /// Lets a frozen daemon go on.
    pub fn thaw(&self, process: Pid) -> Result<()> {
        kill(process, Signal::SIGCONT).with_context(|| format!("cannot continue process {process}"))
    }

    /// Stops every process of the node, desktops too, as a hypervisor does that pauses a virtual machine.
    pub fn freeze_all(&self) -> Result<()> {
        self.signal_all(Signal::SIGSTOP)
    }

    /// Ends [`Node::freeze_all`].
    pub fn thaw_all(&self) -> Result<()> {
        self.signal_all(Signal::SIGCONT)
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        for process in self.everything() {
            match kill(Pid::from_raw(process), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => bail!("cannot send {signal} to process {process}: {error}"),
            }
        }
        Ok(())
    }

    /// Covers the shared storage with an empty file system that nobody can write to. What has a file of it open, such
    /// as a running desktop, does not notice.
    pub fn cut_storage(&self) -> Result<()> {
        self.namespace()
            .run("/bin/mount", &["-t", "tmpfs", "-o", "ro,size=4k", "none", &self.storage])
            .map(drop)
    }

    /// Ends [`Node::cut_storage`].
    pub fn restore_storage(&self) -> Result<()> {
        self.namespace().run("/bin/umount", &["--lazy", &self.storage]).map(drop)
    }

    /// The shared storage.
    pub fn storage(&self) -> &Path {
        Path::new(&self.storage)
    }
}
