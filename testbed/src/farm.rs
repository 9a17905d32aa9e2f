//! Several nodes with one database, one storage and two networks.
//!
//! ```text
//!   clients ── office 192.0.2.0/24 ── node1, node2, … : routers, APIs
//!                    │ .1                  │
//!       proxies ── database      desks 10.73.0.0/16 : nodes and desktops
//! ```
//!
//! The database is reached by TCP through a proxy for each node, which fails as wanted; the networks are bridges in a
//! namespace of their own, whose ports can be unplugged; the storage is a directory that each node can lose.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qvd_runtime::postgres::TemporaryCluster;
use tempfile::TempDir;

use crate::machine::{Machine, run};
use crate::node::Node;
use crate::programs::program;
use crate::proxy::Proxy;
use crate::rows::Rows;
use crate::{Client, Display, Namespace, agents, image};

const IP: &str = "/usr/sbin/ip";
/// Where the proxies listen.
const DATABASE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The proxy of node `n` listens on this port plus `n`.
const FIRST_PORT: u16 = 5432;
/// Where the clients are.
const CLIENTS: &str = "192.0.2.100/24";

/// A network of the farm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lan {
    /// Nodes, database and clients.
    Office,
    /// Desktops, and the nodes among them.
    Desks,
}

impl Lan {
    /// The bridge, and how names of its ports begin.
    const fn name(self) -> &'static str {
        match self {
            Self::Office => "office",
            Self::Desks => "desks",
        }
    }

    /// The MAC address of the bridge.
    const fn mac(self) -> &'static str {
        match self {
            Self::Office => "02:00:00:00:00:01",
            Self::Desks => "02:00:00:00:00:02",
        }
    }

    /// The interface of a node.
    const fn interface(self) -> &'static str {
        match self {
            Self::Office => "eth0",
            Self::Desks => "eth1",
        }
    }
}

/// The farm. Everything of it ends when it is dropped.
#[derive(Debug)]
pub struct Farm {
    nodes: Vec<Node>,
    clients: Namespace,
    switch: Namespace,
    rows: Rows,
    database: TemporaryCluster,
    directory: TempDir,
}

impl Farm {
    /// Database, storage and networks without a node.
    pub fn empty() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("qvd-testbed-").tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        fs::create_dir(directory.path().join("storage"))?;
        let database = TemporaryCluster::start()?;
        deploy(&database, directory.path())?;
        let (switch, clients) = (Namespace::create()?, Namespace::create()?);
        for lan in [Lan::Office, Lan::Desks] {
            // One that it was not given would change with its ports.
            switch.run(IP, &["link", "add", lan.name(), "address", lan.mac(), "type", "bridge"])?;
            switch.run(IP, &["link", "set", lan.name(), "up"])?;
        }
        switch.run(IP, &["addr", "add", &format!("{DATABASE}/24"), "dev", Lan::Office.name()])?;
        clients.join(&switch, Lan::Office.name(), "clients", "eth0")?;
        clients.run(IP, &["addr", "add", CLIENTS, "dev", "eth0"])?;
        let rows = Rows::at(database.socket_directory());
        Ok(Self { nodes: Vec::new(), clients, switch, rows, database, directory })
    }

    /// A farm of so many nodes, all up.
    pub fn new(nodes: u8) -> Result<Self> {
        let mut farm = Self::empty()?;
        for _ in 0..nodes {
            farm.add()?;
        }
        Ok(farm)
    }

    /// Adds a node and brings it up.
    pub fn add(&mut self) -> Result<&Node> {
        let number = u8::try_from(self.nodes.len() + 1)?;
        ensure!(number < 80, "the farm is full");
        let machine = Machine::create()?;
        let port = FIRST_PORT + u16::from(number);
        let listener = self.switch.listen(SocketAddr::from((DATABASE, port)))?;
        let target = self.database.socket_directory().join(format!(".s.PGSQL.{FIRST_PORT}"));
        let proxy = Proxy::start(listener, target)?;
        let storage = self.storage().display().to_string();
        let mut node = Node { machine, number, proxy, options: Vec::new(), storage };
        self.plug_in(&node)?;
        let words = [
            ("--bridge", node.bridge().to_owned()),
            ("--node", node.name()),
            ("--listen", node.router()),
            ("--address", node.address()),
            ("--interface", Lan::Desks.interface().to_owned()),
            ("--storage", node.storage.clone()),
            ("--database", DATABASE.to_string()),
            ("--database-port", port.to_string()),
        ];
        node.options = words.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect();
        node.options.push("--api".to_owned());
        self.nodes.push(node);
        let node = &self.nodes[self.nodes.len() - 1];
        node.up()?.good("qvd up")?;
        Ok(node)
    }

    /// Connects a node to both networks.
    fn plug_in(&self, node: &Node) -> Result<()> {
        for lan in [Lan::Office, Lan::Desks] {
            node.namespace().join(&self.switch, lan.name(), &port(lan, node), lan.interface())?;
        }
        let address = format!("{}/24", node.router());
        node.namespace().run(IP, &["addr", "add", &address, "dev", Lan::Office.interface()])?;
        Ok(())
    }

    /// Node `number`, counted from 1 as in its name.
    pub fn node(&self, number: u8) -> &Node {
        &self.nodes[usize::from(number) - 1]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Pulls the cable of a node out of a network, or puts it back.
    pub fn plug(&self, number: u8, lan: Lan, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.switch.run(IP, &["link", "set", &port(lan, self.node(number)), state]).map(drop)
    }

    /// Ends everything on a node at once, as a power failure does; [`Farm::boot`] brings it back.
    pub fn power_off(&mut self, number: u8) -> Result<()> {
        self.nodes[usize::from(number) - 1].machine.power_off()
    }

    /// Boots a node after [`Farm::power_off`], and runs `qvd up` there.
    pub fn boot(&self, number: u8) -> Result<()> {
        let node = self.node(number);
        self.plug_in(node)?;
        node.up()?.good("qvd up")?;
        Ok(())
    }

    /// Runs `qvd down` on all nodes, one after the other.
    pub fn down(&self) -> Result<()> {
        for node in &self.nodes {
            node.qvd(&["down"])?.good("qvd down")?;
        }
        Ok(())
    }

    /// The storage that all nodes share.
    pub fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    /// A directory for what a test needs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The machine of the clients.
    pub fn clients(&self) -> &Namespace {
        &self.clients
    }

    /// A display there.
    pub fn display(&self) -> Result<Display> {
        Display::within(&self.clients, 1024, 768)
    }

    /// A client there, which connects through the router of a node.
    pub fn client(&self, number: u8, display: Option<&Display>, user: &str) -> Result<Client> {
        let router = self.node(number).router();
        // The certificate is self-signed; without a window manager nxagent takes the whole display.
        Client::start_in(&self.clients, &router, display, user, user, &["-n", "-f"])
    }

    /// A client there whose desktop is drawn.
    pub fn connect(&self, number: u8, display: &Display, user: &str, limit: Duration) -> Result<Client> {
        let client = self.client(number, Some(display), user)?;
        let shown = display.wait_for("a desktop", limit, |picture| picture.drawn() > 0.8);
        shown.with_context(|| format!("{}\n{}", client.said(), self.logs()))?;
        agents::settle(&self.storage(), limit)?;
        Ok(client)
    }

    /// Sets a key of the configuration for all daemons.
    pub fn configure(&self, key: &str, value: &str) -> Result<()> {
        let row = format!(
            "insert into configs (tenant_id, key, value) values (-1, '{key}', '{value}') \
             on conflict (tenant_id, key) do update set value = excluded.value"
        );
        self.value(&row).map(drop)
    }

    /// Runs `qa4` on the first node.
    pub fn qa4(&self, words: &[&str]) -> Result<String> {
        self.node(1).qa4(words)?.good(&format!("qa4 {}", words.join(" ")))
    }

    /// An image, and so many users `user1`, … whose passwords are their names, with a desktop `vm1`, … each.
    pub fn furnish(&self, users: u32) -> Result<()> {
        let image = image::desktop(&program("qvd-vma")?, self.directory())?;
        self.qa4(&["osf", "new", "name=MyOSF"])?;
        self.qa4(&["di", "new", &format!("path={},osf=MyOSF", image.display())])?;
        for number in 1..=users {
            self.qa4(&["user", "new", &format!("name=user{number},password=user{number}")])?;
            self.qa4(&["vm", "new", &format!("name=vm{number},user=user{number},osf=MyOSF")])?;
        }
        Ok(())
    }

    /// One value from the database, as text.
    pub fn value(&self, statement: &str) -> Result<String> {
        self.rows.value(statement)
    }

    /// A column or expression of the runtime row of a VM (`r`), its host (`h`) and the host of its session (`router`).
    pub fn vm(&self, name: &str, column: &str) -> Result<String> {
        self.value(&vm_row(name, column))
    }

    /// Waits until [`Farm::vm`] has this value.
    pub fn wait_vm(&self, name: &str, column: &str, wanted: &str, limit: Duration) -> Result<()> {
        self.wait_for(&vm_row(name, column), wanted, limit)
    }

    /// Waits until the database has this value.
    pub fn wait_for(&self, statement: &str, wanted: &str, limit: Duration) -> Result<()> {
        self.rows.wait_for(statement, wanted, limit).with_context(|| self.logs())
    }

    /// The end of each log of each node, for the message of a test that failed.
    pub fn logs(&self) -> String {
        self.nodes.iter().map(|node| format!("= {}\n{}", node.name(), node.logs())).collect()
    }
}

fn vm_row(name: &str, column: &str) -> String {
    format!(
        "select {column} from vm_runtimes as r join vms on vms.id = r.vm_id \
         left join hosts as h on h.id = r.host_id left join hosts as router on router.id = r.l7r_host_id \
         where vms.name = '{name}'"
    )
}

/// The port of a node on the switch.
fn port(lan: Lan, node: &Node) -> String {
    format!("{}{}", lan.name(), node.number)
}

/// Makes QVD-DB with the program that administrators use.
fn deploy(database: &TemporaryCluster, directory: &Path) -> Result<()> {
    let socket = database.socket_directory();
    let link = directory.join("qvd-deploy-db");
    std::os::unix::fs::symlink(program("qvd")?, &link)?;
    let mut create = Command::new("/usr/bin/createdb");
    create.arg("--host").arg(&socket).args(["--username", "postgres", "--template", "template0", "qvd"]);
    run(create)?.good("createdb")?;
    let file = directory.join("deploy.conf");
    let settings = format!(
        "database.host = {}\ndatabase.name = qvd\ndatabase.user = postgres\nnodename = none\n",
        socket.display()
    );
    fs::write(&file, settings)?;
    let mut deploy = Command::new(link);
    deploy.arg("--config-file").arg(file);
    run(deploy)?.good("qvd-deploy-db").map(drop)
}

impl Drop for Farm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}
