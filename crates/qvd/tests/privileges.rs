//! `qvd daemon api` goes on as another user, the real program on a real server.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test says where it failed"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::unistd::{Group, Pid, User};
use qvd_runtime::postgres::TemporaryCluster;
use tempfile::TempDir;

/// A running program, ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(Pid::from_raw(self.0.id().cast_signed()), nix::sys::signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn api(configuration: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qvd"));
    command.args(["daemon", "api", "-X", "--config-file"]).arg(configuration);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The fields of a line of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

#[test]
fn the_api_listens_as_root_and_goes_on_as_its_user() {
    let cluster = TemporaryCluster::start().unwrap();
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = User::from_name("nobody").unwrap().unwrap();
    for name in ["images", "staging"] {
        fs::create_dir(at(name)).unwrap();
    }
    chown(at("images"), Some(nobody.uid.as_raw()), None).unwrap();
    let pair = qvd_relay::certificate::self_signed(&["localhost".to_owned()]).unwrap();
    fs::write(at("cert.pem"), &pair.cert).unwrap();
    fs::write(at("key.pem"), &pair.key).unwrap();
    // Only root may read it, before.
    fs::set_permissions(at("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut sql = Command::new(qvd_runtime::postgres::client_program("psql").unwrap());
    sql.arg("-h").arg(cluster.socket_directory()).args([
        "-U",
        "postgres",
        "-c",
        "CREATE DATABASE privileges",
    ]);
    assert!(sql.stdout(Stdio::null()).status().unwrap().success());
    let text = |user: &str, group: &str| {
        format!(
            "nodename = n\ndatabase.host = {host}\ndatabase.name = privileges\ndatabase.user = postgres\n\
             api.url = https://127.0.0.1:0/\napi.socket = {dir}/api.sock\nlog.api.filename = {dir}/api.log\n\
             path.api.ssl.cert = {dir}/cert.pem\npath.api.ssl.key = {dir}/key.pem\n\
             path.storage.images = {dir}/images\npath.storage.staging = {dir}/staging\n\
             api.user = {user}\napi.group = {group}\n",
            host = cluster.socket_directory().display(),
            dir = directory.path().display(),
        )
    };
    let configuration = at("api.conf");
    fs::write(&configuration, text("nobody", "daemon")).unwrap();
    let deployed = Command::new(env!("CARGO_BIN_EXE_qvd"))
        .args(["deploy-db", "--config-file"])
        .arg(&configuration)
        .stdout(Stdio::null())
        .status();
    assert!(deployed.unwrap().success());

    for (user, group, problem) in
        [("no-such-user", "", "no user `no-such-user`"), ("nobody", "no-such-group", "no group")]
    {
        fs::write(&configuration, text(user, group)).unwrap();
        let ended = api(&configuration).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && said.contains(problem), "{said}");
        assert!(!at("api.sock").exists());
    }

    fs::write(&configuration, text("nobody", "daemon")).unwrap();
    let mut child = Running(api(&configuration).spawn().unwrap());
    let lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines {
        let line = line.unwrap();
        let serves = line.contains("the API serves");
        said.push(line);
        if serves {
            break;
        }
    }
    let said = said.join("\n");
    assert!(said.contains("the API serves"), "{said}");
    assert!(said.contains("key.pem") && said.contains("its renewal will not be noticed"), "{said}");
    assert!(!said.contains("images cannot be imported:"), "{said}");
    let (pid, uid) = (child.0.id(), nobody.uid.as_raw());
    let gid = Group::from_name("daemon").unwrap().unwrap().gid.as_raw();
    assert_eq!(status(pid, "Uid:"), [uid; 4]);
    assert_eq!(status(pid, "Gid:"), [gid; 4]);
    assert!(!status(pid, "Groups:").contains(&0));
    // Every thread, as new connections are served by all.
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let text = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(text.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n")), "{text}");
    }
    // Root of this machine is still known on the socket, which only it can use.
    let socket = at("api.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let body = r#"{"action":"host_get_list"}"#;
    let head = format!(
        "POST /api HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    std::io::Write::write_all(&mut stream, format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"status\":0"), "{answer}");
}
