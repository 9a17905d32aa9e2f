//! `qvd up`, `status` and `down` on a machine: what they say, and what they leave.

use std::fs;
use std::time::Duration;

use testbed::Cluster;
use testbed::traces::assert_same;

#[test]
fn up_is_repeatable_and_down_leaves_only_data() {
    let cluster = Cluster::machine().unwrap();
    let before = cluster.traces().unwrap();

    let said = cluster.qvd(&["status"]).unwrap();
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.out.contains("there is no installation"), "{said:?}");

    let said = cluster.up().unwrap().good("qvd up").unwrap();
    assert!(said.contains("starting qvd-l7r"), "{said}");
    let status = cluster.qvd(&["status"]).unwrap().good("qvd status").unwrap();
    for word in ["postgresql", "qvd-api", "qvd-hkd", "qvd-l7r", "8443", "passwords"] {
        assert!(status.contains(word), "no {word} in:\n{status}");
    }
    let passwords = fs::metadata(cluster.data().join("passwords")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&passwords.permissions()) & 0o777, 0o600);
    let schema = cluster.value("select version from versions where component = 'schema'").unwrap();
    assert_eq!(schema, "4.3.0");

    let again = cluster.up().unwrap().good("qvd up").unwrap();
    assert!(again.contains("already up"), "{again}");

    cluster.qvd(&["down"]).unwrap().good("qvd down").unwrap();
    assert_same(&before, &cluster.traces().unwrap());
    let status = cluster.qvd(&["status"]).unwrap();
    assert_eq!(status.code, Some(3), "{status:?}");
    assert!(status.out.contains("down; the data is in"), "{status:?}");
    cluster.qvd(&["down"]).unwrap().good("qvd down once more").unwrap();

    // It comes back with what it had.
    let key = "select value from ssl_configs where key = 'l7r.ssl.cert'";
    cluster.up().unwrap().good("qvd up").unwrap();
    let certificate = cluster.value(key).unwrap();
    cluster.qvd(&["down"]).unwrap().good("qvd down").unwrap();
    cluster.up().unwrap().good("qvd up").unwrap();
    assert_eq!(cluster.value(key).unwrap(), certificate);
    assert_eq!(cluster.value("select count(*) from hosts").unwrap(), "1");
    cluster.qvd(&["down"]).unwrap().good("qvd down").unwrap();
    assert_same(&before, &cluster.traces().unwrap());
}

#[test]
fn a_daemon_that_dies_is_started_again_and_its_socket_stays() {
    let cluster = Cluster::new().unwrap();
    let first = cluster.kill_daemon("qvd-l7r").unwrap();
    // A connection made meanwhile waits in the supervisor's socket and is answered by the next router.
    let mut ping = cluster.namespace().command("/usr/bin/timeout");
    ping.args(["20", "openssl", "s_client", "-quiet", "-connect", "127.0.0.1:8443"])
        .stdin(fs::File::open(cluster.write("ping", b"GET /qvd/ping HTTP/1.1\r\n\r\n").unwrap()).unwrap());
    let answer = ping.output().unwrap();
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}\n{}", cluster.logs());
    assert_ne!(cluster.process("qvd-l7r").unwrap(), Some(first));
}

#[test]
fn a_setting_that_a_daemon_cannot_live_with_can_be_mended_by_qa4() {
    let cluster = Cluster::new().unwrap();
    let before = cluster.process("qvd-hkd").unwrap();
    let set = ["config", "set", "tenant_id=-1,key=vm.network.ip.start,value=192.0.2.50"];
    cluster.qa4(&set).unwrap().good("qa4 config set").unwrap();
    cluster.qvd(&["down"]).unwrap().good("qvd down").unwrap();

    let said = cluster.up().unwrap();
    assert_eq!(said.code, Some(1), "{said:?}");
    for words in ["qvd-hkd", "mend its configuration with qa4"] {
        assert!(said.err.contains(words), "no `{words}` in {said:?}");
    }
    let status = cluster.qvd(&["status"]).unwrap();
    assert!(status.out.contains("see its log"), "{status:?}");
    let log = cluster.logs();
    assert!(log.contains("vm.network.gateway"), "{log}");

    let take_back = ["config", "key=vm.network.ip.start", "del"];
    cluster.qa4(&take_back).unwrap().good("qa4 config del").unwrap();
    let host = "select state from host_runtimes";
    cluster.wait_for(host, "running", Duration::from_secs(60)).unwrap();
    assert_ne!(cluster.process("qvd-hkd").unwrap(), before);
    cluster.qvd(&["down"]).unwrap().good("qvd down").unwrap();
}

#[test]
fn everything_that_a_machine_lacks_is_said_at_once_and_nothing_is_changed() {
    let cluster = Cluster::machine().unwrap();
    let machine = cluster.namespace();
    // In this machine's mounts only.
    machine.run("/bin/mount", &["-t", "tmpfs", "none", "/usr/lib/postgresql"]).unwrap();
    cluster.hide("/usr/sbin", &["dnsmasq", "nft"]).unwrap();
    // An overlay cannot be the upper layer of another one.
    cluster.hide(&cluster.directory().display().to_string(), &[]).unwrap();
    let _somebody = machine.listen(([127, 0, 0, 1], 8443).into()).unwrap();

    let said = cluster.up().unwrap();
    assert_eq!(said.code, Some(1), "{said:?}");
    for words in [
        "nothing was changed",
        "/usr/sbin/dnsmasq is missing: apt-get install dnsmasq-base",
        "/usr/sbin/nft is missing: apt-get install nftables",
        "PostgreSQL",
        "the kernel makes no overlayfs on",
        "127.0.0.1:8443 cannot be listened on",
    ] {
        assert!(said.err.contains(words), "no `{words}` in:\n{}", said.err);
    }
    assert!(!cluster.data().exists(), "qvd up made {}", cluster.data().display());
}

#[test]
fn without_root_that_is_said_with_the_rest() {
    let cluster = Cluster::machine().unwrap();
    let said = cluster.as_nobody(&["up"]).unwrap();
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("must run as root"), "{said:?}");
    assert!(!cluster.data().exists());
}

#[test]
fn a_malformed_configuration_is_told_by_file_line_and_key() {
    let cluster = Cluster::machine().unwrap();
    let file = cluster.write("node.conf", b"nodename = a\n\nl7r.port\n").unwrap();
    let said = cluster.daemon("qvd-hkd", &["--check-config", "-f", &file.to_string_lossy()]).unwrap();
    assert_eq!(said.code, Some(78), "{said:?}");
    assert!(said.err.contains("node.conf:3: key `l7r.port` has no separator"), "{said:?}");

    let file = cluster.write("l7r.conf", b"nodename = a\nl7r.port = many\n").unwrap();
    let said = cluster.daemon("qvd-l7r", &["--check-config", "-f", &file.to_string_lossy()]).unwrap();
    assert_eq!(said.code, Some(78), "{said:?}");
    assert!(said.err.contains("l7r.conf:2") && said.err.contains("l7r.port"), "{said:?}");
}
