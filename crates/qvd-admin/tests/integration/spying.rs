//! Watching desktops: a real VNC server behind an agent of the old kind, seen through the API.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use x11rb::connection::Connection as _;
use x11rb::protocol::xproto::ConnectionExt as _;

use crate::{Installation, PASSWORD};

/// An X server whose screen is told by RFB on a Unix socket.
struct Screen {
    server: Child,
    display: String,
    _directory: tempfile::TempDir,
    socket: std::path::PathBuf,
}

impl Screen {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("rfb.sock");
        let (read, write) = nix::unistd::pipe().unwrap();
        let mut command = Command::new("/usr/bin/Xvnc");
        // The number that it chooses comes on its standard output.
        command.args([
            "-displayfd",
            "1",
            "-nolisten",
            "tcp",
            "-rfbport",
            "-1",
            "-SecurityTypes",
            "None",
            "-geometry",
            "320x200",
        ]);
        command.arg("-rfbunixpath").arg(&socket).stdin(Stdio::null()).stdout(write).stderr(Stdio::null());
        let server = command.spawn().unwrap();
        drop(command);
        let mut number = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(std::fs::File::from(read)), &mut number)
            .unwrap();
        let display = format!(":{}", number.trim());
        Self { server, display, _directory: directory, socket }
    }

    fn pointer(&self) -> (i16, i16) {
        let (connection, screen) = x11rb::connect(Some(&self.display)).unwrap();
        let root = connection.setup().roots[screen].root;
        let pointer = connection.query_pointer(root).unwrap().reply().unwrap();
        (pointer.root_x, pointer.root_y)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.server.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM);
        let _ = self.server.wait();
    }
}

/// An agent that leads viewers to the screen, as those of existing images do.
async fn agent(socket: &Path) -> (SocketAddr, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (heads, socket) = (asked.clone(), socket.to_owned());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heads.lock().unwrap().push(String::from_utf8(head).unwrap());
            let mut screen = UnixStream::connect(&socket).await.unwrap();
            let mut version = [0; 12];
            screen.read_exact(&mut version).await.unwrap();
            // All in one segment: the answer while the user is asked, the consent, and the first bytes.
            let consent = "HTTP/1.1 102 Processing\r\nX-QVD-VMA-Info: asking\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\
                           Connection: Upgrade\r\nUpgrade: VNC\r\n\r\n";
            stream.write_all(&[consent.as_bytes(), &version].concat()).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut screen).await });
        }
    });
    (address, asked)
}

type Socket = tokio_tungstenite::WebSocketStream<UnixStream>;

/// A viewer as in a browser.
struct Viewer {
    socket: Socket,
    bytes: Vec<u8>,
}

impl Viewer {
    async fn read(&mut self, count: usize) -> Vec<u8> {
        while self.bytes.len() < count {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Binary(more) => self.bytes.extend_from_slice(&more),
                other => panic!("{other:?}"),
            }
        }
        self.bytes.drain(..count).collect()
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.socket.send(Message::Binary(bytes.to_vec().into())).await.unwrap();
    }

    /// Opens RFB; the size of the screen.
    async fn begin(&mut self) -> (u16, u16) {
        assert_eq!(self.read(12).await, b"RFB 003.008\n");
        self.write(b"RFB 003.008\n").await;
        let count = usize::from(self.read(1).await[0]);
        assert!(self.read(count).await.contains(&1));
        self.write(&[1]).await;
        assert_eq!(self.read(4).await, [0; 4]);
        self.write(&[1]).await;
        let init = self.read(24).await;
        let name = u32::from_be_bytes(init[20..24].try_into().unwrap());
        self.read(usize::try_from(name).unwrap()).await;
        let number = |at: usize| u16::from_be_bytes(init[at..at + 2].try_into().unwrap());
        (number(0), number(2))
    }

    /// Moves the pointer, and waits for a picture, before which the server has seen the move.
    async fn point_at(&mut self, x: u8, y: u8) {
        self.write(&[5, 0, 0, x, 0, y]).await;
        self.write(&[3, 0, 0, 0, 0, 0, 0, 1, 0, 1]).await;
        let head = self.read(16).await;
        assert_eq!((head[0], &head[2..4]), (0, &[0, 1][..]), "{head:?}");
    }
}

impl Installation {
    /// Watches a VM with a session; the HTTP status when it is refused.
    async fn watch(&self, sid: &str, arguments: &str) -> Result<Viewer, u16> {
        let arguments: String = form_urlencoded::byte_serialize(arguments.as_bytes()).collect();
        let url = format!("ws://localhost/vmproxy?sid={sid}&arguments={arguments}");
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "binary".parse().unwrap());
        let stream = UnixStream::connect(self.path("api.sock")).await.unwrap();
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, answer)) => {
                assert_eq!(answer.headers()["sec-websocket-protocol"], "binary");
                Ok(Viewer { socket, bytes: Vec::new() })
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }

    async fn sid(&self, login: &str, tenant: &str) -> String {
        let answer = self.post_as(login, tenant, json!({"action": "current_admin_setup"})).await;
        answer["sid"].as_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_desktop_is_watched_by_those_who_may() {
    let it = Installation::start("spying").await;
    for command in [
        &["osf", "new", "name=office,tenant=default"][..],
        &["user", "new", "name=u,password=p,tenant=default"],
        &["vm", "new", "name=desk,user=u,osf=office"],
        &["tenant", "new", "name=other"],
        &["role", "new", "name=stranger,tenant=other"],
        &["role", "stranger", "assign", "acl", "vm.spy.,vm.spy.interactive"],
        &["role", "new", "name=watcher,tenant=default"],
        &["role", "watcher", "assign", "acl", "vm.spy."],
        &["role", "new", "name=helper,tenant=default"],
        &["role", "helper", "assign", "acl", "vm.spy.,vm.spy.interactive"],
    ] {
        it.qa4(command).await.unwrap();
    }
    for (name, tenant, role) in [
        ("watcher", "default", "watcher"),
        ("helper", "default", "helper"),
        ("stranger", "other", "stranger"),
    ] {
        let new = format!("name={name},password='{PASSWORD}',tenant={tenant}");
        it.qa4(&["admin", "new", &new]).await.unwrap();
        it.qa4(&["admin", name, "assign", "role", role]).await.unwrap();
    }
    it.qa4(&["admin", "new", &format!("name=other,password='{PASSWORD}',tenant=default")]).await.unwrap();
    let (watcher, helper) = (it.sid("watcher", "default").await, it.sid("helper", "default").await);
    let vm = it.rows(&["vm", "get", "id"]).await[0]["id"].as_i64().unwrap();
    let wanted = json!({"vm_id": vm.to_string()}).to_string();
    assert_eq!(it.watch(&watcher, &wanted).await.err(), Some(422), "it does not run");

    let screen = Screen::start();
    let (address, asked) = agent(&screen.socket).await;
    it.sql(&format!(
        "UPDATE vm_runtimes SET vm_state = 'running', vm_address = '127.0.0.1', vm_vma_port = {}, vm_x_port = 1, \
         vma_secret = 's3cret' WHERE vm_id = {vm}",
        address.port()
    ))
    .await;
    assert_eq!(it.watch("wrong", &wanted).await.err(), Some(401));
    assert_eq!(it.watch(&it.sid("other", "default").await, &wanted).await.err(), Some(403));
    assert_eq!(
        it.watch(&it.sid("stranger", "other").await, &wanted).await.err(),
        Some(422),
        "of another tenant"
    );
    assert_eq!(it.watch(&watcher, "{}").await.err(), Some(400));
    for wrong in [r#"{"vm_id": "x"}"#, r#"{"vm_id": 4711}"#] {
        assert_eq!(it.watch(&watcher, wrong).await.err(), Some(422), "{wrong}");
    }
    assert!(asked.lock().unwrap().is_empty(), "the desktop was asked");

    let mut viewer = it.watch(&helper, &wanted).await.unwrap();
    assert_eq!(viewer.begin().await, (320, 200));
    viewer.point_at(33, 44).await;
    assert_eq!(screen.pointer(), (33, 44));
    viewer.socket.close(None).await.unwrap();

    let mut viewer = it.watch(&watcher, &json!({"vm_id": vm}).to_string()).await.unwrap();
    viewer.begin().await;
    viewer.point_at(55, 66).await;
    assert_eq!(screen.pointer(), (33, 44), "a watcher moved the pointer");
    let head = asked.lock().unwrap()[0].to_ascii_lowercase();
    assert!(
        head.starts_with("get /vma/vnc_connect http/1.1\r\n") && head.contains("bearer s3cret"),
        "{head}"
    );
    // The agent knows who it is that sees the screen, to tell the user.
    let told = |at: usize| {
        let head = asked.lock().unwrap()[at].to_ascii_lowercase();
        (head.contains("x-qvd-viewer: helper\r\n"), head.contains("x-qvd-view-only: 1\r\n"))
    };
    assert_eq!((told(0), told(1)), ((true, false), (false, true)));
    // Who may use it can do without.
    let seen = json!({"vm_id": vm, "view_only": true}).to_string();
    let mut viewer = it.watch(&helper, &seen).await.unwrap();
    viewer.begin().await;
    viewer.point_at(77, 88).await;
    assert_eq!((screen.pointer(), told(2)), ((33, 44), (true, true)));
    viewer.socket.close(None).await.unwrap();
    let mut viewer = it.watch(&watcher, &wanted).await.unwrap();
    viewer.begin().await;

    // The desktop ends, and so does the watching; both ends stand in the log and in the story of the VM.
    drop(screen);
    while !matches!(viewer.socket.next().await, None | Some(Err(_) | Ok(Message::Close(_)))) {}
    let list = json!({"action": "log_get_list", "filters": {"qvd_object": "vm", "action": {"~": "vm_spy%"}},
        "fields": ["action", "admin_name", "status", "arguments"], "order_by": {"field": "id"}});
    let rows = loop {
        let rows = it.post("/api", &list).await.1["rows"].as_array().unwrap().clone();
        if rows.iter().filter(|row| row["action"] == "vm_spy_end").count() == 4 {
            break rows;
        }
        tokio::task::yield_now().await;
    };
    let done = rows.iter().filter(|row| row["status"] == 0 && row["action"] == "vm_spy");
    let who: Vec<_> = done.map(|row| row["admin_name"].as_str().unwrap()).collect();
    assert_eq!(who, ["helper", "watcher", "helper", "watcher"]);
    assert!(
        rows.iter().any(|row| row["status"] == 4210) && rows.iter().any(|row| row["status"] == 6310),
        "{rows:?}"
    );
    let story = it.qa4(&["vm", "desk", "explain"]).await.unwrap();
    assert!(
        story.contains("watcher watches the screen") && story.contains("helper watches and may use"),
        "{story}"
    );
    it.stop().await;
}

/// An agent whose user, or whose image, answers with this.
async fn answering(status: &'static str, text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_of_a_vm_are_reached_by_those_who_may() {
    let it = Installation::start("reaching").await;
    for command in [
        &["osf", "new", "name=office,tenant=default"][..],
        &["user", "new", "name=u,password=p,tenant=default"],
        &["vm", "new", "name=desk,user=u,osf=office"],
        &["role", "new", "name=watcher,tenant=default"],
        &["role", "watcher", "assign", "acl", "vm.spy."],
        &["admin", "new", &format!("name=watcher,password='{PASSWORD}',tenant=default")],
        &["admin", "watcher", "assign", "role", "watcher"],
        &["tenant", "new", "name=other"],
        &["role", "new", "name=stranger,tenant=other"],
        &["role", "stranger", "assign", "acl", "vm.spy.,vm.spy.interactive"],
        &["admin", "new", &format!("name=stranger,password='{PASSWORD}',tenant=other")],
        &["admin", "stranger", "assign", "role", "stranger"],
    ] {
        it.qa4(command).await.unwrap();
    }
    let (watcher, stranger) = (it.sid("watcher", "default").await, it.sid("stranger", "other").await);
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = echo.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = echo.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    it.running_host("node1", "127.0.0.1").await;
    let vm = it.rows(&["vm", "get", "id"]).await[0]["id"].as_i64().unwrap();
    let refusing = answering("403 Forbidden", "the user does not allow it").await;
    it.sql(&format!(
        "UPDATE vm_runtimes SET vm_state = 'running', vm_address = '127.0.0.1', vm_vma_port = {}, vm_x_port = 1, \
         vm_ssh_port = {port}, host_id = (SELECT id FROM hosts) WHERE vm_id = {vm}",
        refusing.port(),
    ))
    .await;
    let to = |to: &str| json!({"vm_id": vm, "to": to}).to_string();
    for (sid, to, status) in [
        (&stranger, "ssh", 422),
        (&watcher, "serial", 403),
        (&watcher, "console", 403),
        (&watcher, "vnc", 422),
        (&watcher, "moon", 422),
        // It is the user who refuses.
        (&watcher, "screen", 403),
    ] {
        let arguments = json!({"vm_id": vm, "to": to}).to_string();
        assert_eq!(it.watch(sid, &arguments).await.err(), Some(status), "{to}");
    }
    let mut viewer = it.watch(&watcher, &to("ssh")).await.unwrap();
    viewer.write(b"\x04SSH-2.0-anything passes").await;
    assert_eq!(viewer.read(24).await, b"\x04SSH-2.0-anything passes");
    viewer.socket.close(None).await.unwrap();

    let missing =
        answering("503 Service Unavailable", "the image of this desktop has no /usr/bin/x11vnc").await;
    it.sql(&format!("UPDATE vm_runtimes SET vm_vma_port = {}, vm_ssh_port = 1", missing.port())).await;
    assert_eq!(it.watch(&watcher, &to("screen")).await.err(), Some(422));
    assert_eq!(it.watch(&watcher, &to("ssh")).await.err(), Some(422), "nothing listens there");
    let list = json!({"action": "log_get_list", "filters": {"qvd_object": "vm", "action": {"~": "vm_%"}},
        "fields": ["action", "status", "arguments"], "order_by": {"field": "id"}});
    let rows = loop {
        let rows = it.post("/api", &list).await.1["rows"].as_array().unwrap().clone();
        if rows.iter().any(|row| row["action"] == "vm_ssh_end") {
            break rows;
        }
        tokio::task::yield_now().await;
    };
    let found = |action: &str, status: i64, part: &str| {
        let fits = |row: &serde_json::Value| {
            row["action"] == action && row["status"] == status && row["arguments"].to_string().contains(part)
        };
        assert!(rows.iter().any(fits), "no {action} with {status} and {part} in {rows:?}");
    };
    found("vm_ssh", 0, "");
    found("vm_ssh_end", 0, "seconds");
    found("vm_spy", 4210, "the user does not allow it");
    found("vm_spy", 6310, "no /usr/bin/x11vnc");
    found("vm_vnc", 6310, "no VNC port");
    found("vm_serial", 4210, "");
    it.stop().await;
}
