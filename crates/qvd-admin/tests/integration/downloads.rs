//! Images that the server fetches, and addresses that it leaves alone.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use qvd_relay::{ServerTls, TlsMaterial};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::images::{files_in, files_left_in};
use crate::{Installation, code, image_file};

/// A server of files, by HTTP and by HTTPS.
struct Files {
    plain: SocketAddr,
    secure: SocketAddr,
    /// Lets the slow file go on.
    go_on: Arc<Notify>,
}

impl Files {
    async fn serve(it: &Installation, content: Vec<u8>) -> Self {
        let go_on = Arc::new(Notify::new());
        let text = |file: &str| fs::read_to_string(it.path(file)).unwrap();
        let material = TlsMaterial { cert: text("cert.pem"), key: text("key.pem"), ..TlsMaterial::default() };
        let tls = ServerTls::new(&material).unwrap();
        let content = Arc::new(content);
        let mut addresses = Vec::new();
        for tls in [None, Some(tls)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let (content, go_on) = (content.clone(), go_on.clone());
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (tls, content, go_on) = (tls.clone(), content.clone(), go_on.clone());
                    tokio::spawn(async move {
                        match tls {
                            None => answer(stream, &content, &go_on).await,
                            Some(tls) => {
                                if let Ok(stream) = tls.acceptor().accept(stream).await {
                                    answer(stream, &content, &go_on).await;
                                }
                            }
                        }
                    });
                }
            });
        }
        Self { plain: addresses[0], secure: addresses[1], go_on }
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, content: &[u8], go_on: &Notify) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap();
    let length = content.len();
    let whole = |length| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let to = |place: &str| format!("HTTP/1.1 302 Found\r\nlocation: {place}\r\ncontent-length: 0\r\n\r\n");
    let (head, bytes) = match path.split('?').next().unwrap() {
        "/one.tar.gz" => (whole(length), content),
        "/endless.tar.gz" => ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_owned(), content),
        "/cut.tar.gz" => (whole(length), &content[..length / 2]),
        "/huge.tar.gz" => (whole(5 << 20), &content[..0]),
        "/text.tar.gz" => (whole(5), &b"hello"[..]),
        "/slow.tar.gz" => {
            let half = [whole(length).as_bytes(), &content[..length / 2]].concat();
            stream.write_all(&half).await.unwrap();
            go_on.notified().await;
            (String::new(), &content[length / 2..])
        }
        "/moved" => (to("/one.tar.gz"), &content[..0]),
        "/away" => (to("http://127.0.0.2:9/one.tar.gz"), &content[..0]),
        "/socket" => (to("unix:///run/qvd/api.sock"), &content[..0]),
        "/circle" => (to("circle"), &content[..0]),
        _ => ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(), &content[..0]),
    };
    // The other side may have turned away.
    let _ = stream.write_all(&[head.as_bytes(), bytes].concat()).await;
    let _ = stream.shutdown().await;
}

async fn scene(name: &str, megabytes: u32) -> (Installation, Files, Vec<u8>) {
    let it = Installation::start(name).await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    it.qa4(&["config", "set", &format!("key=api.upload.max,value={megabytes}")]).await.unwrap();
    let local = it.path("one.tar.gz");
    image_file(&local);
    let content = fs::read(&local).unwrap();
    let files = Files::serve(&it, content.clone()).await;
    (it, files, content)
}

impl Installation {
    async fn allow_downloads(&self, list: &str) {
        let value = format!("key=api.download.allow,value='{list}'");
        self.qa4(&["config", "set", &value]).await.unwrap();
    }

    async fn download(&self, url: &str) -> Value {
        let body = json!({"arguments": {"osf_id": 10000}, "url": json!(url).to_string()});
        self.post("/api/di/download", &body).await.1
    }

    /// Waits until the import of the newest image is over; its row.
    async fn imported(&self) -> Value {
        loop {
            let fields = "state,percentage,error_code,status_message,sha256,disk_image";
            let rows = self.rows(&["di", "get", fields]).await;
            let newest = rows.last().unwrap();
            if !["uploading", "verifying"].contains(&newest["state"].as_str().unwrap()) {
                return newest.clone();
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_comes_from_an_address_that_is_allowed() {
    let (it, files, content) = scene("downloaded", 1).await;
    let (plain, secure) = (files.plain.port(), files.secure.port());
    it.allow_downloads(&format!("http://127.0.0.1:{plain} localhost:{secure}, 127.0.0.1:{secure}")).await;
    let made = it.download(&format!("http://127.0.0.1:{plain}/moved/../one.tar.gz?x=1")).await;
    assert_eq!(made["status"], 2260, "{made}");
    assert!(made["additional_info"].as_str().unwrap().contains("404"), "{made}");
    let made = it.download(&format!("http://127.0.0.1:{plain}/one.tar.gz?x=1")).await;
    assert_eq!(made["rows"], json!([{"id": 10000}]), "{made}");
    let row = it.imported().await;
    assert_eq!(
        (&row["state"], &row["disk_image"]),
        (&json!("published"), &json!("10000-one.tar.gz")),
        "{row}"
    );
    assert_eq!(fs::read(it.path("images/10000-one.tar.gz")).unwrap(), content);

    // By TLS, with the name of the certificate; qa4 waits for the end.
    it.qa4(&["di", "new", &format!("url=https://localhost:{secure}/endless.tar.gz,osf=office")])
        .await
        .unwrap();
    let moved = format!("http://127.0.0.1:{plain}/moved");
    it.qa4(&["di", "new", &format!("url={moved},osf=office")]).await.unwrap();
    assert_eq!(files_in(&it.path("images")).len(), 3);

    // How far it is can be seen on the way.
    let slow = it.download(&format!("http://127.0.0.1:{plain}/slow.tar.gz")).await;
    assert_eq!(slow["status"], 0, "{slow}");
    while it.rows(&["di", "10003-slow.tar.gz", "get", "percentage"]).await[0]["percentage"] != 0.5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(files_in(&it.path("images")).iter().filter(|name| name.starts_with("10003")).count(), 0);
    files.go_on.notify_one();
    assert_eq!(it.imported().await["state"], "published");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_allowed_is_not_asked() {
    let (it, files, _) = scene("notdownloaded", 1).await;
    let (plain, secure) = (files.plain.port(), files.secure.port());
    let one = format!("http://127.0.0.1:{plain}/one.tar.gz");
    let refused = it.download(&one).await;
    assert_eq!(refused["status"], 9024, "nothing is allowed before it is named: {refused}");
    it.allow_downloads(&format!("http://localhost:{plain} https://127.0.0.1:{plain}")).await;
    for (url, reason) in [
        (one.clone(), "http://127.0.0.1"),
        (format!("http://localhost:{plain}/one.tar.gz"), "not public"),
        (format!("http://localhost:{secure}/one.tar.gz"), "not allowed"),
        ("https://images.example.org/one.tar".to_owned(), "not allowed"),
    ] {
        let refused = it.download(&url).await;
        assert_eq!(refused["status"], 9024, "{url}: {refused}");
        assert!(refused["additional_info"].as_str().unwrap().contains(reason), "{url}: {refused}");
    }
    for url in ["file:///etc/passwd", "http+unix://%2Frun%2Fx/", "//127.0.0.1/x", "http://2130706433/x"] {
        let refused = it.download(url).await;
        // Without a name of the file it is that which is missing.
        assert!([6330, 6240].contains(&refused["status"].as_u64().unwrap()), "{url}: {refused}");
    }
    it.allow_downloads(&format!("http://127.0.0.1:{plain} 127.0.0.1:{secure} localhost:{secure}")).await;
    for (path, status) in
        [("away", 9024), ("socket", 6330), ("circle", 2260), ("nothing", 2260), ("huge.tar.gz", 9003)]
    {
        let refused = it.download(&format!("http://127.0.0.1:{plain}/{path}")).await;
        assert_eq!(refused["status"], status, "{path}: {refused}");
    }
    // Nobody listens, and no certificate.
    let refused = it.download(&format!("https://127.0.0.1:{plain}/x")).await;
    assert_eq!(refused["status"], 9024, "{refused}");
    it.allow_downloads(&format!("https://127.0.0.1:{plain}")).await;
    assert_eq!(it.download(&format!("https://127.0.0.1:{plain}/x")).await["status"], 2260);
    it.allow_downloads("what? ever").await;
    let refused = it.download(&one).await;
    assert_eq!(refused["status"], 2260, "{refused}");
    assert!(refused["additional_info"].as_str().unwrap().contains("what?"), "{refused}");
    assert!(it.rows(&["di", "get"]).await.is_empty(), "nothing was begun");
    assert!(files_in(&it.path("images")).is_empty());

    // What shows only on the way is told by the image.
    it.allow_downloads(&format!("http://127.0.0.1:{plain}")).await;
    for (path, status) in [("cut.tar.gz", 2260), ("text.tar.gz", 9001)] {
        let url = format!("url=http://127.0.0.1:{plain}/{path},osf=office");
        assert_eq!(code(it.qa4(&["di", "new", &url]).await), status, "{path}");
        assert_eq!(it.imported().await["error_code"], status, "{path}");
    }
    assert!(files_left_in(&it.path("images")).await.is_empty());
    // Something else has the name that the image would get.
    fs::create_dir_all(it.path("images/10002-one.tar.gz/full")).unwrap();
    assert_eq!(code(it.qa4(&["di", "new", &format!("url={one},osf=office")]).await), 2261);
    assert_eq!(it.imported().await["error_code"], 2261);
    it.stop().await;
}
