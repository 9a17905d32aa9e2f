//! Codes that need an odd situation, and that no code is without a test.

use qvd_model::action::Status;
use serde_json::{Value, json};

use crate::{Installation, code, image_file};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_wrong_in_themselves() {
    let it = Installation::start("oddrequests").await;
    let status = async |request: Value| it.post("/api", &request).await.1["status"].clone();
    assert_eq!(status(json!({"action": "vm_get_list", "login": {}, "password": "x"})).await, 6310);
    let direction = json!({"action": "vm_get_list", "order_by": {"field": "name", "order": "up"}});
    assert_eq!(status(direction).await, 6600);
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let local = it.path("one.tar.gz");
    image_file(&local);
    it.qa4(&["di", "new", &format!("file={},osf=office,version=v1", local.display())]).await.unwrap();
    let tags = json!({"action": "di_update", "filters": {"id": 10000},
        "arguments": {"__tags_changes__": {"create": [7]}}});
    assert_eq!(status(tags).await, 6350);
    let nowhere = json!({"action": "di_create", "arguments": {"disk_image": "x.tar", "osf_id": 77}});
    assert_eq!(status(nowhere).await, 7100);
    assert_eq!(it.post("/api/di/publish", &json!({})).await.1["status"], 2290);

    it.qa4(&["user", "new", "name=ann,password=p"]).await.unwrap();
    it.qa4(&["vm", "new", "name=desk,user=ann,osf=office"]).await.unwrap();
    it.sql("UPDATE vm_runtimes SET current_di_id = 10000").await;
    assert_eq!(code(it.qa4(&["di", "version=v1", "del"]).await), 7320);

    let own = json!({"action": "administrator_delete", "filters": {"id": 2}});
    let answer = it.post_as("admin", "default", own).await;
    assert_eq!(answer["failures"]["2"]["status"], 5200, "{answer}");
    let key = json!({"action": "config_set", "arguments": {"key": "brand.new", "value": "x"}});
    assert_eq!(it.post_as("admin", "default", key).await["status"], 7382);
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    let single = json!({"action": "config_set", "arguments": {"tenant_id": -1, "key": "wat.multitenant", "value": "0"}});
    assert_eq!(status(single).await, 7373);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_that_are_not_as_they_should() {
    let it = Installation::start("odddirectories").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let file = it.path("x.tar.gz");
    image_file(&file);
    let form = "--cut\r\nContent-Disposition: form-data; name=\"action\"\r\n\r\ndi_create\r\n--cut--\r\n";
    let headers = [("content-type", "multipart/form-data; boundary=cut")];
    let (_, answer) = it.raw("POST", "/api/di/upload", &headers, form.as_bytes()).await;
    assert_eq!(answer["status"], 2250, "{answer}");
    // Something else has the name that the image would get.
    std::fs::create_dir_all(it.path("images/10000-x.tar.gz/full")).unwrap();
    let from = format!("file={},osf=office", file.display());
    assert_eq!(code(it.qa4(&["di", "new", &from]).await), 2251);
    std::fs::remove_dir(it.path("staging")).unwrap();
    assert_eq!(it.post("/api", &json!({"action": "dis_in_staging"})).await.1["status"], 2230);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_cannot_be_kept_or_closed() {
    let it = Installation::start("oddsessions").await;
    let login = it.post_as("admin", "default", json!({"action": "current_admin_setup"})).await;
    let sid = &login["sid"];
    it.sql(
        "UPDATE session SET expires = expires - 1000; \
         CREATE RULE kept AS ON UPDATE TO session DO INSTEAD NOTHING",
    )
    .await;
    let list = json!({"action": "user_get_list", "sid": sid});
    assert_eq!(it.post("/api", &list).await.1["status"], 3400);
    it.sql(
        "DROP RULE kept ON session; \
         CREATE FUNCTION stubborn() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$; \
         CREATE TRIGGER stubborn BEFORE DELETE ON session FOR EACH ROW EXECUTE FUNCTION stubborn()",
    )
    .await;
    assert_eq!(it.post("/api/logout", &json!({"sid": sid})).await.1["status"], 3600);
    it.sql("DROP TRIGGER stubborn ON session").await;
    assert_eq!(it.post("/api/logout", &json!({"sid": sid})).await.1["status"], 0);
    it.stop().await;
}

/// Guesses slow down, and those that would have to wait too long behind others are refused at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_guesses_at_once_are_refused() {
    use futures_util::StreamExt;
    let it = Installation::start("guesses").await;
    let wrong = json!({"action": "vm_get_list", "login": "admin", "tenant": "default", "password": "wrong"});
    for _ in 0..4 {
        assert_eq!(it.post("/api", &wrong).await.1["status"], 3200);
    }
    let mut guesses: futures_util::stream::FuturesUnordered<_> =
        (0..90).map(|_| it.post("/api", &wrong)).collect();
    while let Some((_, answer)) = guesses.next().await {
        if answer["status"] == 9005 {
            assert!(answer["additional_info"].as_str().unwrap().contains("wait"), "{answer}");
            let same = json!({"login": "admin", "tenant": "default", "password": "wrong"});
            let same = it.v2(None, "POST", "/session", Some(same)).await;
            assert_eq!(same.problem(), (429, 9005));
            break;
        }
        assert_eq!(answer["status"], 3200, "{answer}");
    }
    assert!(!guesses.is_empty(), "none was refused");
    drop(guesses);
    // Without a failure before them they are slowed down as well.
    let first = json!({"action": "vm_get_list", "login": "Root", "tenant": "*", "password": "wrong"});
    let again = json!({"action": "vm_get_list", "login": "root ", "tenant": "*", "password": "wrong"});
    let mut guesses: futures_util::stream::FuturesUnordered<_> =
        (0..40).map(|n| it.post("/api", if n % 2 == 0 { &first } else { &again })).collect();
    for _ in 0..4 {
        assert_eq!(guesses.next().await.unwrap().1["status"], 3200);
    }
    let client = it.database().client().await.unwrap();
    let checked =
        "SELECT count(*) FROM log WHERE action = 'login' AND lower(btrim(administrator_name)) = 'root'";
    let checked: i64 = client.query_one(checked, &[]).await.unwrap().get(0);
    assert!(checked < 10, "{checked} were checked");
    drop(guesses);
    it.stop().await;
}

/// A new code must come with a test that shows how to get it.
#[test]
fn every_code_stands_in_a_test() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(root.join("src/images/import.rs")).unwrap();
    text.push_str(&std::fs::read_to_string(root.join("tests/registry.rs")).unwrap());
    for entry in std::fs::read_dir(root.join("tests/integration")).unwrap() {
        text.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    let numbers: std::collections::HashSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let missing: Vec<_> =
        Status::ALL.iter().map(|s| s.code().to_string()).filter(|c| !numbers.contains(c.as_str())).collect();
    assert!(missing.is_empty(), "no test gets {missing:?}");
}
