//! The agent as process 1 of a container without an init system.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn process_1_starts_the_agent_and_ends_when_told() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display();
    let config = directory.path().join("vma.conf");
    std::fs::write(&config, format!("path.run = {at}/run\npath.log = {at}/log\n")).unwrap();
    let ready = UnixDatagram::bind(directory.path().join("notify")).unwrap();
    ready.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut container = Command::new("/usr/bin/unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--net", env!("CARGO_BIN_EXE_qvd-vma")])
        .args(["-X", "--config"])
        .arg(&config)
        .env("NOTIFY_SOCKET", directory.path().join("notify"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut message = [0; 32];
    let length = ready.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1");
    let agent = std::fs::read_to_string(directory.path().join("run/vma.pid")).unwrap();
    assert_ne!(agent.trim(), "1");

    // The child of unshare is process 1 in there.
    let children = format!("/proc/{0}/task/{0}/children", container.id());
    let init = std::fs::read_to_string(children).unwrap();
    let told = Command::new("/usr/bin/kill").args(["-TERM", init.trim()]).status().unwrap();
    assert!(told.success());
    let status = container.wait().unwrap();
    let log: Vec<String> =
        BufReader::new(container.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(status.success(), "{status}\n{}", log.join("\n"));
    assert!(log.iter().any(|line| line.contains("agent ended")), "{}", log.join("\n"));
    assert!(!directory.path().join("run/vma.pid").exists());
}

#[test]
fn a_malformed_file_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("vma.conf");
    std::fs::write(&config, "# agent\nvma.user.shell\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_qvd-vma")).arg("--config").arg(&config).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("vma.conf:2: key `vma.user.shell`"), "{text}");
}
