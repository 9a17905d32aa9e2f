//! The program `qa4` against a real API on a private database.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test says where it failed"
)]

mod behavior;
mod completion;
mod connection;
mod dialog;
#[path = "../../../qvd-admin/tests/integration/installation.rs"]
#[allow(dead_code, reason = "the tests of the API use the rest")]
mod installation;
mod legacy;
mod manual;
mod page;
mod reach;
mod shell;

use std::process::{Command, Output, Stdio};

use installation::{Installation, PASSWORD};

/// The program as an administrator on another machine has it: with the configuration file of the manual.
pub struct Program {
    home: std::path::PathBuf,
}

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub exit: i32,
    pub out: String,
    pub err: String,
}

impl Program {
    /// A home directory whose `qa.conf` logs in as `login` of `tenant`.
    pub fn of(it: &Installation, login: &str, tenant: &str) -> Self {
        let home = it.path(&format!("home-{login}"));
        std::fs::create_dir_all(home.join(".qvd")).unwrap();
        let conf = home.join(".qvd/qa.conf");
        let text = format!(
            "# as in the manual\nqa.url = https://localhost:{}/\nqa.tenant = {tenant}\nqa.login = {login}\n\
             qa.password = {PASSWORD}\nqa.format = TABLE\nqa.insecure = 0\nqa.ca = {}\n",
            it.address.port(),
            it.path("cert.pem").display(),
        );
        std::fs::write(&conf, text).unwrap();
        std::fs::set_permissions(&conf, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        Self { home }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qa4"));
        command.env_clear().env("HOME", &self.home).env("TZ", "Europe/Madrid").current_dir(&self.home);
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        finished(tokio::task::block_in_place(|| self.command().args(arguments).output()).unwrap())
    }

    /// Runs it with `input` on a pipe.
    pub fn fed(&self, arguments: &[&str], input: &str) -> Run {
        use std::io::Write;
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        finished(tokio::task::block_in_place(|| child.wait_with_output()).unwrap())
    }

    pub fn home(&self, part: &str) -> std::path::PathBuf {
        self.home.join(part)
    }
}

fn finished(output: Output) -> Run {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { exit: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}
