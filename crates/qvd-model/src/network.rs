//! The address plan of the desktop network (`spec/node.md` 4.1 and 7.1).

use std::net::Ipv4Addr;

/// The flat network that nodes and desktops share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPlan {
    network: u32,
    prefix: u8,
    first_vm: u32,
    gateway: Option<Ipv4Addr>,
}

/// Why an address plan is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Neither a dotted mask nor a prefix length.
    #[error("vm.network.netmask: `{0}` is neither a dotted mask nor a prefix length from 8 to 30")]
    Netmask(String),
    /// The first VM address leaves no room for nodes or for VMs.
    #[error("vm.network.ip.start: {0} leaves no address for nodes or for VMs in its network")]
    Start(Ipv4Addr),
    /// The gateway is outside the network.
    #[error("vm.network.gateway: {0} is not an address of the desktop network")]
    Gateway(Ipv4Addr),
}

/// Prefix length of a netmask that is written dotted (`255.255.0.0`) or as a length (`16`).
pub fn prefix_length(netmask: &str) -> Result<u8, PlanError> {
    let refuse = || PlanError::Netmask(netmask.to_owned());
    let length = if let Ok(length) = netmask.trim_start_matches('/').parse::<u8>() {
        length
    } else {
        let mask = u32::from(netmask.parse::<Ipv4Addr>().map_err(|_| refuse())?);
        if mask.count_ones() != mask.leading_ones() {
            return Err(refuse());
        }
        u8::try_from(mask.count_ones()).map_err(|_| refuse())?
    };
    if (8..=30).contains(&length) { Ok(length) } else { Err(refuse()) }
}

impl AddressPlan {
    /// Checks `vm.network.ip.start`, `.netmask` and `.gateway` against each other.
    pub fn new(first_vm: Ipv4Addr, netmask: &str, gateway: Option<Ipv4Addr>) -> Result<Self, PlanError> {
        let prefix = prefix_length(netmask)?;
        let start = u32::from(first_vm);
        let mask = u32::MAX << (32 - u32::from(prefix));
        let network = start & mask;
        let plan = Self { network, prefix, first_vm: start, gateway };
        if start < network + 2 || start >= u32::from(plan.broadcast()) {
            return Err(PlanError::Start(first_vm));
        }
        match gateway {
            Some(address) if u32::from(address) & mask != network => Err(PlanError::Gateway(address)),
            _ => Ok(plan),
        }
    }

    /// The network address.
    pub fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.network)
    }

    /// Bits of the network part.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The broadcast address.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.network | !(u32::MAX << (32 - u32::from(self.prefix))))
    }

    /// The router that desktops use.
    pub const fn gateway(&self) -> Option<Ipv4Addr> {
        self.gateway
    }

    /// First address for VMs; the last one is just below the broadcast address.
    pub fn first_vm(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.first_vm)
    }

    /// Last address for VMs.
    pub fn last_vm(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.broadcast()) - 1)
    }

    /// Whether a VM may have this address.
    pub fn is_vm(&self, address: Ipv4Addr) -> bool {
        (self.first_vm()..=self.last_vm()).contains(&address)
    }

    /// Whether a node must have an address like this one: above the network address, below the first VM.
    pub fn is_node(&self, address: Ipv4Addr) -> bool {
        u32::from(address) > self.network && u32::from(address) < self.first_vm
    }

    /// The highest address that no VM has: new VMs count down from the top.
    pub fn highest_free(&self, taken: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        (self.first_vm..=u32::from(self.last_vm())).rev().map(Ipv4Addr::from).find(|a| !taken(*a))
    }
}

/// The MAC address of a VM: the configured prefix and the last three octets of its address.
pub fn mac(prefix: &str, address: Ipv4Addr) -> String {
    let [_, b, c, d] = address.octets();
    format!("{prefix}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_dotted_or_a_length() {
        assert_eq!(prefix_length("255.255.0.0").unwrap(), 16);
        assert_eq!(prefix_length("24").unwrap(), 24);
        for bad in ["255.0.255.0", "33", "0", "wide", ""] {
            assert!(prefix_length(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_follow_the_first_vm_address() {
        let plan = AddressPlan::new(Ipv4Addr::new(10, 0, 0, 100), "255.255.0.0", None).unwrap();
        assert_eq!(plan.network(), Ipv4Addr::new(10, 0, 0, 0));
        assert_eq!(plan.last_vm(), Ipv4Addr::new(10, 0, 255, 254));
        assert!(plan.is_node(Ipv4Addr::new(10, 0, 0, 1)) && !plan.is_node(Ipv4Addr::new(10, 0, 0, 0)));
        assert!(plan.is_vm(Ipv4Addr::new(10, 0, 0, 100)) && !plan.is_vm(Ipv4Addr::new(10, 0, 0, 99)));
        assert_eq!(plan.highest_free(|a| a == plan.last_vm()), Some(Ipv4Addr::new(10, 0, 255, 253)));
    }

    #[test]
    fn a_plan_without_room_is_refused() {
        assert!(AddressPlan::new(Ipv4Addr::new(10, 0, 0, 1), "24", None).is_err());
        assert!(AddressPlan::new(Ipv4Addr::new(10, 0, 0, 255), "24", None).is_err());
        let gateway = Some(Ipv4Addr::new(10, 1, 0, 1));
        assert!(AddressPlan::new(Ipv4Addr::new(10, 0, 0, 100), "24", gateway).is_err());
    }

    #[test]
    fn macs_end_with_the_address() {
        assert_eq!(mac("54:52:00", Ipv4Addr::new(10, 0, 0, 100)), "54:52:00:00:00:64");
    }
}
