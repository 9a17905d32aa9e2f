//! The examples of the pages for administrators, typed into a real bash.

use std::process::Command;

use crate::Program;
use crate::installation::{Installation, image_file};

const QA4: &str = include_str!("../../../../docs/admin/qa4.md");
const API: &str = include_str!("../../../../docs/admin/api.md");
const SECURITY: &str = include_str!("../../../../docs/admin/security.md");
const CONFIGURATION: &str = include_str!("../../../../docs/admin/configuration.md");

/// The commands of a page's consoles, each with what it shows.
fn examples(page: &str) -> Vec<(String, String)> {
    let mut examples: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match (line.strip_prefix("$ "), examples.last_mut()) {
                (Some(command), _) => examples.push((command.to_owned(), String::new())),
                (None, Some((_, shown))) => shown.push_str(&format!("{line}\n")),
                (None, None) => panic!("a console begins without a command: {line}"),
            },
            (false, _) => {}
        }
    }
    examples
}

/// Whether `shown` is what the page says; `…` stands for any text.
fn fits(page: &str, shown: &str) -> bool {
    let mut rest = shown;
    let parts: Vec<&str> = page.split('…').collect();
    for (at, part) in parts.iter().enumerate() {
        let part = if at > 0 && part.trim().is_empty() { "" } else { part };
        let found = if at == 0 { rest.starts_with(part).then_some(0) } else { rest.find(part) };
        match found {
            Some(start) => rest = &rest[start + part.len()..],
            None => return false,
        }
    }
    parts.len() > 1 || rest.is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_of_the_page_is_true() {
    assert!(checked("page", QA4).await > 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_about_security_is_true() {
    assert!(checked("security_page", SECURITY).await > 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_about_the_api_is_true() {
    assert!(checked("api_page", API).await > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_about_configuration_is_true() {
    assert!(checked("configuration_page", CONFIGURATION).await > 5);
}

#[test]
fn the_exit_codes_of_the_page_are_those_of_the_program() {
    for (code, meaning) in qvd_cli::error::EXIT_CODES {
        assert!(QA4.contains(&format!("\n| {code} | {meaning} |\n")), "{code}");
    }
}

/// Runs the examples of a page against an installation of their own; how many there are.
async fn checked(name: &str, page: &str) -> usize {
    let it = Installation::start(name).await;
    let program = Program::of(&it, "superadmin", "*");
    image_file(&it.path("staging/office.tar.gz"));
    let bin = it.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_qa4"), bin.join("qa4")).unwrap();
    let examples = examples(page);
    for (command, page) in &examples {
        let here = command.replace("/staging/", &format!("{}/", it.path("staging").display()));
        let here = here.replace("/run/qvd/api.sock", &it.path("api.sock").display().to_string());
        let mut bash = Command::new("bash");
        let as_program = program.command();
        bash.args(["--norc", "-c", &format!("exec 2>&1; {here}")]).env_clear().current_dir(program.home(""));
        bash.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        bash.envs(as_program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = tokio::task::block_in_place(|| bash.output()).unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(fits(page.trim_end(), shown.trim_end()), "$ {command}\n{shown}\nbut the page says\n{page}");
    }
    it.stop().await;
    examples.len()
}
