//! Requests that end with an answer, and connections that deserve none.

use std::time::{Duration, Instant};

use qvd_wire::http::{Get, decode_vms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{basic, bearer, connect_to};
use crate::installation::Installation;

#[tokio::test(flavor = "multi_thread")]
async fn whoever_logs_in_sees_his_own_vms() {
    let site = Installation::new("listing", "").await;
    let router = site.router().await;
    let mut client = site.client(&router).await;
    let list = || Get::new("/qvd/list_of_vm").field("Accept", "application/json");

    let joe = basic("Joe@acme", "secret");
    let (status, _, body) = client.ask(list().credentials(&joe)).await;
    assert_eq!(status, 200, "{body}");
    let vms = decode_vms(body.as_bytes()).unwrap();
    let seen: Vec<_> =
        vms.iter().map(|vm| (vm.id, vm.name.as_str(), vm.state.as_str(), vm.blocked)).collect();
    assert_eq!(
        seen,
        [(1, "one", "running", false), (2, "tw\u{f3}", "stopped", false), (3, "three", "running", true)]
    );
    assert!(body.is_ascii() && body.contains("\"blocked\":0"));

    // The old hash was replaced, and the new one is as good, on another connection.
    let stored = site.value("SELECT password FROM users WHERE id = 11").await;
    assert!(stored.starts_with("$qa1$") && stored.len() <= 64, "{stored}");
    assert_eq!(site.client(&router).await.ask(list().credentials(&joe)).await.0, 200);

    let rejected = (401, "login_rejected".to_owned(), "Login rejected\r\n".to_owned());
    for wrong in [
        basic("joe@acme", "wrong"),
        basic("nobody@acme", "secret"),
        basic("joe", "secret"),
        basic("eve@acme", "secret"),
        basic("joe@acme", ""),
        bearer("nonsense"),
    ] {
        assert_eq!(client.ask(list().credentials(&wrong)).await, rejected, "{wrong:?}");
    }
    assert_eq!(client.ask(list()).await, rejected);
    site.execute("UPDATE tenants SET blocked = true WHERE id = 7").await;
    assert_eq!(site.client(&router).await.ask(list().credentials(&joe)).await, rejected);

    router.end().await;
    let counted =
        site.value("SELECT http_requests || ' ' || auth_attempts || ' ' || auth_ok FROM host_counters").await;
    assert_eq!(counted, "10 9 2");
    assert_eq!(
        site.value("SELECT string_agg(DISTINCT code, ' ' ORDER BY code) FROM events WHERE kind = 'user'")
            .await,
        "login login_rejected"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_come_in_the_documented_order() {
    let site = Installation::new("checks", "").await;
    let router = site.router().await;
    let joe = basic("joe@acme", "secret");
    let ask = async |get: Get| {
        let (status, code, body) = site.client(&router).await.ask(get).await;
        (status, code, body)
    };
    let connect = |query: &str| Get::new(&format!("/qvd/connect_to_vm{query}")).credentials(&joe);
    assert_eq!(ask(Get::new("/qvd/ping")).await, (200, String::new(), "I am alive!\r\n".to_owned()));
    assert_eq!(ask(Get::new("/qvd/nothing")).await.0, 404);
    assert_eq!(ask(Get::new("/qvd/connect_to_vm")).await.0, 401);
    assert_eq!(ask(connect("?id=1")).await.0, 426);
    assert_eq!(ask(connect("").upgrade("QVD/1.0")).await.2, "parameter id is missing\r\n");
    assert_eq!(ask(connect("?id=1&qvd.vm.user.name=root").upgrade("QVD/1.0")).await.0, 403);
    for (vm, status, code) in [(3, 403, "vm_blocked"), (4, 404, "unknown_vm"), (99, 404, "unknown_vm")] {
        let (found, failure, body) = ask(connect_to(vm, &joe)).await;
        assert_eq!((found, failure.as_str()), (status, code), "{body}");
    }
    let stop = |query: &str| Get::new(&format!("/qvd/stop_vm{query}")).credentials(&joe);
    assert_eq!(ask(stop("")).await.0, 422);
    assert_eq!(ask(stop("?id=99")).await.0, 404);
    assert_eq!(ask(stop("?id=4")).await.0, 403);
    assert_eq!(ask(stop("?id=2")).await, (200, String::new(), "Machine stopped\r\n".to_owned()));

    site.execute("UPDATE host_runtimes SET blocked = true").await;
    site.until(&router, 503).await;
    let (status, code, body) = ask(connect_to(1, &joe)).await;
    assert_eq!((status, code.as_str()), (503, "host_unavailable"));
    assert!(body.starts_with("Server is blocked"), "{body}");
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_vm_stops_on_request_and_the_client_waits() {
    let site = Installation::new("stopping", "").await;
    let router = site.router().await;
    let stop = Get::new("/qvd/stop_vm").query("id", "1").credentials(&basic("joe@acme", "secret"));
    let mut client = site.client(&router).await;
    let asking = tokio::spawn(async move { client.ask(stop).await });
    site.becomes("SELECT vm_cmd FROM vm_runtimes WHERE vm_id = 1", "stop").await;
    site.execute("UPDATE vm_runtimes SET vm_cmd = NULL, vm_state = 'stopping' WHERE vm_id = 1").await;
    site.execute("UPDATE vm_runtimes SET vm_state = 'stopped', host_id = NULL WHERE vm_id = 1").await;
    assert_eq!(asking.await.unwrap(), (200, String::new(), "Machine stopped\r\n".to_owned()));
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_once_and_the_connection_ends() {
    let site = Installation::new("nonsense", "").await;
    let router = site.router().await;
    let long = [b"GET /".as_slice(), &[b'a'; 20_000]].concat();
    let cases: [(&[u8], &str); 5] = [
        (b"hello\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"),
        (b"GET /qvd/ping HTTP/1.1\r\nno colon\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"),
        (b"GET /qvd/ping HTTP/3.0\r\n\r\n", "HTTP/1.1 505 HTTP Version Not Supported\r\n"),
        (&long, "HTTP/1.1 414 URI Too Long\r\n"),
        (b"NXPROXY-3.5.0-3.5.99 ", ""),
    ];
    for (bytes, expected) in cases {
        let mut client = site.client(&router).await;
        client.send(bytes).await;
        let head = String::from_utf8(client.record().await).unwrap();
        assert!(head.starts_with(expected), "{head}");
        client.ended().await;
    }
    // Load balancers may use old HTTP.
    let mut client = site.client(&router).await;
    client.send(b"HEAD /qvd/ping HTTP/1.0\r\n\r\n").await;
    assert!(client.record().await.starts_with(b"HTTP/1.1 200 OK\r\n"));
    client.ended().await;
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_too_many_connections_are_closed() {
    let limits = "internal.l7r.timeout.handshake = 0.3\ninternal.l7r.timeout.request = 0.3\n\
                  internal.l7r.connections.per_address = 3\n";
    let site = Installation::new("slow", limits).await;
    let router = site.router().await;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(router.address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
    let mut slow = site.client(&router).await;
    for byte in b"GET /qvd/ping HTTP/1.1\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
        if slow.stream.write_all(&[*byte]).await.is_err() || slow.stream.flush().await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    slow.ended().await;
    assert!(begun.elapsed() < Duration::from_secs(5));

    let mut crowd = Vec::new();
    for _ in 0..3 {
        crowd.push(TcpStream::connect(router.address).await.unwrap());
    }
    let mut one_more = TcpStream::connect(router.address).await.unwrap();
    assert_eq!(one_more.read(&mut [0; 8]).await.unwrap_or(0), 0);
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_configuration_change_without_restart() {
    let site = Installation::new("reload", "").await;
    let router = site.router().await;
    let fresh = qvd_relay::certificate::self_signed(&["localhost".to_owned()]).unwrap();
    let mut old = site.client(&router).await;
    site.execute(&format!(
        "BEGIN; UPDATE ssl_configs SET value = '{}' WHERE key = 'l7r.ssl.cert';
         UPDATE ssl_configs SET value = '{}' WHERE key = 'l7r.ssl.key';
         INSERT INTO configs VALUES (-1, 'l7r.auth.plugin.default.tenant', 'acme'); COMMIT",
        fresh.cert, fresh.key
    ))
    .await;
    let deadline = Instant::now() + crate::client::LIMIT;
    loop {
        let shown = shown_fingerprint(router.address).await;
        if shown == fresh.fingerprint {
            break;
        }
        assert!(Instant::now() < deadline, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let list = Get::new("/qvd/list_of_vm").credentials(&basic("joe", "secret"));
    assert_eq!(old.ask(list).await.0, 200, "an open connection goes on, with the new default tenant");
    router.end().await;
}

/// The certificate that the router shows now, whoever signed it.
async fn shown_fingerprint(router: std::net::SocketAddr) -> String {
    let output = tokio::process::Command::new("/usr/bin/openssl")
        .args(["s_client", "-connect", &router.to_string()])
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let shown = CertificateDer::from_pem_slice(&output.stdout).unwrap();
    qvd_relay::certificate::fingerprint(&shown)
}
