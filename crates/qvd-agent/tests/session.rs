//! A session from its start to its end, with the real nxagent and nxproxy.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod desktop;

use std::os::unix::fs::MetadataExt;

use desktop::{Client, Desktop, LIMIT, Screen, UID};
use qvd_model::{FailureCode, SessionState};
use qvd_rpc::{Agent, AgentError};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_survives_its_client_and_moves_to_another_screen() {
    let desktop = Desktop::start(|_| {}).await;
    let home = |name: &str| desktop.directory.path().join(name);
    let (office, flat) = (Screen::new(), Screen::new());

    desktop.agent.x_start(desktop.parameters(), LIMIT).await.unwrap();
    desktop.state_becomes(SessionState::Listening).await;
    let client = Client::new(&office, &home("office"), desktop.nx);
    desktop.state_becomes(SessionState::Connected).await;
    office.shows("QVD").await;
    let window = loop {
        match desktop.session_window("the desktop") {
            Some(window) => break window,
            None => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    };

    // The session has its client: nobody else gets in.
    let mut second = TcpStream::connect(desktop.nx).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(desktop.agent.x_state(LIMIT).await.unwrap(), SessionState::Connected);

    client.kill();
    desktop.state_becomes(SessionState::Suspended).await;

    desktop.agent.x_start(desktop.parameters(), LIMIT).await.unwrap();
    desktop.state_becomes(SessionState::Listening).await;
    let client = Client::new(&flat, &home("flat"), desktop.nx);
    desktop.state_becomes(SessionState::Connected).await;
    flat.shows("QVD").await;
    assert_eq!(desktop.session_window("the desktop"), Some(window));

    // Another router wants it: this client loses it, the caller has to come back.
    let error = desktop.agent.x_start(desktop.parameters(), LIMIT).await.unwrap_err();
    assert!(matches!(error, AgentError::Failed { .. }), "{error}");
    desktop.state_becomes(SessionState::Suspended).await;
    drop(client);

    desktop.agent.x_stop(LIMIT).await.unwrap();
    desktop.state_becomes(SessionState::Stopped).await;
    assert!(!desktop.settings.run.join("session/link").exists());
    desktop.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_come_back_leaves_the_session_suspended() {
    let desktop = Desktop::start(|settings| {
        settings.limits.listening = std::time::Duration::from_millis(1500);
    })
    .await;
    let screen = Screen::new();
    desktop.agent.x_start(desktop.parameters(), LIMIT).await.unwrap();
    desktop.state_becomes(SessionState::Listening).await;
    let client = Client::new(&screen, &desktop.directory.path().join("home"), desktop.nx);
    desktop.state_becomes(SessionState::Connected).await;
    client.kill();
    desktop.state_becomes(SessionState::Suspended).await;
    desktop.agent.x_start(desktop.parameters(), LIMIT).await.unwrap();
    desktop.state_becomes(SessionState::Listening).await;
    desktop.state_becomes(SessionState::Suspended).await;
    desktop.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_is_made_with_its_home() {
    let desktop = Desktop::start(|_| {}).await;
    desktop.agent.x_start(desktop.parameters(), LIMIT).await.unwrap();
    desktop.state_becomes(SessionState::Listening).await;
    let root = &desktop.settings.root;
    let passwd = std::fs::read_to_string(root.join("etc/passwd")).unwrap();
    assert!(passwd.contains(&format!("joe:x:{UID}:")) && passwd.contains(":/home/joe:/bin/bash"), "{passwd}");
    let group = std::fs::read_to_string(root.join("etc/group")).unwrap();
    assert!(group.contains("audio:x:29:joe"), "{group}");
    let home = std::fs::metadata(root.join("home/joe")).unwrap();
    assert_eq!((home.uid(), home.mode() & 0o777), (UID, 0o700));
    assert_eq!(std::fs::metadata(root.join("home/joe/.profile")).unwrap().uid(), UID);
    desktop.agent.x_stop(LIMIT).await.unwrap();
    desktop.state_becomes(SessionState::Stopped).await;

    // The image is replaced: accounts are gone, the home is not. Its owner keeps it.
    for (file, text) in
        [("etc/passwd", "root:x:0:0::/root:/bin/sh\n"), ("etc/shadow", ""), ("etc/gshadow", "")]
    {
        std::fs::write(root.join(file), text).unwrap();
    }
    std::fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
    let parameters = desktop.parameters().into_iter().filter(|(name, _)| name != "qvd.vm.user.uid");
    desktop.agent.x_start(parameters, LIMIT).await.unwrap();
    desktop.state_becomes(SessionState::Listening).await;
    let passwd = std::fs::read_to_string(root.join("etc/passwd")).unwrap();
    assert!(passwd.contains(&format!("joe:x:{UID}:")), "{passwd}");
    desktop.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() {
    let desktop = Desktop::start(|_| {}).await;
    let without = Agent { secret: None, ..desktop.agent.clone() };
    let error = without.ping(LIMIT).await.unwrap_err();
    assert!(matches!(error, AgentError::Status { status: 401, .. }), "{error}");
    desktop.agent.ping(LIMIT).await.unwrap();
    desktop.end().await;

    let closed = Desktop::start(|settings| settings.refuse_local = true).await;
    let error = closed.agent.ping(LIMIT).await.unwrap_err();
    assert!(matches!(error, AgentError::Status { status: 403, .. }), "{error}");
    closed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_wrong_is_named() {
    let desktop = Desktop::start(|settings| settings.programs.nxagent = "/usr/bin/no-nxagent".into()).await;
    let failure = desktop.agent.x_start(desktop.parameters(), LIMIT).await.unwrap_err().failure();
    assert_eq!(failure.code, FailureCode::XServerMissing);
    assert!(failure.detail.contains("/usr/bin/no-nxagent"), "{failure}");
    let evil = [("qvd.client.keyboard", "pc105/es,kill=1")];
    let failure = desktop.agent.x_start(evil, LIMIT).await.unwrap_err().failure();
    assert!(failure.detail.contains("qvd.client.keyboard"), "{failure}");
    let root = [("qvd.vm.user.name", "root")];
    assert_eq!(desktop.agent.x_state(LIMIT).await.unwrap(), SessionState::Stopped);
    desktop.end().await;

    let desktop = Desktop::start(|_| {}).await;
    desktop.agent.x_start(root, LIMIT).await.unwrap();
    desktop.state_becomes(SessionState::Stopped).await;
    let failure = desktop.agent.x_failure(LIMIT).await.unwrap().unwrap();
    assert!(failure.detail.contains("super-user"), "{failure}");
    desktop.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_left_behind_is_ended_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let settings = desktop::settings(directory.path());
    std::fs::create_dir_all(&settings.run).unwrap();
    let options = directory.path().join("options");
    let (display, link) = (settings.display, directory.path().join("link"));
    let line = format!("nx/nx,listen=unix:{}:{display}\n", link.display());
    std::fs::write(&options, line).unwrap();
    let mut left = std::process::Command::new(&settings.programs.nxagent)
        .arg(format!(":{display}"))
        .args(["-nolisten", "tcp", "-display"])
        .arg(format!("nx/nx,options={}:{display}", options.display()))
        .env("HOME", directory.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::fs::write(settings.run.join("nxagent.pid"), format!("{}\n", left.id())).unwrap();
    let since = std::time::Instant::now();
    while !link.exists() {
        assert!(since.elapsed() < LIMIT, "nxagent does not wait for a client");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let next = settings.clone();
    // The left one is our child here, so somebody has to reap it while the agent looks for its end.
    let reaped = tokio::task::spawn_blocking(move || left.wait().unwrap());
    let desktop = Desktop::start(move |settings| *settings = next).await;
    desktop.agent.x_start(desktop.parameters(), LIMIT).await.unwrap();
    reaped.await.unwrap();
    desktop.state_becomes(SessionState::Listening).await;
    desktop.end().await;
    assert!(!settings.run.join("nxagent.pid").exists());
}
