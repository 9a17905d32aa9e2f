//! What happens to a session and its connections: each end has its reason, the client is told, and the desktop is found
//! as it was left.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::desktops::LIMIT;
use testbed::{Client, Cluster, Desktops, Display, Picture};

/// How long a first start may take here: the image is unpacked on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How fast commands of an administrator act on a connection.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long a resume may take.
const RESUME_LIMIT: Duration = Duration::from_secs(2);
/// How long a client may be silent on the network here.
const SILENCE: u64 = 4;

#[test]
fn a_session_survives_its_connections() {
    let site = Desktops::on(Cluster::machine().unwrap()).unwrap();
    // Internal keys are not for administrators.
    let values =
        format!("(-1, 'internal.l7r.timeout.link', '{SILENCE}'), (-1, 'internal.l7r.timeout.drain', '0')");
    site.cluster.value(&format!("insert into configs (tenant_id, key, value) values {values}")).unwrap();
    let client = site.connect(START_LIMIT).unwrap();
    let session = site.session().unwrap();
    site.display.wait_for("its terminal", LIMIT, |picture| picture.colors() > 20).unwrap();
    let seen = site.display.settled(LIMIT).unwrap();

    let client = taken_over_elsewhere(&site, client, &seen).unwrap();
    assert_eq!(site.session().unwrap(), session);
    let client = disconnected(&site, client, &seen).unwrap();
    let client = left_at_once(&site, client).unwrap();
    let client = killed(&site, client).unwrap();
    let client = network_fails(&site, client).unwrap();
    assert_eq!(site.session().unwrap(), session);
    let client = router_is_replaced(&site, client).unwrap();
    assert_eq!(site.session().unwrap(), session);
    let client = router_stops(&site, client).unwrap();
    assert_eq!(site.session().unwrap(), session);
    let client = clients_come_back_by_themselves(&site, client).unwrap();
    assert_eq!(site.session().unwrap(), session);
    let client = vm_stops(&site, client).unwrap();
    let client = session_restarts(&site, client).unwrap();
    let client = vm_expires(&site, client).unwrap();
    vm_fails(&site, client).unwrap();

    let story = site.qa4(&["vm", "name=First", "explain"]).unwrap();
    for reason in ["taken_over", "admin", "left", "link_lost", "drain", "vm_stopped", "expired", "vm_failed"]
    {
        assert!(story.contains(&format!("→ disconnected  {reason}")), "no {reason} in\n{story}");
    }
}

/// Waits for the end of a client, which must say this and have this exit code.
fn ends(mut client: Client, code: i32, word: &str) -> Result<()> {
    let ended = client.wait(LIMIT)?;
    ensure!(ended.code == Some(code) && ended.err.contains(word), "not {code}, {word}: {ended:?}");
    Ok(())
}

/// The same client and the same display have it again, soon and with the same picture.
fn resumed(site: &Desktops, seen: &Picture) -> Result<Client> {
    site.display.wait_for("nothing", LIMIT, |picture| picture.drawn() == 0.0)?;
    let begun = Instant::now();
    let client = site.connect(LIMIT)?;
    let took = begun.elapsed();
    site.display.wait_for("what it showed", LIMIT, |picture| picture.likeness(seen) > 0.99)?;
    eprintln!("resumed in {took:?}");
    ensure!(took < RESUME_LIMIT, "a resume took {took:?}\n{}", site.cluster.logs());
    Ok(client)
}

/// Another machine of the user, with another screen, and then the first one again.
fn taken_over_elsewhere(site: &Desktops, first: Client, seen: &Picture) -> Result<Client> {
    let other = Display::within(site.cluster.namespace(), 800, 600)?;
    let begun = Instant::now();
    let second = site.connect_on(&other, LIMIT, &["-f"])?;
    eprintln!("taken over in {:?}", begun.elapsed());
    ends(first, 11, "taken_over")?;
    let there = other.settled(LIMIT)?;
    ensure!(there.background() == seen.background(), "{:?}", there.background());
    site.display.wait_for("nothing", LIMIT, |picture| picture.drawn() == 0.0)?;
    let first = site.connect(LIMIT)?;
    ends(second, 11, "taken_over")?;
    site.display.wait_for("what it showed", LIMIT, |picture| picture.likeness(seen) > 0.99)?;
    Ok(first)
}

fn disconnected(site: &Desktops, client: Client, seen: &Picture) -> Result<Client> {
    let begun = Instant::now();
    site.qa4(&["vm", "name=First", "disconnect"])?;
    ends(client, 12, "admin")?;
    let took = begun.elapsed();
    ensure!(took < AT_ONCE, "disconnected only after {took:?}");
    resumed(site, seen)
}

/// A client leaves as soon as its desktop is there. The X server's housekeeper has not fallen asleep by then, and would
/// hold the next client up for three seconds.
///
/// A client that leaves even earlier, while the X server is still resuming, may end the session: nxagent 3.5.99 then dies
/// of it, or forgets what is in the windows.
fn left_at_once(site: &Desktops, mut client: Client) -> Result<Client> {
    let seen = site.display.settled(LIMIT)?;
    ensure!(client.leave()?.code == Some(143));
    site.display.wait_for("nothing", LIMIT, |picture| picture.drawn() == 0.0)?;
    let before = connections(site)?;
    client = Client::start(&site.cluster, Some(&site.display), "test", "test", &["-n", "-f"])?;
    let end = Instant::now() + LIMIT;
    while connections(site)? == before {
        ensure!(Instant::now() < end, "no session\n{}", site.cluster.logs());
        // The agent tells nobody outside when the X server has resumed, but its log.
        std::thread::sleep(Duration::from_millis(5));
    }
    ensure!(client.leave()?.code == Some(143));
    resumed(site, &seen)
}

/// How often a client was connected to the session, as its agent logs it.
fn connections(site: &Desktops) -> Result<usize> {
    // No other desktop runs.
    let mut roots = std::fs::read_dir(site.cluster.data().join("storage/overlayfs"))?.flatten();
    let root = roots.next().context("no desktop has a root")?.path();
    Ok(std::fs::read_to_string(root.join("var/log/qvd/qvd.log"))?.matches("to Connected").count())
}

fn killed(site: &Desktops, client: Client) -> Result<Client> {
    let seen = site.display.settled(LIMIT)?;
    drop(client);
    site.wait("First", "user_state", "disconnected")?;
    resumed(site, &seen)
}

/// The client's machine vanishes from the network: its user goes to another one and does not wait, and another time does
/// nothing at all.
fn network_fails(site: &Desktops, client: Client) -> Result<Client> {
    let seen = site.display.settled(LIMIT)?;
    let cut = Cut::off(site)?;
    let other = Display::within(site.cluster.namespace(), 800, 600)?;
    let begun = Instant::now();
    let second = site.connect_on(&other, LIMIT, &["-f"])?;
    ensure!(begun.elapsed() < RESUME_LIMIT, "{:?}", begun.elapsed());
    other.settled(LIMIT)?;
    drop((client, cut, second));
    let client = resumed(site, &seen)?;

    let cut = Cut::off(site)?;
    let begun = Instant::now();
    site.wait("First", "user_state", "disconnected")?;
    let took = begun.elapsed();
    eprintln!("a silent client was noticed after {took:?}");
    ensure!(took < Duration::from_secs(2 * SILENCE), "a silent client was noticed only after {took:?}");
    let last = "select code from events where session_id is not null order by id desc limit 1";
    ensure!(site.cluster.value(last)? == "link_lost");
    drop((client, cut));
    resumed(site, &seen)
}

/// The network between the clients that are connected and their router, as long as it loses every packet.
struct Cut<'a>(&'a Desktops);

impl<'a> Cut<'a> {
    fn off(site: &'a Desktops) -> Result<Self> {
        const ROUTER: u16 = 8443;
        let table = site.cluster.namespace().run("/bin/cat", &["/proc/net/tcp"])?;
        let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
        let clients: Vec<u16> = table
            .lines()
            .filter_map(|line| {
                let mut fields = line.split_whitespace().skip(1);
                let (local, remote) = (port(fields.next()?)?, port(fields.next()?)?);
                (remote == ROUTER && fields.next() == Some("01")).then_some(local)
            })
            .collect();
        ensure!(!clients.is_empty(), "nobody is connected: {table}");
        let cut = Self(site);
        let rules = clients.iter().map(|port| format!("tcp sport {port} drop; tcp dport {port} drop;"));
        let chain = format!("type filter hook output priority 0; {}", rules.collect::<String>());
        cut.nft(&format!("table inet cut {{\nchain out {{\n{chain}\n}}\n}}"))?;
        Ok(cut)
    }

    fn nft(&self, words: &str) -> Result<String> {
        self.0.cluster.namespace().run("/usr/sbin/nft", &[words])
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.nft("delete table inet cut") {
            eprintln!("the network stays cut: {error:#}");
        }
    }
}

/// A newer router takes over while a client is connected, which notices nothing.
fn router_is_replaced(site: &Desktops, mut client: Client) -> Result<Client> {
    let old = site.cluster.process("qvd-l7r")?;
    let kept = site.value("First", "l7r_instance")?;
    site.cluster.qvd(&["restart", "l7r"])?.good("qvd restart l7r")?;
    ensure!(site.cluster.process("qvd-l7r")? != old, "it is the same process");
    ensure!(client.runs()?, "{}", client.said());
    ensure!(site.value("First", "user_state || ' ' || l7r_instance")? == format!("connected {kept}"));
    let status = site.cluster.qvd(&["status"])?.good("qvd status")?;
    ensure!(status.contains("goes on with its sessions"), "{status}");
    let seen = site.display.settled(LIMIT)?;
    // A second client takes the session over from the router that was replaced, which then has nothing left to do.
    let other = Display::within(site.cluster.namespace(), 800, 600)?;
    let second = site.connect_on(&other, LIMIT, &["-f"])?;
    ends(client, 11, "taken_over")?;
    ensure!(site.value("First", "l7r_instance")? != kept);
    other.settled(LIMIT)?;
    let end = Instant::now() + LIMIT;
    while site.cluster.qvd(&["status"])?.out.contains("goes on with its sessions") {
        ensure!(Instant::now() < end, "the replaced router does not end\n{}", site.cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(second);
    site.wait("First", "user_state", "disconnected")?;
    // The other daemons are replaced as well, and nobody notices.
    let mut client = resumed(site, &seen)?;
    site.cluster.qvd(&["restart", "api", "hkd"])?.good("qvd restart api hkd")?;
    ensure!(client.runs()?, "{}", client.said());
    ensure!(site.value("First", "vm_state || ' ' || user_state")? == "running connected");
    Ok(client)
}

/// Its router is told to end. The client asks the next one why, which the supervisor starts on the same socket.
fn router_stops(site: &Desktops, client: Client) -> Result<Client> {
    let seen = site.display.settled(LIMIT)?;
    let router = site.cluster.process("qvd-l7r")?.context("there is no router")?;
    kill(router, Signal::SIGTERM)?;
    ends(client, 17, "drain")?;
    resumed(site, &seen)
}

/// Routers die, and one is told to end: the same client has the same session and the same picture again each time,
/// without its user doing anything. Nobody comes back to a desktop that somebody else has taken over.
fn clients_come_back_by_themselves(site: &Desktops, client: Client) -> Result<Client> {
    let seen = site.display.settled(LIMIT)?;
    drop(client);
    site.wait("First", "user_state", "disconnected")?;
    site.display.wait_for("nothing", LIMIT, |picture| picture.drawn() == 0.0)?;
    let mut client = site.connect_on(&site.display, LIMIT, &["-f", "--reconnect", "60"])?;
    for (times, signal) in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL].into_iter().enumerate() {
        let before = site.value("First", "session_id")?;
        let router = site.cluster.process("qvd-l7r")?.context("there is no router")?;
        let begun = Instant::now();
        kill(router, signal)?;
        while client.said().matches("The connection is back").count() <= times {
            ensure!(client.runs()?, "{}", client.said());
            ensure!(begun.elapsed() < LIMIT, "{}\n{}", client.said(), site.cluster.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("back {:?} after {signal}", begun.elapsed());
        site.wait("First", "user_state", "connected")?;
        ensure!(site.value("First", "session_id")? != before, "it is the same connection");
        site.display.wait_for("what it showed", LIMIT, |picture| picture.likeness(&seen) > 0.99)?;
    }
    let logins = "select count(*) from events where kind = 'user' and text = 'came back with a ticket'";
    ensure!(site.cluster.value(logins)? == "3");
    let found =
        site.cluster.namespace().command("/bin/grep").args(["-r", "ticket-", &client.home()]).status()?;
    ensure!(found.code() == Some(1), "a ticket lies in a file of its user");
    let other = Display::within(site.cluster.namespace(), 800, 600)?;
    let second = site.connect_on(&other, LIMIT, &["-f"])?;
    ends(client, 11, "taken_over")?;
    other.settled(LIMIT)?;
    drop(second);
    resumed(site, &seen)
}

fn vm_stops(site: &Desktops, client: Client) -> Result<Client> {
    let begun = Instant::now();
    site.qa4(&["vm", "name=First", "stop"])?;
    ends(client, 13, "vm_stopped")?;
    let took = begun.elapsed();
    eprintln!("a stop ended the connection after {took:?}");
    ensure!(took < AT_ONCE, "a stop acted only after {took:?}");
    site.wait("First", "vm_state", "stopped")?;
    site.connect(START_LIMIT)
}

/// The user wants a new session in place of the one that there is.
fn session_restarts(site: &Desktops, client: Client) -> Result<Client> {
    let before = site.session()?;
    ensure!(site.value("First", "user_state")? == "connected");
    let other = Display::within(site.cluster.namespace(), 800, 600)?;
    let second = site.connect_on(&other, START_LIMIT, &["-f", "-r"])?;
    ends(client, 13, "vm_stopped")?;
    let after = site.session()?;
    ensure!(before.values().all(|process| !after.values().any(|new| new == process)), "{before:?} {after:?}");
    other.settled(LIMIT)?;
    drop(second);
    site.wait("First", "user_state", "disconnected")?;
    site.connect(LIMIT)
}

/// Its limits pass while somebody uses it: the soft one is told to the desktop, the hard one stops
/// it and starts it again.
fn vm_expires(site: &Desktops, mut client: Client) -> Result<Client> {
    let passes = |limit: &str, when: &str| {
        let moment = format!("now() at time zone 'utc' {when}");
        let first = "vm_id = (select id from vms where name = 'First')";
        site.cluster.value(&format!("update vm_runtimes set vm_expiration_{limit} = {moment} where {first}"))
    };
    passes("soft", "- interval '1 s'")?;
    let end = Instant::now() + LIMIT;
    while !site.cluster.logs().contains("the desktop was told") {
        ensure!(Instant::now() < end, "nobody was told\n{}", site.cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(client.runs()?, "{}", client.said());
    let generation = site.value("First", "(generation + 1)::text")?;
    passes("hard", "+ interval '1 s'")?;
    ends(client, 15, "expired")?;
    let again = "concat_ws(' ', vm_state, generation, vm_expiration_hard is null)";
    site.wait("First", again, &format!("running {generation} t"))?;
    site.connect(START_LIMIT)
}

/// Its container is killed.
fn vm_fails(site: &Desktops, client: Client) -> Result<()> {
    let container = *site.session()?.get("lxc-start").context("there is no lxc-start")?;
    kill(Pid::from_raw(container), Signal::SIGKILL)?;
    ends(client, 14, "vm_failed")
}
