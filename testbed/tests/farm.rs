//! The commands of `docs/admin/farm.md`, typed as they stand there on two machines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test says where it failed")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use testbed::machine::Answer;
use testbed::{Client, Display, Machine, Namespace, image, programs};

const PAGE: &str = include_str!("../../docs/admin/farm.md");
const LIMIT: Duration = Duration::from_secs(120);

/// The blocks of commands in the page, in their order.
fn blocks() -> Vec<&'static str> {
    let parts = PAGE.split("```sh\n").skip(1);
    parts.filter_map(|part| part.split_once("```").map(|(block, _)| block)).collect()
}

/// Types commands on a machine. Two nodes that share a kernel need bridges, and so control groups, of different names.
fn type_in(machine: &Machine, commands: &str) -> Answer {
    let commands = commands.replace("qvd up", &format!("qvd up --bridge {}", machine.bridge()));
    let programs = programs::program("qvd").unwrap().parent().unwrap().display().to_string();
    let mut shell = machine.namespace().command("/bin/bash");
    shell.args(["-e", "-c", &commands]).env("PATH", format!("{programs}:/usr/sbin:/usr/bin:/sbin:/bin"));
    shell.output().unwrap().into()
}

fn qa4(machine: &Machine, words: &str) -> String {
    let command = format!("qa4 --socket /var/lib/qvd/run/api.sock {words}");
    type_in(machine, &command).good(&command).unwrap()
}

/// What is below a directory is this machine's own.
fn own(machine: &Machine, directory: &str) {
    let layer = |kind: &str| {
        let path = machine.directory().join("own").join(directory.replace('/', "-")).join(kind);
        fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    let layers = format!("lowerdir={directory},upperdir={},workdir={}", layer("upper"), layer("work"));
    machine.namespace().run("/bin/mount", &["-t", "overlay", "overlay", "-o", &layers, directory]).unwrap();
}

fn machine(switch: &Namespace, number: u8, storage: &Path) -> Machine {
    let machine = Machine::create().unwrap();
    let inside = machine.namespace();
    for (lan, interface) in [("office", "eth0"), ("desks", "eth1")] {
        inside.join(switch, lan, &format!("{lan}{number}"), interface).unwrap();
    }
    let address = format!("192.0.2.1{number}/24");
    inside.run("/usr/sbin/ip", &["addr", "add", &address, "dev", "eth0"]).unwrap();
    for directory in ["/var/lib", "/srv", "/root"] {
        own(&machine, directory);
    }
    inside.run("/bin/mkdir", &["/srv/qvd"]).unwrap();
    inside.run("/bin/mount", &["--bind", storage.to_str().unwrap(), "/srv/qvd"]).unwrap();
    machine
}

#[test]
fn two_nodes_are_a_farm_by_the_commands_of_the_page() {
    let shared = tempfile::tempdir().unwrap();
    fs::set_permissions(shared.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let switch = Namespace::create().unwrap();
    for (lan, mac) in [("office", "02:00:00:00:00:01"), ("desks", "02:00:00:00:00:02")] {
        switch.run("/usr/sbin/ip", &["link", "add", lan, "address", mac, "type", "bridge"]).unwrap();
        switch.run("/usr/sbin/ip", &["link", "set", lan, "up"]).unwrap();
    }
    let (first, second) = (machine(&switch, 1, shared.path()), machine(&switch, 2, shared.path()));
    let [make, open, join] = blocks()[..] else { panic!("{:?}", blocks()) };
    for block in [make, open] {
        type_in(&first, block).good(block).unwrap();
    }
    let passwords = first.namespace().run("/bin/cat", &["/var/lib/qvd/passwords"]).unwrap();
    let copy = second.write("copy", passwords.as_bytes()).unwrap();
    second.namespace().run("/bin/cp", &[copy.to_str().unwrap(), "/root/passwords"]).unwrap();
    let said = type_in(&second, join).good(join).unwrap();
    assert!(said.contains("database    qvd of the farm, 192.0.2.11 port 5432"), "{said}");
    // What the node has no use for it does not keep.
    let kept = second.namespace().run("/bin/cat", &["/var/lib/qvd/passwords"]).unwrap();
    assert!(kept.contains("qvd_node = ") && !kept.contains("superadmin = "));

    let hosts = qa4(&first, "host get");
    assert!(hosts.contains("node1") && hosts.contains("node2") && hosts.contains("Total: 2"), "{hosts}");
    let image = image::desktop(&programs::program("qvd-vma").unwrap(), shared.path()).unwrap();
    qa4(&first, "osf new name=MyOSF");
    qa4(&first, &format!("di new path={},osf=MyOSF", image.display()));
    qa4(&first, "user new name=test,password=test");
    qa4(&first, "vm new name=TestVM,user=test,osf=MyOSF");
    qa4(&first, "host name=node1 block");
    qa4(&first, "vm name=TestVM start");
    qa4(&first, "host name=node1 unblock");
    let display = Display::within(first.namespace(), 1024, 768).unwrap();
    let router = "192.0.2.11";
    let client =
        Client::start_in(first.namespace(), router, Some(&display), "test", "test", &["-n", "-f"]).unwrap();
    let shown = display.wait_for("a desktop", LIMIT, |picture| picture.drawn() > 0.8);
    shown.unwrap_or_else(|error| panic!("{error}\n{}", client.said()));
    let desktops = qa4(&first, "vm get");
    assert!(desktops.contains("running") && desktops.contains("node2"), "{desktops}");

    for machine in [&second, &first] {
        let said = type_in(machine, "qvd down").good("qvd down").unwrap();
        assert!(said.contains("down"), "{said}");
    }
}
