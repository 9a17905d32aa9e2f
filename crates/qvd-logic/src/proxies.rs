//! Who a request is from when proxies brought it: what a trusted one says is believed, and no more.
//!
//! Each proxy adds the address that it was called from at the end of `X-Forwarded-For`. So the list is read from its end,
//! as long as those who wrote it are trusted; whatever a client wrote itself stands before that and is not reached.

use std::net::IpAddr;
use std::str::FromStr;

use crate::fetching::{holds, width};

/// Addresses of proxies that are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Vec<(IpAddr, u8)>);

/// A word that is no address and no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address such as 10.3.15.1 and no network such as 10.3.15.0/24")]
pub struct NoNetwork(String);

impl FromStr for Proxies {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let words = text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty());
        let networks = words.map(|word| {
            let wrong = || NoNetwork(word.to_owned());
            let (address, bits) =
                word.split_once('/').map_or((word, None), |(address, bits)| (address, Some(bits)));
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            let bits = match bits {
                None => width(address),
                Some(bits) => bits.parse().ok().filter(|bits| *bits <= width(address)).ok_or_else(wrong)?,
            };
            Ok((address, bits))
        });
        networks.collect::<Result<_, _>>().map(Self)
    }
}

impl Proxies {
    /// Whether an address is that of a trusted proxy.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.0.iter().any(|(network, bits)| holds(*network, *bits, address.to_canonical()))
    }

    /// Where a request comes from that `peer` handed over with this list of those who handed it to each other.
    pub fn origin(&self, peer: IpAddr, forwarded: &str) -> IpAddr {
        let mut origin = peer;
        for hop in forwarded.rsplit(',') {
            if !self.holds(origin) {
                break;
            }
            match address(hop.trim()) {
                Some(before) => origin = before,
                None => break,
            }
        }
        origin
    }
}

/// An address, perhaps with a port behind it.
fn address(text: &str) -> Option<IpAddr> {
    let bare =
        text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(text, |(address, _)| address);
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_trusted_proxies_say_is_believed_and_no_more() {
        let proxies: Proxies = "10.0.0.0/24, 192.168.7.1 fd00::/8".parse().unwrap();
        for (peer, forwarded, origin) in [
            ("10.0.0.7", "203.0.113.9", "203.0.113.9"),
            // What the client wrote is before what the proxy added.
            ("10.0.0.7", "127.0.0.1, 203.0.113.9", "203.0.113.9"),
            ("10.0.0.7", "6.6.6.6, 203.0.113.9, 192.168.7.1", "203.0.113.9"),
            ("10.0.0.7", "203.0.113.9:4711", "203.0.113.9"),
            ("fd00::1", "[2001:db8::1]:443", "2001:db8::1"),
            ("10.0.0.7", "::ffff:203.0.113.9", "203.0.113.9"),
            ("::ffff:10.0.0.7", "203.0.113.9", "203.0.113.9"),
            ("10.0.0.7", "10.0.0.8", "10.0.0.8"),
            ("10.0.0.7", "", "10.0.0.7"),
            ("10.0.0.7", "203.0.113.9, unknown", "10.0.0.7"),
            // Somebody else may say what he likes.
            ("10.0.1.7", "203.0.113.9", "10.0.1.7"),
        ] {
            assert_eq!(proxies.origin(ip(peer), forwarded), ip(origin), "{peer}: {forwarded}");
        }
        assert_eq!(Proxies::default().origin(ip("10.0.0.7"), "203.0.113.9"), ip("10.0.0.7"));
    }

    #[test]
    fn lists_are_addresses_and_networks() {
        for bad in ["proxy.example", "10.0.0.0/33", "10.0.0.0/x", "10.0.0", "*"] {
            let error = format!("10.1.1.1 {bad}").parse::<Proxies>().unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
        assert_eq!("".parse::<Proxies>().unwrap(), Proxies::default());
        assert!("0.0.0.0/0".parse::<Proxies>().unwrap().holds(ip("1.2.3.4")));
    }

    proptest! {
        #[test]
        fn a_client_that_is_not_trusted_cannot_be_somebody_else(
            claimed in "[0-9a-f:., \\[\\]]{0,60}", client in any::<[u8; 4]>()
        ) {
            let proxies: Proxies = "10.0.0.7".parse().unwrap();
            let client = IpAddr::from(client);
            prop_assume!(!proxies.holds(client));
            prop_assert_eq!(proxies.origin(ip("10.0.0.7"), &format!("{claimed},{client}")), client);
            prop_assert_eq!(proxies.origin(client, &claimed), client);
        }
    }
}
