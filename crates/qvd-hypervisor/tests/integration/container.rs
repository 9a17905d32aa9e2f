//! A real container, from an image to its last process.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Archive, Storage};
use qvd_hypervisor::lxc::{
    Addressing, Cgroups, Confinement, Container, Definition, Link, Lxc, Process, Programs, link_name,
};
use qvd_hypervisor::storage::{
    Home, HomeOwner, Overlay, Seed, Tree, discard_overlay, mount_root, mounted_below, prepare_home,
    prepare_overlay, remove_unused_base, seed_root, unmount_below, unpacked_bases,
};
use qvd_hypervisor::{Error, storage};
use qvd_model::{DiId, Failure, FailureCode, VmId};
use tar::EntryType;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(20);
const DI: DiId = DiId(7);

/// A node: a storage, a bridge with an address, and an LXC with groups of its own.
struct Node {
    storage: Storage,
    bridge: String,
    net: u8,
    lxc: Lxc,
}

fn ip(arguments: &str) {
    let status = Command::new("/usr/sbin/ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

impl Node {
    /// `number` keeps the tests of this program apart, the process id keeps programs apart.
    fn new(number: u8) -> Self {
        let storage = Storage::new();
        let id = std::process::id();
        let bridge = format!("qt{id}n{number}");
        let net = u8::try_from((id * 4 + u32::from(number)) % 200).unwrap();
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("addr add 10.213.{net}.1/24 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
        let lxc = Lxc {
            programs: Programs { start: "/usr/bin/lxc-start".into(), stop: "/usr/bin/lxc-stop".into() },
            run: storage.root.path().join("run"),
            cgroups: Cgroups::detect(&format!("qvd-test-{bridge}")).unwrap(),
        };
        Self { storage, bridge, net, lxc }
    }

    fn address(&self, vm: VmId) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.net, u8::try_from(vm.0).unwrap())
    }

    /// Everything up to the definition.
    async fn prepare(&self, vm: VmId, init: &str) -> Prepared {
        let name = format!("{DI}-{vm}.tar");
        let mut archive = Archive::image();
        let busybox = fs::read("/bin/busybox").unwrap();
        archive
            .entry(EntryType::Directory, "bin", "", b"")
            .file("bin/busybox", &busybox)
            .file("sbin/init", format!("#!/bin/busybox sh\n{init}").as_bytes())
            .entry(EntryType::Symlink, "etc", "/nowhere", b"");
        let mut archive = archive;
        archive.entry(EntryType::Directory, "nowhere", "", b"");
        self.storage.image(&name, &archive.bytes());
        let directories = &self.storage.directories;
        let tree = self.storage.unpack(&name).await.unwrap();
        let overlay = prepare_overlay(directories, DI, vm, false).await.unwrap();
        let root = directories.root(vm);
        mount_root(&tree.root, &overlay, &root).await.unwrap();
        let home = prepare_home(directories, HomeOwner::Vm(vm)).await.unwrap();
        let seed = Seed {
            host_name: format!("desk{vm}"),
            dns: vec![Ipv4Addr::new(10, 213, self.net, 1)],
            domain: None,
            secret: "5ec2e7".to_owned(),
            home: Some(home.target.clone()),
        };
        seed_root(&root, seed).await.unwrap();
        let definition = Definition {
            vm,
            host_name: format!("desk{vm}"),
            root: root.clone(),
            read_only: false,
            init: tree.init,
            home: Some(home.clone()),
            link: Link {
                name: link_name("qt", vm) + &format!("x{}", std::process::id()),
                bridge: self.bridge.clone(),
                mac: format!("54:52:00:0d:{:02x}:{vm:02x}", self.net, vm = vm.0),
                addressing: Addressing::Static {
                    address: self.address(vm),
                    prefix: 24,
                    gateway: Some(Ipv4Addr::new(10, 213, self.net, 1)),
                },
            },
            memory: Some(256 << 20),
            pids: Some(200),
            confinement: Confinement::for_init(tree.init),
            image_settings: None,
            image_mounts: None,
            extra: "lxc.environment = ADDED=yes".to_owned(),
        };
        self.lxc.define(&definition).unwrap();
        Prepared { tree, overlay, root, home }
    }

    /// Waits until a desktop's port answers, or its container ends.
    async fn answers(&self, container: &mut Container) {
        let address = SocketAddr::from((self.address(container.vm), 3030));
        let connect = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let vm = container.vm;
        let status = tokio::select! {
            answered = timeout(LIMIT, connect) => return answered.unwrap(),
            status = container.ended() => status.unwrap(),
        };
        panic!("{}", self.lxc.exited(vm, status));
    }

    /// All undos, twice: each must be repeatable.
    async fn clear(&self, vm: VmId) {
        for _ in 0..2 {
            self.lxc.end_processes(vm, LIMIT).await.unwrap();
            self.lxc.undefine(vm).unwrap();
            unmount_below(&self.storage.directories.root(vm), LIMIT).await.unwrap();
            discard_overlay(&self.storage.directories, vm, false, false).await.unwrap();
        }
    }

    /// What is still there of a VM.
    async fn remains(&self, vm: VmId) -> Vec<String> {
        let mut found = Vec::new();
        let group = format!("qvd-test-{}/qvd-{vm}", self.bridge);
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
            let path = hierarchy.unwrap().path().join(&group);
            found.extend(path.exists().then(|| path.display().to_string()));
        }
        let root = self.storage.directories.root(vm);
        found.extend(mounted_below(&root).unwrap().iter().map(|path| path.display().to_string()));
        found.extend(root.exists().then(|| root.display().to_string()));
        found.extend(self.lxc.find(vm).await.unwrap().map(|container| format!("{container:?}")));
        let link = PathBuf::from(format!("/sys/class/net/qt{vm}x{}", std::process::id()));
        found.extend(link.exists().then(|| link.display().to_string()));
        let overlays = fs::read_dir(&self.storage.directories.overlayfs).unwrap();
        found.extend(overlays.map(|entry| entry.unwrap().path().display().to_string()));
        found
    }
}

impl Drop for Node {
    /// A failed test must not leave more behind than one that passed.
    fn drop(&mut self) {
        let (lxc, directories) = (self.lxc.clone(), self.storage.directories.clone());
        let clear = async move {
            for vm in (100..105).map(VmId) {
                let _ = lxc.end_processes(vm, LIMIT).await;
                let _ = unmount_below(&directories.root(vm), LIMIT).await;
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || runtime.block_on(clear)).join().unwrap();
        ip(&format!("link del {}", self.bridge));
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
            let _ = fs::remove_dir(hierarchy.unwrap().path().join(format!("qvd-test-{}", self.bridge)));
        }
    }
}

struct Prepared {
    tree: Tree,
    overlay: Overlay,
    root: PathBuf,
    home: Home,
}

/// Tells what it sees, then serves a port for as long as it lives, with a child in a group of its own.
const INIT: &str = "
export PATH=/bin; busybox --install -s /bin; mkdir /tmp
{ hostname; echo $ADDED; cat /etc/qvd/vma.secret; ip -4 addr show eth0; cat /proc/self/status
  mount -t tmpfs none /tmp 2>&1; mknod /tmp/sda b 8 0 2>&1; echo probed; } >/home/told 2>&1
echo grown >/grown
(trap '' TERM; while :; do sleep 1000; done) &
exec httpd -f -p 3030 -h /home
";

#[tokio::test]
async fn a_desktop_lives_and_leaves_nothing() {
    let node = Node::new(0);
    let vm = VmId(100);
    let prepared = node.prepare(vm, INIT).await;
    let mut container = node.lxc.start(vm).unwrap();
    node.answers(&mut container).await;

    let told = fs::read_to_string(prepared.home.source.join("told")).unwrap();
    assert!(told.starts_with("desk100\nyes\n5ec2e7\n"), "{told}");
    let address = format!("inet {}/24 brd 10.213.{}.255", node.address(vm), node.net);
    assert!(told.contains(&address), "{told}");
    // CAP_SYS_ADMIN, CAP_SYS_MODULE, CAP_MKNOD are gone for good.
    let bounding = told.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let bounding = u64::from_str_radix(bounding, 16).unwrap();
    assert_eq!(bounding & (1 << 21 | 1 << 16 | 1 << 27), 0, "{bounding:x}");
    assert!(told.contains("Seccomp:\t2") && told.contains("mount: permission denied"), "{told}");
    assert!(told.contains("mknod: /tmp/sda: Operation not permitted"), "{told}");

    // The base is untouched, the overlay holds what was written, the link `etc` of the image led inside.
    assert!(!prepared.tree.root.join("grown").exists() && prepared.overlay.upper.join("grown").exists());
    let secret = fs::metadata(prepared.root.join("nowhere/qvd/vma.secret")).unwrap();
    assert_eq!((secret.mode() & 0o777, secret.uid()), (0o600, 0));

    // It is limited, is found again by another life of the node, and its end is seen by both.
    let init = container.init().unwrap();
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", init.pid)).unwrap();
    assert!(groups.contains(&format!("qvd-test-{}/qvd-100/payload/inside", node.bridge)), "{groups}");
    let mut adopted = node.lxc.find(vm).await.unwrap().unwrap();
    assert_eq!(adopted.monitor, container.monitor);
    assert!(node.lxc.cgroups.processes(vm).len() >= 3);
    // Another node with the same groups does not take it for its own.
    let other = Lxc { run: node.storage.root.path().join("other"), ..node.lxc.clone() };
    assert_eq!(node.lxc.present().await.unwrap(), [vm].into());
    assert!(other.present().await.unwrap().is_empty());
    let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(container.monitor.pid))).unwrap();
    assert_eq!(session.as_raw(), container.monitor.pid);

    node.lxc.end_processes(vm, LIMIT).await.unwrap();
    timeout(LIMIT, container.ended()).await.unwrap().unwrap();
    timeout(LIMIT, adopted.ended()).await.unwrap().unwrap();
    assert!(!init.is_alive() && Process::find(init.pid) != Some(init));
    node.clear(vm).await;
    assert_eq!(node.remains(vm).await, Vec::<String>::new());
    assert!(node.lxc.present().await.unwrap().is_empty());
    assert!(prepared.home.source.join("told").exists());
}

#[tokio::test]
async fn a_failed_start_quotes_what_was_written_and_may_be_kept() {
    let node = Node::new(1);
    let vm = VmId(101);
    node.prepare(vm, "echo broken on purpose; echo x >/trace; exit 3\n").await;
    let mut container = node.lxc.start(vm).unwrap();
    let status = timeout(LIMIT, container.ended()).await.unwrap().unwrap();
    let failure = Failure::from(node.lxc.exited(vm, status));
    assert_eq!(failure.code, FailureCode::HypervisorExited);
    assert!(failure.detail.contains("broken on purpose"), "{failure}");

    let directories = &node.storage.directories;
    node.lxc.end_processes(vm, LIMIT).await.unwrap();
    unmount_below(&directories.root(vm), LIMIT).await.unwrap();
    discard_overlay(directories, vm, false, true).await.unwrap();
    let kept: Vec<_> = fs::read_dir(&directories.overlayfs).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].file_name().unwrap().to_str().unwrap().starts_with("deleteme-7-101-"));
    assert!(kept[0].join("trace").exists());
    storage::purge_discarded(directories, Duration::from_secs(3600)).await.unwrap();
    assert!(kept[0].exists());
    storage::purge_discarded(directories, Duration::ZERO).await.unwrap();
    node.clear(vm).await;
    assert_eq!(node.remains(vm).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_definition_that_cannot_be_used_is_explained() {
    let node = Node::new(2);
    let vm = VmId(102);
    node.prepare(vm, INIT).await;
    let config = node.lxc.run.join("qvd-102/config");
    let text =
        fs::read_to_string(&config).unwrap().replace(&format!("link = {}", node.bridge), "link = nobridge0");
    fs::write(&config, text).unwrap();
    let mut container = node.lxc.start(vm).unwrap();
    let status = timeout(LIMIT, container.ended()).await.unwrap().unwrap();
    let error = node.lxc.exited(vm, status).to_string();
    assert!(error.contains("nobridge0"), "{error}");
    node.clear(vm).await;
    assert_eq!(node.remains(vm).await, Vec::<String>::new());
}

#[tokio::test]
async fn power_off_ends_a_desktop_that_listens() {
    let node = Node::new(3);
    let vm = VmId(103);
    node.prepare(vm, "trap 'exit 0' PWR; /bin/busybox httpd -p 3030; while :; do /bin/busybox sleep 1; done")
        .await;
    let mut container = node.lxc.start(vm).unwrap();
    node.answers(&mut container).await;
    node.lxc.power_off(vm, LIMIT).await.unwrap();
    timeout(LIMIT, container.ended()).await.unwrap().unwrap();
    // Nobody is there to stop any more: fine.
    node.lxc.kill(vm, LIMIT).await.unwrap();
    node.clear(vm).await;
    assert_eq!(node.remains(vm).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_base_tree_is_not_removed_from_under_a_desktop() {
    let storage = Storage::new();
    let directories = &storage.directories;
    storage.image("7-a b.tar", &Archive::image().bytes());
    let mut extended = Archive::new();
    extended.file("rootfs/sbin/init", b"");
    storage.image("8-extended.tar", &extended.bytes());
    storage.image("9-unused.tar", &Archive::image().bytes());
    for other in ["by-hand", "record.by-hand", "12-untouched"] {
        fs::create_dir_all(directories.basefs.join(other)).unwrap();
    }
    let mut roots = Vec::new();
    for (vm, name) in [(1, "7-a b.tar"), (2, "8-extended.tar")] {
        let tree = storage.unpack(name).await.unwrap();
        let overlay = prepare_overlay(directories, DI, VmId(vm), false).await.unwrap();
        roots.push(directories.root(VmId(vm)));
        mount_root(&tree.root, &overlay, &roots[roots.len() - 1]).await.unwrap();
    }
    storage.unpack("9-unused.tar").await.unwrap();
    let mut bases = unpacked_bases(directories).await.unwrap();
    bases.sort();
    assert_eq!(bases, ["7-a b", "8-extended", "9-unused"]);
    let remove = async |base: &str| remove_unused_base(directories, base).await.unwrap();
    assert_eq!(
        [remove("7-a b").await, remove("8-extended").await, remove("9-unused").await],
        [false, false, true]
    );
    for root in roots {
        unmount_below(&root, Duration::from_secs(5)).await.unwrap();
    }
    assert!(remove("7-a b").await && remove("8-extended").await);
    assert_eq!(storage.bases(), ["12-untouched", "by-hand", "record.by-hand"]);
    assert!(unpacked_bases(directories).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_root_in_use_is_never_detached() {
    let node = Node::new(4);
    let vm = VmId(104);
    let prepared = node.prepare(vm, INIT).await;
    let open = fs::File::open(prepared.root.join("sbin/init")).unwrap();
    let result = unmount_below(&prepared.root, Duration::from_millis(200)).await;
    assert!(matches!(&result, Err(Error::Busy { path, .. }) if path == &prepared.root), "{result:?}");
    assert_eq!(mounted_below(&prepared.root).unwrap().len(), 1);
    drop(open);
    node.clear(vm).await;
    assert_eq!(node.remains(vm).await, Vec::<String>::new());
    assert_eq!(mounted_below(Path::new(&prepared.root)).unwrap().len(), 0);
}
