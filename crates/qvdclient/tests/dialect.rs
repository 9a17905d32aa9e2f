//! qvdclient against every kind of answer that existing routers give, and what it tells the user.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod upstream;

use upstream::{Ended, LIMIT, Screen, Step, Upstream, User, answer, send};

/// As an upstream router prints it: indented, keys in any order.
const VMS: &str = "[\n   {\n      \"name\" : \"desk \\u00e1\",\n      \"blocked\" : 0,\n      \"id\" : 12,\n      \
                   \"is_application\" : 0,\n      \"state\" : \"stopped\"\n   }\n]\n";
const TWO: &str = "[{\"id\":12,\"state\":\"running\",\"name\":\"a\",\"blocked\":0,\"is_application\":0},\
                   {\"id\":13,\"state\":\"stopped\",\"name\":\"b\",\"blocked\":1,\"is_application\":0}]";

async fn lists(body: &'static str) -> Upstream {
    Upstream::start(move |_| answer("200 OK", body)).await
}

/// Lists one VM and answers the wish to connect with this.
async fn connects(steps: Vec<Step>) -> Upstream {
    Upstream::start(move |path| match path {
        "/qvd/list_of_vm" => answer("200 OK", VMS),
        // Whatever it says, connecting will tell.
        "/qvd/stop_vm" => answer("408 Request Timeout", "408 Request Timeout\n"),
        _ => steps.clone(),
    })
    .await
}

#[tokio::test]
async fn the_list_of_an_existing_router_is_printed() {
    let upstream = lists(VMS).await;
    let ended = User::new().run(&upstream, "-n -l").await;
    ended.expect(0, &["12", "desk á", "stopped"]);
    assert_eq!(upstream.heard(), ["/qvd/list_of_vm? Basic am9lOnQwcCBzZWNyZXQ="]);
}

#[tokio::test]
async fn a_rejected_login_and_an_unwilling_router_are_told_apart() {
    let rejected = Upstream::start(|_| answer("401 Unauthorized", "Login rejected\r\n")).await;
    User::new().run(&rejected, "-n -l").await.expect(7, &["login_rejected", "Check login and password"]);
    let blocked = Upstream::start(|_| answer("503 Service Unavailable", "Server is blocked\r\n")).await;
    User::new().run(&blocked, "-n -l").await.expect(5, &["no_list", "Server is blocked"]);
    let nonsense = Upstream::start(|_| answer("200 OK", "<html>")).await;
    User::new().run(&nonsense, "-n -l").await.expect(5, &["no_list"]);
}

#[tokio::test]
async fn an_unknown_certificate_ends_with_its_fingerprint() {
    let upstream = lists(VMS).await;
    let user = User::new();
    let refused = user.run(&upstream, "-l").await;
    refused.expect(4, &["certificate", "SHA-256", &upstream.certificate.fingerprint, "~/.qvd/certs"]);
    assert!(upstream.heard().is_empty(), "the password was sent to a stranger");
    user.run(&upstream, "-l -n").await.expect(0, &["desk"]);

    // The administrator's authority, in the user's directory.
    user.write(".qvd/certs/site.pem", &upstream.certificate.cert);
    user.run(&upstream, "-l").await.expect(0, &["desk"]);
}

#[tokio::test]
async fn a_vm_is_chosen_or_the_choice_is_asked_for() {
    User::new().run(&lists("[]").await, "-n").await.expect(2, &["no_vm", "joe"]);
    User::new().run(&lists(TWO).await, "-n").await.expect(6, &["no_choice", "12 a, 13 b", "-s ID"]);
    User::new().run(&lists(TWO).await, "-n -s 99").await.expect(6, &["unknown_vm", "VM 99"]);
}

#[tokio::test]
async fn refusals_tell_what_the_router_said() {
    let screen = Screen::new();
    // A 404 whose head has lines without colons, from an exception passed on as if it were headers.
    let malformed = send(
        "HTTP/1.1 404 Not Found\r\n403 Forbidden\r\nThe requested virtual machine is offline\r\n\
         Content-Type: text/plain\r\nContent-Length: 9\r\n\r\nNot Found",
    );
    let upstream = connects(vec![malformed]).await;
    screen.run(&User::new(), &upstream, "-n").await.expect(8, &["unknown_vm: VM 12: Not Found"]);

    let text = "The requested virtual machine is not available: takeover timed out, retry later.";
    let mut steps = vec![send("HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: Starting virtual machine\r\n\r\n")];
    steps.extend(answer("503 Service Unavailable", text));
    steps.push(Step::Close);
    let upstream = connects(steps).await;
    let ended = screen.run(&User::new(), &upstream, "-n").await;
    ended.expect(8, &["Starting virtual machine", "vm_failed", "takeover timed out"]);

    let upstream = connects(vec![Step::Close]).await;
    screen.run(&User::new(), &upstream, "-n").await.expect(3, &["connection_lost"]);
    let upstream = connects(answer("403 Forbidden", "VM is blocked")).await;
    screen.run(&User::new(), &upstream, "-n").await.expect(8, &["vm_blocked", "VM is blocked"]);
}

#[tokio::test]
async fn a_connection_starts_nxproxy_which_speaks_first() {
    let screen = Screen::new();
    let before = screen.admitted();
    let upstream = connects(vec![
        // A text of several lines ends the head early.
        send("HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: Session acquired for VM_ID: 12\r\n\r\nsecond line\r\n\r\n"),
        send("HTTP/1.1 102 Processing\r\nX-QVD-VM-Info: Connection established\r\n\r\n"),
        send("HTTP/1.1 101 Switching Protocols\r\nX-QVD-Slave-Key: 0123\r\n\r\n"),
        Step::Greeting,
    ])
    .await;
    let user = User::new();
    let ended = screen.run(&user, &upstream, "-n -r -g 1024x768 -f -K pc105/es").await;
    ended.expect(10, &["Session acquired for VM_ID: 12", "Connection established", "link_ended"]);
    let heard = upstream.heard();
    assert!(heard[1].starts_with("/qvd/stop_vm?id=12 "), "{heard:?}");
    for parameter in [
        "id=12",
        "qvd.client.os=linux",
        "qvd.client.link=adsl",
        "qvd.client.keyboard=pc105/es",
        "qvd.client.geometry=1024x768",
        "qvd.client.fullscreen=1",
    ] {
        assert!(heard[2].contains(parameter), "{heard:?}");
    }
    assert!(heard[3].starts_with("NXPROXY-"), "{heard:?}");
    assert_eq!(screen.admitted(), before);
}

#[tokio::test]
async fn without_a_screen_no_desktop_is_started() {
    let upstream = connects(answer("503 Service Unavailable", "never")).await;
    User::new().run(&upstream, "-n").await.expect(9, &["no_display", "DISPLAY"]);
    assert_eq!(upstream.heard().len(), 1);
}

#[tokio::test]
async fn nobody_there_and_somebody_else_there() {
    let upstream = lists(VMS).await;
    let user = User::new();
    let mut command = user.command(upstream.port, "-n -l");
    Ended::of(command.args(["-h", "no-such-host.invalid"]))
        .await
        .expect(1, &["cannot be used multiple times"]);
    let port = upstream.port;
    drop(upstream);
    let gone = Ended::of(&mut user.command(port, "-n -l")).await;
    gone.expect(3, &["cannot_connect", &format!("127.0.0.1:{port}")]);

    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
    });
    let ssh = Ended::of(&mut user.command(port, "-n -l")).await;
    ssh.expect(3, &["tls_failed", "-p"]);
    server.await.unwrap();
}

#[tokio::test]
async fn a_signal_ends_a_client_that_waits() {
    let upstream = Upstream::start(|_| vec![Step::Hang]).await;
    let mut client = User::new().command(upstream.port, "-n -l").spawn().unwrap();
    let since = std::time::Instant::now();
    while upstream.heard().is_empty() {
        assert!(since.elapsed() < LIMIT);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let pid = client.id().unwrap().to_string();
    assert!(std::process::Command::new("/usr/bin/kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(client.wait().await.unwrap().code(), Some(143));
}
