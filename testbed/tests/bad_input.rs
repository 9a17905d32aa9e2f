//! What bad input gets: a code and a sentence that name the thing and say what to do, and nothing half-done.
//!
//! All cases share one machine and come one after the other, each with objects of its own; each leaves the machine
//! as it was.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::Answer;
use testbed::{Client, Cluster, Display, image, programs};

const LIMIT: Duration = Duration::from_secs(120);

/// One machine with a working user, image and desktop.
struct World {
    cluster: Cluster,
    display: Display,
    image: PathBuf,
}

type Case = fn(&World) -> Result<()>;

const CASES: [(&str, Case); 12] = [
    ("wrong password", wrong_password),
    ("unknown VM", unknown_vm),
    ("blocked VM", blocked_vm),
    ("no image for the tag", no_image),
    ("image file missing", image_missing),
    ("image is no archive", not_an_archive),
    ("image whose first process is no program", no_first_process),
    ("image without nxagent", no_nxagent),
    ("no space for a record", no_space),
    ("HKD not running", no_node),
    ("database away", database_away),
    ("and after all that a desktop", a_desktop),
];

#[test]
fn each_bad_input_is_told_and_leaves_nothing() {
    let world = World::new().unwrap();
    let mut failed = Vec::new();
    for (name, case) in CASES {
        let outcome = case(&world).and_then(|()| world.is_tidy());
        if let Err(error) = outcome {
            failed.push(format!("{name}: {error:#}"));
        }
    }
    assert!(failed.is_empty(), "{}\n{}", failed.join("\n\n"), world.cluster.logs());
}

impl World {
    fn new() -> Result<Self> {
        let cluster = Cluster::new()?;
        let image = image::desktop(&programs::program("qvd-vma")?, cluster.directory())?;
        let display = Display::within(cluster.namespace(), 800, 600)?;
        let world = Self { cluster, display, image };
        world.qa4(&["osf", "new", "name=Good"])?;
        world.qa4(&["di", "new", &format!("path={},osf=Good", world.image.display())])?;
        world.desktop("ann", "Good")?;
        Ok(world)
    }

    fn qa4(&self, words: &[&str]) -> Result<String> {
        self.cluster.qa4(words)?.good(&format!("qa4 {}", words.join(" ")))
    }

    /// A user with a desktop of this OSF.
    fn desktop(&self, user: &str, osf: &str) -> Result<()> {
        self.qa4(&["user", "new", &format!("name={user},password=right")])?;
        self.qa4(&["vm", "new", &format!("name={user}-vm,user={user},osf={osf}")]).map(drop)
    }

    /// An OSF with an image of this file, and a user with a desktop of it.
    fn desktop_of(&self, user: &str, image: &Path) -> Result<()> {
        self.qa4(&["osf", "new", &format!("name={user}")])?;
        self.qa4(&["di", "new", &format!("path={},osf={user}", image.display())])?;
        self.desktop(user, user)
    }

    /// A client's try.
    fn connect(&self, user: &str, password: &str, options: &[&str]) -> Result<Answer> {
        let options: Vec<&str> = ["-n", "-f"].iter().chain(options).copied().collect();
        Client::start(&self.cluster, Some(&self.display), user, password, &options)?.wait(LIMIT)
    }

    /// A client's try that must fail with this exit code and these words; the VM stays stopped, with the reason in
    /// its row and in its story.
    fn refused(&self, user: &str, exit: i32, code: &str, words: &[&str]) -> Result<()> {
        said(&self.connect(user, "right", &[])?, exit, words)?;
        let vm = format!("{user}-vm");
        let of = |what: &str| self.cluster.value(&format!("select {what} where v.name = '{vm}'"));
        let row = of("vm_state || ' ' || failure_code from vm_runtimes r join vms v on v.id = r.vm_id")?;
        ensure!(row == format!("stopped {code}"), "{vm} is {row}, not stopped by {code}");
        let story = of("string_agg(code, ' ') from events e join vms v on v.id = e.object_id")?;
        ensure!(story.contains(code), "the events of {vm} have the codes {story}, not {code}");
        let explained = self.qa4(&["vm", &format!("name={vm}"), "explain"])?;
        for word in words {
            ensure!(explained.contains(word), "qa4 explain does not say `{word}`:\n{explained}");
        }
        Ok(())
    }

    /// No mount, container, control group or link of a desktop is left.
    fn is_tidy(&self) -> Result<()> {
        let machine = self.cluster.namespace();
        let storage = self.cluster.data().join("storage");
        let mounts = machine.run("/bin/cat", &["/proc/self/mounts"])?;
        let left: Vec<&str> =
            mounts.lines().filter(|line| line.contains(&storage.display().to_string())).collect();
        ensure!(left.is_empty(), "still mounted: {left:?}");
        let links = machine.run("/bin/ls", &["/sys/class/net"])?;
        let left: Vec<&str> =
            links.lines().filter(|link| *link != "lo" && *link != self.cluster.bridge()).collect();
        ensure!(left.is_empty(), "links are left: {left:?}");
        let groups = Command::new("/usr/bin/find")
            .args(["/sys/fs/cgroup", "-type", "d", "-path", &format!("*/{}/*", self.cluster.bridge())])
            .output()?;
        ensure!(groups.stdout.is_empty(), "groups are left: {}", String::from_utf8_lossy(&groups.stdout));
        let lost = self.cluster.value(
            "select count(*) from vm_runtimes where vm_state <> 'stopped' or vm_cmd is not null \
             or user_state <> 'disconnected' or l7r_host_id is not null",
        )?;
        ensure!(lost == "0", "{lost} rows are not at rest");
        Ok(())
    }

    /// Process number of a daemon.
    fn process(&self, program: &str) -> Result<Pid> {
        let status = self.cluster.qvd(&["status"])?.out;
        let line =
            status.lines().find(|line| line.trim_start().starts_with(program)).context("no such line")?;
        let number: String = line
            .split("process ")
            .nth(1)
            .context("it has no process")?
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        Ok(Pid::from_raw(number.parse()?))
    }
}

/// That a program ended with this code and these words.
fn said(answer: &Answer, code: i32, words: &[&str]) -> Result<()> {
    ensure!(
        answer.code == Some(code),
        "exit code {:?}, not {code}: {}{}",
        answer.code,
        answer.out,
        answer.err
    );
    for word in words {
        ensure!(answer.err.contains(word), "no `{word}` in: {}", answer.err);
    }
    Ok(())
}

fn wrong_password(world: &World) -> Result<()> {
    said(&world.connect("ann", "wrong", &[])?, 7, &["login_rejected", "Check login and password"])?;
    // Nobody learns who exists.
    said(&world.connect("nobody", "wrong", &[])?, 7, &["login_rejected", "Check login and password"])
}

fn unknown_vm(world: &World) -> Result<()> {
    said(&world.connect("ann", "right", &["-s", "4711"])?, 6, &["unknown_vm", "4711", "ann-vm"])?;
    let answer = world.cluster.qa4(&["vm", "name=nonsense", "start"])?;
    said(&answer, 6, &["nonsense"])
}

fn blocked_vm(world: &World) -> Result<()> {
    world.qa4(&["vm", "name=ann-vm", "block"])?;
    let answer = world.connect("ann", "right", &[])?;
    world.qa4(&["vm", "name=ann-vm", "unblock"])?;
    said(&answer, 8, &["vm_blocked", "unblock"])
}

fn no_image(world: &World) -> Result<()> {
    world.qa4(&["user", "new", "name=bob,password=right"])?;
    world.qa4(&["vm", "new", "name=bob-vm,user=bob,osf=Good,di_tag=nightly"])?;
    world.refused("bob", 8, "no_image", &["nightly", "Good", "Give one image of the OSF that tag"])
}

fn image_missing(world: &World) -> Result<()> {
    let small = world.cluster.write("small.tar", &archive(&["sbin/init"])?)?;
    world.desktop_of("cid", &small)?;
    let name = world
        .cluster
        .value("select d.path from dis d join osfs o on o.id = d.osf_id where o.name = 'cid'")?;
    std::fs::remove_file(world.cluster.data().join("storage/images").join(&name))?;
    world.refused("cid", 8, "image_missing", &[&name, "Copy the file into path.storage.images"])
}

fn not_an_archive(world: &World) -> Result<()> {
    world.qa4(&["osf", "new", "name=dan"])?;
    let noise = world.cluster.write("noise.tar.gz", b"this is no archive at all")?;
    let answer = world.cluster.qa4(&["di", "new", &format!("path={},osf=dan", noise.display())])?;
    ensure!(answer.code != Some(0), "qa4 took it: {}", answer.out);
    ensure!(answer.err.contains("noise.tar.gz"), "the file is not named: {}", answer.err);
    let images = world
        .cluster
        .value("select count(*) from dis d join osfs o on o.id = d.osf_id where o.name = 'dan'")?;
    ensure!(images == "0", "{images} images are left");
    // One that went bad after it was registered.
    let small = world.cluster.write("later.tar", &archive(&["sbin/init"])?)?;
    world.desktop_of("eve", &small)?;
    let name = world
        .cluster
        .value("select d.path from dis d join osfs o on o.id = d.osf_id where o.name = 'eve'")?;
    std::fs::write(world.cluster.data().join("storage/images").join(&name), b"noise, but later")?;
    world.refused("eve", 8, "image_invalid", &[&name, "Register a tar archive"])
}

fn no_first_process(world: &World) -> Result<()> {
    let empty = world.cluster.write("no-program.tar", &archive(&["sbin/init"])?)?;
    world.desktop_of("fay", &empty)?;
    world.refused("fay", 8, "hypervisor_exited", &["container qvd-", "ended while starting"])
}

fn no_nxagent(world: &World) -> Result<()> {
    let plain = world.cluster.directory().join("plain.tar");
    let unpacked =
        Command::new("/usr/bin/zstd").args(["-q", "-d", "-o"]).args([&plain, &world.image]).status()?;
    ensure!(unpacked.success(), "zstd: {unpacked}");
    let deleted = Command::new("/bin/tar")
        .arg("--delete")
        .arg("--file")
        .arg(&plain)
        .arg("./usr/bin/nxagent")
        .status()?;
    ensure!(deleted.success(), "tar: {deleted}");
    world.desktop_of("gil", &plain)?;
    let answer = world.connect("gil", "right", &[])?;
    world.qa4(&["vm", "name=gil-vm", "stop"])?;
    world.cluster.wait_for("select count(*) from vm_runtimes where vm_state <> 'stopped'", "0", LIMIT)?;
    said(&answer, 8, &["x_server_missing", "Install nxagent in the image"])
}

/// The directory of records is full: the start is undone and says so, and the next one is as good as any.
fn no_space(world: &World) -> Result<()> {
    let machine = world.cluster.namespace();
    let records = world.cluster.data().join("run/vm").display().to_string();
    machine.run("/bin/mount", &["-t", "tmpfs", "-o", "size=4k,mode=700", "none", &records])?;
    let filled = machine.command("/bin/dd").arg("if=/dev/zero").arg(format!("of={records}/full")).output();
    let tried = filled.map_err(anyhow::Error::from).and_then(|filled| {
        ensure!(!filled.status.success(), "the directory is not full");
        world.refused("ann", 8, "storage_failed", &["record.json.new", "No space left", "Check space"])
    });
    machine.run("/bin/umount", &[&records])?;
    tried
}

fn no_node(world: &World) -> Result<()> {
    let node = world.process("qvd-hkd")?;
    kill(node, Signal::SIGSTOP)?;
    let tried = (|| {
        // Its heartbeat gets old; until then a start may be waited for.
        let late = "select now() at time zone 'utc' - ok_ts > interval '16 s' from host_runtimes";
        world.cluster.wait_for(late, "t", LIMIT)?;
        world.connect("ann", "right", &[])
    })();
    kill(node, Signal::SIGCONT)?;
    said(&tried?, 8, &["no_host", "Start or unblock a host"])
}

fn database_away(world: &World) -> Result<()> {
    let database = world.process("postgresql")?;
    // Immediate shutdown: what a crash looks like.
    kill(database, Signal::SIGQUIT)?;
    let client = world.connect("ann", "right", &[]);
    let admin = world.cluster.qa4(&["vm", "get"]);
    let started = world.cluster.start_database();
    let (client, admin) = (client?, admin?);
    started?;
    ensure!(client.code != Some(0) && client.err.contains("database_away"), "client: {client:?}");
    ensure!(admin.code != Some(0) && admin.err.to_lowercase().contains("database"), "qa4: {admin:?}");
    // Everything comes back by itself.
    let fresh = "select ok_ts > pg_postmaster_start_time() at time zone 'utc' from host_runtimes";
    world.cluster.wait_for(fresh, "t", LIMIT)?;
    let end = Instant::now() + LIMIT;
    while world.connect("ann", "right", &["-l"])?.code != Some(0) {
        ensure!(Instant::now() < end, "the router does not find the database again");
    }
    Ok(())
}

fn a_desktop(world: &World) -> Result<()> {
    let mut client = Client::start(&world.cluster, Some(&world.display), "ann", "right", &["-n", "-f"])?;
    let shown = world.display.wait_for("a desktop", LIMIT, |picture| picture.drawn() > 0.8);
    shown.with_context(|| client.said())?;
    world.qa4(&["vm", "name=ann-vm", "stop"])?;
    client.wait(LIMIT)?;
    world.cluster.wait_for("select count(*) from vm_runtimes where vm_state <> 'stopped'", "0", LIMIT)
}

/// A tar archive of these files, which are empty.
fn archive(files: &[&str]) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    for name in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().context("a name without directory")?)?;
        std::fs::write(path, "")?;
    }
    let output = Command::new("/bin/tar")
        .arg("--create")
        .arg("--directory")
        .arg(directory.path())
        .arg(".")
        .output()?;
    ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
