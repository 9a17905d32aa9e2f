//! Hooks, run by a real session.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod desktop;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use desktop::{Desktop, LIMIT};
use qvd_model::SessionState;

/// A hook that writes what it gets to `<name>.seen`.
fn recorder(directory: &Path, name: &str, then: &str) -> PathBuf {
    let path = directory.join(name);
    let seen = directory.join(format!("{name}.seen"));
    let seen = seen.display();
    let text =
        format!("#!/bin/sh\necho \"$@ token=$QVD_AUTH_TOKEN\" >{seen}.new\nmv {seen}.new {seen}\n{then}\n");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

async fn seen(directory: &Path, name: &str) -> String {
    let since = std::time::Instant::now();
    loop {
        match std::fs::read_to_string(directory.join(format!("{name}.seen"))) {
            Ok(text) => return text,
            Err(_) if since.elapsed() < LIMIT => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("hook {name} did not run: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_get_names_and_values_and_secrets_by_environment_only() {
    let scripts = tempfile::tempdir().unwrap();
    let at = scripts.path();
    let desktop = Desktop::start(|settings| {
        settings.hooks.programs = vec![
            ("vma.on_action.pre-connect", recorder(at, "pre", "")),
            ("vma.on_provisioning.after_add_user", recorder(at, "after", "")),
            ("vma.on_action.stop", recorder(at, "stop", "")),
            ("vma.on_action.expire", recorder(at, "expire", "")),
            ("vma.on_state.disconnected", recorder(at, "gone", "")),
        ];
    })
    .await;
    // As at every boot of a desktop.
    assert_eq!(seen(at, "gone").await, "qvd.hook.on_state stopped token=\n");
    let token = [("auth_token".to_owned(), "t0p".to_owned())];
    desktop.agent.x_start(desktop.parameters().into_iter().chain(token), LIMIT).await.unwrap();
    desktop.state_becomes(SessionState::Listening).await;
    let pre = seen(at, "pre").await;
    assert!(pre.contains("qvd.vm.user.name joe") && !pre.contains("auth_token"), "{pre}");
    assert!(
        pre.ends_with("qvd.vm.session.state stopped qvd.hook.on_action pre_connect token=t0p\n"),
        "{pre}"
    );
    assert!(seen(at, "after").await.contains("qvd.hook.on_provisioning after_add_user"));
    desktop.agent.expire(Some("2026-12-01 10:00:00"), None, LIMIT).await.unwrap();
    assert_eq!(
        seen(at, "expire").await,
        "vm.expiration.soft 2026-12-01 10:00:00 qvd.vm.session.state listening qvd.hook.on_action expire token=\n"
    );
    desktop.agent.x_stop(LIMIT).await.unwrap();
    assert!(seen(at, "stop").await.starts_with("qvd.vm.session.state listening qvd.hook.on_action stop"));
    desktop.state_becomes(SessionState::Stopped).await;
    desktop.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_or_hangs_refuses_and_undoes() {
    let scripts = tempfile::tempdir().unwrap();
    let at = scripts.path();
    let desktop = Desktop::start(|settings| {
        settings.hooks.limit = Duration::from_millis(300);
        settings.hooks.programs = vec![
            ("vma.on_action.pre-connect", recorder(at, "pre", "sleep 60")),
            ("vma.on_action.poweroff", recorder(at, "off", "exit 3")),
        ];
    })
    .await;
    let failure = desktop.agent.x_start(desktop.parameters(), LIMIT).await.unwrap_err().failure();
    assert!(
        failure.detail.contains("vma.on_action.pre-connect") && failure.detail.contains("300ms"),
        "{failure}"
    );
    desktop.state_becomes(SessionState::Stopped).await;
    let failure = desktop.agent.poweroff(LIMIT).await.unwrap_err().failure();
    assert!(failure.detail.contains("vma.on_action.poweroff"), "{failure}");
    desktop.end().await;

    let desktop = Desktop::start(|settings| {
        settings.hooks.programs =
            vec![("vma.on_provisioning.after_add_user", recorder(at, "after", "exit 1"))];
    })
    .await;
    desktop.agent.x_start(desktop.parameters(), LIMIT).await.unwrap();
    desktop.state_becomes(SessionState::Stopped).await;
    let passwd = std::fs::read_to_string(desktop.settings.root.join("etc/passwd")).unwrap();
    assert!(!passwd.contains("joe"), "{passwd}");
    let failure = desktop.agent.x_failure(LIMIT).await.unwrap().unwrap();
    assert!(failure.detail.contains("after_add_user"), "{failure}");
    desktop.end().await;
}
