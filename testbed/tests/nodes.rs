//! Several nodes: placement, desktops of other nodes, and routers that die.

use std::time::Duration;

use testbed::Farm;

/// How long a first start may take here: the image is unpacked on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_client_reaches_its_desktop_through_the_router_of_another_node() {
    let farm = Farm::new(2).unwrap();
    farm.furnish(1).unwrap();
    farm.value("update hosts set backend = false where name = 'node1'").unwrap();
    let display = farm.display().unwrap();
    let _client = farm.connect(1, &display, "user1", START_LIMIT).unwrap();
    farm.wait_vm("vm1", "user_state", "connected", LIMIT).unwrap();
    assert_eq!(farm.vm("vm1", "h.name || ' ' || router.name").unwrap(), "node2 node1");
}
