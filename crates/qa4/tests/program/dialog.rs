//! What is asked and shown at a terminal: logins, passwords, the progress of an upload.

use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::Program;
use crate::installation::{Installation, PASSWORD};
use crate::shell::Terminal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_and_password_ask_without_showing_the_answers() {
    let it = Installation::start("dialog").await;
    let program = Program::of(&it, "superadmin", "*");
    let conf = program.home(".qvd/qa.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let anonymous: String = text
        .lines()
        .filter(|l| l.contains("qa.url") || l.contains("qa.ca"))
        .map(|l| format!("{l}\n"))
        .collect();
    std::fs::write(&conf, anonymous).unwrap();
    let output = tokio::task::block_in_place(|| {
        let mut seen = String::new();
        let mut shell = Terminal::start(&program, &[]);
        shell.expect("> ");
        shell.types("login\r");
        for (question, answer) in [("Name: ", "superadmin"), ("Tenant: ", "*"), ("Password: ", PASSWORD)] {
            seen.push_str(&shell.expect(question));
            shell.types(&format!("{answer}\r"));
        }
        seen.push_str(&shell.expect("> "));
        shell.types("tenant get name\r");
        seen.push_str(&shell.expect("| default |"));
        shell.expect("> ");
        // The wrong one is not let near the new one.
        shell.types("password\r");
        seen.push_str(&shell.expect("Current password: "));
        shell.types("wrong\r");
        seen.push_str(&shell.expect("code 3200"));
        shell.expect("> ");
        for (again, said) in [("differs", "the two passwords differ"), ("n3w", "> ")] {
            shell.types("password\r");
            for (question, answer) in
                [("Current password: ", PASSWORD), ("New password: ", "n3w"), ("Again: ", again)]
            {
                seen.push_str(&shell.expect(question));
                shell.types(&format!("{answer}\r"));
            }
            seen.push_str(&shell.expect(said));
            if said != "> " {
                shell.expect("> ");
            }
        }
        // The session goes on with the new one.
        shell.types("tenant get name\r");
        seen.push_str(&shell.expect("| default |"));
        shell.expect("> ");
        // A password that is not given is asked for, twice.
        for line in ["user new name=zoe, tenant=default", "user zoe set passwd"] {
            shell.types(&format!("{line}\r"));
            for question in ["New password: ", "Again: "] {
                seen.push_str(&shell.expect(question));
                shell.types("n3w\r");
            }
            seen.push_str(&shell.expect("Total: 1"));
            shell.expect("> ");
        }
        shell.types("q\r");
        shell.end();
        seen
    });
    assert!(!output.contains(PASSWORD) && !output.contains("n3w"), "{output}");
    let run = program.run(&["logout"]);
    assert_eq!(run.exit, 0, "{run:?}");
    let old = program.run(&["-l", "superadmin", "-t", "*", "-p", PASSWORD, "tenant", "get"]);
    assert_eq!(old.exit, 4, "{old:?}");
    let new = program.fed(&["-l", "superadmin", "-t", "*", "--password-stdin", "tenant", "get"], "n3w\n");
    assert_eq!(new.exit, 0, "{new:?}");
    it.stop().await;
}

/// An image of so many bytes that compress to as many.
fn noisy_image(path: &Path, size: usize) {
    let file = std::fs::File::create(path).unwrap();
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::none()));
    let mut state: u64 = 88172645463325252;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    });
    let content: Vec<u8> = noise.take(size).collect();
    let mut header = tar::Header::new_gnu();
    header.set_size(size.try_into().unwrap());
    header.set_mode(0o755);
    header.set_cksum();
    archive.append_data(&mut header, "sbin/init", content.as_slice()).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_shows_its_rate_and_the_time_left() {
    let it = Installation::start("upload").await;
    let program = Program::of(&it, "superadmin", "*");
    assert_eq!(program.run(&["osf", "new", "name=office"]).exit, 0);
    let image = it.path("local.tar.gz");
    noisy_image(&image, 24 << 20);
    tokio::task::block_in_place(|| {
        let command = format!("file={}, osf=office", image.display());
        let mut terminal = Terminal::start(&program, &["di", "new", &command]);
        terminal.expect("uploading ");
        let bar = terminal.expect("MiB/s ");
        assert!(bar.contains("/24.0"), "{bar:?}");
        terminal.expect("| 10000 |");
        assert_eq!(terminal.end(), 0);
    });
    let state = program.run(&["di", "get", "state,", "name", "-o", "csv", "--no-headers"]);
    assert_eq!(state.out, "published;10000-local.tar.gz\n");
    let tried = program.run(&["di", "new", "file=/x.tar.gz,", "osf=office", "--dry-run"]);
    assert_eq!(tried.out, "would run: di new file=/x.tar.gz, osf=office\n", "{tried:?}");
    let missing = program.run(&["di", "new", "file=/nowhere/x.tar.gz,osf=office"]);
    assert_eq!((missing.exit, missing.out.as_str()), (2, ""), "{missing:?}");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_of_a_second_factor_is_asked_for() {
    let it = Installation::start("dialog_code").await;
    let program = Program::of(&it, "superadmin", "*");
    tokio::task::block_in_place(|| {
        let mut shell = Terminal::start(&program, &[]);
        shell.expect("> ");
        shell.types("totp on\r");
        let shown = shell.expect("Code of the second factor: ");
        let secret = shown.split("authenticator: ").nth(1).unwrap().split_whitespace().next().unwrap();
        let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
        let authenticator = totp_rs::Builder::new().with_secret(secret).build().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        shell.types(&format!("{}\r", authenticator.generate(now)));
        let shown = shell.expect("> ");
        assert!(shown.contains("logins need a code now"), "{shown}");
        let recovery: Vec<_> = shown.lines().map(str::trim).filter(|l| l.matches('-').count() == 3).collect();
        assert_eq!(recovery.len(), 10, "{shown}");
        shell.types("login\r");
        for (question, answer) in [
            ("Name: ", "superadmin"),
            ("Tenant: ", "*"),
            ("Password: ", PASSWORD),
            ("Code of the second factor: ", recovery[0]),
        ] {
            shell.expect(question);
            shell.types(&format!("{answer}\r"));
        }
        shell.expect("> ");
        shell.types("totp\r");
        shell.expect("9 recovery codes are left");
        shell.expect("> ");
        shell.types("totp off\r");
        shell.expect("Code of the second factor: ");
        shell.types(&format!("{}\r", recovery[1]));
        shell.expect("logins need no code any more");
        shell.expect("> ");
        shell.types("q\r");
        shell.end();
    });
    it.stop().await;
}
