//! How a client comes back to a desktop whose connection it lost, and when it does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod upstream;

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use upstream::{Screen, Step, Upstream, User, answer, send};

const VMS: &str = "[{\"id\":12,\"state\":\"running\",\"name\":\"a\",\"blocked\":0,\"is_application\":0}]";

/// Shows a desktop whose link breaks at once, with this ticket to come back with.
fn shows(ticket: &str) -> Vec<Step> {
    let ticket = if ticket.is_empty() { String::new() } else { format!("X-QVD-Ticket: {ticket}\r\n") };
    vec![
        send(&format!("HTTP/1.1 101 Switching Protocols\r\nX-QVD-Session: 4711\r\n{ticket}\r\n")),
        Step::Greeting,
    ]
}

fn refuses(status: &str, ticket: &str) -> Vec<Step> {
    let field = if ticket.is_empty() { String::new() } else { format!("X-QVD-Ticket: {ticket}\r\n") };
    vec![send(&format!("HTTP/1.1 {status}\r\n{field}Content-Length: 3\r\n\r\n")), send("no\n")]
}

/// A router that answers each wish to connect with the next of these.
async fn router(answers: Vec<Vec<Step>>, reason: &'static str) -> Upstream {
    let asked = AtomicUsize::new(0);
    Upstream::start(move |path| match path {
        "/qvd/list_of_vm" => answer("200 OK", VMS),
        "/qvd/session_end" => answer("200 OK", &format!("{{\"reason\":\"{reason}\",\"text\":\"\"}}\n")),
        _ => answers.get(asked.fetch_add(1, Ordering::Relaxed)).cloned().unwrap_or(vec![Step::Close]),
    })
    .await
}

/// With what the client logged in at each of its wishes to connect.
fn logins(upstream: &Upstream) -> Vec<String> {
    let asks = upstream.heard().into_iter().filter(|line| line.starts_with("/qvd/connect_to_vm"));
    asks.map(|line| {
        let mut words = line.rsplit(' ');
        let secret = base64::engine::general_purpose::STANDARD.decode(words.next().unwrap()).unwrap();
        format!("{} {}", words.next().unwrap(), String::from_utf8(secret).unwrap())
    })
    .collect()
}

const LOGIN: &str = "Basic joe:t0p secret";

#[tokio::test]
async fn each_loss_costs_a_ticket_and_the_last_refusal_ends_it() {
    let upstream = router(
        vec![
            shows("ticket-1"),
            shows("ticket-2"),
            // A router that cannot yet says so, and renews what it took.
            refuses("503 Service Unavailable", "ticket-3"),
            shows("ticket-4"),
            refuses("401 Unauthorized", ""),
        ],
        "taken_over",
    )
    .await;
    let ended = Screen::new().run(&User::new(), &upstream, "-n").await;
    ended.expect(11, &["trying to come back", "The connection is back", "taken_over"]);
    let tickets = ["1", "2", "3", "4"].map(|number| format!("Bearer ticket-{number}"));
    assert_eq!(logins(&upstream), [vec![LOGIN.to_owned()], tickets.to_vec()].concat());
    assert!(!ended.said.contains("ticket-"), "{}", ended.said);
}

#[tokio::test]
async fn only_a_ticket_whose_answer_was_lost_leads_to_the_password() {
    let upstream = router(
        vec![shows("ticket-1"), vec![Step::Close], refuses("401 Unauthorized", ""), shows("")],
        "link_lost",
    )
    .await;
    // What a router without tickets shows is not come back to.
    Screen::new().run(&User::new(), &upstream, "-n").await.expect(10, &["link_ended"]);
    assert_eq!(logins(&upstream), [LOGIN, "Bearer ticket-1", "Bearer ticket-1", LOGIN]);
}

#[tokio::test]
async fn who_does_not_want_to_come_back_does_not_ask() {
    let upstream = router(vec![shows("ticket-1")], "link_lost").await;
    let ended = Screen::new().run(&User::new(), &upstream, "-n --reconnect 0").await;
    ended.expect(10, &["link_ended"]);
    assert_eq!(logins(&upstream), [LOGIN]);
    let wished = upstream.heard().iter().any(|line| line.contains("wanted"));
    assert!(!wished, "{:?}", upstream.heard());
}

#[tokio::test]
async fn a_desktop_that_is_gone_is_not_waited_for() {
    let gone = refuses("404 Not Found", "ticket-2");
    let upstream = router(vec![shows("ticket-1"), gone], "link_lost").await;
    Screen::new().run(&User::new(), &upstream, "-n").await.expect(8, &["unknown_vm"]);
    assert_eq!(logins(&upstream), [LOGIN, "Bearer ticket-1"]);
}
