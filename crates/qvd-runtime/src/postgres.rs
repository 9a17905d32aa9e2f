//! A private PostgreSQL made from the installed packages: for `qvd up` and for tests.
//!
//! It listens on a Unix socket only and runs as an unprivileged user. All calls block; asynchronous callers move
//! them to a blocking thread.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Uid, User};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Oldest major version that QVD-DB works with.
const OLDEST: u32 = 13;
/// Where the packages put each version.
const PACKAGES: &str = "/usr/lib/postgresql";
/// What makes a server.
const SERVER: &[&str] = &["initdb", "postgres"];
/// Seconds that `pg_ctl` waits for a start or a stop.
const PATIENCE: &str = "60";

/// Why the private PostgreSQL does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No programs of a usable version.
    #[error("no {programs} of PostgreSQL {OLDEST} or later below {}; install the package postgresql", root.display())]
    NotInstalled {
        /// What was looked for.
        programs: String,
        /// Where.
        root: PathBuf,
    },
    /// The user that it should run as does not exist.
    #[error("there is no user `{0}` to run PostgreSQL as")]
    NoUser(String),
    /// A file operation failed.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A server program failed.
    #[error("{program} failed: {output}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it said.
        output: String,
    },
}

/// Who may connect through the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `root` and the server's own user as `postgres`; everybody else with a password.
    Passwords,
    /// Everybody who reaches the socket, as any role: for tests.
    Trust,
}

/// A private PostgreSQL below one directory: `data`, `run` (the socket) and `log`.
#[derive(Debug, Clone)]
pub struct PrivateCluster {
    directory: PathBuf,
    programs: PathBuf,
    /// The user it runs as, if we are root.
    user: Option<User>,
    access: Access,
}

impl PrivateCluster {
    /// A cluster below `directory`, run as `user` when we are root, as ourselves otherwise. Starts nothing yet.
    pub fn new(directory: impl Into<PathBuf>, user: &str, access: Access) -> Result<Self, PostgresError> {
        let user = if Uid::effective().is_root() {
            let found = User::from_name(user).ok().flatten();
            Some(found.ok_or_else(|| PostgresError::NoUser(user.to_owned()))?)
        } else {
            None
        };
        let programs = newest(Path::new(PACKAGES), SERVER)?;
        Ok(Self { directory: directory.into(), programs, user, access })
    }

    /// Directory of the socket: the host to connect to.
    pub fn socket_directory(&self) -> PathBuf {
        self.directory.join("run")
    }

    /// Where it logs.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("log/postgresql.log")
    }

    /// Process id of the server, if it runs.
    pub fn pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        let pid: i32 = text.lines().next()?.trim().parse().ok()?;
        Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
    }

    /// Whether the server ended without having stopped: its process is gone, and what it leaves when it runs is not.
    pub fn is_crashed(&self) -> bool {
        self.pid().is_none() && self.data().join("postmaster.pid").exists()
    }

    /// Blocks until the server's process has ended; one that does not run has ended.
    pub fn wait_end(&self) {
        let Some(pid) = self.pid().and_then(Pid::from_raw) else { return };
        // Nothing can be opened of a process that ended meanwhile.
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        let mut watched = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
        while let Err(Errno::EINTR) = poll(&mut watched, PollTimeout::NONE) {}
    }

    /// Creates the cluster if it is not there and starts it if it does not run.
    pub fn start(&self) -> Result<(), PostgresError> {
        self.prepare()?;
        let status = self.command("pg_ctl").arg("status").arg("-D").arg(self.data()).output();
        if status.is_ok_and(|output| output.status.success()) {
            return Ok(());
        }
        let log = self.log_file();
        self.run(
            "pg_ctl",
            self.command("pg_ctl")
                .args(["start", "-w", "-s", "-t", PATIENCE, "-D"])
                .arg(self.data())
                .arg("-l")
                .arg(&log),
        )
        .map_err(|error| match error {
            PostgresError::Program { program, output } => {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = said.lines().rev().take(5).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                PostgresError::Program { program, output: format!("{output} {}", tail.join(" | ")) }
            }
            other => other,
        })
    }

    /// Stops it: connections are cut, data is safe. One that does not run is no error.
    pub fn stop(&self) -> Result<(), PostgresError> {
        if self.pid().is_none() {
            return Ok(());
        }
        let data = self.data();
        self.run(
            "pg_ctl",
            self.command("pg_ctl").args(["stop", "-w", "-s", "-m", "fast", "-t", PATIENCE, "-D"]).arg(data),
        )
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn prepare(&self) -> Result<(), PostgresError> {
        for (name, mode) in [("", 0o755), ("data", 0o700), ("run", 0o755), ("log", 0o750)] {
            let path = self.directory.join(name);
            fs::create_dir_all(&path).map_err(io("create", &path))?;
            if name.is_empty() {
                continue;
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                .map_err(io("set the mode of", &path))?;
            if let Some(user) = &self.user {
                chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                    .map_err(io("give away", &path))?;
            }
        }
        if self.data().join("PG_VERSION").exists() {
            return Ok(());
        }
        let mut initdb = self.command("initdb");
        initdb.args(["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-D"]).arg(self.data());
        match self.access {
            Access::Trust => initdb.args(["-A", "trust", "--no-sync"]),
            // Until the rules are written, and if they never are, nobody else is let in.
            Access::Passwords => initdb.args(["--auth-local=peer", "--auth-host=reject"]),
        };
        self.run("initdb", &mut initdb)?;
        self.configure()
    }

    /// Settings are only written once: the administrator may change them afterwards.
    fn configure(&self) -> Result<(), PostgresError> {
        let socket = self.socket_directory();
        let mut settings = format!(
            "\nlisten_addresses = ''\nunix_socket_directories = '{}'\ntimezone = 'UTC'\n\
             default_transaction_isolation = 'serializable'\nmax_connections = 200\n",
            socket.display()
        );
        if self.access == Access::Trust {
            settings.push_str("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n");
        }
        append(&self.data().join("postgresql.conf"), &settings)?;
        if self.access == Access::Passwords {
            let own = self.user.as_ref().map_or_else(|| "root".to_owned(), |user| user.name.clone());
            let rules = "local all postgres peer map=qvd\nlocal all all scram-sha-256\n";
            let hba = self.data().join("pg_hba.conf");
            fs::write(&hba, rules).map_err(io("write", &hba))?;
            append(
                &self.data().join("pg_ident.conf"),
                &format!("\nqvd root postgres\nqvd {own} postgres\n"),
            )?;
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .current_dir("/")
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Runs a program whose output goes to a file: the server inherits it and would keep a pipe open.
    fn run(&self, program: &'static str, command: &mut Command) -> Result<(), PostgresError> {
        let said = self.directory.join("log").join(format!("{program}.out"));
        // The directory belongs to the server's user, who must not lead us elsewhere.
        let mut options = fs::File::options();
        options.create(true).write(true).truncate(true).custom_flags(OFlag::O_NOFOLLOW.bits());
        let file = options.open(&said).map_err(io("create", &said))?;
        let again = file.try_clone().map_err(io("create", &said))?;
        let failed = |output: String| PostgresError::Program { program, output };
        let status = command.stdout(file).stderr(again).status().map_err(|e| failed(e.to_string()))?;
        if status.success() {
            return Ok(());
        }
        Err(failed(fs::read_to_string(&said).unwrap_or_default().trim().to_owned()))
    }
}

/// One of PostgreSQL's own programs for clients (`pg_dump`, `psql` …), of the newest version that is installed.
pub fn client_program(name: &str) -> Result<PathBuf, PostgresError> {
    newest(Path::new(PACKAGES), &[name]).map(|programs| programs.join(name))
}

/// Directory of the newest version below `root` that has these programs, e.g. `/usr/lib/postgresql/15/bin`.
fn newest(root: &Path, programs: &[&str]) -> Result<PathBuf, PostgresError> {
    let versions = fs::read_dir(root).into_iter().flatten().flatten();
    versions
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(version, bin)| *version >= OLDEST && programs.iter().all(|name| bin.join(name).exists()))
        .max()
        .map(|(_, bin)| bin)
        .ok_or_else(|| PostgresError::NotInstalled { programs: programs.join(", "), root: root.to_owned() })
}

fn append(path: &Path, text: &str) -> Result<(), PostgresError> {
    use std::io::Write;
    let mut file = fs::File::options().append(true).open(path).map_err(io("open", path))?;
    file.write_all(text.as_bytes()).map_err(io("write", path))
}

fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PostgresError {
    let path = path.to_owned();
    move |source| PostgresError::Io { operation, path, source }
}

/// A cluster in a temporary directory, for tests: stopped and removed when dropped.
#[derive(Debug)]
pub struct TemporaryCluster {
    cluster: PrivateCluster,
}

/// The directory names of temporary clusters: the prefix, then the id of the process that made it.
const TEMPORARY: &str = "qvd-postgres-";

impl TemporaryCluster {
    /// Starts a new cluster, after removing those of test processes that died.
    pub fn start() -> Result<Self, PostgresError> {
        let base = std::env::temp_dir();
        sweep(&base);
        let unique = rand::random::<u32>();
        let directory = base.join(format!("{TEMPORARY}{}-{unique:08x}", std::process::id()));
        let temporary = Self { cluster: PrivateCluster::new(directory, "postgres", Access::Trust)? };
        temporary.cluster.start()?;
        Ok(temporary)
    }

    /// The cluster that all tests of this process share; it ends with the last of them.
    pub fn shared() -> Result<std::sync::Arc<Self>, PostgresError> {
        use std::sync::{Arc, Mutex, PoisonError, Weak};
        static SHARED: Mutex<Weak<TemporaryCluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let started = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&started);
        Ok(started)
    }
}

impl std::ops::Deref for TemporaryCluster {
    type Target = PrivateCluster;

    fn deref(&self) -> &PrivateCluster {
        &self.cluster
    }
}

impl Drop for TemporaryCluster {
    fn drop(&mut self) {
        remove(&self.cluster);
    }
}

fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|n| n.strip_prefix(TEMPORARY)?.split('-').next()?.parse::<u32>().ok());
        if let Some(owner) = owner
            && !Path::new(&format!("/proc/{owner}")).exists()
            && let Ok(cluster) = PrivateCluster::new(entry.path(), "postgres", Access::Trust)
        {
            remove(&cluster);
        }
    }
}

fn remove(cluster: &PrivateCluster) {
    if let Err(error) = cluster.stop() {
        tracing::warn!("temporary PostgreSQL not stopped: {error}");
    }
    if let Err(error) = fs::remove_dir_all(&cluster.directory) {
        tracing::warn!(path = %cluster.directory.display(), "temporary PostgreSQL not removed: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_cluster_runs_restarts_and_leaves_nothing() {
        let cluster = TemporaryCluster::start().unwrap();
        let directory = cluster.directory.clone();
        let first = cluster.pid().unwrap();
        assert!(cluster.socket_directory().join(".s.PGSQL.5432").exists());
        cluster.start().unwrap();
        assert_eq!(cluster.pid(), Some(first));
        cluster.stop().unwrap();
        assert_eq!(cluster.pid(), None);
        cluster.start().unwrap();
        drop(cluster);
        assert!(!directory.exists());
    }

    #[test]
    fn old_servers_are_not_taken() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9.6", "12", "14", "15", "notes"] {
            let bin = root.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            fs::write(bin.join("initdb"), "").unwrap();
            fs::write(bin.join("postgres"), "").unwrap();
        }
        assert_eq!(newest(root.path(), SERVER).unwrap(), root.path().join("15/bin"));
        assert!(matches!(newest(Path::new("/nowhere"), SERVER), Err(PostgresError::NotInstalled { .. })));
    }
}
