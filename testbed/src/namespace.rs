//! A node's own view of network and mounts, on a machine that has other things to do.
//!
//! `ip netns exec` gives each program a mount namespace of its own; here all programs of a node share one
//! that lives as long as [`Namespace`], held by bind mounts and by no process. Inside, `/sys` shows the
//! node's links, and what is mounted is seen by nobody else. When it is dropped, whatever runs inside is
//! killed and nothing stays.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// One namespace; see the module.
#[derive(Debug)]
pub struct Namespace {
    /// Holds the bind mounts.
    directory: TempDir,
    /// Inode of the network namespace: what tells its processes from others.
    network: u64,
}

/// Set for programs inside, so that a test that runs itself there knows.
const INSIDE: &str = "QVD_TESTBED_INSIDE";

/// Made inside before anything else: loopback, a `/sys` of the new network that still has control groups, and a
/// directory for the sockets of X servers, since those of other networks would take each other's away.
const SETUP: &str = r#"
set -e
mkdir "$1/cgroup"
mount --rbind /sys/fs/cgroup "$1/cgroup"
mount -t sysfs sysfs /sys
mount --move "$1/cgroup" /sys/fs/cgroup
rmdir "$1/cgroup"
mkdir -p /tmp/.X11-unix
mount -t tmpfs -o mode=1777 none /tmp/.X11-unix
ip link set lo up
"#;

impl Namespace {
    /// Makes one.
    pub fn create() -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("qvd-node-").context("cannot make a directory")?;
        let nothing: Option<&str> = None;
        mount(Some("none"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("mode=700,size=4m"))
            .context("cannot mount the holder of a namespace")?;
        let mut made = Self { directory, network: 0 };
        // Namespaces of mounts can only be held where mounts do not spread.
        mount(nothing, made.path(), nothing, MsFlags::MS_PRIVATE, nothing)
            .context("cannot make it private")?;
        for name in ["net", "mnt"] {
            fs::write(made.path().join(name), "")?;
        }
        let option = |kind: &str, name: &str| format!("--{kind}={}", made.path().join(name).display());
        let output = Command::new("/usr/bin/unshare")
            .args([option("net", "net"), option("mount", "mnt"), "--propagation=private".to_owned()])
            .args(["/bin/sh", "-c", SETUP, "sh"])
            .arg(made.path())
            .output()?;
        ensure!(output.status.success(), "unshare: {}", String::from_utf8_lossy(&output.stderr).trim());
        made.network = fs::metadata(made.path().join("net"))?.ino();
        Ok(made)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The network namespace as a file, for `ip link set … netns`.
    pub fn network(&self) -> PathBuf {
        self.path().join("net")
    }

    /// A command that runs inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command.arg(format!("--net={}", self.network().display()));
        command.arg(format!("--mount={}", self.path().join("mnt").display()));
        command.arg("--").arg(program).env(INSIDE, "1");
        command
    }

    /// Runs a program inside to its end; its output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        finish(self.command(program).args(arguments))
    }

    /// Joins it to a bridge of another namespace: a link `outer` there, `inner` in here, both up.
    pub fn join(&self, switch: &Self, bridge: &str, outer: &str, inner: &str) -> anyhow::Result<()> {
        let network = self.network();
        let network = network.to_str().context("the namespace's path is no text")?;
        // Its network, but our mounts: there the other namespace can only be seen if it was made before.
        let there = format!("--net={}", switch.network().display());
        let ip = |arguments: &[&str]| {
            finish(Command::new("/usr/bin/nsenter").args([&there, "/usr/sbin/ip"]).args(arguments)).map(drop)
        };
        ip(&["link", "add", outer, "type", "veth", "peer", "name", inner, "netns", network])?;
        ip(&["link", "set", outer, "master", bridge, "up"])?;
        self.run("/usr/sbin/ip", &["link", "set", inner, "up"]).map(drop)
    }

    /// A socket in here that listens at an address.
    pub fn listen(&self, address: SocketAddr) -> anyhow::Result<TcpListener> {
        let network = fs::File::open(self.network())?;
        // A thread may move to another network; the socket stays where it was made.
        let thread = std::thread::spawn(move || -> anyhow::Result<TcpListener> {
            setns(network, CloneFlags::CLONE_NEWNET)?;
            Ok(TcpListener::bind(address)?)
        });
        thread.join().unwrap_or_else(|_| bail!("the thread in the other network panicked"))
    }

    /// Processes inside, or in namespaces that belong to desktops of the node and are still its children.
    pub fn processes(&self) -> Vec<i32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let inside = |pid: &i32| {
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|found| found.ino() == self.network)
        };
        numbers.filter(inside).collect()
    }

    /// Kills whatever runs inside and waits until it is gone.
    pub fn kill_all(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            if started.elapsed() > Duration::from_secs(20) {
                bail!("still inside after 20 s: {left:?}");
            }
            for pid in left {
                // It may have ended meanwhile, which is what we want.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = self.kill_all() {
            tracing::error!(%error, "a test node does not die");
        }
        for path in [self.path().join("net"), self.path().join("mnt"), self.path().to_owned()] {
            // What was never mounted cannot be unmounted.
            let _ = umount2(&path, MntFlags::MNT_DETACH);
        }
    }
}

fn finish(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {text}{errors}", output.status);
    Ok(text)
}

/// For tests that have to be inside themselves: runs the test of this name of this program again, in a
/// namespace of its own, and returns false when that passed; inside it returns true and the test goes on.
pub fn enter(test: &str) -> anyhow::Result<bool> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(true);
    }
    let namespace = Namespace::create()?;
    let program = std::env::current_exe()?;
    let status = namespace.command(program).args(["--exact", test, "--nocapture"]).status()?;
    ensure!(status.success(), "{test} failed inside its namespace: {status}");
    let left = namespace.processes();
    ensure!(left.is_empty(), "{test} left processes behind: {left:?}");
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_view_of_its_own_and_leaves_nothing() {
        let namespace = Namespace::create().unwrap();
        let directory = namespace.path().to_owned();
        namespace.run("/usr/sbin/ip", &["link", "add", "qvdprobe0", "type", "bridge"]).unwrap();
        assert_eq!(namespace.run("/bin/ls", &["/sys/class/net"]).unwrap().split_whitespace().count(), 2);
        assert!(!Path::new("/sys/class/net/qvdprobe0").exists());
        assert!(namespace.run("/bin/ls", &["/sys/fs/cgroup"]).unwrap().lines().count() > 1);
        // Two programs see the same mounts, nobody else does.
        namespace.run("/bin/mount", &["-t", "tmpfs", "none", "/mnt"]).unwrap();
        namespace.run("/bin/touch", &["/mnt/seen"]).unwrap();
        assert_eq!(namespace.run("/bin/ls", &["/mnt"]).unwrap(), "seen\n");
        assert!(!Path::new("/mnt/seen").exists());

        let mut child = namespace.command("/bin/sleep").arg("600").spawn().unwrap();
        drop(namespace);
        assert!(!child.wait().unwrap().success());
        assert!(!directory.exists());
    }

    #[test]
    fn nodes_meet_on_a_bridge() {
        let (a, b) = (Namespace::create().unwrap(), Namespace::create().unwrap());
        let bridge = Namespace::create().unwrap();
        bridge.run("/usr/sbin/ip", &["link", "add", "lan", "type", "bridge"]).unwrap();
        bridge.run("/usr/sbin/ip", &["link", "set", "lan", "up"]).unwrap();
        for (number, node) in [(1, &a), (2, &b)] {
            node.join(&bridge, "lan", &format!("port{number}"), "lan0").unwrap();
            let address = format!("10.9.9.{number}/24");
            node.run("/usr/sbin/ip", &["addr", "add", &address, "dev", "lan0"]).unwrap();
        }
        a.run("/bin/busybox", &["ping", "-c", "1", "-W", "5", "10.9.9.2"]).unwrap();
    }
}
