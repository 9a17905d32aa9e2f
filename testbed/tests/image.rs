//! The desktop image boots, gives a session that can be seen, and ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qvd_hypervisor::lxc::{Addressing, Cgroups, Confinement, Definition, Link, Lxc, Programs};
use qvd_hypervisor::storage::{
    Directories, HomeOwner, Init, Limits, Progress, Seed, Unpacking, discard_overlay, mount_root,
    prepare_base, prepare_home, prepare_overlay, seed_root, unmount_below,
};
use qvd_model::{DiId, SessionState, VmId};
use qvd_rpc::Agent;
use secrecy::SecretString;
use testbed::{Display, image, namespace, programs};
use tokio::sync::watch;

const LIMIT: Duration = Duration::from_secs(30);
const VM: VmId = VmId(7);
const DI: DiId = DiId(3);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const MAC: &str = "54:52:00:00:00:64";
/// The background of the terminal that a session begins with.
const TERMINAL: [u8; 3] = [0x14, 0x20, 0x2b];

/// A program that ends with the test.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The node: a bridge that gives addresses, and a storage with the image.
struct Node {
    directory: PathBuf,
    directories: Directories,
    lxc: Lxc,
    _dnsmasq: Program,
}

impl Node {
    fn new(directory: &Path) -> Self {
        for arguments in
            ["link add qvdnet type bridge", "addr add 10.0.0.1/16 dev qvdnet", "link set qvdnet up"]
        {
            assert!(Command::new("/usr/sbin/ip").args(arguments.split(' ')).status().unwrap().success());
        }
        let at = |name: &str| directory.join(name);
        fs::write(at("hosts"), format!("{MAC},{ADDRESS}\n")).unwrap();
        let dnsmasq = Program::start(
            Command::new("/usr/sbin/dnsmasq")
                .args(["--keep-in-foreground", "--conf-file=/dev/null", "--leasefile-ro", "--no-ping"])
                .args(["--bind-interfaces", "--interface=qvdnet", "--except-interface=lo", "--no-resolv"])
                .args(["--dhcp-range=10.0.0.100,static", "--dhcp-option=option:router,10.0.0.1"])
                .args(["--log-facility=-", "--domain=desktops.example"])
                .arg(format!("--dhcp-hostsfile={}", at("hosts").display()))
                .stderr(fs::File::create(at("dnsmasq.log")).unwrap()),
        );
        let directories = Directories {
            images: at("images"),
            basefs: at("basefs"),
            overlayfs: at("overlayfs"),
            rootfs: at("rootfs"),
            homefs: at("homefs"),
        };
        fs::create_dir(&directories.images).unwrap();
        let lxc = Lxc {
            programs: Programs { start: "/usr/bin/lxc-start".into(), stop: "/usr/bin/lxc-stop".into() },
            run: at("run"),
            cgroups: Cgroups::detect(&cgroup()).unwrap(),
        };
        Self { directory: directory.to_owned(), directories, lxc, _dnsmasq: dnsmasq }
    }

    /// Everything up to the definition of a desktop whose overlay stays.
    async fn prepare(&self, image: &str, secret: &str) {
        let wanted =
            Unpacking { file: image.to_owned(), sha256: None, limits: Limits::default(), redirect: false };
        let progress = watch::Sender::new(Progress::default());
        let tree = prepare_base(&self.directories, wanted, progress).await.unwrap();
        // Not systemd, so that the container needs no right to mount.
        assert_ne!(tree.init, Init::Systemd);
        let overlay = prepare_overlay(&self.directories, DI, VM, true).await.unwrap();
        let root = self.directories.root(VM);
        mount_root(&tree.root, &overlay, &root).await.unwrap();
        let home = prepare_home(&self.directories, HomeOwner::Vm(VM)).await.unwrap();
        let seed = Seed {
            host_name: "office".to_owned(),
            dns: Vec::new(),
            domain: None,
            secret: secret.to_owned(),
            home: Some(home.target.clone()),
        };
        seed_root(&root, seed).await.unwrap();
        let link = Link {
            name: "qvd7".to_owned(),
            bridge: "qvdnet".to_owned(),
            mac: MAC.to_owned(),
            addressing: Addressing::Dhcp,
        };
        let definition = Definition {
            vm: VM,
            host_name: "office".to_owned(),
            root,
            read_only: false,
            init: tree.init,
            home: Some(home),
            link,
            memory: Some(512 << 20),
            pids: Some(500),
            confinement: Confinement::for_init(tree.init),
            image_settings: None,
            image_mounts: None,
            extra: String::new(),
        };
        self.lxc.define(&definition).unwrap();
    }

    /// A file of the running desktop.
    fn inside(&self, path: &str) -> String {
        fs::read_to_string(self.directories.root(VM).join(path)).unwrap()
    }

    /// What the desktop has written, for the message of a test that failed.
    fn logs(&self) -> String {
        let root = self.directories.root(VM);
        let files = [root.join("var/log/qvd/qvd.log"), root.join("var/log/qvd/qvd-nxagent.log")];
        let console = [self.directory.join("run/qvd-7/console"), self.directory.join("dnsmasq.log")];
        files.iter().chain(&console).map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
    }
}

impl Drop for Node {
    /// A failed test must not leave more behind than one that passed.
    fn drop(&mut self) {
        let (lxc, directories) = (self.lxc.clone(), self.directories.clone());
        let clear = async move {
            lxc.end_processes(VM, LIMIT).await.unwrap();
            lxc.undefine(VM).unwrap();
            unmount_below(&directories.root(VM), LIMIT).await.unwrap();
            discard_overlay(&directories, VM, true, false).await.unwrap();
        };
        tokio::runtime::Runtime::new().unwrap().block_on(clear);
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
            let _ = fs::remove_dir(hierarchy.unwrap().path().join(cgroup()));
        }
    }
}

/// The control group of all desktops of this program.
fn cgroup() -> String {
    format!("qvd-image-{}", std::process::id())
}

/// Waits until the agent answers.
async fn boots(agent: &Agent, node: &Node) {
    let since = Instant::now();
    while let Err(error) = agent.ping(Duration::from_millis(200)).await {
        assert!(since.elapsed() < LIMIT, "{error}\n{}", node.logs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn state_becomes(agent: &Agent, wanted: SessionState, node: &Node) {
    let since = Instant::now();
    loop {
        let state = agent.x_state(LIMIT).await.unwrap();
        if state == wanted {
            return;
        }
        assert!(since.elapsed() < LIMIT, "{state}, not {wanted}\n{}", node.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn live(node: &Node, image: &str) {
    let secret = "a secret of this start";
    let agent = Agent::new(ADDRESS, 3030, Some(SecretString::from(secret)));
    node.prepare(image, secret).await;
    let mut identity = String::new();
    // The second time it finds what it has left behind, as after a crash of its node.
    for round in 0..2 {
        let started = Instant::now();
        let mut container = node.lxc.start(VM).unwrap();
        boots(&agent, node).await;
        eprintln!("round {round}: the agent answers after {:?}", started.elapsed());
        let known = std::mem::replace(&mut identity, node.inside("etc/machine-id"));
        assert!(identity.len() == 33 && (round == 0 || known == identity), "{known:?} {identity:?}");

        let parameters = [
            ("qvd.vm.user.name", "ann"),
            ("qvd.client.os", "linux"),
            ("qvd.client.link", "local"),
            ("qvd.client.geometry", "1000x700"),
            ("qvd.client.keyboard", "pc105/en"),
            ("qvd.client.fullscreen", "1"),
        ];
        agent.x_start(parameters, LIMIT).await.unwrap();
        state_becomes(&agent, SessionState::Listening, node).await;
        let display = Display::new(1000, 700).unwrap();
        let home = node.directory.join(format!("client{round}"));
        fs::create_dir(&home).unwrap();
        let client = Program::start(
            Command::new("/usr/bin/nxproxy")
                .args(["-S", &format!("{ADDRESS}:100")])
                .env_clear()
                .env("HOME", &home)
                .env("DISPLAY", display.name())
                .env("NX_CLIENT", "/bin/false")
                .stderr(fs::File::create(home.join("log")).unwrap()),
        );
        // A terminal before a background of many shades.
        let drawn = tokio::task::block_in_place(|| {
            display.wait_for("the desktop", LIMIT, |p| p.share(TERMINAL) > 0.2 && p.colors() > 100)
        });
        let drawn = drawn.unwrap_or_else(|error| panic!("{error}\n{}", node.logs()));
        eprintln!("round {round}: the desktop is seen after {:?}", started.elapsed());
        assert!(drawn.drawn() > 0.95, "{}", drawn.drawn());
        assert!(node.directories.homefs.join("7-fs/ann/.bashrc").exists());
        assert_eq!(node.inside("etc/resolv.conf"), "search desktops.example\nnameserver 10.0.0.1\n");
        assert!(node.inside("etc/hosts").contains("127.0.1.1 office\n"));
        state_becomes(&agent, SessionState::Connected, node).await;
        drop(client);
        state_becomes(&agent, SessionState::Suspended, node).await;

        if round == 0 {
            node.lxc.kill(VM, LIMIT).await.unwrap();
        } else {
            agent.poweroff(LIMIT).await.unwrap();
        }
        tokio::time::timeout(LIMIT, container.ended()).await.unwrap().unwrap();
    }
}

#[test]
fn a_desktop_boots_is_seen_and_ends() {
    let directory = tempfile::TempDir::with_prefix("qvd-image-").unwrap();
    // Outside first: packages come from a network, which the namespace has not.
    let archive = image::desktop(&programs::program("qvd-vma").unwrap(), directory.path()).unwrap();
    if !namespace::enter("a_desktop_boots_is_seen_and_ends").unwrap() {
        return;
    }
    let node = Node::new(directory.path());
    symlink(&archive, node.directories.images.join("3-desktop.tar.zst")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(live(&node, "3-desktop.tar.zst"));
}

#[test]
fn the_key_follows_what_the_image_is_made_of() {
    let build = programs::workspace().join("images/build");
    let key = |agent: &str| {
        let output = Command::new(&build).args(["--key", "--agent", agent]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (one, other) = (key("/bin/true"), key("/bin/false"));
    assert!(one.trim().len() == 16 && one == key("/bin/true") && one != other, "{one} {other}");
    let output = Command::new(&build).args(["--agent", "/no/agent", "--output", "x.tar"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("/no/agent") && said.contains("cargo build"), "{said}");
}
