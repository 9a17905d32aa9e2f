//! An administrator sees a real desktop, with its user's consent, and gets into it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use testbed::desktops::LIMIT;
use testbed::{Cluster, Desktops, Viewer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

const START_LIMIT: Duration = Duration::from_secs(120);
/// The number of the VM `First`.
const FIRST: i32 = 10_000;
/// The background of the terminal that a session begins with.
const TERMINAL: [u8; 3] = [0x14, 0x20, 0x2b];
/// Buttons of the agent's own windows, and the one that refuses.
const BUTTON: [u8; 3] = [0xdf, 0xd8, 0xc2];
const DENY: [u8; 3] = [0x8a, 0x3b, 0x12];

/// Opens `/vmproxy` as root of the API's host; the status and the words of a refusal.
async fn watch(socket: PathBuf, only: bool) -> Result<DuplexStream, (u16, String)> {
    let url =
        format!("ws://localhost/vmproxy?arguments=%7B%22vm_id%22%3A{FIRST}%2C%22view_only%22%3A{only}%7D");
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "binary".parse().unwrap());
    let stream = UnixStream::connect(socket).await.unwrap();
    let mut web = match tokio_tungstenite::client_async(request, stream).await {
        Ok((web, _)) => web,
        Err(Error::Http(answer)) => {
            let body = String::from_utf8(answer.body().clone().unwrap_or_default()).unwrap();
            return Err((answer.status().as_u16(), body));
        }
        Err(other) => panic!("{other}"),
    };
    let (near, mut far) = duplex(1 << 20);
    tokio::spawn(async move {
        let mut chunk = vec![0; 4096];
        loop {
            tokio::select! {
                read = far.read(&mut chunk) => match read {
                    Ok(count) if count > 0 => {
                        web.send(Message::Binary(chunk[..count].to_vec().into())).await.unwrap();
                    }
                    _ => return drop(web.close(None).await),
                },
                message = web.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => far.write_all(&bytes).await.unwrap(),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    _ => return,
                }
            }
        }
    });
    Ok(near)
}

/// Watches, while the user clicks where this color is.
fn asked(
    site: &Desktops,
    runtime: &tokio::runtime::Runtime,
    only: bool,
    answer: [u8; 3],
) -> Result<Viewer<DuplexStream>, (u16, String)> {
    let watching = runtime.spawn(watch(site.cluster.data().join("run/api.sock"), only));
    let is_asked = |picture: &testbed::Picture| picture.share(DENY) > 0.0 && picture.share(BUTTON) > 0.0;
    let shown = site.display.wait_for("a question", LIMIT, is_asked);
    let shown = shown.unwrap_or_else(|error| panic!("{error}\n{}", site.cluster.logs()));
    site.display.click(shown.middle(answer).unwrap()).unwrap();
    let stream = runtime.block_on(watching).unwrap()?;
    let opened = runtime.block_on(async { tokio::time::timeout(LIMIT, Viewer::open(stream)).await });
    Ok(opened.unwrap().unwrap_or_else(|error| panic!("{error}\n{}", site.cluster.logs())))
}

/// Types a command into the terminal of the desktop.
async fn type_line(viewer: &mut Viewer<DuplexStream>, line: &str) {
    viewer.point(300, 200, 1).await.unwrap();
    viewer.point(300, 200, 0).await.unwrap();
    for letter in line.chars() {
        viewer.strike(u32::from(letter)).await.unwrap();
    }
    viewer.strike(0xff0d).await.unwrap();
    viewer.picture().await.unwrap();
}

#[test]
fn a_desktop_is_seen_with_the_consent_of_its_user() {
    let site = Desktops::on(Cluster::machine().unwrap()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _client = site.connect(START_LIMIT).unwrap();
    site.display.wait_for("its terminal", LIMIT, |picture| picture.share(TERMINAL) > 0.1).unwrap();
    let home = site.cluster.data().join(format!("storage/homefs/{FIRST}-fs/test"));

    let (status, why) = asked(&site, &runtime, true, DENY).unwrap_err();
    assert!(status == 403 && why.contains("4210") && why.contains("the user does not allow it"), "{why}");

    // Who only watches sees the terminal, and types nothing into it.
    let mut viewer = asked(&site, &runtime, true, BUTTON).unwrap();
    let since = Instant::now();
    loop {
        let seen = runtime.block_on(viewer.picture()).unwrap();
        if seen.share(TERMINAL) > 0.1 && seen.colors() > 20 {
            break;
        }
        assert!(since.elapsed() < LIMIT, "{} colors\n{}", seen.colors(), site.cluster.logs());
    }
    runtime.block_on(type_line(&mut viewer, "touch watched"));
    // The user is told, and ends it.
    let banner = site.display.wait_for("who watches", LIMIT, |picture| picture.share(BUTTON) > 0.0).unwrap();
    site.display.click(banner.middle(BUTTON).unwrap()).unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, viewer.ended()).await }).unwrap().unwrap();
    site.display.wait_for("no banner", LIMIT, |picture| picture.share(BUTTON) == 0.0).unwrap();

    let mut viewer = asked(&site, &runtime, false, BUTTON).unwrap();
    let since = Instant::now();
    while !home.join("used").exists() {
        assert!(since.elapsed() < LIMIT, "nothing is typed\n{}", site.cluster.logs());
        runtime.block_on(type_line(&mut viewer, "touch used"));
    }
    assert!(!home.join("watched").exists(), "who only watches has typed");
    drop(viewer);

    // Root of the node has the console; the desktop of this image has no SSH server.
    let console = site.qa4(&["vm", "First", "console", "--", "/usr/bin/id", "-un"]).unwrap();
    assert_eq!(console, "root\n");
    let failed = site.cluster.qa4(&["vm", "First", "console", "--", "/bin/sh", "-c", "exit 7"]).unwrap();
    assert_eq!(failed.code, Some(7), "{failed:?}");
    let ssh = site.cluster.qa4(&["vm", "First", "ssh"]).unwrap();
    assert!(ssh.code == Some(9) && ssh.err.contains(":22 of First"), "{ssh:?}");

    let story = site.qa4(&["vm", "First", "explain"]).unwrap();
    for part in [
        "is not let to the screen",
        "watches the screen",
        "watches and may use",
        "is connected to the console",
    ] {
        assert!(story.contains(part), "no `{part}` in\n{story}");
    }
}
