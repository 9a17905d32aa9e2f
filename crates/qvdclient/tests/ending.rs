//! How a session on the screen ends, with the real nxagent at the other end.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod upstream;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use upstream::{Ended, LIMIT, Screen, Step, Upstream, User, answer, send};

const VM: &str = "[{\"id\":12,\"state\":\"running\",\"name\":\"a\",\"blocked\":0,\"is_application\":0}]";

/// nxagent, without a desktop in it.
struct XServer {
    child: Child,
    display: u16,
    directory: tempfile::TempDir,
}

impl XServer {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let number = free_display();
        std::fs::write(
            directory.path().join("options"),
            format!("nx/nx,link=local,client=linux,state={at}/state,listen=unix:{at}/link:{number}\n"),
        )
        .unwrap();
        let child = Command::new("/usr/bin/nxagent")
            .arg(format!(":{number}"))
            .args(["-nolisten", "tcp", "-display", &format!("nx/nx,options={at}/options:{number}")])
            .env_clear()
            .env("HOME", directory.path())
            .env("NX_CLIENT", "/bin/false")
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, display: number, directory };
        let since = Instant::now();
        while !server.link().exists() {
            assert!(since.elapsed() < LIMIT, "nxagent does not wait for a client");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn link(&self) -> PathBuf {
        self.directory.path().join("link")
    }

    async fn runs(&self) {
        let since = Instant::now();
        while std::fs::read_to_string(self.directory.path().join("state")).unwrap_or_default().trim()
            != "RUNNING"
        {
            assert!(since.elapsed() < LIMIT, "no client came");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("/usr/bin/kill").args([name, &pid]).status().unwrap().success());
        // It may have missed the signal on its way to sleep; a connection wakes it.
        drop(std::os::unix::net::UnixStream::connect(format!("/tmp/.X11-unix/X{}", self.display)).unwrap());
    }
}

impl Drop for XServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Killed, it leaves these.
        let display = self.display;
        for path in [format!("/tmp/.X{display}-lock"), format!("/tmp/.X11-unix/X{display}")] {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn free_display() -> u16 {
    let used = std::fs::read_to_string("/proc/net/unix").unwrap();
    let start = 1000 + u16::try_from(std::process::id() % 400).unwrap();
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let mut numbers = start + NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)..2000;
    numbers.find(|n| !used.contains(&format!("/tmp/.X11-unix/X{n}\n"))).expect("a free display")
}

/// Shows a desktop, does something to it when it is drawn, and returns how the client ended.
async fn session(happens: impl AsyncFnOnce(&XServer, Upstream, u32)) -> Ended {
    told_session(answer("404 Not Found", "Not Found\r\n"), happens).await
}

/// The same at a router that answers so when it is asked why the session ended.
async fn told_session(told: Vec<Step>, happens: impl AsyncFnOnce(&XServer, Upstream, u32)) -> Ended {
    let server = XServer::start();
    let link = server.link();
    let upstream = Upstream::start(move |path| match path {
        "/qvd/list_of_vm" => answer("200 OK", VM),
        "/qvd/session_end" => told.clone(),
        _ => vec![
            send("HTTP/1.1 101 Switching Protocols\r\nX-QVD-Session: 4711\r\n\r\n"),
            Step::Bridge(link.clone()),
        ],
    })
    .await;
    let (screen, user) = (Screen::new(), User::new());
    let before = screen.admitted();
    let mut command = user.command(upstream.port, "-n --link local");
    let client = command.env("DISPLAY", &screen.1).spawn().unwrap();
    let pid = client.id().unwrap();
    let ended = tokio::spawn(client.wait_with_output());
    server.runs().await;
    happens(&server, upstream, pid).await;
    let output = tokio::time::timeout(LIMIT, ended).await.unwrap().unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(screen.admitted(), before, "a permission stays");
    Ended { code: output.status.code(), said: text(output.stderr), printed: text(output.stdout) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_or_is_suspended_ended_in_order() {
    session(async |server, _upstream, _| server.signal("-TERM")).await.expect(0, &[]);
    session(async |server, _upstream, _| server.signal("-HUP")).await.expect(0, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_is_told() {
    session(async |_, upstream, _| upstream.cut()).await.expect(10, &["link_ended", "connect again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_says_why_is_quoted() {
    let says = |reason: &str| answer("200 OK", &format!("{{\"reason\":\"{reason}\",\"text\":\"\"}}\n"));
    let ended = told_session(says("taken_over"), async |_, upstream, _| {
        upstream.cut();
        asked(&upstream).await;
    });
    ended.await.expect(11, &["taken_over", "change your password"]);
    // A VM that is stopped lets its X server end in order.
    let ended = told_session(says("vm_stopped"), async |server, upstream, _| {
        server.signal("-TERM");
        asked(&upstream).await;
    });
    ended.await.expect(13, &["vm_stopped", "start it"]);
    // Left is what the router sees of a link that broke on this side.
    let ended = told_session(says("left"), async |_, upstream, _| {
        upstream.cut();
        asked(&upstream).await;
    });
    ended.await.expect(10, &["link_ended"]);
}

/// Waits for the question, which comes on a connection of its own with the number of the session.
async fn asked(upstream: &Upstream) {
    while !upstream.heard().iter().any(|target| target.starts_with("/qvd/session_end?id=4711")) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_client_and_nxproxy() {
    let ended = session(async |_, _upstream, pid| {
        let pid = pid.to_string();
        assert!(Command::new("/usr/bin/kill").args(["-INT", &pid]).status().unwrap().success());
    });
    ended.await.expect(130, &[]);
}
