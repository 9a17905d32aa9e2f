//! Uploads that are cut, gone on with, refused and repeated.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::images::files_in;
use crate::{Installation, image_file};

pub const PIECE: (&str, &str) = ("content-type", "application/offset+octet-stream");

/// An uncompressed image of about this many bytes.
pub fn large_image(path: &Path, size: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut state = 1_u32;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(size)
    .collect();
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    archive.append_data(&mut header, "sbin/init", content.as_slice()).unwrap();
    let bytes = archive.into_inner().unwrap();
    fs::write(path, &bytes).unwrap();
    bytes
}

pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn announcement(name: &str, length: usize) -> Value {
    json!({"arguments": {"disk_image": name, "osf_id": 10000}, "length": length})
}

impl Installation {
    /// Announces a file; the result is where its pieces go.
    async fn announce(&self, announcement: &Value) -> (u16, Value) {
        let json = [("content-type", "application/json")];
        self.raw("POST", "/api/di/upload", &json, announcement.to_string().as_bytes()).await
    }

    async fn piece(&self, location: &str, offset: usize, bytes: &[u8]) -> (u16, Value) {
        let offset = offset.to_string();
        self.raw("PATCH", location, &[PIECE, ("upload-offset", &offset)], bytes).await
    }

    /// Sends the beginning of a request that says it is `length` bytes long.
    pub async fn unfinished(&self, head: &str, length: usize, bytes: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(self.path("api.sock")).await.unwrap();
        let head = format!("{head}\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn form(&self, fields: &[(&str, &str)], file: &[u8]) -> Value {
        let body = form(fields, file);
        self.raw("POST", "/api/di/upload", &[("content-type", "multipart/form-data; boundary=xx")], &body)
            .await
            .1
    }
}

fn form(fields: &[(&str, &str)], file: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--xx\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes(),
        );
    }
    body.extend(b"--xx\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n");
    body.extend(file);
    body.extend(b"\r\n--xx--\r\n");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_upload_goes_on_also_in_the_next_process() {
    let it = Installation::start("resumed").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let bytes = large_image(&it.path("one.tar"), 3 << 20);
    let announced = announcement("one.tar", bytes.len());
    let (status, begun) = it.announce(&announced).await;
    assert_eq!((status, &begun["offset"]), (201, &json!(0)), "{begun}");
    let location = begun["location"].as_str().unwrap().to_owned();

    // Cut in the middle of a piece: what arrived is there.
    let head = format!("PATCH {location} HTTP/1.1\r\n{}: {}\r\nupload-offset: 0", PIECE.0, PIECE.1);
    let mut cut = it.unfinished(&head, bytes.len(), &bytes[..1 << 20]).await;
    cut.shutdown().await.unwrap();
    cut.read_to_end(&mut Vec::new()).await.unwrap();
    let (_, told) = it.raw("GET", &location, &[], b"").await;
    assert_eq!(told["offset"], 1 << 20, "{told}");
    assert!(it.rows(&["di", "get"]).await.is_empty(), "half an image");
    assert_eq!(it.piece(&location, 0, &bytes).await.1["status"], 9023);
    let (status, refused) = it.piece(&location, (1 << 20) + 1, b"x").await;
    assert_eq!((status, refused["status"].as_i64()), (409, Some(9023)), "{refused}");
    let wrong = it.raw("PATCH", &location, &[("upload-offset", "1048576")], b"x").await;
    assert_eq!((wrong.0, wrong.1["status"].as_i64()), (422, Some(6310)));

    // The server is another one meanwhile; whoever announces the same file again is told how far it is.
    let it = it.restarted().await;
    let (status, again) = it.announce(&announced).await;
    assert_eq!((status, &again["offset"], &again["location"]), (200, &json!(1 << 20), &json!(location)));
    let (status, _) = it.piece(&location, 1 << 20, &bytes[1 << 20..2 << 20]).await;
    assert_eq!(status, 204);
    let (status, _) = it.piece(&location, 2 << 20, &[bytes[2 << 20..].to_vec(), vec![0]].concat()).await;
    assert_eq!(status, 413, "more than was announced");
    let told = it.raw("GET", &location, &[], b"").await.1["offset"].as_u64().unwrap();
    let rest = &bytes[usize::try_from(told).unwrap()..];
    let (status, done) = it.piece(&location, usize::try_from(told).unwrap(), rest).await;
    assert_eq!((status, &done["rows"]), (200, &json!([{"id": 10000}])), "{done}");
    assert_eq!(fs::read(it.path("images/10000-one.tar")).unwrap(), bytes);
    assert_eq!(files_in(&it.path("images")), ["10000-one.tar"]);
    assert_eq!(it.rows(&["di", "get", "state"]).await[0]["state"], "published");
    let (status, gone) = it.raw("GET", &location, &[], b"").await;
    assert_eq!((status, gone["status"].as_i64()), (404, Some(9022)));
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_only_its_senders() {
    let it = Installation::start("uploaders").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let bytes = large_image(&it.path("one.tar"), 100_000);
    let location = it.announce(&announcement("one.tar", bytes.len())).await.1["location"].clone();
    let location = location.as_str().unwrap();
    let as_admin = async |method: &str, path: &str| {
        let login = json!({"action": "current_admin_setup"});
        let sid = it.post_as("superadmin", "*", login).await["sid"].as_str().unwrap().to_owned();
        it.raw(method, &format!("{path}?sid={sid}"), &[], b"").await
    };
    for method in ["GET", "PATCH", "DELETE"] {
        let (status, refused) = as_admin(method, location).await;
        assert_eq!((status, refused["status"].as_i64()), (404, Some(9022)), "{method}");
        let (status, refused) = it.raw(method, &format!("{location}?sid=x"), &[], b"").await;
        assert_eq!((status, refused["status"].as_i64()), (401, Some(3200)), "{method}");
    }
    for bad in
        ["/api/di/upload/x", "/api/di/upload/..%2fimages", &location.replace(&location[15..20], "00000")]
    {
        assert_eq!(it.raw("GET", bad, &[], b"").await.0, 404, "{bad}");
    }
    // The OSF of another tenant, and more than is allowed, are refused before anything is sent.
    let mut foreign = announcement("one.tar", bytes.len());
    foreign["arguments"]["osf_id"] = json!(10_001);
    assert_eq!(it.announce(&foreign).await.1["status"], 7100);
    it.qa4(&["config", "set", "key=api.upload.max,value=1"]).await.unwrap();
    assert_eq!(it.announce(&announcement("two.tar", 2 << 20)).await.1["status"], 9003);
    assert_eq!(it.announce(&announcement("two.tar", 0)).await.1["status"], 9001);
    let mut wrong = announcement("two.tar", 10);
    wrong["sha256"] = json!("abc");
    assert_eq!(it.announce(&wrong).await.1["status"], 6310);
    wrong.as_object_mut().unwrap().remove("length");
    wrong["sha256"] = json!("");
    assert_eq!(it.announce(&wrong).await.1["status"], 2250);

    assert_eq!(it.raw("DELETE", location, &[], b"").await.0, 204);
    assert_eq!(it.raw("GET", location, &[], b"").await.0, 404);
    assert!(files_in(&it.path("images")).is_empty());
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checksum_that_was_given_has_to_be_right() {
    let it = Installation::start("checksums").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let bytes = large_image(&it.path("one.tar"), 100_000);
    let right = sha256(&bytes);
    let wrong = right.replace(['0', '1', '2', '3'], "4");
    let arguments = r#"{"disk_image":"one.tar","osf_id":10000}"#;
    let send = async |sum: &str| it.form(&[("arguments", arguments), ("sha256", sum)], &bytes).await;
    let refused = send(&wrong).await;
    assert_eq!(refused["status"], 9021, "{refused}");
    assert!(refused["additional_info"].as_str().unwrap().contains(&right), "{refused}");
    let mut announced = announcement("one.tar", bytes.len());
    announced["sha256"] = json!(wrong);
    let location = it.announce(&announced).await.1["location"].clone();
    let (status, refused) = it.piece(location.as_str().unwrap(), 0, &bytes).await;
    assert_eq!((status, refused["status"].as_i64()), (422, Some(9021)));
    assert!(files_in(&it.path("images")).is_empty());
    assert!(it.rows(&["di", "get"]).await.is_empty());
    // The form of older clients goes on without, and with a right one.
    assert_eq!(send(&right.to_uppercase()).await["status"], 0);
    assert_eq!(it.form(&[("arguments", arguments)], &bytes).await["status"], 0);
    assert_eq!(it.rows(&["di", "get", "sha256"]).await[1]["sha256"], right);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_cannot_send_one_name_at_once() {
    let it = Installation::start("busy").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    it.qa4(&["osf", "new", "name=other"]).await.unwrap();
    let bytes = large_image(&it.path("one.tar"), 100_000);
    let arguments = r#"{"disk_image":"one.tar","osf_id":10000}"#;
    let whole = form(&[("arguments", arguments)], &bytes);
    let head =
        "POST /api/di/upload HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=xx\r\nconnection: close";
    let mut first = it.unfinished(head, whole.len(), &whole[..50_000]).await;
    // The first one is there once its part is.
    let part = || files_in(&it.path("images")).iter().any(|name| name.ends_with(".part"));
    while !part() {
        tokio::task::yield_now().await;
    }
    let refused = it.form(&[("arguments", arguments)], &bytes).await;
    assert_eq!(refused["status"], 9020, "{refused}");
    assert_eq!(it.announce(&announcement("one.tar", bytes.len())).await.1["status"], 9020);
    let other = arguments.replace("10000", "10001");
    assert_eq!(it.form(&[("arguments", &other)], &bytes).await["status"], 0, "another OSF");

    first.write_all(&whole[50_000..]).await.unwrap();
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("\"status\":0"), "{answer}");
    // One that ended in the middle leaves nothing, and nobody waits for it.
    let mut cut = it.unfinished(head, whole.len(), &whole[..50_000]).await;
    cut.shutdown().await.unwrap();
    cut.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(it.form(&[("arguments", arguments)], &bytes).await["status"], 0);
    assert_eq!(files_in(&it.path("images")).len(), 3);
    it.stop().await;
}

/// A small file system, gone with the test.
pub struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    pub fn at(path: &'a Path) -> Self {
        use nix::mount::{MsFlags, mount};
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("size=4m")).unwrap();
        Self(path)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        nix::mount::umount2(self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_holds_an_upload_up_and_loses_nothing() {
    let it = Installation::start("fulldisk").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let images = it.path("images");
    let _small = Small::at(&images);
    let bytes = large_image(&it.path("one.tar"), 3 << 20);
    assert_eq!(it.announce(&announcement("large.tar", 5 << 20)).await.1["status"], 2211);
    assert!(files_in(&images).is_empty());
    let location = it.announce(&announcement("one.tar", bytes.len())).await.1["location"].clone();
    let location = location.as_str().unwrap();
    fs::write(images.join("filler"), vec![0; 2 << 20]).unwrap();
    let (status, refused) = it.piece(location, 0, &bytes).await;
    assert_eq!((status, refused["status"].as_i64()), (507, Some(2211)), "{refused}");
    assert!(it.rows(&["di", "get"]).await.is_empty());
    let there =
        usize::try_from(it.raw("GET", location, &[], b"").await.1["offset"].as_u64().unwrap()).unwrap();
    assert!(there > 1 << 20 && there < bytes.len(), "{there}");
    // A form cannot be gone on with, and leaves nothing.
    let arguments = r#"{"disk_image":"two.tar","osf_id":10000}"#;
    assert_eq!(it.form(&[("arguments", arguments)], &bytes).await["status"], 2211);
    fs::remove_file(images.join("filler")).unwrap();
    let (_, done) = it.piece(location, there, &bytes[there..]).await;
    assert_eq!(done["status"], 0, "{done}");
    assert_eq!(fs::read(images.join("10000-one.tar")).unwrap(), bytes);
    assert_eq!(files_in(&images), ["10000-one.tar"]);
    it.stop().await;
}

/// Carries connections to the API, and cuts each after so many bytes of the client.
async fn cutting_line(to: std::net::SocketAddr, after: u64) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = cuts.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(to).await.unwrap();
            let cuts = counted.clone();
            tokio::spawn(async move {
                let (client_reads, mut client_writes) = client.into_split();
                let (mut server_reads, mut server_writes) = server.into_split();
                let back =
                    tokio::spawn(async move { tokio::io::copy(&mut server_reads, &mut client_writes).await });
                let carried = tokio::io::copy(&mut client_reads.take(after), &mut server_writes).await;
                if carried.is_ok_and(|carried| carried == after) {
                    cuts.fetch_add(1, Ordering::Relaxed);
                    back.abort();
                }
            });
        }
    });
    (port, cuts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qa4_goes_on_by_itself_over_a_bad_line() {
    let it = Installation::start("badline").await;
    it.qa4(&["osf", "new", "name=office,tenant=default"]).await.unwrap();
    let bytes = large_image(&it.path("one.tar"), 7 << 20);
    let (port, cuts) = cutting_line(it.address, 3 << 20).await;
    let url = format!("https://localhost:{port}/");
    let ca = it.path("cert.pem").display().to_string();
    let environment = [
        ("QVD_URL", url.as_str()),
        ("QVD_CA", &ca),
        ("QVD_LOGIN", "superadmin"),
        ("QVD_TENANT", "*"),
        ("QVD_PASSWORD", crate::PASSWORD),
    ];
    let new = format!("file={},osf=office", it.path("one.tar").display());
    it.run(&environment, &["di", "new", &new]).await.unwrap();
    assert_eq!(cuts.load(Ordering::Relaxed), 2, "7 MiB are two cuts and a rest");
    assert_eq!(fs::read(it.path("images/10000-one.tar")).unwrap(), bytes);
    assert_eq!(files_in(&it.path("images")), ["10000-one.tar"]);

    // What another command has begun is gone on with.
    let two = it.path("two.tar");
    image_file(&two);
    let bytes = fs::read(&two).unwrap();
    let announced = json!({
        "arguments": {"disk_image": "two.tar", "osf_name": "office"},
        "length": bytes.len(), "sha256": sha256(&bytes),
    });
    let location = it.announce(&announced).await.1["location"].clone();
    assert_eq!(it.piece(location.as_str().unwrap(), 0, &bytes[..1000]).await.0, 204);
    it.qa4(&["di", "new", &format!("file={},osf=office", two.display())]).await.unwrap();
    assert_eq!(it.raw("GET", location.as_str().unwrap(), &[], b"").await.0, 404, "it was used up");
    assert_eq!(fs::read(it.path("images/10001-two.tar")).unwrap(), bytes);
    let missing = it.qa4(&["di", "new", "file=/nowhere/x.tar,osf=office"]).await.unwrap_err();
    assert_eq!(missing.exit_code(), 2, "{missing}");
    it.stop().await;
}
