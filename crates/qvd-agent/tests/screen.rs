//! The screen of a session for administrators, by the real x11vnc on the real nxagent.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod desktop;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use desktop::{Client, Desktop, LIMIT, Screen};
use qvd_agent::Settings;
use qvd_model::SessionState;
use qvd_rpc::{AgentError, View};
use testbed::Viewer;
use tokio::net::TcpStream;

/// A desktop of one color, which nothing on the session's screen but its window has.
const COLOR: [u8; 3] = [0x12, 0x34, 0x56];

/// Somebody who asks in place of the agent's dialog, and answers what stands in a file.
fn answers(settings: &mut Settings, directory: &Path, answer: &str) {
    let program = directory.join("ask");
    let script = format!("#!/bin/sh\necho \"$QVD_VIEWER $QVD_VIEW_ONLY\" >\"$HOME/asked\"\n{answer}\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    settings.consent.program = program;
}

/// A desktop whose one client draws an `xterm` in [`COLOR`], which writes what is typed to a file of the user.
async fn drawn(change: impl FnOnce(&mut Settings)) -> (Desktop, Screen, Client) {
    let desktop = Desktop::start(|settings| {
        let words = "-T typed -geometry 60x10+10+10 -bg #123456 -fg #123456 -e cat";
        settings.programs.x_session_args = words.split(' ').map(str::to_owned).collect();
        settings.programs.x_session_args.pop();
        settings.programs.x_session_args.extend(["sh".into(), "-c".into(), "exec cat >$HOME/typed".into()]);
        change(settings);
    })
    .await;
    let screen = Screen::new();
    desktop.agent.x_start(desktop.parameters(), LIMIT).await.unwrap();
    desktop.state_becomes(SessionState::Listening).await;
    let client = Client::new(&screen, &desktop.directory.path().join("client"), desktop.nx);
    desktop.state_becomes(SessionState::Connected).await;
    let since = Instant::now();
    while desktop.session_window("typed").is_none() {
        assert!(since.elapsed() < LIMIT, "no desktop");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (desktop, screen, client)
}

fn log(desktop: &Desktop) -> String {
    std::fs::read_to_string(desktop.settings.log.join("qvd-x11vnc.log")).unwrap_or_default()
}

/// A viewer who is let in.
async fn watch(desktop: &Desktop, view: &View) -> Viewer<TcpStream> {
    let (stream, first) = desktop.agent.watch(view, LIMIT).await.unwrap();
    assert!(first.is_empty(), "{first:?}");
    let opened = tokio::time::timeout(LIMIT, Viewer::open(stream)).await;
    opened
        .unwrap_or_else(|_| panic!("no RFB\n{}", log(desktop)))
        .unwrap_or_else(|e| panic!("{e}\n{}", log(desktop)))
}

/// Waits until the desktop is seen.
async fn sees(viewer: &mut Viewer<TcpStream>, desktop: &Desktop) {
    let since = Instant::now();
    loop {
        let picture = tokio::time::timeout(LIMIT, viewer.picture()).await.unwrap().unwrap();
        if picture.share(COLOR) > 0.1 {
            return;
        }
        assert!(since.elapsed() < LIMIT, "{:?}\n{}", picture.background(), log(desktop));
    }
}

fn file(desktop: &Desktop, name: &str) -> String {
    std::fs::read_to_string(desktop.settings.root.join("home/joe").join(name)).unwrap_or_default()
}

/// Processes of the VNC server of this desktop.
fn servers(desktop: &Desktop) -> Vec<PathBuf> {
    let display = format!(":{}", desktop.settings.display);
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_server = |process: &PathBuf| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        words.contains(&b"-inetd".as_slice()) && words.contains(&display.as_bytes())
    };
    processes.filter(is_server).collect()
}

async fn no_server_is_left(desktop: &Desktop) {
    let since = Instant::now();
    while !servers(desktop).is_empty() {
        assert!(since.elapsed() < LIMIT, "the VNC server outlives its viewer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_use_the_screen_types_and_who_may_only_see_it_does_not() {
    let (desktop, _screen, _client) = drawn(|settings| settings.consent.asked = false).await;
    let mut viewer = watch(&desktop, &View { only: true, viewer: None }).await;
    sees(&mut viewer, &desktop).await;
    let type_line = async |viewer: &mut Viewer<TcpStream>, letter: char| {
        viewer.point(100, 60, 0).await.unwrap();
        viewer.strike(u32::from(letter)).await.unwrap();
        viewer.strike(0xff0d).await.unwrap();
        // What comes before a picture was done before it is sent.
        viewer.picture().await.unwrap();
    };
    type_line(&mut viewer, 'a').await;
    drop(viewer);
    no_server_is_left(&desktop).await;
    let mut viewer = watch(&desktop, &View::default()).await;
    sees(&mut viewer, &desktop).await;
    let since = Instant::now();
    while file(&desktop, "typed").is_empty() {
        assert!(since.elapsed() < LIMIT, "nothing is typed\n{}", log(&desktop));
        type_line(&mut viewer, 'b').await;
    }
    assert!(!file(&desktop, "typed").contains('a'), "who may only see the screen has typed");

    // It ends with the session.
    desktop.agent.x_stop(LIMIT).await.unwrap();
    tokio::time::timeout(LIMIT, viewer.ended()).await.unwrap().unwrap();
    no_server_is_left(&desktop).await;
    let error = desktop.agent.watch(&View::default(), LIMIT).await.unwrap_err();
    let AgentError::Status { status: 503, text, .. } = &error else { panic!("{error}") };
    assert!(text.contains("no session"), "{text}");
    desktop.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_session_is_seen_too() {
    let (desktop, screen, client) = drawn(|settings| settings.consent.asked = false).await;
    screen.shows("QVD").await;
    client.kill();
    desktop.state_becomes(SessionState::Suspended).await;
    let mut viewer = watch(&desktop, &View::default()).await;
    sees(&mut viewer, &desktop).await;
    desktop.end().await;
    tokio::time::timeout(LIMIT, viewer.ended()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_is_asked() {
    let refused = |error: AgentError, what: &str| {
        let AgentError::Status { status: 403, text, .. } = &error else { panic!("{error}") };
        assert!(text.contains(what), "{text}");
    };
    for (answer, why) in [("exit 1", "does not allow"), ("exec sleep 600", "did not answer within 1 s")] {
        let scripts = tempfile::tempdir().unwrap();
        std::fs::set_permissions(scripts.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (desktop, _screen, client) = drawn(|settings| {
            answers(settings, scripts.path(), answer);
            settings.consent.limit = Duration::from_secs(1);
        })
        .await;
        let view = View { only: true, viewer: Some("Ann O'Dell".into()) };
        refused(desktop.agent.watch(&view, LIMIT).await.unwrap_err(), why);
        assert_eq!(file(&desktop, "asked"), "Ann O'Dell 1\n");
        assert!(servers(&desktop).is_empty());
        client.kill();
        desktop.state_becomes(SessionState::Suspended).await;
        refused(desktop.agent.watch(&view, LIMIT).await.unwrap_err(), "nobody is connected");
        desktop.end().await;
    }

    let scripts = tempfile::tempdir().unwrap();
    std::fs::set_permissions(scripts.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (desktop, _screen, _client) = drawn(|settings| answers(settings, scripts.path(), "exit 0")).await;
    let mut viewer = watch(&desktop, &View::default()).await;
    sees(&mut viewer, &desktop).await;
    assert_eq!(file(&desktop, "asked"), "An administrator 0\n");
    desktop.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_the_program_is_told() {
    let (desktop, _screen, _client) = drawn(|settings| {
        settings.consent.asked = false;
        settings.programs.x11vnc = "/usr/bin/no-x11vnc".into();
    })
    .await;
    let error = desktop.agent.watch(&View::default(), LIMIT).await.unwrap_err();
    let AgentError::Status { status: 503, text, .. } = &error else { panic!("{error}") };
    assert!(
        text.contains("/usr/bin/no-x11vnc (command.x11vnc)") && text.contains("package x11vnc"),
        "{text}"
    );

    // Old consoles send bare line feeds and nothing of what is new; who asks for no upgrade gets none.
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect((desktop.agent.address, desktop.agent.port)).await.unwrap();
    let head = format!("GET /vma/vnc_connect HTTP/1.1\nAuthorization: Bearer {}\n\n", desktop::SECRET);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{answer}");
    let mut stranger = TcpStream::connect((desktop.agent.address, desktop.agent.port)).await.unwrap();
    stranger
        .write_all(b"GET /vma/vnc_connect HTTP/1.1\nConnection: Upgrade\nUpgrade: VNC\n\n")
        .await
        .unwrap();
    answer.clear();
    stranger.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    desktop.end().await;
}
