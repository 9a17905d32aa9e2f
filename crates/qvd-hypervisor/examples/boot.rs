//! Times every step from an image to a desktop whose agent answers, and back to nothing.
//!
//!     cargo run -p qvd-hypervisor --example boot -- IMAGE BRIDGE ADDRESS/PREFIX [ROUNDS]
//!
//! The bridge must exist and the node must have an address in the same network. Needs root.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a tool for one's own machine"
)]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qvd_hypervisor::lxc::{Addressing, Cgroups, Confinement, Container, Definition, Link, Lxc, Programs};
use qvd_hypervisor::storage::{
    Directories, HomeOwner, Limits, Progress, Seed, Tree, Unpacking, discard_overlay, mount_root,
    prepare_base, prepare_home, prepare_overlay, seed_root, unmount_below,
};
use qvd_model::{DiId, VmId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

const VM: VmId = VmId(1);
const DI: DiId = DiId(1);
const LIMIT: Duration = Duration::from_secs(30);

/// A stop-watch that prints each lap.
struct Laps(Instant);

impl Laps {
    fn lap(&mut self, what: &str) {
        println!("{what:>28} {:8.1} ms", self.0.elapsed().as_secs_f64() * 1e3);
        self.0 = Instant::now();
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, bridge, address, rounds @ ..] = arguments.as_slice() else {
        println!("usage: boot IMAGE BRIDGE ADDRESS/PREFIX [ROUNDS]");
        return;
    };
    let (address, prefix) = address.split_once('/').expect("an address with its prefix length");
    let (address, prefix): (Ipv4Addr, u8) = (address.parse().unwrap(), prefix.parse().unwrap());
    let rounds = rounds.first().map_or(3, |rounds| rounds.parse().unwrap());

    let storage = tempfile::TempDir::with_prefix("qvd-boot-").unwrap();
    let at = |name: &str| storage.path().join(name);
    let directories = Directories {
        images: Path::new(image).parent().unwrap().to_owned(),
        basefs: at("basefs"),
        overlayfs: at("overlayfs"),
        rootfs: at("rootfs"),
        homefs: at("homefs"),
    };
    let lxc = Lxc {
        programs: Programs { start: "/usr/bin/lxc-start".into(), stop: "/usr/bin/lxc-stop".into() },
        run: at("run"),
        cgroups: Cgroups::detect("qvd-boot").unwrap(),
    };
    let file = Path::new(image).file_name().unwrap().to_string_lossy().into_owned();
    let wanted =
        || Unpacking { file: file.clone(), sha256: None, limits: Limits::default(), redirect: false };
    let mut laps = Laps(Instant::now());
    let tree = prepare_base(&directories, wanted(), watch::Sender::new(Progress::default())).await.unwrap();
    laps.lap("unpack");
    for round in 1..=rounds {
        println!("round {round}");
        laps = Laps(Instant::now());
        prepare_base(&directories, wanted(), watch::Sender::new(Progress::default())).await.unwrap();
        laps.lap("find the base");
        let root = mount(&directories, &tree).await;
        laps.lap("overlay, mount");
        let home = prepare_home(&directories, HomeOwner::Vm(VM)).await.unwrap();
        let seed = Seed {
            host_name: "boot".to_owned(),
            dns: Vec::new(),
            domain: None,
            secret: "secret".to_owned(),
            home: Some(home.target.clone()),
        };
        seed_root(&root, seed).await.unwrap();
        let link = Link {
            name: "qvdboot1".to_owned(),
            bridge: bridge.clone(),
            mac: "54:52:00:01:02:03".to_owned(),
            addressing: Addressing::Static { address, prefix, gateway: None },
        };
        let definition = Definition {
            vm: VM,
            host_name: "boot".to_owned(),
            root: root.clone(),
            read_only: false,
            init: tree.init,
            home: Some(home),
            link,
            memory: Some(512 << 20),
            pids: Some(1000),
            confinement: Confinement::for_init(tree.init),
            image_settings: None,
            image_mounts: None,
            extra: String::new(),
        };
        lxc.define(&definition).unwrap();
        laps.lap("home, seed, define");
        let mut container = lxc.start(VM).unwrap();
        answers(&lxc, &mut container, address).await;
        laps.lap("lxc-start to agent");
        lxc.end_processes(VM, LIMIT).await.unwrap();
        laps.lap("end processes");
        unmount_below(&root, LIMIT).await.unwrap();
        discard_overlay(&directories, VM, false, false).await.unwrap();
        lxc.undefine(VM).unwrap();
        laps.lap("unmount, discard");
    }
}

async fn mount(directories: &Directories, tree: &Tree) -> PathBuf {
    let overlay = prepare_overlay(directories, DI, VM, false).await.unwrap();
    let root = directories.root(VM);
    mount_root(&tree.root, &overlay, &root).await.unwrap();
    root
}

/// Waits for the first answer of the agent, whatever it says.
async fn answers(lxc: &Lxc, container: &mut Container, address: Ipv4Addr) {
    let ask = async {
        loop {
            // A packet that is lost before the desktop listens would be sent again after a second only.
            let connect = TcpStream::connect((address, 3030));
            if let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_millis(20), connect).await
                && stream.write_all(b"GET /vma/ping HTTP/1.1\r\nHost: vma\r\n\r\n").await.is_ok()
                && stream.read_u8().await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        answered = tokio::time::timeout(LIMIT, ask) => answered.expect("the agent does not answer"),
        status = container.ended() => println!("{}", lxc.exited(VM, status.unwrap())),
    }
}
