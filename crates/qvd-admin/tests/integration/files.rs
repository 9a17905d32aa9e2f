//! The files of a web console beside the API.

use std::fs;

use serde_json::json;

use crate::Installation;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_external_console_is_served() {
    let it = Installation::start("consolefiles").await;
    let wat = it.path("wat");
    fs::create_dir_all(wat.join("lib")).unwrap();
    fs::write(wat.join("index.html"), "<title>console</title>").unwrap();
    fs::write(wat.join("config.json"), r#"{"apiUrl": ""}"#).unwrap();
    fs::write(wat.join("lib/app.js"), "start()").unwrap();
    fs::write(wat.join(".secret"), "x").unwrap();
    std::os::unix::fs::symlink(it.path("key.pem"), wat.join("key.pem")).unwrap();
    std::os::unix::fs::symlink(wat.join("lib"), wat.join("inside")).unwrap();

    for path in ["/", "/index.html", "/?x=1"] {
        assert_eq!(it.raw("GET", path, &[], b"").await, (200, json!("<title>console</title>")), "{path}");
    }
    assert_eq!(it.raw("POST", "/index.html", &[], b"password=x").await.0, 200);
    assert_eq!(it.raw("GET", "/config.json", &[], b"").await, (200, json!({"apiUrl": ""})));
    assert_eq!(it.raw("GET", "/inside/app.js", &[], b"").await, (200, json!("start()")));
    assert_eq!(it.raw("HEAD", "/lib/app.js", &[], b"").await, (200, json!("")));
    for path in
        ["/key.pem", "/.secret", "/../cert.pem", "/lib/../../cert.pem", "/lib", "/nothing.js", "/api/nothing"]
    {
        assert_eq!(it.raw("GET", path, &[], b"").await.0, 404, "{path}");
    }
    assert_eq!(it.raw("DELETE", "/index.html", &[], b"").await.0, 405);
    // The API is where it was.
    assert_eq!(it.raw("GET", "/api/info", &[], b"").await.1["status"], 0);
    it.stop().await;
}
