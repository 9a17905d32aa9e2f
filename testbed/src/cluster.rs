//! A QVD installation in namespaces of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
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
}

impl Cluster {
    /// A machine on which nothing runs yet.
    pub fn machine() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("qvd-testbed-").tempdir()?;
        // PostgreSQL and the router run as other users, which have to pass through here.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { namespace: Namespace::create()?, directory })
    }

    /// A machine with everything up.
    pub fn new() -> Result<Self> {
        let cluster = Self::machine()?;
        cluster.qvd(&["up"])?.good("qvd up")?;
        Ok(cluster)
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

    /// Runs `qa4` as root of this machine with these words.
    pub fn qa4(&self, words: &[&str]) -> Result<Answer> {
        let mut command = self.namespace.command(program("qa4")?);
        command.arg("--socket").arg(self.data().join("run/api.sock")).args(words);
        // A home of its own: sessions and settings of whoever runs the tests are none of its business.
        command.env("HOME", self.directory.path());
        run(command)
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
