//! The way to a desktop, and what ends it.

use std::time::{Duration, Instant};

use qvd_db::commands;
use qvd_db::events::Actor;
use qvd_model::VmId;
use qvd_model::event::EndReason;
use qvd_runtime::postgres::TemporaryCluster;
use qvd_wire::http::{Answer, Get, SESSION, SESSION_END, SLAVE_KEY, SlaveKey, VM_INFO, decode_end};

use crate::client::{basic, bearer, connect_to};
use crate::installation::Installation;

fn end_of(session: &str) -> Get {
    Get::new(SESSION_END).query("id", session)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reaches_its_desktop_and_leaves() {
    let site = Installation::new("reach", "").await;
    let router = site.router().await;
    let joe = basic("joe@acme", "secret");
    let mut client = site.client(&router).await;
    let begun = Instant::now();
    client.send(&connect_to(1, &joe).encode()).await;
    // One record holds the whole head of the 101, and nothing else (rules R8 and R9).
    let record = String::from_utf8(client.record().await).unwrap();
    assert!(record.starts_with("HTTP/1.1 101 Switching Protocols\r\nX-QVD-Slave-Key: "), "{record}");
    assert!(record.ends_with("\r\n\r\n"));
    println!("from request to 101: {:?}", begun.elapsed());
    client.echo("NXPROXY-3.5.0-3.5.99 ").await;
    site.session_becomes("connected").await;
    let row = "SELECT l7r_host_id || ' ' || real_user_id || ' ' || (l7r_pid > 0) || ' ' || (session_id > 0) \
               FROM vm_runtimes WHERE vm_id = 1";
    assert_eq!(site.value(row).await, "1 11 true true");
    assert_eq!(site.desktop.parameter("qvd.client.link").unwrap(), "lan");
    assert_eq!(site.desktop.parameter("qvd.vm.user.name").unwrap(), "joe");
    assert_eq!(site.desktop.parameter("host_address").unwrap(), "10.3.0.1");
    assert!(SlaveKey::new(&site.desktop.parameter("qvd.slave.key").unwrap()).is_some());

    drop(client);
    site.session_becomes("disconnected").await;
    assert_eq!(site.last_event(1).await, "left");
    assert_eq!(site.value("SELECT l7r_instance FROM vm_runtimes WHERE vm_id = 1").await, "");
    router.end().await;
    assert_eq!(
        site.value("SELECT nx_attempts || ' ' || nx_ok || ' ' || short_sessions FROM host_counters").await,
        "1 1 1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_client_takes_the_session_over() {
    let site = Installation::new("takeover", "").await;
    // Two routers of one host: takeover works across processes.
    let (a, b) = (site.router().await, site.router().await);
    let joe = basic("joe@acme", "secret");
    let mut first = site.client(&a).await;
    let head = first.connect(1, &joe).await;
    let (first_key, number) = (head.headers.text(SLAVE_KEY).unwrap(), head.headers.text(SESSION).unwrap());
    first.echo("first").await;
    let begun = Instant::now();
    let mut second = site.client(&b).await;
    let second_key = second.connect(1, &joe).await.headers.text(SLAVE_KEY).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_ne!(first_key, second_key);
    first.ended().await;
    // The displaced client may ask any router, without a login, as often as it likes.
    for router in [&a, &b] {
        let (status, _, body) = site.client(router).await.ask(end_of(&number)).await;
        assert_eq!((status, decode_end(body.as_bytes()).unwrap().reason), (200, EndReason::TakenOver));
    }
    second.echo("second").await;
    assert_eq!(site.desktop.starts(), 2);
    let ends = "SELECT string_agg(code, ' ' ORDER BY id) FROM events WHERE kind = 'vm' AND code <> 'abort'";
    assert_eq!(site.value(ends).await, "connected takeover taken_over connected");
    site.session_becomes("connected").await;
    a.end().await;
    b.end().await;
    assert_eq!(site.last_event(1).await, "drain");
    site.session_becomes("disconnected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_dead_router_is_no_obstacle() {
    let site = Installation::new("dead", "").await;
    let router = site.router().await;
    site.execute(
        "UPDATE vm_runtimes SET user_state = 'connected', l7r_host_id = 1, l7r_pid = 5, l7r_instance = 'dead', \
         session_id = 9 WHERE vm_id = 1",
    )
    .await;
    let begun = Instant::now();
    let mut client = site.client(&router).await;
    client.connect(1, &basic("joe@acme", "secret")).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    client.echo("alive").await;
    let (_, _, body) = site.client(&router).await.ask(end_of("9")).await;
    assert_eq!(decode_end(body.as_bytes()).unwrap().reason, EndReason::LinkLost, "{body}");
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_router_that_does_not_react_is_taken_from_it() {
    let site = Installation::new("deaf", "").await;
    let router = site.router().await;
    // Of another host, whose lock files are not seen here.
    site.execute(
        "INSERT INTO hosts (id, name, address, frontend, backend) VALUES (7, 'far', '10.3.0.7', true, true)",
    )
    .await;
    site.execute(
        "UPDATE vm_runtimes SET user_state = 'connected', l7r_host_id = 7, l7r_pid = 5, l7r_instance = 'far', \
         session_id = 9 WHERE vm_id = 1",
    )
    .await;
    let begun = Instant::now();
    let mut client = site.client(&router).await;
    client.connect(1, &basic("joe@acme", "secret")).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    client.echo("taken").await;
    let (_, _, body) = site.client(&router).await.ask(end_of("9")).await;
    assert_eq!(decode_end(body.as_bytes()).unwrap().reason, EndReason::TakenOver, "{body}");
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_ends_a_connection_at_once() {
    let site = Installation::new("aborted", "").await;
    let router = site.router().await;
    let mut client = site.client(&router).await;
    client.connect(1, &basic("joe@acme", "secret")).await;
    client.echo("here").await;
    let begun = Instant::now();
    commands::disconnect(&site.database, &Actor::administrator("root"), VmId(1)).await.unwrap();
    client.ended().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    site.session_becomes("disconnected").await;
    assert_eq!(site.last_event(1).await, "admin");

    // The end of the VM is the end of the connection, even if its network just goes silent.
    let mut client = site.client(&router).await;
    client.connect(1, &basic("joe@acme", "secret")).await;
    site.session_becomes("connected").await;
    site.execute("UPDATE vm_runtimes SET vm_state = 'stopped' WHERE vm_id = 1").await;
    client.ended().await;
    site.session_becomes("disconnected").await;
    assert_eq!(site.last_event(1).await, "vm_stopped");
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_why_before_the_end_is_written_waits_for_it() {
    let site = Installation::new("asking", "").await;
    let router = site.router().await;
    let mut client = site.client(&router).await;
    let head = client.connect(1, &basic("joe@acme", "secret")).await;
    let number = head.headers.text(SESSION).unwrap();
    site.session_becomes("connected").await;
    let mut asking = site.client(&router).await;
    asking.send(&end_of(&number).encode()).await;
    commands::disconnect(&site.database, &Actor::administrator("root"), VmId(1)).await.unwrap();
    let Some(Answer::Final(head, body)) = asking.answer().await else { panic!("no answer") };
    assert_eq!((head.status, decode_end(&body).unwrap().reason), (200, EndReason::Admin));
    // Numbers that nobody was given, and what is no number, have no end.
    for other in ["4711", "", "-1 OR true"] {
        let (status, _, _) = site.client(&router).await.ask(end_of(other)).await;
        assert_eq!(status, 404, "{other}");
    }
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_is_replaced_keeps_its_sessions() {
    let site = Installation::new("replaced", "internal.l7r.timeout.upgrade = 60\n").await;
    let (old, new) = (site.router().await, site.router().await);
    let joe = basic("joe@acme", "secret");
    let mut first = site.client(&old).await;
    first.connect(1, &joe).await;
    first.echo("before").await;
    old.orders.retire.cancel();
    // It takes nobody any more, but what it has goes on, in its own name.
    while tokio::net::TcpStream::connect(old.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    first.echo("after").await;
    site.session_becomes("connected").await;
    let mut second = site.client(&new).await;
    second.connect(1, &joe).await;
    first.ended().await;
    second.echo("taken over").await;
    // With its last session it ends by itself.
    tokio::time::timeout(Duration::from_secs(5), old.task).await.unwrap().unwrap().unwrap();
    new.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_router_ends_when_its_time_is_over() {
    let site = Installation::new("retired", "internal.l7r.timeout.upgrade = 0.2\n").await;
    let router = site.router().await;
    let mut client = site.client(&router).await;
    client.connect(1, &basic("joe@acme", "secret")).await;
    client.echo("here").await;
    router.orders.retire.cancel();
    client.ended().await;
    router.task.await.unwrap().unwrap();
    assert_eq!(site.last_event(1).await, "drain");
    site.session_becomes("disconnected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_vm_is_started_and_awaited() {
    let site = Installation::new("started", "").await;
    let router = site.router().await;
    let mut client = site.client(&router).await;
    client.send(&connect_to(2, &basic("joe@acme", "secret")).encode()).await;
    let Some(Answer::Interim(head)) = client.answer().await else { panic!("no progress") };
    assert_eq!(head.headers.text(VM_INFO).unwrap(), "Starting virtual machine");
    site.becomes("SELECT vm_cmd || ' ' || host_id FROM vm_runtimes WHERE vm_id = 2", "start 1").await;
    site.execute("UPDATE vm_runtimes SET vm_cmd = NULL, vm_state = 'starting' WHERE vm_id = 2").await;
    site.execute(&format!(
        "UPDATE vm_runtimes SET vm_state = 'running', vm_address = '127.0.0.1', vm_vma_port = {}, vm_x_port = {}, \
         vma_secret = '{}' WHERE vm_id = 2",
        site.desktop.agent.port(),
        site.desktop.nx.port(),
        crate::desktop::SECRET
    ))
    .await;
    let begun = Instant::now();
    assert!(matches!(client.answer().await, Some(Answer::Switched(_))));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    client.echo("up").await;
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_is_told_with_its_reason() {
    let site = Installation::new("failing", "").await;
    let router = site.router().await;
    let joe = basic("joe@acme", "secret");
    let mut client = site.client(&router).await;
    client.send(&connect_to(2, &joe).encode()).await;
    site.becomes("SELECT vm_cmd FROM vm_runtimes WHERE vm_id = 2", "start").await;
    site.execute("UPDATE vm_runtimes SET vm_cmd = NULL, vm_state = 'starting' WHERE vm_id = 2").await;
    site.execute(
        "UPDATE vm_runtimes SET vm_state = 'stopped', host_id = NULL, failure_code = 'no_image', failure_text = \
         'OSF 1 has no image with tag `default`. Give one image of the OSF that tag, or change the VM''s tag.' \
         WHERE vm_id = 2",
    )
    .await;
    // Head and body are two records, then the connection ends (rule R10).
    assert!(client.record().await.starts_with(b"HTTP/1.1 102 Processing\r\n"));
    let head = String::from_utf8(client.record().await).unwrap();
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\nX-QVD-Failure: no_image\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"));
    assert_eq!(
        String::from_utf8(client.record().await).unwrap(),
        "The requested virtual machine is not available: OSF 1 has no image with tag `default`. Give one image of \
         the OSF that tag, or change the VM's tag (no_image), retry later."
    );
    client.ended().await;
    site.becomes("SELECT user_state FROM vm_runtimes WHERE vm_id = 2", "disconnected").await;

    site.execute("UPDATE host_runtimes SET ok_ts = now() AT TIME ZONE 'UTC' - interval '1 hour'").await;
    let (status, code, body) = site.client(&router).await.ask(connect_to(2, &joe)).await;
    assert_eq!((status, code.as_str()), (503, "no_host"), "{body}");
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_still_waits_is_displaced_too() {
    let site = Installation::new("displaced", "").await;
    let router = site.router().await;
    let joe = basic("joe@acme", "secret");
    let mut first = site.client(&router).await;
    first.send(&connect_to(2, &joe).encode()).await;
    site.becomes("SELECT vm_cmd FROM vm_runtimes WHERE vm_id = 2", "start").await;
    let session = site.value("SELECT session_id FROM vm_runtimes WHERE vm_id = 2").await;
    let mut second = site.client(&router).await;
    second.send(&connect_to(2, &joe).encode()).await;
    let answer = loop {
        match first.answer().await.expect("an answer") {
            Answer::Interim(_) => {}
            other => break other,
        }
    };
    let Answer::Final(head, body) = answer else { panic!("{answer:?}") };
    assert_eq!(head.status, 503);
    assert!(String::from_utf8(body).unwrap().contains("another client took the session of VM 2"));
    let taken = format!("SELECT session_id <> {session} FROM vm_runtimes WHERE vm_id = 2");
    site.becomes(&taken, "true").await;
    // The start that the first one ordered goes on for the second.
    assert_eq!(site.value("SELECT vm_cmd FROM vm_runtimes WHERE vm_id = 2").await, "start");
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_it_waits_lets_go() {
    let site = Installation::new("leaving", "").await;
    let router = site.router().await;
    let mut client = site.client(&router).await;
    client.send(&connect_to(2, &basic("joe@acme", "secret")).encode()).await;
    site.becomes("SELECT user_state FROM vm_runtimes WHERE vm_id = 2", "connecting").await;
    drop(client);
    site.becomes("SELECT user_state FROM vm_runtimes WHERE vm_id = 2", "disconnected").await;
    assert_eq!(site.last_event(2).await, "left");
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_outlive_the_database() {
    let cluster = std::sync::Arc::new(TemporaryCluster::start().unwrap());
    let site = Installation::on(cluster, "away", "").await;
    let router = site.router().await;
    let joe = basic("joe@acme", "secret");
    let mut client = site.client(&router).await;
    client.connect(1, &joe).await;
    client.echo("before").await;
    site.cluster.stop().unwrap();
    site.until(&router, 503).await;
    client.echo("meanwhile").await;
    let list = Get::new("/qvd/list_of_vm").credentials(&joe);
    let (status, code, body) = site.client(&router).await.ask(list).await;
    assert_eq!((status, code.as_str()), (503, "database_away"), "{body}");
    drop(client);
    site.cluster.start().unwrap();
    site.until(&router, 200).await;
    site.session_becomes("disconnected").await;
    let mut client = site.client(&router).await;
    client.connect(1, &joe).await;
    client.echo("after").await;
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_open_their_vm_once() {
    let site = Installation::new("tokens", "").await;
    let router = site.router().await;
    let (once, stored) = (qvd_auth::fresh_token(), qvd_auth::fresh_token());
    site.execute(&format!(
        "INSERT INTO user_auth_parameters (id, parameters) VALUES (1, '{{\"qvd.vm.user.home\": \"/home/j\"}}');
         INSERT INTO user_tokens (token, user_id, vm_id, expiration, auth_params_id, multi_use) VALUES
             ('{}', 11, 1, extract(epoch FROM now())::integer + 300, 1, false),
             ('{}', 11, NULL, extract(epoch FROM now())::integer - 1, NULL, true)",
        qvd_auth::token_digest(once.as_bytes()),
        *stored
    ))
    .await;
    let list = |token: &str| Get::new("/qvd/list_of_vm").credentials(&bearer(token));
    // A list on one connection and a connect on another (rule R15).
    let (status, _, body) = site.client(&router).await.ask(list(&once)).await;
    assert_eq!((status, qvd_wire::http::decode_vms(body.as_bytes()).unwrap().len()), (200, 1));
    assert_eq!(site.client(&router).await.ask(connect_to(2, &bearer(&once))).await.0, 403);
    let mut client = site.client(&router).await;
    client.connect(1, &bearer(&once)).await;
    client.echo("in").await;
    assert_eq!(site.desktop.parameter("qvd.vm.user.home").unwrap(), "/home/j");
    for spent in [once.as_str(), stored.as_str(), &qvd_auth::token_digest(once.as_bytes())] {
        assert_eq!(site.client(&router).await.ask(list(spent)).await.0, 401);
    }
    router.end().await;
}
