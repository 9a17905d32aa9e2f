//! Coming back with a ticket, and everything that must not.

use std::time::{Duration, Instant};

use qvd_db::commands;
use qvd_db::events::Actor;
use qvd_model::VmId;
use qvd_wire::http::{Answer, FAILURE, Get, SESSION, SLAVE_KEY, TICKET, TICKET_WANTED};

use crate::client::{Client, basic, bearer, connect_to};
use crate::installation::{Installation, Running};

const ROWS: &str = "SELECT count(*) FROM user_tokens";

/// What a client that can come back asks.
fn asking(vm: i32, credentials: &qvd_wire::http::Credentials) -> Get {
    connect_to(vm, credentials).field(TICKET, TICKET_WANTED)
}

struct Back {
    client: Client,
    ticket: String,
}

/// Connects, and gets a ticket.
async fn connect(site: &Installation, router: &Running, request: Get) -> Back {
    let mut client = site.client(router).await;
    client.send(&request.encode()).await;
    loop {
        match client.answer().await.expect("an answer") {
            Answer::Interim(_) => {}
            Answer::Switched(head) => {
                let ticket = head.headers.text(TICKET).expect("a ticket");
                client.echo("here").await;
                return Back { client, ticket };
            }
            Answer::Final(head, body) => panic!("{} {}", head.status, String::from_utf8_lossy(&body)),
        }
    }
}

async fn by_password(site: &Installation, router: &Running) -> Back {
    connect(site, router, asking(1, &basic("joe@acme", "secret"))).await
}

async fn by_ticket(site: &Installation, router: &Running, ticket: &str) -> Back {
    connect(site, router, asking(1, &bearer(ticket))).await
}

/// A ticket is refused as a wrong password is, to the byte.
async fn refused(site: &Installation, router: &Running, request: Get) {
    let mut client = site.client(router).await;
    client.send(&request.encode()).await;
    let Some(Answer::Final(head, body)) = client.answer().await else { panic!("no refusal") };
    assert_eq!(head.status, 401, "{}", String::from_utf8_lossy(&body));
    assert_eq!(head.headers.text(FAILURE).unwrap(), "login_rejected");
    assert_eq!(head.headers.text(TICKET), None);
    assert_eq!(body, b"Login rejected\r\n");
}

async fn last_rejection(site: &Installation) -> String {
    site.value("SELECT text FROM events WHERE code = 'login_rejected' ORDER BY id DESC LIMIT 1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_comes_back_once_with_each_ticket() {
    let site = Installation::new("tickets", "").await;
    let (first, second) = (site.router().await, site.router().await);
    let mut back = by_password(&site, &first).await;
    let stored = "SELECT string_agg(token || ' ' || user_id || ' ' || vm_id || ' ' || \
                  (expiration - extract(epoch FROM now())::integer BETWEEN 43100 AND 43200), ',') FROM user_tokens";
    let mut spent = Vec::new();
    for router in [&first, &second, &second] {
        let digest = qvd_auth::token_digest(back.ticket.as_bytes());
        assert_eq!(site.value(stored).await, format!("{digest} 11 1 true"));
        // Its own session still has the VM; it takes that over, at whatever router.
        let next = by_ticket(&site, router, &back.ticket).await;
        back.client.ended().await;
        spent.push(back.ticket);
        back = next;
    }
    let (list, vm) = (Get::new("/qvd/list_of_vm"), asking(1, &bearer(&back.ticket)));
    for ticket in &spent {
        refused(&site, &first, asking(1, &bearer(ticket))).await;
    }
    refused(&site, &second, asking(1, &bearer(&qvd_auth::token_digest(back.ticket.as_bytes())))).await;
    refused(&site, &second, list.credentials(&bearer(&back.ticket))).await;
    // None of that has spent it.
    drop(connect(&site, &first, vm).await);
    let story =
        "SELECT string_agg(text, '; ' ORDER BY id) FROM events WHERE kind = 'user' AND object_id = 11";
    let story = site.value(story).await;
    assert_eq!(story.matches("came back with a ticket").count(), 4, "{story}");
    first.end().await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_ask_see_what_they_always_saw() {
    let site = Installation::new("ticketless", "").await;
    let router = site.router().await;
    let joe = basic("joe@acme", "secret");
    let mut old = site.client(&router).await;
    old.send(&connect_to(1, &joe).encode()).await;
    let head = String::from_utf8(old.record().await).unwrap();
    let names: Vec<_> = head.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    assert_eq!(names, [SLAVE_KEY, SESSION]);
    assert_eq!(site.value(ROWS).await, "0");
    // Whoever was there before does not come back to a desktop that somebody else has now.
    let Back { client, ticket } = by_password(&site, &router).await;
    let mut again = site.client(&router).await;
    again.connect(1, &joe).await;
    assert_eq!(site.value(ROWS).await, "0");
    refused(&site, &router, asking(1, &bearer(&ticket))).await;
    drop((client, old, again));
    // A ticket that does not ask for another one is the last.
    let Back { ticket, client: _held } = by_password(&site, &router).await;
    let mut last = site.client(&router).await;
    assert_eq!(last.connect(1, &bearer(&ticket)).await.headers.text(TICKET), None);
    assert_eq!(site.value(ROWS).await, "0");
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_with_the_same_ticket_one_comes_in() {
    let site = std::sync::Arc::new(Installation::new("ticket_race", "").await);
    let router = site.router().await;
    let Back { ticket, client } = by_password(&site, &router).await;
    drop(client);
    // The client has left in order, and so has its ticket; this one is as good as lost.
    site.session_becomes("disconnected").await;
    site.becomes(ROWS, "0").await;
    refused(&site, &router, asking(1, &bearer(&ticket))).await;
    let Back { ticket, client: _held } = by_password(&site, &router).await;
    let request = asking(1, &bearer(&ticket)).encode();
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = site.client(&router).await;
        let request = request.clone();
        racing.spawn(async move {
            client.send(&request).await;
            loop {
                match client.answer().await {
                    Some(Answer::Interim(_)) => {}
                    Some(Answer::Switched(head)) => return (head.status, Some(client)),
                    Some(Answer::Final(head, _)) => return (head.status, None),
                    None => panic!("no answer"),
                }
            }
        });
    }
    let outcome = racing.join_all().await;
    let mut statuses: Vec<_> = outcome.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [101, 401, 401, 401, 401, 401, 401, 401]);
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_opens_its_own_vm_only() {
    let site = Installation::new("ticket_vm", "").await;
    let router = site.router().await;
    let Back { ticket, client: _held } = by_password(&site, &router).await;
    // Another one of the user, one of another user, one that is not there, and none.
    for vm in [2, 4, 99] {
        refused(&site, &router, asking(vm, &bearer(&ticket))).await;
    }
    assert_eq!(last_rejection(&site).await, "a ticket was refused: it is for another virtual machine");
    let none = Get::new("/qvd/connect_to_vm").credentials(&bearer(&ticket)).field(TICKET, TICKET_WANTED);
    refused(&site, &router, none.upgrade("QVD/1.0")).await;
    // A VM that was given to somebody else is no longer the user's, whatever the ticket says.
    site.execute("UPDATE vms SET user_id = 12 WHERE id = 1").await;
    let mut client = site.client(&router).await;
    assert_eq!(client.ask(asking(1, &bearer(&ticket))).await.0, 404);
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_the_right_to_come_back_ends_the_ticket() {
    let site = Installation::new("ticket_ends", "").await;
    let router = site.router().await;
    // The first login replaces the old hash.
    drop(by_password(&site, &router).await);
    site.session_becomes("disconnected").await;
    let ends = [
        ("UPDATE users SET blocked = true WHERE id = 11", "UPDATE users SET blocked = false"),
        ("UPDATE tenants SET blocked = true WHERE id = 7", "UPDATE tenants SET blocked = false"),
        (
            "UPDATE users SET password = reverse(password) WHERE id = 11",
            "UPDATE users SET password = reverse(password)",
        ),
        (
            "UPDATE vm_runtimes SET vm_state = 'stopping' WHERE vm_id = 1",
            "UPDATE vm_runtimes SET vm_state = 'running'",
        ),
        (
            "UPDATE vm_runtimes SET vm_state = 'zombie' WHERE vm_id = 1",
            "UPDATE vm_runtimes SET vm_state = 'running'",
        ),
    ];
    for (end, undo) in ends {
        let Back { ticket, client: held } = by_password(&site, &router).await;
        assert_eq!(site.value(ROWS).await, "1");
        site.execute(end).await;
        assert_eq!(site.value(ROWS).await, "0", "{end}");
        site.execute(&format!("{undo} WHERE {}", end.split_once(" WHERE ").unwrap().1)).await;
        refused(&site, &router, asking(1, &bearer(&ticket))).await;
        drop(held);
        site.session_becomes("disconnected").await;
    }
    // An administrator ends the connection.
    let Back { ticket, mut client } = by_password(&site, &router).await;
    commands::disconnect(&site.database, &Actor::administrator("root"), VmId(1)).await.unwrap();
    client.ended().await;
    assert_eq!(site.value(ROWS).await, "0");
    refused(&site, &router, asking(1, &bearer(&ticket))).await;
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_that_are_there_are_not_enough() {
    let site = Installation::new("ticket_time", "").await;
    let router = site.router().await;
    let Back { ticket, client: _held } = by_password(&site, &router).await;
    let give = |expiration: &str| {
        format!("UPDATE user_tokens SET expiration = extract(epoch FROM now())::integer {expiration}")
    };
    site.execute(&give("- 1")).await;
    refused(&site, &router, asking(1, &bearer(&ticket))).await;
    assert_eq!(last_rejection(&site).await, "a ticket was refused: it has expired");
    site.execute(&give("+ 60")).await;
    // However the block came about, a row that outlived it opens nothing.
    let row = "UPDATE users SET blocked = true; INSERT INTO user_tokens SELECT * FROM kept; DROP TABLE kept";
    site.execute(&format!("CREATE TABLE kept AS SELECT * FROM user_tokens; {row}")).await;
    refused(&site, &router, asking(1, &bearer(&ticket))).await;
    assert_eq!(last_rejection(&site).await, "a ticket was refused: the user or the tenant is blocked");
    site.execute("CREATE TABLE kept AS SELECT * FROM user_tokens; UPDATE users SET blocked = false").await;
    site.execute("INSERT INTO user_tokens SELECT * FROM kept ON CONFLICT DO NOTHING").await;
    // Switched off, there are none, and none is good.
    site.execute("INSERT INTO configs VALUES (-1, 'l7r.ticket.lifetime', '0')").await;
    let mut head;
    let limit = Instant::now() + crate::client::LIMIT;
    loop {
        let mut client = site.client(&router).await;
        client.send(&asking(1, &basic("joe@acme", "secret")).encode()).await;
        head = client.answer().await;
        while let Some(Answer::Interim(_)) = head {
            head = client.answer().await;
        }
        let Some(Answer::Switched(head)) = &head else { panic!("{head:?}") };
        if head.headers.text(TICKET).is_none() {
            break;
        }
        assert!(Instant::now() < limit, "still given");
    }
    assert_eq!(site.value(ROWS).await, "0");
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connect_gives_a_ticket_for_the_next_one() {
    let site = Installation::new("ticket_again", "").await;
    let router = site.router().await;
    let Back { ticket, client: _held } = by_password(&site, &router).await;
    site.execute("UPDATE vm_runtimes SET blocked = true WHERE vm_id = 1").await;
    let mut client = site.client(&router).await;
    client.send(&asking(1, &bearer(&ticket)).encode()).await;
    let Some(Answer::Final(head, _)) = client.answer().await else { panic!("no refusal") };
    assert_eq!((head.status, head.headers.text(FAILURE).as_deref()), (403, Some("vm_blocked")));
    let next = head.headers.text(TICKET).unwrap();
    assert_ne!(next, ticket);
    site.execute("UPDATE vm_runtimes SET blocked = false WHERE vm_id = 1").await;
    refused(&site, &router, asking(1, &bearer(&ticket))).await;
    by_ticket(&site, &router, &next).await;
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replays_are_slowed_down_and_others_are_not() {
    let site = Installation::new("ticket_guess", "").await;
    let router = site.router().await;
    let Back { ticket, client: _held } = by_password(&site, &router).await;
    // Many people may share an address, so it takes some.
    let guess = asking(1, &bearer(&qvd_auth::fresh_ticket()));
    for _ in 0..21 {
        refused(&site, &router, guess.clone()).await;
    }
    let begun = Instant::now();
    refused(&site, &router, guess).await;
    assert!(begun.elapsed() >= Duration::from_millis(450), "the next guess took {:?}", begun.elapsed());
    assert_eq!(site.value("SELECT failures FROM login_failures").await, "22");
    let begun = Instant::now();
    by_ticket(&site, &router, &ticket).await;
    println!("meanwhile a good one took {:?}", begun.elapsed());
    router.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_outlives_its_router() {
    let site = Installation::new("ticket_router", "").await;
    let (first, second) = (site.router().await, site.router().await);
    let Back { ticket, mut client } = by_password(&site, &first).await;
    // A router that stops tells its clients to come back.
    first.end().await;
    client.ended().await;
    assert_eq!(site.last_event(1).await, "drain");
    // One that dies says nothing, and leaves its row.
    site.execute(
        "UPDATE vm_runtimes SET user_state = 'connected', l7r_host_id = 1, l7r_pid = 5, l7r_instance = 'dead', \
         session_id = 9 WHERE vm_id = 1",
    )
    .await;
    by_ticket(&site, &second, &ticket).await;
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_remembers_what_plugins_said() {
    let site = Installation::new("ticket_plugins", "").await;
    let router = site.router().await;
    let once = qvd_auth::fresh_token();
    site.execute(&format!(
        "INSERT INTO user_auth_parameters (id, parameters) VALUES (1, '{{\"qvd.vm.user.home\": \"/home/j\"}}');
         INSERT INTO user_tokens (token, user_id, vm_id, expiration, auth_params_id, multi_use) VALUES
             ('{}', 11, 1, extract(epoch FROM now())::integer + 300, 1, false)",
        qvd_auth::token_digest(once.as_bytes())
    ))
    .await;
    let mut back = connect(&site, &router, asking(1, &bearer(&once))).await;
    for _ in 0..2 {
        back = by_ticket(&site, &router, &back.ticket).await;
        assert_eq!(site.desktop.parameter("qvd.vm.user.home").unwrap(), "/home/j");
    }
    refused(&site, &router, asking(1, &bearer(&once))).await;
    router.end().await;
}
