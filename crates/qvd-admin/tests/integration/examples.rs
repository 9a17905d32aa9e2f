//! The examples of the page about `/api/v2`, as they stand there.

use std::process::Command;

use crate::Installation;

const PAGE: &str = include_str!("../../../../docs/admin/api-v2.md");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn examples_do_what_the_page_says() {
    let it = Installation::start("examples").await;
    let (mut script, mut expected) = ("shopt -s expand_aliases\n".to_owned(), String::new());
    for block in PAGE.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            match line.strip_prefix("$ ") {
                Some(command) => script.push_str(&format!("{command}\n")),
                None => expected.push_str(line),
            }
        }
    }
    let socket = it.path("api.sock").display().to_string();
    let script = script.replace("/run/qvd/api.sock", &socket);
    let ran =
        tokio::task::spawn_blocking(move || Command::new("bash").args(["-c", &script]).output().unwrap())
            .await;
    let ran = ran.unwrap();
    // Bodies end without a line break.
    let shown = String::from_utf8(ran.stdout).unwrap().replace('\n', "");
    assert_eq!(shown, expected, "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(expected.len() > 100);
    it.stop().await;
}
