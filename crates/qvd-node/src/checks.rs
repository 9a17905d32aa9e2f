//! What a node must have before it takes commands; everything that is missing is reported together
//! (`spec/node.md` 2.5).

use std::net::Ipv4Addr;
use std::path::Path;

use qvd_db::hosts::Host;
use qvd_model::network::AddressPlan;
use qvd_runtime::Values;
use qvd_runtime::config::ConfigError;

/// The address plan of the desktop network, as configured.
pub fn address_plan(values: &Values) -> Result<AddressPlan, String> {
    let read = || -> Result<_, ConfigError> {
        let start = values.address("vm.network.ip.start")?;
        let netmask = values.text("vm.network.netmask")?;
        let gateway = values.optional("vm.network.gateway")?.map(|_| values.address("vm.network.gateway"));
        Ok((start, netmask, gateway.transpose()?))
    };
    let (start, netmask, gateway) = read().map_err(|e| e.to_string())?;
    AddressPlan::new(start, &netmask, gateway).map_err(|e| e.to_string())
}

/// Everything that keeps this machine from being a node.
pub fn findings(values: &Values, host: &Host) -> Vec<String> {
    let mut findings = Vec::new();
    if !nix::unistd::Uid::effective().is_root() {
        findings.push("qvd-hkd must run as root".to_owned());
    }
    programs(values, &mut findings);
    network(values, host, &mut findings);
    findings.extend(values.problems().into_iter().filter(|problem| !problem.contains("did you mean")));
    findings
}

fn programs(values: &Values, findings: &mut Vec<String>) {
    let mut keys = vec!["command.lxc-start", "command.lxc-stop"];
    if values.flag("internal.vm.network.firewall.enable").unwrap_or(true) {
        keys.push("command.nft");
    }
    if values.flag("vm.network.use_dhcp").unwrap_or(true) {
        keys.push("command.dhcpd");
    }
    for key in keys {
        match values.path(key) {
            Ok(path) if path.exists() => {}
            Ok(path) => findings.push(format!("{key}: there is no program {}", path.display())),
            Err(error) => findings.push(error.to_string()),
        }
    }
}

fn network(values: &Values, host: &Host, findings: &mut Vec<String>) {
    let bridge = values.text("vm.network.bridge").unwrap_or_default();
    if !Path::new("/sys/class/net").join(&bridge).join("bridge").exists() {
        findings.push(format!("vm.network.bridge: there is no bridge {bridge}; create it, or use qvd up"));
    }
    let plan = match address_plan(values) {
        Ok(plan) => plan,
        Err(problem) => return findings.push(problem),
    };
    if !values.flag("internal.hkd.address_check.enabled").unwrap_or(true) {
        return;
    }
    let Ok(address) = host.address.parse::<Ipv4Addr>() else {
        return findings.push(format!("the host row's address `{}` is not an IPv4 address", host.address));
    };
    if !plan.is_node(address) {
        findings.push(format!(
            "the host row's address {address} is not between {} and {}, where nodes are",
            plan.network(),
            plan.first_vm()
        ));
    }
    if !own_addresses().contains(&address) {
        findings.push(format!("the host row's address {address} is on no interface of this machine"));
    }
}

fn own_addresses() -> Vec<Ipv4Addr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip())).collect()
}
