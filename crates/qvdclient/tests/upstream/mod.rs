//! A router that says what existing routers say, byte by byte and record by record, and a client that runs
//! against it.

#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "tests; each file uses a part")]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qvd_relay::{Duplex, ServerTls, TlsMaterial, certificate};
use qvd_wire::http::{Limits, RequestParser};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::process::Command;
use tokio::task::JoinHandle;
use x11rb::protocol::xproto::ConnectionExt;

pub const LIMIT: Duration = Duration::from_secs(30);

/// What the router does about a request.
#[derive(Clone)]
pub enum Step {
    /// Sends bytes as one TLS record.
    Send(Vec<u8>),
    /// Closes TCP without TLS's farewell, as existing routers do.
    Close,
    /// Waits for the first bytes of the link, remembers them, and closes.
    Greeting,
    /// Joins the link to a Unix socket until either ends.
    Bridge(PathBuf),
    /// Says nothing more.
    Hang,
}

pub fn send(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

/// A final answer in two records, as existing routers write it.
pub fn answer(head: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    vec![
        send(&format!("HTTP/1.1 {head}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n")),
        send(body),
    ]
}

pub struct Upstream {
    pub port: u16,
    pub certificate: certificate::SelfSigned,
    /// Request targets, then what came after the switch.
    pub heard: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
    connections: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
}

impl Upstream {
    pub async fn start(script: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let certificate = certificate::self_signed(&["localhost".into(), "127.0.0.1".into()]).unwrap();
        let material = TlsMaterial {
            cert: certificate.cert.clone(),
            key: certificate.key.clone(),
            client_ca: None,
            client_crl: None,
        };
        let tls = ServerTls::new(&material).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (remember, script) = (heard.clone(), Arc::new(script));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let running = connections.clone();
        let serving = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (tls, remember, script) = (tls.clone(), remember.clone(), script.clone());
                let connection = tokio::spawn(async move {
                    // Clients that do not like the certificate go away here.
                    if let Ok(stream) = tls.acceptor().accept(tcp).await {
                        serve(stream, &*script, &remember).await;
                    }
                });
                running.lock().unwrap().push(connection.abort_handle());
            }
        });
        Self { port, certificate, heard, serving, connections }
    }

    /// Drops every connection, as a router does that is told to end one.
    pub fn cut(&self) {
        self.connections.lock().unwrap().iter().for_each(tokio::task::AbortHandle::abort);
    }

    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    script: &(dyn Fn(&str) -> Vec<Step> + Send + Sync),
    heard: &Mutex<Vec<String>>,
) {
    let mut parser = RequestParser::new(Limits::default());
    let mut buffer = [0; 4096];
    loop {
        let Some(request) = parser.request().unwrap() else {
            match stream.read(&mut buffer).await {
                Ok(count) if count > 0 => parser.feed(&buffer[..count]),
                _ => return,
            }
            continue;
        };
        let query: Vec<String> =
            request.query.iter().map(|(name, value)| format!("{name}={}", value.unwrap_or("-"))).collect();
        let login = request.headers.text("Authorization").unwrap_or_default();
        heard.lock().unwrap().push(format!("{}?{} {login}", request.path, query.join("&")));
        for step in script(&request.path) {
            match step {
                Step::Send(bytes) => {
                    stream.write_all(&bytes).await.unwrap();
                    stream.flush().await.unwrap();
                }
                Step::Close => return,
                Step::Hang => std::future::pending().await,
                Step::Greeting => {
                    let count = stream.read(&mut buffer).await.unwrap();
                    heard.lock().unwrap().push(String::from_utf8_lossy(&buffer[..count]).into_owned());
                    return;
                }
                Step::Bridge(path) => {
                    let mut desktop = UnixStream::connect(path).await.unwrap();
                    Duplex::default().run(&mut stream, &mut desktop).await;
                    return;
                }
            }
        }
    }
}

/// A home of its own for each client.
pub struct User {
    pub home: tempfile::TempDir,
}

impl User {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    pub fn command(&self, port: u16, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qvdclient"));
        command
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-u", "joe"])
            .args(arguments.split_whitespace())
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin")
            .env("QVDPASSWORD", "t0p secret")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub async fn run(&self, upstream: &Upstream, arguments: &str) -> Ended {
        Ended::of(&mut self.command(upstream.port, arguments)).await
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// How a client ended.
pub struct Ended {
    pub code: Option<i32>,
    pub said: String,
    pub printed: String,
}

impl Ended {
    pub async fn of(command: &mut Command) -> Self {
        let output = tokio::time::timeout(LIMIT, command.output()).await.unwrap().unwrap();
        let Output { status, stdout, stderr } = output;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: status.code(), said: text(stderr), printed: text(stdout) }
    }

    #[track_caller]
    pub fn expect(&self, code: i32, words: &[&str]) {
        let Self { said, printed, .. } = self;
        assert_eq!(self.code, Some(code), "{said}\n{printed}");
        for word in words {
            assert!(said.contains(word) || printed.contains(word), "no `{word}` in\n{said}\n{printed}");
        }
        assert!(!said.contains("t0p secret"), "{said}");
    }
}

/// A screen, for clients that get as far as that.
pub struct Screen(std::process::Child, pub String);

impl Screen {
    pub fn new() -> Self {
        use std::io::BufRead;
        let mut server = std::process::Command::new("/usr/bin/Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(server, format!(":{}", line.trim()))
    }

    pub async fn run(&self, user: &User, upstream: &Upstream, arguments: &str) -> Ended {
        Ended::of(user.command(upstream.port, arguments).env("DISPLAY", &self.1)).await
    }

    /// Whom the X server admits.
    pub fn admitted(&self) -> Vec<Vec<u8>> {
        let (connection, _) = x11rb::connect(Some(&self.1)).unwrap();
        let hosts = connection.list_hosts().unwrap().reply().unwrap();
        hosts.hosts.into_iter().map(|host| host.address).collect()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
