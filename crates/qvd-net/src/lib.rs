//! The desktop network of one node: bridge, firewall, DHCP and DNS (`spec/node.md` 2.12, 7 and 15.7).
//!
//! ```text
//!  desktop ── eth0 ═ qvd<id> ─┐ anti-spoofing: MAC, ARP, IPv4 of that port only
//!  desktop ── eth0 ═ qvd<id> ─┤ isolation: ports do not reach each other
//!                          [bridge] ── node: DHCP and DNS only; answers to what the node asked
//!                             └─ other nodes, or NAT to the outside
//! ```
//!
//! Everything is made so that it can be made again: starting over replaces the whole ruleset, adding a VM
//! replaces what an earlier life of it left, and removing what is not there is fine.

mod bridge;
mod dnsmasq;
mod error;
mod firewall;
mod nft;
mod rules;

pub use bridge::{
    add_port, examine_bridge, forget_neighbor, isolate_port, know_neighbor, lower_bridge, raise_bridge,
    release_port, remove_link,
};
pub use dnsmasq::{Dnsmasq, Host, Names, Server};
pub use error::Error;
pub use firewall::{Firewall, Policy, Port};
