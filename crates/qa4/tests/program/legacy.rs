//! `qa`: the program under the name of its predecessor, with the examples of the manual (`spec/cli.md` 4.3).

use std::process::{Command, Stdio};

use crate::installation::{Installation, image_file};
use crate::{Run, finished};

/// `qa` as root on the API's host.
pub struct Qa<'a>(pub &'a Installation);

impl Qa<'_> {
    pub fn command(&self) -> Command {
        let link = self.0.path("qa");
        if !link.exists() {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_qa4"), &link).unwrap();
        }
        let mut command = Command::new(link);
        let socket = self.0.path("api.sock");
        command.env_clear().env("HOME", self.0.path("home")).env("QVD_SOCKET", socket).env("TZ", "UTC");
        command.env("PATH", self.0.path("bin"));
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        finished(tokio::task::block_in_place(|| self.command().args(arguments).output()).unwrap())
    }

    fn answered(&self, arguments: &[&str], answer: &str) -> Run {
        use std::io::Write;
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        finished(tokio::task::block_in_place(|| child.wait_with_output()).unwrap())
    }

    /// It succeeds and prints this.
    fn prints(&self, arguments: &[&str], expected: &str) {
        let run = self.run(arguments);
        assert_eq!((run.exit, run.out.as_str(), run.err.as_str()), (0, expected, ""), "{arguments:?}");
    }

    fn shows(&self, arguments: &[&str], parts: &[&str]) {
        let run = self.run(arguments);
        assert_eq!(run.exit, 0, "{arguments:?}: {run:#?}");
        assert!(parts.iter().all(|part| run.out.contains(part)), "{arguments:?}: {run:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_manual() {
    let it = Installation::start("legacy").await;
    let qa = Qa(&it);
    let help = qa.run(&["--help"]);
    assert_eq!(help.exit, 1);
    assert!(help.out.contains("vm disconnect_user\n") && help.out.contains("osf add (*)\n"), "{help:#?}");
    qa.shows(&["config", "ssl", "--help"], &["qa config ssl key=VALUE cert=VALUE"]);

    qa.prints(&["config", "set", "myproperty=this is a value"], "");
    qa.shows(&["config", "get"], &["\nmyproperty=this is a value\n", "\nl7r.port=8443\n"]);
    qa.prints(&["config", "get", "myproperty"], "myproperty=this is a value\n");
    qa.prints(&["config", "del", "myproperty"], "Deleted 1 config entries.\n");
    let refused = qa.run(&["config", "set", "l7r.ssl.key=x"]);
    assert_eq!(refused.exit, 1);
    assert!(refused.err.starts_with("Error: ") && refused.err.contains("qa config ssl"), "{refused:#?}");

    let ssl = format!("key={0}/key.pem,cert={0}/cert.pem", it.dir.path().display());
    qa.prints(&["config", "ssl", &ssl], "");

    qa.prints(&["host", "add", "name=NewNode", "address=192.168.0.12"], "Host added with id 10000\n");
    qa.prints(&["host", "add", "name=sharon", "address=192.168.0.13"], "Host added with id 10001\n");
    qa.shows(&["host", "list", "-f", "name=sha*"], &["Id    Name   Address", "10001 sharon 192.168.0.13"]);
    qa.prints(&["host", "del", "-f", "name=NewNode"], "Deleting 1 Hosts.\n");

    it.sql("SELECT setval(pg_get_serial_sequence(t, 'id'), 1, false) FROM unnest(ARRAY['users', 'osfs', 'vms']) t")
        .await;
    qa.prints(
        &["osf", "add", "name=myOSF", "use_overlay=no", "memory=1024", "user_storage_size=2048"],
        "OSF added with id 1\n",
    );
    qa.prints(
        &["osf", "list"],
        "Id Name  RAM  Overlay UserHD\n----------------------------\n 1 myOSF 1024 no        2048\n",
    );
    let staged = it.path("staging/qvd-guest.img.tar.gz");
    image_file(&staged);
    it.sql("SELECT setval(pg_get_serial_sequence('dis', 'id'), 42, false)").await;
    qa.prints(&["di", "add", &format!("path={}", staged.display()), "osf_id=1"], "DI added with id 42\n");
    qa.shows(&["di", "list"], &["42-qvd-guest.img.tar.gz", "default", "head"]);
    qa.prints(&["di", "tag", "di_id=42", "tag=default"], "");
    qa.prints(&["di", "tag", "di_id=42", "tag=software_bug_fixed"], "");

    qa.prints(&["user", "add", "login=peter", "password=s3cr3t"], "User added with id 1\n");
    qa.prints(&["user", "add", "login=guest3", "password=x"], "User added with id 2\n");
    qa.prints(&["user", "del", "-f", "login=guest3"], "Deleting 1 Users.\n");
    qa.prints(&["user", "list"], "Id Login\n--------\n 1 peter\n");
    qa.prints(&["user", "list", "-q"], "1 peter\n");
    let unasked = qa.run(&["user", "passwd", "user=guest"]);
    assert_eq!(unasked.exit, 1, "{unasked:#?}");

    qa.prints(&["vm", "add", "name=GuestVM", "user_id=1", "osf_id=1"], "VM added with id 1\n");
    let unknown = qa.run(&["vm", "add", "name=GuestVM2", "user=peter", "osf=myOFS"]);
    assert_eq!(unknown.exit, 1);
    assert!(unknown.err.contains("did you mean `myOSF`?"), "{unknown:#?}");
    it.sql("SELECT setval(pg_get_serial_sequence('vms', 'id'), 41, false)").await;
    qa.prints(
        &["vm", "add", "name=v", "user=peter", "osf=myOSF", "bulk=2"],
        "VM added with id 41\nVM added with id 42\n",
    );
    qa.prints(&["vm", "edit", "di_tag=software_bug_fixed", "-f", "vm_id=42"], "Edited 1 VMs.\n");
    qa.shows(&["vm", "list", "-f", "id=42"], &["software_bug_fixed", "UserState", "v-1"]);
    qa.prints(&["vm", "block", "-f", "id=41"], "");
    qa.prints(&["vm", "unblock", "-f", "name=GuestVM"], "");
    it.running_host("node1", "10.3.15.9").await;
    qa.prints(&["vm", "start", "-f", "id=1"], "Started 1 VMs.\n");
    it.sql("UPDATE vm_runtimes SET vm_state = 'running', vm_cmd = NULL, user_state = 'connected' WHERE vm_id = 1")
        .await;
    qa.shows(&["vm", "list", "-f", "user=pe*,state=running,user_state=connected"], &["GuestVM"]);
    // What cannot be done to the others is told, and is no failure.
    let stopped = qa.run(&["vm", "stop", "-f", "user=p*"]);
    assert_eq!((stopped.exit, stopped.out.as_str()), (0, "Stopped 1 VMs.\n"), "{stopped:#?}");
    assert_eq!(stopped.err.matches(" skipped: ").count(), 2, "{stopped:#?}");
    let running = qa.run(&["vm", "del", "-f", "name=GuestVM"]);
    assert!(running.err.contains("vm 1 skipped: "), "{running:#?}");
    it.sql("UPDATE vm_runtimes SET vm_state = 'stopped', vm_cmd = NULL, host_id = NULL").await;
    qa.prints(&["vm", "del", "-f", "name=GuestVM"], "Deleting 1 VMs.\n");

    qa.prints(&["user", "add", "login=rowan", "password=x"], "User added with id 3\n");
    qa.prints(&["user", "propset", "beverage=beer", "-F", "login=rowan"], "propset in 1 users.\n");
    qa.prints(&["user", "propget"], "rowan\tbeverage=beer\n");
    // No is an answer too, and nothing fails by it.
    let kept = qa.answered(&["user", "propdel", "beverage"], "n\n");
    assert_eq!(kept.exit, 0);
    assert!(kept.out.contains("[y/N]") && kept.out.ends_with("Aborted\n"), "{kept:#?}");
    qa.prints(&["user", "propget"], "rowan\tbeverage=beer\n");
    assert_eq!(qa.answered(&["user", "propdel", "beverage"], "y\n").exit, 0);
    qa.prints(&["user", "propget"], "");
    let nobody = qa.run(&["user", "propset", "a=b", "-f", "login=nobody"]);
    assert_eq!((nobody.exit, nobody.out.as_str()), (1, ""), "{nobody:#?}");
    it.stop().await;
}

/// VMs `a` and `b` of the user `ann`, and a host.
async fn with_two_vms(it: &Installation, qa: &Qa<'_>) {
    for words in [
        &["osf", "add", "name=o"][..],
        &["user", "add", "login=ann", "password=x"],
        &["vm", "add", "name=a", "user=ann", "osf=o"],
        &["vm", "add", "name=b", "user=ann", "osf=o"],
    ] {
        assert_eq!(qa.run(words).exit, 0, "{words:?}");
    }
    it.running_host("node1", "10.3.15.9").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_heartbeats_and_what_is_strict() {
    let it = Installation::start("legacy_counters").await;
    let qa = Qa(&it);
    with_two_vms(&it, &qa).await;
    it.sql(
        "UPDATE host_runtimes SET ok_ts = now() - interval '3 minutes', usable_ram = 4000, usable_cpu = 2500.5;
         UPDATE host_counters SET http_requests = 7, auth_attempts = 6, auth_ok = 5, nx_attempts = 4, nx_ok = 3,
             short_sessions = 2;
         UPDATE vm_counters SET run_attempts = 3, run_ok = 2 WHERE vm_id = (SELECT id FROM vms WHERE name = 'a');
         UPDATE vm_runtimes SET vm_state = 'running', blocked = true, real_user_id = (SELECT id FROM users)
             WHERE vm_id = (SELECT id FROM vms WHERE name = 'a')",
    )
    .await;
    qa.prints(
        &["host", "counters"],
        "Id    Name  HTTP Requests Auth attempts Auth OK NX attempts NX OK Short sessions\n\
         --------------------------------------------------------------------------------\n\
         10000 node1             7             6       5           4     3              2\n",
    );
    qa.prints(
        &["vm", "counters"],
        "Machines: 2\nRunning: 1\nBlocked: 1\n\n\
         Id    Name Run attempts Run OK\n------------------------------\n\
         10000 a               3      2\n10001 b               0      0\n",
    );
    qa.prints(&["vm", "counters", "-q", "-f", "name=a"], "10000 a 3 2\n");
    let hosts = qa.run(&["host", "list", "-q"]);
    assert!(hosts.out.starts_with("10000 node1 10.3.15.9 00:03:0"), "{hosts:?}");
    assert!(hosts.out.contains(" 4000 2500.5 "), "{hosts:?}");
    let vms = qa.run(&["vm", "list", "-q", "-f", "vm_state=running"]);
    assert!(vms.out.starts_with("10000 a ann ann "), "{vms:?}");

    // What old scripts rely on is a failure only for the strict.
    for (words, answer, exits) in [
        (&["vm", "block"][..], "n\n", [0, 10]),
        (&["vm", "stop", "-f", "name=*"], "", [0, 8]),
        (&["vm", "add", "name=c", "user=nobody", "osf=o"], "", [1, 6]),
    ] {
        for (strict, exit) in [(None, exits[0]), (Some("--strict"), exits[1])] {
            let words: Vec<&str> = words.iter().copied().chain(strict).collect();
            let run = qa.answered(&words, answer);
            assert_eq!(run.exit, exit, "{words:?}: {run:?}");
        }
    }
    let traced = qa.run(&["-d", "user", "add", "login=eve", "password=s3cr3t"]);
    assert_eq!((traced.exit, traced.out.as_str()), (0, "User added with id 10001\n"), "{traced:?}");
    assert!(
        traced.err.contains("\"action\":\"user_create\"") && !traced.err.contains("s3cr3t"),
        "{traced:?}"
    );
    it.stop().await;
}

/// With the rights that a node has in the database, and without an API.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_on_a_node_needs_no_api_for_the_most_urgent() {
    let it = Installation::start("legacy_direct").await;
    let qa = Qa(&it);
    with_two_vms(&it, &qa).await;
    it.sql(
        "UPDATE vm_runtimes SET vm_state = 'running', host_id = (SELECT id FROM hosts)
             WHERE vm_id = (SELECT id FROM vms WHERE name = 'a');
         INSERT INTO tenants (id, name) VALUES (7, 'other')",
    )
    .await;
    let listings =
        [&["vm", "list"][..], &["host", "list"], &["osf", "list"], &["di", "list"], &["user", "list"]];
    let with_api = listings.map(|words| qa.run(words).out);
    let conf = it.path("node.conf");
    let text = format!(
        "nodename = node1\ndatabase.host = {}\ndatabase.name = {}\ndatabase.user = qvd_node\n",
        it.settings.hosts[0], it.settings.name
    );
    std::fs::write(&conf, text).unwrap();
    let direct = |words: &[&str], answer: &str| {
        use std::io::Write;
        let mut command = qa.command();
        command.arg("--direct").args(words).env_remove("QVD_SOCKET").env("QVD_CONFIG", &conf);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        finished(tokio::task::block_in_place(|| child.wait_with_output()).unwrap())
    };
    for (words, expected) in listings.iter().zip(with_api) {
        let run = direct(words, "");
        // Time goes on between the two.
        let still = |text: &str| text.split(" 00:00:").next().unwrap().to_owned();
        assert_eq!((run.exit, still(&run.out)), (0, still(&expected)), "{words:?}: {run:?}");
        assert!(run.out.lines().count() >= 2, "{words:?}: {run:?}");
    }
    assert_eq!(direct(&["vm", "list", "-q", "-f", "name=a*,state=running"], "").out.lines().count(), 1);
    assert_eq!(direct(&["vm", "list", "-q", "-t", "other"], "").out, "");
    assert!(direct(&["vm", "counters"], "").out.starts_with("Machines: 2\nRunning: 1\n"));

    let stopped = direct(&["vm", "stop"], "y\n");
    assert!(stopped.out.ends_with("[y/N] Stopped 1 VMs.\n"), "{stopped:?}");
    assert!(stopped.err.contains("vm 10001 skipped: it is stopped"), "{stopped:?}");
    assert_eq!(direct(&["host", "block", "-f", "name=node1"], "").exit, 0);
    assert_eq!(direct(&["vm", "stop", "--strict", "--force"], "").exit, 8);
    let told = qa.run(&["host", "list", "-q"]);
    assert!(told.out.contains(" 1 running"), "{told:?}");
    let row = "SELECT count(DISTINCT code) FROM events WHERE actor = 'admin:qa --direct'";
    let told: i64 = it.database().client().await.unwrap().query_one(row, &[]).await.unwrap().get(0);
    assert_eq!(told, 2);
    for (words, said) in [
        (&["user", "del", "-f", "login=ann"][..], "user del needs the API"),
        (&["vm", "list", "-f", "color=red"], "vm cannot be selected by color"),
        (&["vm", "list", "-f", "id=red"], "`red` is not a whole number"),
        (&["vm", "list", "-t", "nowhere"], "there are: *, default, other"),
    ] {
        let run = direct(words, "");
        assert!(run.exit == 1 && run.err.contains(said) && run.out.is_empty(), "{words:?}: {run:?}");
    }
    it.stop().await;
}
