//! The desktop network of this node: which desktops are on it, and what they may reach.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qvd_hypervisor::lxc::host_name;
use qvd_model::network::AddressPlan;
use qvd_model::{Failure, VmId};
use qvd_net::{Dnsmasq, Firewall, Host, Names, Policy, Port};
use qvd_runtime::config::ConfigError;
use qvd_runtime::{Drain, Values};
use tracing::warn;

use crate::checks::address_plan;
use crate::error::Error;
use crate::record::Record;

/// Firewall and DHCP of the desktops of this node.
pub struct Network {
    /// The address plan.
    pub plan: AddressPlan,
    bridge: String,
    /// None where `internal.vm.network.firewall.enable` is off.
    firewall: Option<Firewall>,
    /// None where desktops are born with their address.
    dhcp: Option<Arc<Dnsmasq>>,
    hosts: Mutex<BTreeMap<VmId, Host>>,
}

impl Network {
    /// Sets up firewall and DHCP for the desktops that run already, given with the names of their links.
    /// What an earlier configuration left is replaced.
    pub async fn set_up(values: &Values, desktops: &[(String, Record)]) -> Result<Self, Error> {
        let plan = address_plan(values).map_err(Error::Network)?;
        let firewall = firewall(values)?;
        if let Some(firewall) = &firewall {
            let ports: Vec<Port> = desktops.iter().map(|(link, record)| port(link, record)).collect();
            let replaced = firewall.replace(&policy(values, plan)?, &ports).await;
            replaced.map_err(|e| Error::Network(e.to_string()))?;
        }
        let dhcp =
            values.flag("vm.network.use_dhcp")?.then(|| dnsmasq(values, plan)).transpose()?.map(Arc::new);
        let hosts: BTreeMap<_, _> = desktops.iter().map(|(_, record)| (record.vm, host(record))).collect();
        if let Some(dnsmasq) = &dhcp {
            register(dnsmasq, &hosts).map_err(|e| Error::Network(e.to_string()))?;
        }
        let bridge = values.text("vm.network.bridge")?;
        Ok(Self { plan, bridge, firewall, dhcp, hosts: Mutex::new(hosts) })
    }

    /// Keeps the DHCP server running until `loops` end, if there is to be one.
    pub fn serve_addresses(&self, pause: Duration, loops: &Drain) {
        let Some(dnsmasq) = self.dhcp.clone() else { return };
        let until = loops.token().clone();
        loops.spawn(async move {
            tokio::select! {
                () = keep_serving(&dnsmasq, pause) => {}
                () = until.cancelled() => {}
            }
        });
    }

    /// Lets a desktop onto the network.
    pub async fn connect(&self, link: &str, record: &Record) -> Result<(), Failure> {
        self.change(|hosts| hosts.insert(record.vm, host(record)))?;
        qvd_net::know_neighbor(&self.bridge, record.address, &record.mac).await?;
        if let Some(firewall) = &self.firewall {
            firewall.add_vm(&port(link, record)).await?;
        }
        Ok(())
    }

    /// The second line of isolation, once the link is there: bridge ports that do not see each other.
    pub async fn isolate(&self, link: &str) {
        if self.firewall.is_none() {
            return;
        }
        if let Err(error) = qvd_net::isolate_port(link).await {
            warn!(link, "not isolated by the bridge; the firewall still does: {error}");
        }
    }

    /// Takes a desktop off the network. One that is not on it is fine.
    pub async fn disconnect(&self, vm: VmId, link: &str) -> Result<(), Failure> {
        if let Some(host) = self.change(|hosts| hosts.remove(&vm))? {
            qvd_net::forget_neighbor(&self.bridge, host.address).await?;
        }
        qvd_net::remove_link(link).await?;
        if let Some(firewall) = &self.firewall {
            firewall.remove_vm(link).await?;
        }
        Ok(())
    }

    /// Removes what `set_up` made; for a node whose desktops have all stopped.
    pub async fn tear_down(&self) {
        if let Some(dnsmasq) = &self.dhcp
            && let Err(error) = dnsmasq.stop().await
        {
            warn!("DHCP server not stopped: {error}");
        }
        if let Some(firewall) = &self.firewall
            && let Err(error) = firewall.remove().await
        {
            warn!("firewall rules not removed: {error}");
        }
    }

    /// Changes who is on the network, and tells the DHCP server, one change after the other.
    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<VmId, Host>) -> T) -> Result<T, Failure> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut hosts);
        if let Some(dnsmasq) = &self.dhcp {
            register(dnsmasq, &hosts)?;
        }
        Ok(changed)
    }
}

fn register(dnsmasq: &Dnsmasq, hosts: &BTreeMap<VmId, Host>) -> Result<(), qvd_net::Error> {
    dnsmasq.register(&hosts.values().cloned().collect::<Vec<_>>())
}

async fn keep_serving(dnsmasq: &Dnsmasq, pause: Duration) {
    loop {
        match dnsmasq.start().await {
            Ok(mut server) => {
                let ended = server.ended().await;
                warn!(?ended, "the DHCP server ended: {}", dnsmasq.last_words());
            }
            Err(error) => warn!("the DHCP server does not start: {error}"),
        }
        tokio::time::sleep(pause).await;
    }
}

fn port(link: &str, record: &Record) -> Port {
    Port { link: link.to_owned(), mac: record.mac.clone(), address: record.address }
}

fn host(record: &Record) -> Host {
    Host { mac: record.mac.clone(), address: record.address, name: host_name(&record.name, record.vm) }
}

fn firewall(values: &Values) -> Result<Option<Firewall>, ConfigError> {
    let wanted = values.flag("internal.vm.network.firewall.enable")?;
    wanted.then(|| values.path("command.nft").map(Firewall::new)).transpose()
}

fn policy(values: &Values, plan: AddressPlan) -> Result<Policy, ConfigError> {
    let rule = |name: &str| values.flag(&format!("internal.vm.network.firewall.{name}"));
    let login = rule("allow_login_from_vm")?.then(|| values.int("l7r.port")).transpose()?;
    Ok(Policy {
        bridge: values.text("vm.network.bridge")?,
        prefix: values.text("internal.vm.network.device.prefix")?,
        plan,
        dhcp: values.flag("vm.network.use_dhcp")?,
        protect_host: rule("protect_host")?,
        protect_vms: rule("protect_vms")?,
        login,
        nat: values.optional("vm.network.firewall.nat.iface")?.filter(|name| !name.is_empty()),
    })
}

fn dnsmasq(values: &Values, plan: AddressPlan) -> Result<Dnsmasq, ConfigError> {
    let server = values.optional("vm.network.dns_server")?.and_then(|text| text.parse().ok());
    let domain = values.text("vm.network.domain")?;
    Ok(Dnsmasq {
        program: values.path("command.dhcpd")?,
        directory: values.path("path.run")?.join("dhcp"),
        bridge: values.text("vm.network.bridge")?,
        plan,
        dhcp: true,
        names: Names {
            servers: server.into_iter().collect(),
            domain: Some(domain).filter(|d| !d.is_empty()),
        },
    })
}
