//! The peer in place of a desktop: the documented calls of an agent, and a port that echoes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use qvd_wire::http::RequestParser;
use qvd_wire::rpc::{LIMITS, Reply, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub const SECRET: &str = "0123456789abcdef";

#[derive(Default)]
struct Session {
    state: &'static str,
    parameters: Vec<(String, String)>,
    starts: u32,
}

pub struct Desktop {
    pub agent: SocketAddr,
    pub nx: SocketAddr,
    session: Arc<Mutex<Session>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Desktop {
    pub async fn new() -> Self {
        let agent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nx = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let session = Arc::new(Mutex::new(Session { state: "stopped", ..Session::default() }));
        let (agent_address, nx_address) = (agent.local_addr().unwrap(), nx.local_addr().unwrap());
        let (a, b) = (session.clone(), session.clone());
        let tasks = vec![
            tokio::spawn(async move {
                while let Ok((stream, _)) = agent.accept().await {
                    serve_call(stream, &a).await;
                }
            }),
            tokio::spawn(async move {
                while let Ok((stream, _)) = nx.accept().await {
                    b.lock().unwrap().state = "connected";
                    echo(stream).await;
                    b.lock().unwrap().state = "suspended";
                }
            }),
        ];
        Self { agent: agent_address, nx: nx_address, session, tasks }
    }

    pub fn parameter(&self, name: &str) -> Option<String> {
        let session = self.session.lock().unwrap();
        session.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
    }

    pub fn starts(&self) -> u32 {
        self.session.lock().unwrap().starts
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn echo(mut stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    let _ = tokio::io::copy(&mut reader, &mut writer).await;
}

async fn serve_call(mut stream: TcpStream, session: &Mutex<Session>) {
    let mut parser = RequestParser::new(LIMITS);
    let mut buffer = vec![0; 4096];
    let call = loop {
        match parser.request().unwrap() {
            Some(request) => break Request::from(request),
            None => match stream.read(&mut buffer).await {
                Ok(count) if count > 0 => parser.feed(&buffer[..count]),
                _ => return,
            },
        }
    };
    assert_eq!(call.secret.as_ref().map(|s| s.as_str()), Some(SECRET));
    let reply = {
        let mut session = session.lock().unwrap();
        match call.method.as_deref() {
            Some("x_start") => match session.state {
                "stopped" | "suspended" => {
                    session.state = "starting";
                    session.starts += 1;
                    session.parameters = call.arguments;
                    Reply::word("starting")
                }
                state => Reply::Error(format!("session is {state}")),
            },
            Some("x_state") => {
                let state = session.state;
                if state == "starting" {
                    session.state = "listening";
                }
                Reply::word(state)
            }
            other => panic!("unexpected call {other:?}"),
        }
    }
    .to_http();
    let _ = stream.write_all(&[reply.head(), reply.body().to_vec()].concat()).await;
}
