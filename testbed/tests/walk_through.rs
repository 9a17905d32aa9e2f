//! The walk-through of the manual, from an empty installation to the pixels of a desktop and back.

use std::time::{Duration, Instant};

use testbed::{Client, Cluster, Display, image, programs};

/// How long a first start may take here: the image is unpacked on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(40);

/// The certificate is self-signed; without a window manager nxagent takes the whole display or three quarters.
const OPTIONS: [&str; 2] = ["-n", "-f"];

#[test]
fn from_nothing_to_a_desktop_and_back() {
    let cluster = Cluster::new().unwrap();
    let qa4 = |words: &[&str]| cluster.qa4(words).unwrap().good(&format!("qa4 {}", words.join(" "))).unwrap();
    let agent = programs::program("qvd-vma").unwrap();
    let image = image::desktop(&agent, cluster.directory()).unwrap();
    let image = format!("path={},osf=MyOSF", image.display());

    qa4(&["osf", "new", "name=MyOSF"]);
    qa4(&["di", "new", &image]);
    qa4(&["di", "osf=MyOSF", "tag", "stable"]);
    qa4(&["user", "new", "name=test,password=test"]);
    qa4(&["vm", "new", "name=TestVM,user=test,osf=MyOSF"]);
    let listing = qa4(&["vm", "get"]);
    assert!(listing.contains("TestVM") && listing.contains("stopped"), "{listing}");
    let hosts = qa4(&["host", "get"]);
    assert!(hosts.contains("running") && hosts.contains("Total: 1"), "{hosts}");

    // Started by an administrator.
    qa4(&["vm", "name=TestVM", "start"]);
    cluster.wait_for("select vm_state from vm_runtimes", "running", START_LIMIT).unwrap();
    let listing = qa4(&["vm", "user~te%,state=running", "get"]);
    assert!(listing.contains("TestVM") && listing.contains("Total: 1"), "{listing}");

    // Drawn for its user.
    let display = Display::within(cluster.namespace(), 1024, 768).unwrap();
    let mut client = Client::start(&cluster, Some(&display), "test", "test", &OPTIONS).unwrap();
    let shown = display.wait_for("a desktop", LIMIT, |picture| {
        // The background is a gradient over the whole screen, the terminal in front of it may be black.
        picture.drawn() > 0.8 && picture.colors() > 100
    });
    let picture = shown.unwrap_or_else(|error| panic!("{error}\n{}\n{}", client.said(), cluster.logs()));
    if let Some(path) = std::env::var_os("QVD_TEST_PICTURE") {
        picture.save(path.as_ref()).unwrap();
    }
    cluster.wait_for("select user_state from vm_runtimes", "connected", LIMIT).unwrap();

    // The user leaves: the session is suspended, the desktop stays, and the next connection finds it as it was.
    let left = client.leave().unwrap();
    assert_eq!(left.code, Some(143), "ended by TERM is what it says: {left:?}");
    cluster.wait_for("select user_state from vm_runtimes", "disconnected", LIMIT).unwrap();
    display.wait_for("nothing", LIMIT, |picture| picture.drawn() == 0.0).unwrap();
    let _client = Client::start(&cluster, Some(&display), "test", "test", &OPTIONS).unwrap();
    display.wait_for("the same desktop", LIMIT, |again| again.drawn() > 0.8).unwrap();

    // Configuration, block, stop, delete.
    qa4(&["config", "set", "tenant_id=-1,key=vm.network.domain,value=example.org"]);
    assert!(qa4(&["config", "get"]).contains("example.org"));
    qa4(&["vm", "name=TestVM", "block"]);
    qa4(&["vm", "name=TestVM", "unblock"]);
    qa4(&["vm", "name=TestVM", "stop"]);
    cluster.wait_for("select vm_state from vm_runtimes", "stopped", LIMIT).unwrap();
    display.wait_for("nothing", LIMIT, |picture| picture.drawn() == 0.0).unwrap();

    // A connection starts a stopped desktop.
    let mut client = Client::start(&cluster, Some(&display), "test", "test", &OPTIONS).unwrap();
    let shown = display.wait_for("a started desktop", START_LIMIT, |picture| picture.drawn() > 0.8);
    shown.unwrap_or_else(|error| panic!("{error}\n{}\n{}", client.said(), cluster.logs()));
    qa4(&["vm", "name=TestVM", "stop"]);
    client.wait(LIMIT).unwrap();
    cluster.wait_for("select vm_state from vm_runtimes", "stopped", LIMIT).unwrap();

    qa4(&["vm", "name=TestVM", "del"]);
    qa4(&["user", "name=test", "del"]);
    assert!(qa4(&["vm", "get"]).contains("Total: 0"));
    assert_eq!(cluster.value("select count(*) from vm_runtimes").unwrap(), "0");

    // The image goes with its file and with what the node unpacked of it.
    let storage = cluster.data().join("storage");
    let holds = |directory: &str| {
        let entries = std::fs::read_dir(storage.join(directory)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with("lock.")).collect::<Vec<_>>()
    };
    assert_eq!((holds("images").len(), holds("basefs").len()), (1, 2), "an archive; a tree and its record");
    qa4(&["di", "osf=MyOSF", "del"]);
    let end = Instant::now() + LIMIT;
    while !(holds("images").is_empty() && holds("basefs").is_empty()) {
        assert!(Instant::now() < end, "{:?}\n{}", holds("basefs"), cluster.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}
