//! What desktops may send, and to whom.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use qvd_model::network::AddressPlan;
use serde_json::{Value, json};

use crate::nft::Nft;
use crate::{Error, bridge, rules};

/// The firewall keys of the configuration, and what they are about.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The bridge (`vm.network.bridge`).
    pub bridge: String,
    /// How names of desktop ports begin (`internal.vm.network.device.prefix`).
    pub prefix: String,
    /// Who is a desktop and who is a node.
    pub plan: AddressPlan,
    /// Whether desktops ask for their address (`vm.network.use_dhcp`).
    pub dhcp: bool,
    /// Whether nodes are protected from desktops (`…firewall.protect_host`).
    pub protect_host: bool,
    /// Whether desktops are protected from each other (`…firewall.protect_vms`).
    pub protect_vms: bool,
    /// The router's port, where desktops may be clients (`…firewall.allow_login_from_vm`).
    pub login: Option<u16>,
    /// Where desktops leave behind the node's address (`vm.network.firewall.nat.iface`).
    pub nat: Option<String>,
}

/// A desktop's port on the bridge, and the only addresses that may speak there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name of the link on the node.
    pub link: String,
    /// Its MAC address.
    pub mac: String,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
}

/// The firewall of a node: two tables of its own, beside whatever the administrator has.
#[derive(Debug, Clone)]
pub struct Firewall {
    nft: Nft,
}

impl Firewall {
    /// Uses this `nft` (`command.nft`).
    pub fn new(nft: impl Into<PathBuf>) -> Self {
        Self { nft: Nft(nft.into()) }
    }

    /// Replaces everything at once: what was there from an earlier life or configuration is gone, and no
    /// moment is without rules.
    pub async fn replace(&self, policy: &Policy, ports: &[Port]) -> Result<(), Error> {
        bridge::check(&policy.bridge)?;
        bridge::check(&policy.prefix)?;
        policy.nat.as_deref().map_or(Ok(()), bridge::check)?;
        let mut commands = rules::removal();
        commands.extend(rules::tables(policy));
        commands.extend(additions(ports)?);
        self.nft.apply(commands).await
    }

    /// Lets a desktop speak on its port. What the port could before is gone.
    pub async fn add_vm(&self, port: &Port) -> Result<(), Error> {
        let mut commands = self.forgetting(&port.link).await?;
        commands.extend(additions(std::slice::from_ref(port))?);
        self.nft.apply(commands).await
    }

    /// Silences a port.
    pub async fn remove_vm(&self, link: &str) -> Result<(), Error> {
        let commands = self.forgetting(link).await?;
        if commands.is_empty() { Ok(()) } else { self.nft.apply(commands).await }
    }

    /// Removes all rules.
    pub async fn remove(&self) -> Result<(), Error> {
        self.nft.apply(rules::removal()).await
    }

    /// Commands that remove a port's elements.
    async fn forgetting(&self, link: &str) -> Result<Vec<Value>, Error> {
        bridge::check(link)?;
        let elements = self.nft.elements("bridge", rules::TABLE, rules::SPEAKERS).await?;
        let ours = |element: &&Value| element.pointer("/concat/0").and_then(Value::as_str) == Some(link);
        Ok(elements.iter().filter(ours).map(|element| element_command("delete", element)).collect())
    }
}

fn additions(ports: &[Port]) -> Result<Vec<Value>, Error> {
    let addition = |port: &Port| {
        bridge::check(&port.link)?;
        let element = json!({ "concat": [port.link, port.mac, port.address.to_string()] });
        Ok(element_command("add", &element))
    };
    ports.iter().map(addition).collect()
}

fn element_command(verb: &str, element: &Value) -> Value {
    let change =
        json!({ "family": "bridge", "table": rules::TABLE, "name": rules::SPEAKERS, "elem": [element] });
    json!({ verb: { "element": change } })
}
