//! The bridge that desktops are ports of, by netlink.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoKind, InfoPortData, InfoPortKind, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec};
use tokio::task::JoinHandle;

use crate::Error;

/// Numbers of system errors as netlink reports them.
const NO_SUCH_DEVICE: i32 = -nix::libc::ENODEV;
const EXISTS: i32 = -nix::libc::EEXIST;
const NO_SUCH_ENTRY: i32 = -nix::libc::ENOENT;

/// A conversation with the kernel; its task ends with it.
struct Netlink {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Netlink {
    fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Netlink)?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// The link of this name.
    async fn find(&self, name: &str) -> Result<Option<LinkMessage>, Error> {
        check(name)?;
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        match found.try_next().await {
            Ok(link) => Ok(link),
            Err(error) if code(&error) == Some(NO_SUCH_DEVICE) => Ok(None),
            Err(error) => Err(Error::link("find", name)(error)),
        }
    }

    async fn addresses(&self, name: &str, index: u32) -> Result<Vec<(Ipv4Addr, u8)>, Error> {
        let listed = self.handle.address().get().set_link_index_filter(index).execute();
        let listed: Vec<_> = listed.try_collect().await.map_err(Error::link("list addresses of", name))?;
        let address = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Address(IpAddr::V4(address)) => Some(*address),
            _ => None,
        };
        let found = |message: &rtnetlink::packet_route::address::AddressMessage| {
            Some((message.attributes.iter().find_map(address)?, message.header.prefix_len))
        };
        Ok(listed.iter().filter_map(found).collect())
    }
}

fn code(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(std::num::NonZeroI32::get),
        _ => None,
    }
}

/// What the kernel accepts as a name, and what is safe in a rule.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let dots = matches!(name, "." | "..");
    if (1..=15).contains(&name.len()) && name.chars().all(fine) && !dots {
        Ok(())
    } else {
        Err(Error::Name(name.to_owned()))
    }
}

fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    })
}

/// Makes the bridge if it is missing, gives it an address of the node if it lacks it, and sets it up.
/// For installations whose network is ours; elsewhere the administrator makes the bridge.
pub async fn raise_bridge(name: &str, address: Option<(Ipv4Addr, u8)>) -> Result<(), Error> {
    let netlink = Netlink::open()?;
    if netlink.find(name).await?.is_none() {
        let bridge = match address {
            Some((address, _)) => LinkBridge::new(name).address(own_mac(address).to_vec()),
            None => LinkBridge::new(name),
        };
        let made = netlink.handle.link().add(bridge.build()).execute().await;
        made.or_else(|error| if code(&error) == Some(EXISTS) { Ok(()) } else { Err(error) })
            .map_err(Error::link("create", name))?;
    }
    let link = netlink.find(name).await?.ok_or_else(|| Error::NoBridge(name.to_owned()))?;
    if !is_bridge(&link) {
        return Err(Error::NotABridge(name.to_owned()));
    }
    let index = link.header.index;
    if let Some((address, prefix)) = address
        && !netlink.addresses(name, index).await?.contains(&(address, prefix))
    {
        let added = netlink.handle.address().add(index, IpAddr::V4(address), prefix).execute().await;
        added.map_err(Error::link("add an address to", name))?;
    }
    let up = LinkUnspec::new_with_index(index).up().build();
    netlink.handle.link().set(up).execute().await.map_err(Error::link("set up", name))
}

/// The MAC address of a bridge. One that was not given any takes that of one of its ports, and another one whenever
/// ports come and go: others would send to an address that nobody has any more.
fn own_mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0, a, b, c, d]
}

/// Removes the bridge. One that is not there is fine.
pub async fn lower_bridge(name: &str) -> Result<(), Error> {
    let netlink = Netlink::open()?;
    match netlink.find(name).await? {
        Some(link) if !is_bridge(&link) => Err(Error::NotABridge(name.to_owned())),
        _ => remove_link(name).await,
    }
}

/// Makes an interface a port of the bridge, and sets it up. One that is a port of it is fine.
pub async fn add_port(bridge: &str, interface: &str) -> Result<(), Error> {
    let netlink = Netlink::open()?;
    let link = netlink.find(bridge).await?.ok_or_else(|| Error::NoBridge(bridge.to_owned()))?;
    if !is_bridge(&link) {
        return Err(Error::NotABridge(bridge.to_owned()));
    }
    let port = netlink.find(interface).await?.ok_or_else(|| Error::NoInterface(interface.to_owned()))?;
    let change = LinkUnspec::new_with_index(port.header.index).controller(link.header.index).up().build();
    netlink.handle.link().set(change).execute().await.map_err(Error::link("make a port of", interface))
}

/// Takes [`add_port`] back. An interface that is not there is fine.
pub async fn release_port(interface: &str) -> Result<(), Error> {
    let netlink = Netlink::open()?;
    let Some(port) = netlink.find(interface).await? else { return Ok(()) };
    let change = LinkUnspec::new_with_index(port.header.index).nocontroller().build();
    netlink.handle.link().set(change).execute().await.map_err(Error::link("release", interface))
}

/// The IPv4 addresses that the node has on the bridge, with the bits of their networks.
///
/// # Errors
/// [`Error::NoBridge`] or [`Error::NotABridge`] when desktops cannot be connected.
pub async fn examine_bridge(name: &str) -> Result<Vec<(Ipv4Addr, u8)>, Error> {
    let netlink = Netlink::open()?;
    let link = netlink.find(name).await?.ok_or_else(|| Error::NoBridge(name.to_owned()))?;
    if is_bridge(&link) {
        netlink.addresses(name, link.header.index).await
    } else {
        Err(Error::NotABridge(name.to_owned()))
    }
}

/// Removes a link. One that is not there is fine.
pub async fn remove_link(name: &str) -> Result<(), Error> {
    let netlink = Netlink::open()?;
    let Some(link) = netlink.find(name).await? else { return Ok(()) };
    match netlink.handle.link().del(link.header.index).execute().await {
        Err(error) if code(&error) != Some(NO_SUCH_DEVICE) => Err(Error::link("remove", name)(error)),
        _ => Ok(()),
    }
}

/// Tells the bridge that this port reaches no other port of the kind: a second line behind the firewall,
/// which holds even while rules are replaced.
pub async fn isolate_port(name: &str) -> Result<(), Error> {
    let netlink = Netlink::open()?;
    let Some(link) = netlink.find(name).await? else {
        let missing = std::io::Error::from_raw_os_error(nix::libc::ENODEV);
        return Err(Error::Netlink(std::io::Error::new(missing.kind(), format!("{name} does not exist"))));
    };
    let message = LinkMessageBuilder::<LinkUnspec>::new()
        .index(link.header.index)
        .set_port_kind(InfoPortKind::Bridge)
        .set_port_data(InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(true)]))
        .build();
    netlink.handle.link().set_port(message).execute().await.map_err(Error::link("isolate", name))
}

/// Tells the node which MAC address belongs to a desktop's address. The first packet to a desktop that is still
/// booting then waits for no ARP answer, and no other desktop can give a false one.
pub async fn know_neighbor(bridge: &str, address: Ipv4Addr, mac: &str) -> Result<(), Error> {
    let mac = octets(mac).ok_or_else(|| Error::Name(mac.to_owned()))?;
    let netlink = Netlink::open()?;
    let link = netlink.find(bridge).await?.ok_or_else(|| Error::NoBridge(bridge.to_owned()))?;
    let request =
        netlink.handle.neighbours().add(link.header.index, IpAddr::V4(address)).link_local_address(&mac);
    request.replace().execute().await.map_err(Error::link("add a neighbor to", bridge))?;
    // Where it ran before, another node may have been the way to it; it says nothing itself before it is asked.
    let path = Path::new("/sys/class/net").join(bridge).join("bridge/flush");
    std::fs::write(&path, "1").map_err(Error::file("write", &path))
}

/// Takes [`know_neighbor`] back. An address that is not known is fine.
pub async fn forget_neighbor(bridge: &str, address: Ipv4Addr) -> Result<(), Error> {
    let netlink = Netlink::open()?;
    let Some(link) = netlink.find(bridge).await? else { return Ok(()) };
    let mut known = netlink.handle.neighbours().add(link.header.index, IpAddr::V4(address));
    let message = known.message_mut().clone();
    match netlink.handle.neighbours().del(message).execute().await {
        Err(error) if code(&error) != Some(NO_SUCH_ENTRY) => {
            Err(Error::link("forget a neighbor of", bridge)(error))
        }
        _ => Ok(()),
    }
}

/// The six octets of a MAC address.
fn octets(mac: &str) -> Option<[u8; 6]> {
    let parsed: Option<Vec<u8>> = mac.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    parsed?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_have_six_octets() {
        assert_eq!(octets("54:52:00:00:00:64"), Some([0x54, 0x52, 0, 0, 0, 0x64]));
        assert!(["54:52:00:00:00", "54:52:00:00:00:64:65", "x", ""].iter().all(|bad| octets(bad).is_none()));
    }

    #[test]
    fn names_are_what_the_kernel_accepts() {
        assert!(check("qvdnet").is_ok() && check("qvd100").is_ok());
        for bad in ["", "a b", "a/b", "qvd*", "sixteen-letters-", "..", "a\nb"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
