//! Choosing a desktop network that collides with nothing this machine knows.

use std::net::Ipv4Addr;

/// Bits of the network part of the networks on offer.
pub const PREFIX: u8 = 16;
/// First private networks that are tried; all are /16.
const CANDIDATES: [u8; 8] = [73, 91, 107, 133, 151, 167, 189, 211];

/// A network that overlaps no route of this machine, or `None` if all candidates do.
pub fn free_network() -> Option<Ipv4Addr> {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    choose(&parse(&routes))
}

/// The interface of the default route: where desktops reach the outside.
pub fn default_interface() -> Option<String> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    let fields = routes.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|f| f.get(1) == Some(&"00000000")).find_map(|f| f.first().map(|name| (*name).to_owned()))
}

/// Destinations and masks of the kernel's routing table; the default route is left out.
fn parse(routes: &str) -> Vec<(u32, u32)> {
    let hex = |text: Option<&&str>| u32::from_str_radix(text?, 16).ok().map(u32::swap_bytes);
    let fields = routes.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter_map(|f| Some((hex(f.get(1))?, hex(f.get(7))?))).filter(|(_, mask)| *mask != 0).collect()
}

fn choose(routes: &[(u32, u32)]) -> Option<Ipv4Addr> {
    let own = u32::MAX << (32 - u32::from(PREFIX));
    CANDIDATES.iter().map(|second| Ipv4Addr::new(10, *second, 0, 0)).find(|network| {
        let network = u32::from(*network);
        routes.iter().all(|(route, mask)| (network ^ route) & (own & mask) != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n";

    #[test]
    fn the_first_network_without_a_route_is_taken() {
        assert_eq!(choose(&parse(HEAD)), Some(Ipv4Addr::new(10, 73, 0, 0)));
        let one = format!("{HEAD}eth0\t0000490A\t0\t1\t0\t0\t0\t0000FFFF\n");
        assert_eq!(choose(&parse(&one)), Some(Ipv4Addr::new(10, 91, 0, 0)));
    }

    #[test]
    fn a_route_to_all_of_ten_leaves_none_and_a_default_route_does_not_count() {
        let default = format!("{HEAD}eth0\t00000000\t0100A8C0\t3\t0\t0\t0\t00000000\n");
        assert!(choose(&parse(&default)).is_some());
        let ten = format!("{HEAD}eth0\t0000000A\t0\t1\t0\t0\t0\t000000FF\n");
        assert_eq!(choose(&parse(&ten)), None);
    }
}
