//! The way to the API: certificates, proxies, profiles, and what looks at all of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::sync::mpsc;

use serde_json::Value;

use crate::installation::{Installation, PASSWORD};
use crate::{Program, Run, finished};

fn run_with(program: &Program, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
    let mut command = program.command();
    command.args(arguments).envs(variables.iter().copied());
    finished(tokio::task::block_in_place(|| command.output()).unwrap())
}

/// The settings of a program without a line about `key`.
fn without(program: &Program, key: &str) {
    let conf = program.home(".qvd/qa.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let kept: String = text.lines().filter(|l| !l.contains(key)).map(|l| format!("{l}\n")).collect();
    std::fs::write(&conf, kept).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_pinned_when_it_is_first_seen() {
    let it = Installation::start("pin").await;
    let program = Program::of(&it, "superadmin", "*");
    without(&program, "qa.ca");
    let doubted = program.run(&["tenant", "get"]);
    assert_eq!((doubted.exit, doubted.err.contains("--pin")), (3, true), "{doubted:?}");
    let pins = program.home(".qvd/qa.pins");
    assert!(!pins.exists(), "nothing is kept unasked");
    let first = program.run(&["--pin", "tenant", "get"]);
    assert_eq!((first.exit, first.err.contains("is known by its certificate")), (0, true), "{first:?}");
    assert_eq!(std::fs::metadata(&pins).unwrap().mode() & 0o777, 0o600);
    let again = run_with(&program, &[("QVD_PIN", "1")], &["tenant", "get"]);
    assert_eq!((again.exit, again.err.as_str()), (0, ""), "{again:?}");
    // Another certificate at the same place is not believed, whoever made it.
    let text = std::fs::read_to_string(&pins).unwrap();
    let (api, fingerprint) = text.trim().split_once(' ').unwrap();
    let other =
        fingerprint.replace(&fingerprint[..2], if fingerprint.starts_with("00") { "11" } else { "00" });
    std::fs::write(&pins, format!("{api} {other}\n")).unwrap();
    let changed = program.run(&["--pin", "tenant", "get"]);
    assert_eq!((changed.exit, changed.out.as_str()), (3, ""), "{changed:?}");
    assert!(changed.err.contains("is not the one that") && changed.err.contains("qa.pins"), "{changed:?}");
    it.stop().await;
}

/// A proxy for one connection: what it was asked comes out of the channel.
fn proxy() -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let request = String::from_utf8(request).unwrap();
            let target = request.split(' ').nth(1).unwrap().to_owned();
            let refused = !request.contains("Proxy-Authorization");
            let _ = asked.send(request);
            if refused {
                client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").unwrap();
                continue;
            }
            let mut server = TcpStream::connect(target).unwrap();
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let _ = std::io::copy(&mut server, &mut client);
        }
    });
    (port, requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_usual_variables_name_a_proxy() {
    let it = Installation::start("proxy").await;
    let program = Program::of(&it, "superadmin", "*");
    let (port, requests) = proxy();
    let with_login = format!("http://me:s%40crt@127.0.0.1:{port}");
    let listed = run_with(&program, &[("HTTPS_PROXY", &with_login)], &["tenant", "get"]);
    assert_eq!(listed.exit, 0, "{listed:?}");
    let request = requests.recv().unwrap();
    assert!(
        request.starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", it.address.port())),
        "{request}"
    );
    let without_login = format!("http://127.0.0.1:{port}");
    let refused = run_with(&program, &[("https_proxy", &without_login)], &["tenant", "get"]);
    assert_eq!((refused.exit, refused.err.contains("HTTP/1.1 407")), (3, true), "{refused:?}");
    requests.recv().unwrap();
    let direct = [("https_proxy", without_login.as_str()), ("no_proxy", "localhost")];
    assert_eq!(run_with(&program, &direct, &["tenant", "get"]).exit, 0);
    assert!(requests.try_recv().is_err());
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_are_apis_and_administrators_of_their_own() {
    let it = Installation::start("profiles").await;
    let program = Program::of(&it, "superadmin", "*");
    let conf = program.home(".qvd/qa.conf");
    let mut text = std::fs::read_to_string(&conf).unwrap();
    let own =
        text.replace("qa.", "qa.profile.lab.").replace("superadmin", "admin").replace("= *", "= default");
    text = text.replace("localhost", "nowhere.invalid");
    std::fs::write(&conf, text.clone() + &own).unwrap();
    let who = program.run(&["--profile", "lab", "whoami", "-o", "json"]);
    assert_eq!(who.exit, 0, "{who:?}");
    let who: Value = serde_json::from_str(&who.out).unwrap();
    assert_eq!((&who[0]["admin"], &who[0]["tenant"]), (&"admin".into(), &"default".into()));
    assert!(program.home(".qvd/qa.session.lab").exists() && !program.home(".qvd/qa.session").exists());
    let unknown = program.run(&["--profile", "lap", "whoami"]);
    assert_eq!((unknown.exit, unknown.err.contains("did you mean `lab`?")), (2, true), "{unknown:?}");
    // The password of one API is not shown to another.
    let own = own.lines().filter(|l| !l.contains("password")).collect::<Vec<_>>().join("\n");
    std::fs::write(&conf, text + &own + "\n").unwrap();
    std::fs::remove_file(program.home(".qvd/qa.session.lab")).unwrap();
    let unasked = run_with(&program, &[("QVD_PROFILE", "lab")], &["whoami"]);
    assert_eq!((unasked.exit, unasked.err.contains("a password is needed")), (2, true), "{unasked:?}");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_tells_what_is_well_and_what_is_not() {
    let it = Installation::start("doctor").await;
    let program = Program::of(&it, "superadmin", "*");
    let checks = |run: &Run| -> Vec<(String, String)> {
        let rows: Vec<Value> = serde_json::from_str(&run.out).unwrap();
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        rows.iter().map(|row| (text(row, "check"), text(row, "result"))).collect()
    };
    let well = program.run(&["doctor", "-o", "json"]);
    assert_eq!((well.exit, well.err.as_str()), (0, ""), "{well:?}");
    let all = ["connection", "certificate", "versions", "clock", "login", "hosts"];
    assert_eq!(checks(&well), all.map(|check| (check.to_owned(), "ok".to_owned())));
    it.running_host("node1", "10.3.15.9").await;
    it.sql("UPDATE host_runtimes SET state = 'lost'").await;
    let ill = program.run(&["doctor", "-o", "json"]);
    assert_eq!((ill.exit, ill.out.contains("lost or late: node1")), (1, true), "{ill:?}");
    let wrong = program.run(&["doctor", "-o", "json", "-l", "superadmin", "-p", "wrong", "-t", "default"]);
    assert_eq!(wrong.exit, 4, "{wrong:?}");
    assert_eq!(checks(&wrong).last(), Some(&("login".to_owned(), "problem".to_owned())));
    let nowhere = program.run(&["doctor", "-o", "json", "-u", "https://127.0.0.1:1/"]);
    assert_eq!((nowhere.exit, checks(&nowhere).len()), (3, 1), "{nowhere:?}");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_is_watched() {
    let it = Installation::start("watch").await;
    let program = Program::of(&it, "superadmin", "*");
    assert_eq!(program.run(&["user", "new", "name=ann,password=x"]).exit, 0);
    let mut command = program.command();
    command.args(["user", "get", "name,", "blocked", "order", "name", "--watch", "-o", "csv"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    tokio::task::block_in_place(|| {
        assert_eq!(lines.next().unwrap(), "name;blocked");
        assert_eq!(lines.next().unwrap(), "ann;0");
        assert_eq!(program.run(&["user", "new", "name=bob,password=x"]).exit, 0);
        assert_eq!(lines.next().unwrap(), "bob;0");
        assert_eq!(program.run(&["user", "ann", "block"]).exit, 0);
        assert_eq!(lines.next().unwrap(), "ann;1");
        child.kill().unwrap();
        child.wait().unwrap();
    });
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_file_are_imported() {
    let it = Installation::start("import").await;
    let program = Program::of(&it, "superadmin", "*");
    let file = program.home("users.csv");
    let import = |text: &str, more: &[&str]| {
        std::fs::write(&file, text).unwrap();
        let arguments = ["user", "import", "users.csv"];
        program.run(&arguments.iter().chain(more).copied().collect::<Vec<_>>())
    };
    let users = "login;password;description\nann;@home;\"in sales; often away\"\nbob;-;\n";
    let tried = import(users, &["--dry-run"]);
    assert_eq!((tried.exit, tried.out.matches("would create: user").count()), (0, 2), "{tried:?}");
    assert!(!tried.out.contains("@home"), "{tried:?}");
    let made = import(users, &[]);
    assert_eq!((made.exit, made.out.as_str()), (0, "Total: 2\n"), "{made:?}");
    let again = import("login,password\nbob,x\ncarl,x\n", &["-o", "json"]);
    let error: Value = serde_json::from_str(&again.err).unwrap();
    assert_eq!((again.exit, error["error"]["message"].as_str().unwrap().contains("1 of 2")), (8, true));
    assert!(error["error"]["objects"]["line 2"].as_str().unwrap().contains("code 7200"), "{again:?}");
    let listed =
        program.run(&["user", "get", "name, description", "order", "name", "-o", "csv", "--no-headers"]);
    assert_eq!(listed.out, "ann;\"in sales; often away\"\nbob;\ncarl;\n");
    for (text, said) in [
        ("login;color\nx;y\n", "`color` is not something that users of desktops are made with"),
        ("login;password\nx\n", "line 2 does not have 2 values"),
        ("login;password\n\"x;y\n", "not closed"),
        ("", "no line of titles"),
    ] {
        let wrong = import(text, &[]);
        assert_eq!((wrong.exit, wrong.err.contains(said)), (2, true), "{wrong:?}");
    }
    // What is wrong with all of them is told once.
    let refused = import("login;password\nx;y\nz;y\n", &["-l", "superadmin", "-p", "wrong", "-t", "default"]);
    assert_eq!((refused.exit, refused.err.contains("line 2, after 0 were made")), (4, true), "{refused:?}");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_read_refusals_tries_and_help() {
    let it = Installation::start("for_programs").await;
    let program = Program::of(&it, "superadmin", "*");
    assert_eq!(program.run(&["osf", "new", "name=o"]).exit, 0);
    let tried = program.run(&["osf", "o", "set", "memory=512", "--dry-run", "-o", "jsonl"]);
    let expected =
        "{\"would\":\"set\",\"id\":10000,\"name\":\"o\",\"field\":\"memory\",\"old\":256,\"new\":\"512\"}\n";
    assert_eq!((tried.exit, tried.out.as_str()), (0, expected), "{tried:?}");
    let wrong = program.run(&["osf", "get", "--nonsense", "-o", "json"]);
    let error: Value = serde_json::from_str(&wrong.err).unwrap();
    assert_eq!((wrong.exit, error["error"]["exit"].as_u64()), (2, Some(2)));
    assert!(error["error"]["message"].as_str().unwrap().contains("--nonsense"), "{wrong:?}");
    for (words, exit, meant) in [
        (&["osf", "get", "nmae"][..], 9, "`name`"),
        (&["osf", "memry=1", "get"], 9, "`memory`"),
        (&["osf", "o", "set", "memry=1"], 9, "`memory`"),
        (&["osf", "get", "order", "nam"], 9, "`name`"),
        (&["osf", "of", "del"], 6, "`o`"),
        (&["ofs", "get"], 2, "`osf`"),
        (&["osf", "gte"], 2, "`get`"),
    ] {
        let run = program.run(words);
        assert_eq!((run.exit, run.out.as_str()), (exit, ""), "{words:?}: {run:?}");
        assert!(run.err.contains(&format!("did you mean {meant}?")), "{words:?}: {run:?}");
    }
    assert_eq!(program.run(&["role", "new", "name=helpdesk"]).exit, 0);
    let nobody = program.run(&["role", "helpdesk", "diff", "nobody"]);
    assert_eq!((nobody.exit, nobody.err.contains("mean")), (6, false), "{nobody:?}");
    let help = program.run(&["vm", "start", "--help"]);
    assert!(help.out.starts_with("vm - virtual machines\n"), "{help:?}");
    let manual = program.run(&["manual"]);
    assert!(manual.exit == 0 && manual.out.starts_with(".TH QA4 1 "), "{manual:?}");
    let told = program.run(&["-v", "user", "new", "name=x,password=s3cr3t"]);
    assert!(told.err.contains("\"action\":\"user_create\""), "{told:?}");
    assert!(!told.err.contains("s3cr3t") && !told.err.contains(PASSWORD), "{told:?}");
    it.stop().await;
}
