//! A QVD installation in namespaces of its own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
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

/// One machine with an installation made by `qvd up`: database, API, node and router.
#[derive(Debug)]
pub struct Cluster {
    namespace: Namespace,
    directory: TempDir,
    bridge: String,
}

impl Cluster {
    /// A machine on which nothing runs yet.
    pub fn machine() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("qvd-testbed-").tempdir()?;
        // PostgreSQL and the router run as other users, which have to pass through here.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { namespace: Namespace::create()?, directory, bridge: bridge_name() })
    }

    /// A machine with everything up.
    pub fn new() -> Result<Self> {
        let cluster = Self::machine()?;
        cluster.up()?.good("qvd up")?;
        Ok(cluster)
    }

    /// Runs `qvd up`.
    pub fn up(&self) -> Result<Answer> {
        self.qvd(&["up", "--bridge", &self.bridge])
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

    /// A socket of this machine that listens on a port of its loopback interface.
    pub fn listen(&self, port: u16) -> Result<TcpListener> {
        let network = fs::File::open(self.namespace.network())?;
        // A thread may move to another network; the socket stays where it was made.
        let thread = std::thread::spawn(move || -> Result<TcpListener> {
            setns(network, CloneFlags::CLONE_NEWNET)?;
            Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?)
        });
        thread.join().unwrap_or_else(|_| bail!("the thread in the other network panicked"))
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

    /// Starts the database again after a test has ended it.
    pub fn start_database(&self) -> Result<()> {
        self.pg_ctl(&["start"])
    }

    /// Breaks the database off in the middle of everything, and starts it again.
    pub fn restart_database(&self) -> Result<()> {
        self.pg_ctl(&["restart", "-m", "immediate"])
    }

    fn pg_ctl(&self, words: &[&str]) -> Result<()> {
        let mut command = self.namespace.command("/usr/bin/setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(newest_pg_ctl()?);
        command.args(words).args(["-w", "-s", "-D"]).arg(self.data().join("postgres/data"));
        command.arg("-l").arg(self.data().join("postgres/log/postgresql.log"));
        run(command)?.good(&format!("pg_ctl {}", words.join(" "))).map(drop)
    }

    /// The process of a daemon as `qvd status` tells it, or with `supervised by` that of the supervisor.
    pub fn process(&self, name: &str) -> Result<Option<Pid>> {
        let status = self.qvd(&["status"])?.out;
        let line = status.lines().find(|line| line.contains(name));
        let digits = line.and_then(|line| line.split("process ").nth(1)).unwrap_or_default();
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse().ok().map(Pid::from_raw))
    }

    /// Kills a daemon and does not wait for the next one; which process it was.
    pub fn kill_daemon(&self, name: &str) -> Result<Pid> {
        let process = self.process(name)?.with_context(|| format!("{name} does not run"))?;
        kill(process, Signal::SIGKILL).with_context(|| format!("cannot kill {name}"))?;
        Ok(process)
    }

    /// One value from the database, as text.
    pub fn value(&self, statement: &str) -> Result<String> {
        let mut command = self.namespace.command("/usr/bin/psql");
        command.args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--username",
            "postgres",
            "--dbname",
            "qvd",
        ]);
        command.arg("--host").arg(self.data().join("postgres/run")).arg("--command").arg(statement);
        Ok(run(command)?.good(statement)?.trim().to_owned())
    }

    /// Waits until the database has this value.
    pub fn wait_for(&self, statement: &str, wanted: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let found = self.value(statement)?;
            if found == wanted {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "`{statement}` is `{found}` and not `{wanted}` after {limit:?}\n{}",
                self.logs()
            );
            // psql has no way to wait for a notification; looking costs 20 ms each time.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The end of each log, for the message of a test that failed.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let Ok(entries) = fs::read_dir(self.data().join("log")) else { return text };
        for entry in entries.flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(40);
            text.push_str(&format!("== {}\n{}\n", entry.path().display(), lines[tail..].join("\n")));
        }
        text
    }
}

fn newest_pg_ctl() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("install the package postgresql")?;
    let programs = versions.flatten().map(|version| version.path().join("bin/pg_ctl"));
    programs.filter(|path| path.exists()).max().context("there is no pg_ctl below /usr/lib/postgresql")
}

fn bridge_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("tb{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn run(mut command: Command) -> Result<Answer> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    Ok(output.into())
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
