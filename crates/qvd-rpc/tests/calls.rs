//! Calls against listeners that answer what agents answer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::net::Ipv4Addr;
use std::time::Duration;

use qvd_model::{Failure, FailureCode, SessionState};
use qvd_rpc::{Agent, AgentError};
use qvd_wire::http::{self, RequestParser, Status};
use qvd_wire::rpc::{LIMITS, Reply, Request};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

fn bytes(reply: &http::Reply) -> Vec<u8> {
    [reply.head().as_slice(), reply.body()].concat()
}

const LIMIT: Duration = Duration::from_secs(5);

/// An agent that gives one answer, and the call it got.
async fn agent(answer: Vec<u8>) -> (Agent, JoinHandle<Request>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut parser = RequestParser::new(LIMITS);
        loop {
            let mut input = Vec::new();
            stream.read_buf(&mut input).await.unwrap();
            parser.feed(&input);
            if let Some(request) = parser.request().unwrap() {
                stream.write_all(&answer).await.unwrap();
                return request.into();
            }
        }
    });
    (Agent::new(Ipv4Addr::LOCALHOST, port, Some(SecretString::from("5ec"))), served)
}

#[tokio::test]
async fn a_start_carries_its_parameters_and_the_secret() {
    let (agent, served) = agent(bytes(&Reply::word("starting").to_http())).await;
    agent.x_start([("qvd.vm.user.name", "joe"), ("qvd.client.os", "linux")], LIMIT).await.unwrap();
    let request = served.await.unwrap();
    assert_eq!(request.method.as_deref(), Some("x_start"));
    assert_eq!(request.secret.unwrap().as_str(), "5ec");
    assert_eq!(request.arguments.len(), 2);
    assert!(!format!("{agent:?}").contains("5ec"));
}

#[tokio::test]
async fn states_are_words_of_the_list() {
    let (known, _) = agent(bytes(&Reply::word("listening").to_http())).await;
    assert_eq!(known.x_state(LIMIT).await.unwrap(), SessionState::Listening);
    let (unknown, _) = agent(bytes(&Reply::word("dancing").to_http())).await;
    assert!(matches!(unknown.x_state(LIMIT).await, Err(AgentError::State { .. })));
}

#[tokio::test]
async fn only_the_times_that_are_set_are_sent() {
    let (agent, served) = agent(bytes(&Reply::DONE.to_http())).await;
    agent.expire(Some("2026-12-01 10:00:00"), None, LIMIT).await.unwrap();
    let expected = [("vm.expiration.soft".to_owned(), "2026-12-01 10:00:00".to_owned())];
    assert_eq!(served.await.unwrap().arguments, expected);
}

#[tokio::test]
async fn errors_tell_apart_what_happened() {
    let failure = Failure::new(FailureCode::XServerMissing, "/usr/bin/nxagent is not in the image");
    let (missing, _) = agent(bytes(&Reply::failure(&failure).to_http())).await;
    let error = missing.x_start([("a", "b")], LIMIT).await.unwrap_err();
    assert_eq!(error.failure(), failure);

    let (locked, _) = agent(bytes(&http::Reply::text(Status::Unauthorized, "wrong secret"))).await;
    let error = locked.ping(LIMIT).await.unwrap_err();
    assert!(matches!(error, AgentError::Status { status: 401, .. }), "{error}");

    let (broken, _) = agent(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n1".to_vec()).await;
    assert!(matches!(broken.ping(LIMIT).await, Err(AgentError::Lost { .. })));
}

#[tokio::test]
async fn a_closed_port_is_refused_and_silence_has_an_end() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let agent = Agent::new(Ipv4Addr::LOCALHOST, port, None);
    let error = agent.ping(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, AgentError::Timeout { .. }), "{error}");
    assert_eq!(error.failure().code, FailureCode::AgentSilent);
    drop(listener);
    let error = agent.ping(LIMIT).await.unwrap_err();
    assert!(matches!(error, AgentError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn packets_that_are_lost_are_given_up_before_the_call_is() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    // The kernel drops what comes when nobody accepts and there is no room.
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let _waits = tokio::net::TcpStream::connect(address).await.unwrap();
    let agent = Agent::new(Ipv4Addr::LOCALHOST, address.port(), None).within(Duration::from_millis(20));
    let error = agent.ping(Duration::from_secs(3600)).await.unwrap_err();
    let AgentError::Unreachable { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::TimedOut);
    assert!(error.is_silence());
}
