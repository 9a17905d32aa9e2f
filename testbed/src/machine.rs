//! One machine with an installation made by `qvd up`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::namespace::Namespace;
use crate::programs::program;

/// What a program left: its exit code and its words.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// Standard output of a program that succeeded; otherwise an error with all it said.
    pub fn good(self, what: &str) -> Result<String> {
        ensure!(self.code == Some(0), "{what}: code {:?}\n{}{}", self.code, self.out, self.err);
        Ok(self.out)
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A machine: namespaces, a data directory, and what runs there.
#[derive(Debug)]
pub struct Machine {
    namespace: Namespace,
    directory: TempDir,
    bridge: String,
}

impl Machine {
    /// A machine on which nothing runs yet.
    pub fn create() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("qvd-testbed-").tempdir()?;
        // PostgreSQL and the router run as other users, which have to pass through here.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { namespace: Namespace::create()?, directory, bridge: bridge_name() })
    }

    /// Name of the bridge of the desktops, and of the parent of their control groups: like no other on this machine.
    pub fn bridge(&self) -> &str {
        &self.bridge
    }

    /// The namespaces it lives in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A directory for what a test needs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory of the installation.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Runs `qvd up`, `down` or `status` for this installation, with further options.
    pub fn qvd(&self, arguments: &[&str]) -> Result<Answer> {
        let (verb, options) = arguments.split_first().context("qvd what?")?;
        let mut command = self.namespace.command(program("qvd")?);
        command.arg(verb).arg("--data").arg(self.data()).args(options);
        run(command)
    }

    /// Runs `qvd` as a user without any rights.
    pub fn as_nobody(&self, arguments: &[&str]) -> Result<Answer> {
        let copy = self.directory.path().join("qvd");
        fs::copy(program("qvd")?, &copy)?;
        let mut command = self.namespace.command("/usr/bin/setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]);
        command.arg(copy).args(arguments).arg("--data").arg(self.data());
        run(command)
    }

    /// Runs one daemon in the foreground, under its own name.
    pub fn daemon(&self, name: &str, arguments: &[&str]) -> Result<Answer> {
        let link = self.directory.path().join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(program("qvd")?, &link)?;
        }
        let mut command = self.namespace.command(&link);
        command.args(arguments);
        run(command)
    }

    /// Takes programs of a directory away from this machine.
    pub fn hide(&self, directory: &str, programs: &[&str]) -> Result<()> {
        let layer = |name: &str| -> Result<String> {
            let path = self.directory.path().join("hidden").join(name);
            fs::create_dir_all(&path)?;
            Ok(path.display().to_string())
        };
        let layers = format!("lowerdir={directory},upperdir={},workdir={}", layer("upper")?, layer("work")?);
        self.namespace.run("/bin/mount", &["-t", "overlay", "overlay", "-o", &layers, directory])?;
        for program in programs {
            self.namespace.run("/bin/rm", &[&format!("{directory}/{program}")])?;
        }
        Ok(())
    }

    /// Writes a file for a test.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.directory.path().join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Runs `qa4` as root of this machine with these words.
    pub fn qa4(&self, words: &[&str]) -> Result<Answer> {
        let mut command = self.namespace.command(program("qa4")?);
        command.arg("--socket").arg(self.data().join("run/api.sock")).args(words);
        // A home of its own: sessions and settings of whoever runs the tests are none of its business.
        command.env("HOME", self.directory.path());
        run(command)
    }

    /// The process of a daemon as `qvd status` tells it, or with `supervised by` that of the supervisor.
    pub fn process(&self, name: &str) -> Result<Option<Pid>> {
        let status = self.qvd(&["status"])?.out;
        let line = status.lines().find(|line| line.contains(name));
        let digits = line.and_then(|line| line.split("process ").nth(1)).unwrap_or_default();
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse().ok().map(Pid::from_raw))
    }

    /// Sends a signal to a daemon, or with `supervised by` to the supervisor; which process it is.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<Pid> {
        let process = self.process(name)?.with_context(|| format!("{name} does not run"))?;
        kill(process, signal).with_context(|| format!("cannot send {signal} to {name}"))?;
        Ok(process)
    }

    /// Kills a daemon and does not wait for the next one; which process it was.
    pub fn kill_daemon(&self, name: &str) -> Result<Pid> {
        self.signal(name, Signal::SIGKILL)
    }

    /// Ends everything at once, desktops too, as a power failure does. What was written to disk stays; nothing else.
    pub fn power_off(&mut self) -> Result<()> {
        self.kill_everything()?;
        // Mounts and links end with the namespace.
        self.namespace = Namespace::create()?;
        Ok(())
    }

    fn kill_everything(&self) -> Result<()> {
        // Processes of desktops are in namespaces of their own, but in control groups of ours. The node is ended
        // between two looks at them, since it makes new ones.
        crate::traces::remove_groups(&self.bridge)?;
        self.namespace.kill_all()?;
        crate::traces::remove_groups(&self.bridge)
    }

    /// Every process of this machine, those of desktops too.
    pub fn everything(&self) -> Vec<i32> {
        let mut processes = self.namespace.processes();
        processes.extend(crate::traces::members(&self.bridge));
        processes.sort_unstable();
        processes.dedup();
        processes
    }

    /// The end of each log, for the message of a test that failed.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let listed = |directory: PathBuf| {
            fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
        };
        // What agents log inside desktops is in the upper layers of their roots.
        let inside = listed(self.data().join("storage/overlayfs"));
        let inside = inside.flat_map(|upper| listed(upper.join("var/log/qvd")));
        for path in listed(self.data().join("log")).chain(inside) {
            let log = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(40);
            text.push_str(&format!("== {}\n{}\n", path.display(), lines[tail..].join("\n")));
        }
        text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Control groups outlive namespaces.
        if let Err(error) = self.kill_everything() {
            eprintln!("a machine does not end: {error:#}");
        }
    }
}

fn bridge_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("tb{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a program to its end.
pub(crate) fn run(mut command: Command) -> Result<Answer> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    Ok(output.into())
}
