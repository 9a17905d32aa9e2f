//! Images made by `/api/v2`: the row is there at once and tells how far its file is.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::containers::container_image_of;
use crate::images::{files_in, files_left_in};
use crate::uploads::{PIECE, Small, large_image, sha256};
use crate::{Answer, Installation, image_file};

const OSF: i32 = 10_000;

impl Installation {
    async fn with_osf(name: &str) -> Self {
        let it = Self::start(name).await;
        it.qa4(&["osf", "new", "name=office"]).await.unwrap();
        it
    }

    async fn image(&self, body: Value) -> Answer {
        self.v2(None, "POST", "/images", Some(body)).await
    }

    /// Sends the next bytes of the file of an image.
    async fn deliver(&self, id: i64, offset: usize, bytes: &[u8]) -> Answer {
        let headers = [PIECE, ("upload-offset", &offset.to_string())];
        self.ask("PATCH", &format!("/api/v2/images/{id}/file"), &headers, bytes).await
    }

    async fn delivered(&self, id: i64) -> u64 {
        let told = self.v2(None, "GET", &format!("/images/{id}/file"), None).await;
        assert_eq!(told.header("upload-offset").unwrap(), told.body["offset"].to_string(), "{told:?}");
        told.body["offset"].as_u64().unwrap()
    }

    async fn image_row(&self, id: i64) -> Value {
        self.v2(None, "GET", &format!("/images/{id}"), None).await.body
    }

    /// Waits until the image is in a state.
    async fn until(&self, id: i64, state: &str) -> Value {
        for _ in 0..2000 {
            let row = self.image_row(id).await;
            if row["state"] == state {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never {state}: {}", self.image_row(id).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_tells_how_far_its_file_is() {
    let it = Installation::with_osf("delivered").await;
    let bytes = large_image(&it.path("one.tar"), 3 << 20);
    let new = json!({"osf_id": OSF, "disk_image": "one.tar", "length": bytes.len(),
        "sha256": sha256(&bytes), "__tags__": ["stable"]});
    let made = it.image(new).await;
    assert_eq!((made.status, &made.body), (201, &json!({"id": 10_000})), "{made:?}");
    assert_eq!(made.header("location"), Some("/api/v2/images/10000"));
    let row = it.image_row(10_000).await;
    assert_eq!((&row["state"], row["percentage"].as_f64()), (&json!("uploading"), Some(0.0)), "{row}");
    assert_eq!(row["disk_image"], "10000-one.tar");

    // A third, then a piece that is cut.
    let third = bytes.len() / 3;
    assert_eq!(it.deliver(10_000, 0, &bytes[..third]).await.status, 204);
    let row = it.image_row(10_000).await;
    assert!((row["percentage"].as_f64().unwrap() - 1.0 / 3.0).abs() < 0.01, "{row}");
    let head = format!(
        "PATCH /api/v2/images/10000/file HTTP/1.1\r\n{}: {}\r\nupload-offset: {third}",
        PIECE.0, PIECE.1
    );
    let mut cut = it.unfinished(&head, bytes.len() - third, &bytes[third..third + 1000]).await;
    cut.shutdown().await.unwrap();
    cut.read_to_end(&mut Vec::new()).await.unwrap();
    let row = it.until(10_000, "upload_stalled").await;
    assert!(row["status_message"].as_str().is_some_and(|why| !why.is_empty()), "{row}");
    assert_eq!(it.delivered(10_000).await, third as u64 + 1000);
    assert_eq!(it.deliver(10_000, third, b"x").await.problem(), (409, 9023));
    assert_eq!(files_in(&it.path("images")), [".upload-image-10000.json", ".upload-image-10000.part"]);

    // The next process goes on with it, and nobody else.
    let it = it.restarted().await;
    let login = it.log_in("superadmin", "*").await;
    assert_eq!(it.v2(Some(&login), "GET", "/images/10000/file", None).await.problem(), (404, 9022));
    assert_eq!(it.v2(None, "GET", "/images/10001/file", None).await.problem(), (404, 9022));
    assert_eq!(it.v2(None, "DELETE", "/images/10000/file", None).await.problem(), (405, 9007));
    let rest = &bytes[third + 1000..];
    assert_eq!(it.deliver(10_000, third + 1000, rest).await.status, 204);
    let row = it.until(10_000, "published").await;
    assert_eq!((&row["sha256"], &row["status_message"]), (&json!(sha256(&bytes)), &Value::Null), "{row}");
    let tags: Vec<_> = row["tags"].as_array().unwrap().iter().map(|tag| tag["tag"].clone()).collect();
    assert!(tags.contains(&json!("stable")) && tags.contains(&json!("default")), "{row}");
    assert_eq!(files_in(&it.path("images")), ["10000-one.tar"]);
    assert_eq!(it.deliver(10_000, bytes.len(), b"").await.problem(), (404, 9022));
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_from_where_the_request_says() {
    let it = Installation::with_osf("imageorigins").await;
    image_file(&it.path("staging/one.tar.gz"));
    let made = it.image(json!({"osf_name": "office", "staging": "one.tar.gz"})).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(it.until(10_000, "published").await["disk_image"], "10000-one.tar.gz");
    let named = json!({"osf_name": "office", "staging": "one.tar.gz", "disk_image": "other.tar.gz"});
    assert_eq!(it.image(named).await.status, 201);
    assert_eq!(it.until(10_001, "published").await["disk_image"], "10001-other.tar.gz");
    let wrong = json!({"osf_name": "office", "staging": "one.tar.gz", "sha256": "0".repeat(64)});
    assert_eq!(it.image(wrong).await.status, 201);
    assert_eq!(it.until(10_002, "fail").await["error_code"], 9021);
    for (body, problem) in [
        (json!({"disk_image": "x.tar"}), (400, 6240)),
        (json!({"staging": "one.tar.gz", "url": "https://example.org/x.tar"}), (400, 6230)),
        (json!({"staging": "nothing.tar.gz"}), (422, 2240)),
        (json!({"staging": 7}), (422, 6310)),
        (json!({"staging": "one.tar.gz", "disk_image": "../x"}), (422, 6330)),
        (json!({"url": "https://example.org/x.tar"}), (422, 9024)),
        (json!({"length": 10}), (400, 6240)),
        (json!({"length": 0, "disk_image": "x.tar"}), (422, 9001)),
        (json!({"length": -1, "disk_image": "x.tar"}), (422, 6310)),
        (json!({"length": 1_u64 << 40, "disk_image": "x.tar"}), (413, 9003)),
        (json!({"length": 10, "disk_image": "x.tar", "sha256": "abc"}), (422, 6310)),
    ] {
        let mut body = body;
        body["osf_id"] = json!(OSF);
        let refused = it.image(body.clone()).await;
        assert_eq!(refused.problem(), problem, "{body}: {refused:?}");
    }
    assert_eq!(files_left_in(&it.path("images")).await, ["10000-one.tar.gz", "10001-other.tar.gz"]);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_send_files_if_they_may_make_images() {
    let it = Installation::with_osf("tokensend").await;
    let sid = it.log_in("superadmin", "*").await;
    let token = async |name: &str, scope: &str| {
        let new = json!({"name": name, "scope": scope, "expiration": "never"});
        let made = it.v2(Some(&sid), "POST", "/tokens", Some(new)).await;
        made.body["token"].as_str().unwrap().to_owned()
    };
    let (may, may_not) = (token("may", "di.*").await, token("may-not", "vm.*").await);
    let bytes = large_image(&it.path("one.tar"), 1000);
    let new = json!({"osf_id": OSF, "disk_image": "one.tar", "length": bytes.len()});
    assert_eq!(it.with_token(&may_not, "POST", "/images", Some(new.clone())).await.problem(), (403, 4210));
    assert_eq!(it.with_token(&may, "POST", "/images", Some(new)).await.status, 201);
    let send = async |token: &str| {
        let shown = format!("Bearer {token}");
        let headers = [PIECE, ("upload-offset", "0"), ("authorization", shown.as_str())];
        it.ask("PATCH", "/api/v2/images/10000/file", &headers, &bytes).await
    };
    assert_eq!(send(&may_not).await.problem(), (403, 4210));
    assert_eq!(send(&may).await.status, 204);
    it.until(10_000, "published").await;
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_given_up_is_removed() {
    let it = Installation::with_osf("givenup").await;
    let bytes = large_image(&it.path("one.tar"), 100_000);
    for _ in 0..3 {
        let new = json!({"osf_id": OSF, "disk_image": "one.tar", "length": bytes.len()});
        assert_eq!(it.image(new).await.status, 201);
    }
    for id in 10_000..10_003 {
        assert_eq!(it.deliver(id, 0, &bytes[..1000]).await.status, 204);
    }
    // By whoever removes the image.
    assert_eq!(it.v2(None, "DELETE", "/images/10000", None).await.status, 204);
    assert_eq!(files_in(&it.path("images")).len(), 4);
    // By nobody: one has just stopped coming, and for one it is too late.
    let ago = |id: i32, hours: u64| {
        let part = it.path(&format!("images/.upload-image-{id}.part"));
        let file = File::options().write(true).open(part).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    ago(10_001, 1);
    ago(10_002, 25);
    let it = it.restarted().await;
    let row = it.until(10_001, "upload_stalled").await;
    assert!(row["status_message"].as_str().unwrap().contains("send the rest"), "{row}");
    let row = it.until(10_002, "fail").await;
    assert_eq!(row["error_code"], 2210, "{row}");
    let files = [".upload-image-10001.json", ".upload-image-10001.part"];
    assert_eq!(files_left_in(&it.path("images")).await, files);
    assert_eq!(it.deliver(10_001, 1000, &bytes[1000..]).await.status, 204);
    it.until(10_001, "published").await;
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_while_it_was_checked_is_checked_by_the_next_process() {
    let it = Installation::with_osf("checkedagain").await;
    let bytes = large_image(&it.path("one.tar"), 100_000);
    for (name, sum) in [("a.tar", sha256(&bytes)), ("b.tar", "0".repeat(64)), ("c.tar", sha256(&bytes))] {
        let new = json!({"osf_id": OSF, "disk_image": name, "length": bytes.len(), "sha256": sum});
        assert_eq!(it.image(new).await.status, 201);
    }
    // As a process leaves them that is killed: all bytes there, and one file even in its place.
    for id in 10_000..10_002 {
        fs::write(it.path(&format!("images/.upload-image-{id}.part")), &bytes).unwrap();
    }
    let part = it.path("images/.upload-image-10002.part");
    fs::write(&part, &bytes).unwrap();
    fs::remove_file(part.with_extension("json")).unwrap();
    fs::rename(&part, it.path("images/10002-c.tar")).unwrap();
    it.sql("UPDATE di_runtimes SET state = 'verifying'").await;
    let it = it.restarted().await;
    it.until(10_000, "published").await;
    it.until(10_002, "published").await;
    assert_eq!(it.until(10_001, "fail").await["error_code"], 9021);
    assert_eq!(files_left_in(&it.path("images")).await, ["10000-a.tar", "10002-c.tar"]);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stalls_an_upload_until_there_is_room() {
    let it = Installation::with_osf("deliveryroom").await;
    let images = it.path("images");
    let _small = Small::at(&images);
    let bytes = large_image(&it.path("one.tar"), 3 << 20);
    let new = |length: usize| json!({"osf_id": OSF, "disk_image": "one.tar", "length": length});
    assert_eq!(it.image(new(5 << 20)).await.problem(), (507, 2211));
    assert_eq!(it.image(new(bytes.len())).await.status, 201);
    fs::write(images.join("filler"), vec![0; 2 << 20]).unwrap();
    assert_eq!(it.deliver(10_000, 0, &bytes).await.problem(), (507, 2211));
    let row = it.until(10_000, "upload_stalled").await;
    assert!(row["status_message"].as_str().unwrap().contains("space"), "{row}");
    fs::remove_file(images.join("filler")).unwrap();
    let there = usize::try_from(it.delivered(10_000).await).unwrap();
    assert!(there > 1 << 20 && there < bytes.len(), "{there}");
    assert_eq!(it.deliver(10_000, there, &bytes[there..]).await.status, 204);
    it.until(10_000, "published").await;
    assert_eq!(files_in(&images), ["10000-one.tar"]);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_on_the_way_leaves_no_half_image() {
    let it = Installation::with_osf("fillingdisk").await;
    let images = it.path("images");
    let _small = Small::at(&images);
    // One of these fits, and so does a container image, but not what is made of it.
    let bytes = large_image(&it.path("staging/one.tar"), 5 << 19);
    let noise = &bytes[512..];
    container_image_of(&it.path("staging/container.tar"), &[("sbin/init", noise)]);
    assert_eq!(it.image(json!({"osf_id": OSF, "staging": "container.tar"})).await.status, 201);
    assert_eq!(it.until(10_000, "fail").await["error_code"], 2211);
    assert_eq!(files_left_in(&images).await, Vec::<String>::new());
    // The same as an upload: it waits for room, and is not sent again.
    let container = fs::read(it.path("staging/container.tar")).unwrap();
    let new = json!({"osf_id": OSF, "disk_image": "sent.tar", "length": container.len()});
    assert_eq!(it.image(new).await.status, 201);
    assert_eq!(it.deliver(10_001, 0, &container).await.status, 204);
    let row = it.until(10_001, "upload_stalled").await;
    assert!(row["status_message"].as_str().unwrap().contains("empty piece"), "{row}");
    let more = Some("size=16m");
    let remount = nix::mount::MsFlags::MS_REMOUNT;
    nix::mount::mount(None::<&str>, &images, None::<&str>, remount, more).unwrap();
    assert_eq!(it.deliver(10_001, container.len(), b"").await.status, 204);
    it.until(10_001, "published").await;
    assert_eq!(files_in(&images), ["10001-sent.tar"]);
    it.stop().await;
}
