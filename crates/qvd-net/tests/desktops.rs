//! Real desktops on a real bridge: what they reach, and what they do not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use qvd_hypervisor::lxc::{Addressing, Cgroups, Confinement, Container, Definition, Link, Lxc, Programs};
use qvd_hypervisor::storage::{Home, Init};
use qvd_model::VmId;
use qvd_model::network::{AddressPlan, mac};
use qvd_net::{
    Dnsmasq, Error, Firewall, Host, Names, Policy, Port, add_port, examine_bridge, isolate_port,
    lower_bridge, raise_bridge, release_port, remove_link,
};
use tempfile::TempDir;
use testbed::namespace;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

const LIMIT: Duration = Duration::from_secs(30);
const BRIDGE: &str = "qvdnet";
const NODE: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 1);
const PROTECTED: u16 = 9999;
const LOGIN: u16 = 8443;

fn plan() -> AddressPlan {
    AddressPlan::new(Ipv4Addr::new(10, 44, 0, 100), "16", Some(NODE)).unwrap()
}

fn policy(protect: bool) -> Policy {
    Policy {
        bridge: BRIDGE.to_owned(),
        prefix: "qvd".to_owned(),
        plan: plan(),
        dhcp: true,
        protect_host: protect,
        protect_vms: protect,
        login: protect.then_some(LOGIN),
        nat: Some("uplink0".to_owned()),
    }
}

fn address(vm: VmId) -> Ipv4Addr {
    Ipv4Addr::new(10, 44, 0, u8::try_from(vm.0).unwrap())
}

fn port(vm: VmId) -> Port {
    Port { link: format!("qvd{vm}"), mac: mac("54:52:00", address(vm)), address: address(vm) }
}

fn host(vm: VmId) -> Host {
    Host { mac: mac("54:52:00", address(vm)), address: address(vm), name: format!("desk{vm}") }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A node whose desktops are busybox and a script.
struct Node {
    directory: TempDir,
    lxc: Lxc,
    firewall: Firewall,
    dnsmasq: Dnsmasq,
}

/// What every desktop does: gets an address if it has none, runs its probes, and serves.
const INIT: &str = "#!/bin/busybox sh
export PATH=/bin
busybox --install -s /bin
ip -4 addr show dev eth0 | grep -q 'inet ' || udhcpc -i eth0 -s /lease -n -q -t 10 -T 1 >/dev/null 2>&1
probe() { if \"$@\" >/dev/null 2>&1 </dev/null; then echo yes; else echo no; fi; }
. /home/probes >/home/found
mv /home/found /home/told
exec httpd -f -p 3030 -h /home
";

const LEASE: &str = "#!/bin/busybox sh
[ \"$1\" != bound ] || busybox ip -4 addr add $ip/$mask dev $interface
[ \"$1\" != bound ] || echo \"$router $dns\" >/home/lease
";

impl Node {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        let programs = Programs { start: "/usr/bin/lxc-start".into(), stop: "/usr/bin/lxc-stop".into() };
        let cgroups = Cgroups::detect(&format!("qvd-test-net{}", std::process::id())).unwrap();
        let lxc = Lxc { programs, run: at("run"), cgroups };
        let dnsmasq = Dnsmasq {
            program: "/usr/sbin/dnsmasq".into(),
            directory: at("dnsmasq"),
            bridge: BRIDGE.to_owned(),
            plan: plan(),
            dhcp: true,
            names: Names::default(),
        };
        // dnsmasq gives root up before it reads its hosts again.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(directory.path(), open).unwrap();
        Self { lxc, firewall: Firewall::new("/usr/sbin/nft"), dnsmasq, directory }
    }

    fn home(&self, vm: VmId) -> PathBuf {
        self.directory.path().join(format!("home{vm}"))
    }

    /// Starts a desktop and returns when it has told what it found.
    async fn desktop(&self, vm: VmId, addressing: Addressing, probes: &str) -> (Container, Vec<String>) {
        let root = self.directory.path().join(format!("root{vm}"));
        for name in ["bin", "sbin", "dev", "proc", "sys", "run", "tmp", "home", "etc"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for (name, content) in [("sbin/init", INIT), ("lease", LEASE)] {
            fs::write(root.join(name), content).unwrap();
            let program = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(root.join(name), program).unwrap();
        }
        fs::create_dir_all(self.home(vm)).unwrap();
        fs::write(self.home(vm).join("probes"), probes).unwrap();
        let definition = Definition {
            vm,
            host_name: format!("desk{vm}"),
            root,
            read_only: false,
            init: Init::Other,
            home: Some(Home { source: self.home(vm), target: "home".into() }),
            link: Link { name: port(vm).link, bridge: BRIDGE.to_owned(), mac: port(vm).mac, addressing },
            memory: Some(128 << 20),
            pids: Some(100),
            confinement: Confinement::for_init(Init::Other),
            image_settings: None,
            image_mounts: None,
            extra: String::new(),
        };
        self.lxc.define(&definition).unwrap();
        let mut container = self.lxc.start(vm).unwrap();
        let told = self.home(vm).join("told");
        let done = async {
            while !told.exists() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            done = timeout(LIMIT, done) => assert!(done.is_ok(), "{}", self.lxc.exited(vm, None)),
            status = container.ended() => panic!("{}", self.lxc.exited(vm, status.unwrap())),
        }
        let lines = fs::read_to_string(told).unwrap().lines().map(str::to_owned).collect();
        (container, lines)
    }

    /// All undos, twice.
    async fn clear(&self, vm: VmId) {
        for _ in 0..2 {
            self.lxc.end_processes(vm, LIMIT).await.unwrap();
            self.lxc.undefine(vm).unwrap();
            self.firewall.remove_vm(&port(vm).link).await.unwrap();
            remove_link(&port(vm).link).await.unwrap();
        }
        assert!(!output("/usr/sbin/nft", &["list", "ruleset"]).contains(&port(vm).mac));
        assert!(!PathBuf::from(format!("/sys/class/net/qvd{vm}")).exists());
    }
}

impl Drop for Node {
    /// A failed test must not leave more behind than one that passed.
    fn drop(&mut self) {
        let lxc = self.lxc.clone();
        let clear = async move {
            for vm in (100..104).map(VmId) {
                let _ = lxc.end_processes(vm, LIMIT).await;
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || runtime.block_on(clear)).join().unwrap();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
            let group = format!("qvd-test-net{}", std::process::id());
            let _ = fs::remove_dir(hierarchy.unwrap().path().join(group));
        }
    }
}

/// Whether the node reaches a desktop's port at once.
async fn reaches(address: Ipv4Addr) -> bool {
    let connect = TcpStream::connect(SocketAddr::from((address, 3030)));
    matches!(timeout(Duration::from_secs(1), connect).await, Ok(Ok(_)))
}

/// Waits until a desktop that has told its findings serves.
async fn serves(address: Ipv4Addr) {
    let serving = async {
        while !reaches(address).await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(LIMIT, serving).await.is_ok(), "{address} cannot be reached");
}

/// A port of the node that lets everybody in and out again.
async fn listen(port: u16) -> AbortOnDropHandle<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.unwrap();
    AbortOnDropHandle::new(tokio::spawn(async move { while listener.accept().await.is_ok() {} }))
}

#[tokio::test]
async fn a_bridge_keeps_its_address_when_ports_come_and_go() {
    if !namespace::enter("a_bridge_keeps_its_address_when_ports_come_and_go").unwrap() {
        return;
    }
    let ip = |arguments: &[&str]| {
        assert!(std::process::Command::new("/usr/sbin/ip").args(arguments).status().unwrap().success());
    };
    raise_bridge(BRIDGE, Some((NODE, 16))).await.unwrap();
    let mac = || std::fs::read_to_string(format!("/sys/class/net/{BRIDGE}/address")).unwrap();
    assert_eq!(mac(), "02:00:0a:2c:00:01\n");
    ip(&["link", "add", "port0", "address", "02:00:00:00:00:01", "type", "veth", "peer", "name", "port1"]);
    add_port(BRIDGE, "port0").await.unwrap();
    add_port(BRIDGE, "port0").await.unwrap();
    assert_eq!(mac(), "02:00:0a:2c:00:01\n");
    release_port("port0").await.unwrap();
    release_port("port0").await.unwrap();
    assert!(!Path::new("/sys/class/net/port0/master").exists());
    ip(&["link", "del", "port0"]);
    assert!(matches!(add_port(BRIDGE, "port0").await, Err(Error::NoInterface(_))));
    lower_bridge(BRIDGE).await.unwrap();
}

#[tokio::test]
async fn desktops_are_held_apart() {
    if !namespace::enter("desktops_are_held_apart").unwrap() {
        return;
    }
    let node = Node::new();
    raise_bridge(BRIDGE, Some((NODE, 16))).await.unwrap();
    raise_bridge(BRIDGE, Some((NODE, 16))).await.unwrap();
    assert_eq!(examine_bridge(BRIDGE).await.unwrap(), [(NODE, 16)]);
    let (a, b) = (VmId(100), VmId(101));
    node.firewall.replace(&policy(true), &[port(a)]).await.unwrap();
    for _ in 0..2 {
        node.firewall.add_vm(&port(b)).await.unwrap();
    }
    node.dnsmasq.register(&[host(a)]).unwrap();
    let mut dns = node.dnsmasq.start().await.unwrap();
    node.dnsmasq.register(&[host(a), host(b)]).unwrap();
    let _protected = listen(PROTECTED).await;
    let _login = listen(LOGIN).await;

    let fixed = |vm| Addressing::Static { address: address(vm), prefix: 16, gateway: Some(NODE) };
    let probes = format!(
        "
        probe nc -w 1 {NODE} {PROTECTED}
        probe nc -w 1 {NODE} {LOGIN}
        probe ping -c 1 -W 1 {NODE}
        probe nslookup desk101 {NODE}
        printf '\\0\\0' >/tmp/query
        probe sh -c 'nc -w 1 {NODE} 53 </tmp/query'
    "
    );
    // The node's protected port is closed; login and its echo, DNS over both protocols are open.
    let (_first, told) = node.desktop(a, fixed(a), &probes).await;
    assert_eq!(told, ["no", "yes", "yes", "yes", "yes"]);
    serves(address(a)).await;
    isolate_port(&port(a).link).await.unwrap();

    // The second one gets its address by DHCP, and reaches neither the first nor what it claims to be.
    let probes = format!(
        "
        probe ping -c 1 -W 1 {first}
        probe nc -w 1 {first} 3030
        ip addr add 10.44.0.150/16 dev eth0
    ",
        first = address(a)
    );
    let (_second, told) = node.desktop(b, Addressing::Dhcp, &probes).await;
    assert_eq!(told, ["no", "no"]);
    assert_eq!(fs::read_to_string(node.home(b).join("lease")).unwrap(), format!("{NODE} {NODE}\n"));
    serves(address(b)).await;
    assert!(!reaches(Ipv4Addr::new(10, 44, 0, 150)).await);

    // A port that nobody is known behind any more is silent.
    node.firewall.remove_vm(&port(b).link).await.unwrap();
    assert!(!reaches(address(b)).await);
    node.firewall.add_vm(&Port { mac: "54:52:00:99:99:99".to_owned(), ..port(b) }).await.unwrap();
    assert!(!reaches(address(b)).await);
    node.firewall.add_vm(&port(b)).await.unwrap();
    assert!(reaches(address(b)).await);

    for vm in [a, b] {
        node.clear(vm).await;
    }
    // What it cannot serve is said, and by whom.
    let elsewhere = Dnsmasq { bridge: "nobridge0".to_owned(), ..node.dnsmasq.clone() };
    let other = node.directory.path().join("other");
    let refused = Dnsmasq { directory: other, ..elsewhere }.start().await.unwrap_err();
    assert!(refused.to_string().contains("nobridge0"), "{refused}");
    // A second start takes over, a stop may be repeated.
    let mut again = node.dnsmasq.start().await.unwrap();
    timeout(LIMIT, dns.ended()).await.unwrap().unwrap();
    node.dnsmasq.stop().await.unwrap();
    node.dnsmasq.stop().await.unwrap();
    timeout(LIMIT, again.ended()).await.unwrap().unwrap();
    node.firewall.remove().await.unwrap();
    node.firewall.remove().await.unwrap();
    assert_eq!(output("/usr/sbin/nft", &["list", "ruleset"]), "");
    lower_bridge(BRIDGE).await.unwrap();
    lower_bridge(BRIDGE).await.unwrap();
    assert!(matches!(examine_bridge(BRIDGE).await, Err(Error::NoBridge(_))));
}

/// The same probes where nothing is protected: they can succeed.
#[tokio::test]
async fn without_protection_everybody_is_reached() {
    if !namespace::enter("without_protection_everybody_is_reached").unwrap() {
        return;
    }
    let node = Node::new();
    raise_bridge(BRIDGE, Some((NODE, 16))).await.unwrap();
    let (a, b) = (VmId(102), VmId(103));
    node.firewall.replace(&policy(true), &[]).await.unwrap();
    node.firewall.replace(&policy(false), &[port(a), port(b)]).await.unwrap();
    let _protected = listen(PROTECTED).await;
    let fixed = |vm| Addressing::Static { address: address(vm), prefix: 16, gateway: Some(NODE) };
    let (_first, _) = node.desktop(a, fixed(a), "").await;
    serves(address(a)).await;
    let probes = format!(
        "
        probe nc -w 5 {NODE} {PROTECTED}
        probe ping -c 1 -W 5 {first}
        probe nc -w 5 {first} 3030
    ",
        first = address(a)
    );
    let (_second, told) = node.desktop(b, fixed(b), &probes).await;
    assert_eq!(told, ["yes", "yes", "yes"]);
    for vm in [a, b] {
        node.clear(vm).await;
    }
}

#[tokio::test]
async fn a_link_that_is_no_bridge_is_refused() {
    if !namespace::enter("a_link_that_is_no_bridge_is_refused").unwrap() {
        return;
    }
    output("/usr/sbin/ip", &["link", "add", "qvdnet", "type", "veth", "peer", "name", "other"]);
    assert!(matches!(raise_bridge("qvdnet", None).await, Err(Error::NotABridge(_))));
    assert!(matches!(lower_bridge("qvdnet").await, Err(Error::NotABridge(_))));
    let wrong = Policy { bridge: "a b".to_owned(), ..policy(true) };
    let refused = Firewall::new("/usr/sbin/nft").replace(&wrong, &[]).await;
    assert!(matches!(refused, Err(Error::Name(_))));
    let missing = Firewall::new("/nonexistent/nft").replace(&policy(true), &[]).await;
    assert!(matches!(missing, Err(Error::Program { .. })));
}
