//! The ways into a VM: a real ssh and sshd, and stand-ins that connect where other programs would.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::installation::Installation;
use crate::legacy::Qa;
use crate::{Program, Run, finished};

/// An SSH server for whoever connects to this port: one that `inetd` could start.
fn ssh_server(keys: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // The directory that it wants exists in a mount namespace of its own only.
            let script = "mount -t tmpfs none /run && mkdir -m 0755 /run/sshd && exec /usr/sbin/sshd \"$@\"";
            let mut server = Command::new("/usr/bin/unshare");
            server.args(["--mount", "/bin/sh", "-c", script, "sshd", "-i", "-e", "-f", "/dev/null"]);
            server.arg("-h").arg(keys.join("host")).arg("-o");
            server.arg(format!("AuthorizedKeysFile={}", keys.join("own.pub").display()));
            server.args(["-o", "StrictModes=no", "-o", "PermitRootLogin=yes", "-o", "UsePAM=no"]);
            let stream = OwnedFd::from(stream.unwrap());
            server.stdin(Stdio::from(stream.try_clone().unwrap())).stdout(Stdio::from(stream));
            let log = std::fs::File::options().create(true).append(true).open(keys.join("log")).unwrap();
            let mut server = server.stderr(log).spawn().unwrap();
            std::thread::spawn(move || server.wait());
        }
    });
    port
}

fn make_key(path: &Path) {
    // An old one would be asked for.
    let _ = std::fs::remove_file(path);
    let mut command = Command::new("/usr/bin/ssh-keygen");
    let made = command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(made.success());
}

/// A port that answers with this and says what it was told.
fn port_that_says(text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
        }
    });
    port
}

/// One VM, `desk`, that runs on `node1` with these ports.
async fn installation(name: &str, ssh: u16) -> Installation {
    let it = Installation::start(name).await;
    for command in [
        &["osf", "new", "name=o,tenant=default"][..],
        &["user", "new", "name=ann,password=x,tenant=default"],
        &["vm", "new", "name=desk,user=ann,osf=o"],
    ] {
        it.qa4(command).await.unwrap();
    }
    it.running_host("node1", "127.0.0.1").await;
    it.sql(&format!(
        "UPDATE vm_runtimes SET vm_state = 'running', host_id = (SELECT id FROM hosts), vm_address = '127.0.0.1', \
         vm_ssh_port = {ssh}"
    ))
    .await;
    it
}

fn run(mut command: Command, arguments: &[&str]) -> Run {
    finished(tokio::task::block_in_place(|| command.args(arguments).output()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ssh_comes_from_anywhere_and_knows_the_key_of_each_vm() {
    let keys = tempfile::tempdir().unwrap();
    make_key(&keys.path().join("host"));
    make_key(&keys.path().join("own"));
    let port = ssh_server(keys.path().to_owned());
    let it = installation("reach_ssh", port).await;
    let log = || std::fs::read_to_string(keys.path().join("log")).unwrap_or_default();
    let program = Program::of(&it, "superadmin", "*");
    let known = keys.path().join("known_hosts");
    let options = [
        "-F".to_owned(),
        "none".to_owned(),
        "-oBatchMode=yes".to_owned(),
        "-oLogLevel=ERROR".to_owned(),
        format!("-oUserKnownHostsFile={}", known.display()),
        format!("-oIdentityFile={}", keys.path().join("own").display()),
        "-lroot".to_owned(),
    ];
    let reach = |checking: &str, words: &[&str]| {
        let mut command = program.command();
        command.env("PATH", "/usr/bin:/bin").args(["vm", "desk", "ssh", "--"]).args(&options);
        run(command, &[&[checking], words].concat())
    };
    // Nobody is trusted who was not asked for.
    let stranger = reach("-oStrictHostKeyChecking=yes", &["true"]);
    assert!(
        stranger.exit == 255 && stranger.err.contains("qvd-vm-10000.localhost"),
        "{stranger:?}\n{}",
        log()
    );
    let words = ["printf", "'%s\\n'", "\"$SSH_CONNECTION\"", "two"];
    let first = reach("-oStrictHostKeyChecking=accept-new", &words);
    assert!(first.exit == 0 && first.out.ends_with("\ntwo\n"), "{first:?}\n{}", log());
    let known = std::fs::read_to_string(known).unwrap();
    assert!(known.starts_with("qvd-vm-10000.localhost ssh-ed25519 "), "{known}");
    let again = reach("-oStrictHostKeyChecking=yes", &["exit 7"]);
    assert_eq!((again.exit, again.err.as_str()), (7, ""), "{}", log());
    make_key(&keys.path().join("host"));
    let other = reach("-oStrictHostKeyChecking=accept-new", &["true"]);
    assert!(other.exit == 255 && other.err.contains("IDENTIFICATION HAS CHANGED"), "{other:?}\n{}", log());

    // `qa` does the same; its API is on a socket.
    let qa = Qa(&it);
    let mut command = qa.command();
    command.env("PATH", "/usr/bin:/bin").args(["vm", "ssh", "-f", "name=de*", "--"]).args(&options);
    let legacy = run(command, &["-oStrictHostKeyChecking=yes", "true"]);
    assert!(legacy.exit == 255 && legacy.err.contains("known for qvd-vm-10000 "), "{legacy:?}");

    let story = it.qa4(&["vm", "desk", "explain"]).await.unwrap();
    assert!(story.contains("superadmin is connected to the SSH server"), "{story}");
    let logged = it.qa4(&["log", "action~vm_ssh%", "get", "action, status", "-o", "csv"]).await.unwrap();
    assert!(logged.contains("vm_ssh;0\n") && logged.contains("vm_ssh_end;0\n"), "{logged}");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_programs_find_the_vm_on_a_port_of_this_machine() {
    let it = installation("reach_others", 1).await;
    std::fs::create_dir_all(it.path("bin")).unwrap();
    // They tell how they were called, and what they find.
    for (name, place) in [("vncviewer", "port=${1##*::}; shift"), ("telnet", "port=$2; shift 2")] {
        let file = it.path("bin").join(name);
        let find = "exec 3<>/dev/tcp/127.0.0.1/$port; read -r line <&3; echo \"$line\"";
        std::fs::write(&file, format!("#!/bin/bash\n{place}; echo \"${{0##*/}} $*\"; {find}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let qa = Qa(&it);
    let missing = qa.run(&["vm", "vnc", "-f", "name=desk"]);
    assert!(missing.exit == 1 && missing.err.contains("desk has no VNC port on its host"), "{missing:?}");
    let elsewhere = qa.run(&["vm", "console", "-f", "id=10000"]);
    let told = "desk is a container on node1, and root has its console there: qa4 vm id=10000 console";
    assert!(elsewhere.exit == 1 && elsewhere.err.contains(told), "{elsewhere:?}");
    let nothing = qa.run(&["vm", "ssh", "-f", "name=desk", "--", "-l", "qvd"]);
    assert!(
        nothing.exit == 1 && nothing.err.contains("nothing answers at 127.0.0.1:1 of desk"),
        "{nothing:?}"
    );

    let (screen, console) = (port_that_says("RFB 003.008\n"), port_that_says("login:\n"));
    it.sql(&format!("UPDATE vm_runtimes SET vm_vnc_port = {screen}, vm_serial_port = {console}")).await;
    let program = Program::of(&it, "superadmin", "*");
    let reach = |words: &[&str]| {
        let mut command = program.command();
        command.env("PATH", it.path("bin"));
        run(command, words)
    };
    let shown = reach(&["vm", "desk", "vnc", "--", "-FullScreen"]);
    assert_eq!((shown.exit, shown.out.as_str()), (0, "vncviewer -FullScreen\nRFB 003.008\n"), "{shown:?}");
    let shown = qa.run(&["vm", "vnc", "-f", "name=desk", "--", "-x", "y z"]);
    assert_eq!((shown.exit, shown.out.as_str()), (0, "vncviewer -x y z\nRFB 003.008\n"), "{shown:?}");
    let shown = reach(&["vm", "id=10000", "console"]);
    assert_eq!((shown.exit, shown.out.as_str()), (0, "telnet \nlogin:\n"), "{shown:?}");
    let unknown = program.command().env("PATH", "/nowhere").args(["vm", "desk", "vnc"]).output().unwrap();
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(unknown.status.code() == Some(2) && said.contains("cannot run vncviewer"), "{said}");

    // One VM at a time, and one that runs.
    it.qa4(&["vm", "new", "name=desk2,user=ann,osf=o"]).await.unwrap();
    for (words, told) in [
        (&["vm", "ssh"][..], "2 VMs match; ssh takes one"),
        (&["vm", "nobody", "spy"], "no VM matches"),
        (&["vm", "desk2", "vnc"], "desk2 does not run; qa4 vm id=10001 start --wait starts it"),
    ] {
        let refused = reach(words);
        assert!(refused.exit == 2 && refused.err.contains(told), "{words:?}: {refused:?}");
    }
    it.stop().await;
}
