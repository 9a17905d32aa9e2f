//! The bridge of an installation, and the way of its desktops to the outside.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::addresses::PREFIX;
use crate::installation::Installation;
use crate::layout::Layout;

/// The switch that lets this machine pass packets on.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// Names the boot of the machine.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// What `up` made and `down` takes back. It is kept in a file: a supervisor that was killed took nothing back.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Bridge {
    /// The boot of the machine in which it was made; what is there after another one is not ours.
    boot: String,
    name: String,
    /// Whether the bridge is ours; one that was there stays.
    made: bool,
    /// The interface that is a port of it now and was none before.
    interface: Option<String>,
    /// Whether forwarding was off before.
    forwarding_was_off: bool,
}

/// Makes the bridge with the node's address and its port to the other nodes. A bridge of that name that is there is
/// used.
pub async fn up(layout: &Layout, installation: &Installation) -> Result<Bridge> {
    let name = installation.bridge.clone();
    let boot = fs::read_to_string(BOOT).with_context(|| format!("cannot read {BOOT}"))?;
    let mut bridge = Bridge::known(layout).filter(|known| known.boot == boot && known.name == name);
    let bridge = bridge.get_or_insert_default();
    bridge.boot = boot;
    bridge.name.clone_from(&name);
    bridge.made |= !Path::new("/sys/class/net").join(&name).exists();
    if let Some(interface) = &installation.interface
        && !Path::new("/sys/class/net").join(interface).join("master").exists()
    {
        bridge.interface = Some(interface.clone());
    }
    let forwarding = fs::read_to_string(FORWARDING).unwrap_or_default();
    bridge.forwarding_was_off |= installation.outside.is_some() && forwarding.trim() == "0";
    // Written before anything is changed: taking back what was not done is fine.
    let text = serde_json::to_vec(bridge)?;
    fs::write(layout.network(), text)
        .with_context(|| format!("cannot write {}", layout.network().display()))?;

    qvd_net::raise_bridge(&name, Some((installation.address(), PREFIX)))
        .await
        .with_context(|| format!("cannot make the bridge {name}"))?;
    if let Some(interface) = &installation.interface {
        qvd_net::add_port(&name, interface)
            .await
            .with_context(|| format!("cannot make {interface} a port of {name}"))?;
    }
    if bridge.forwarding_was_off {
        fs::write(FORWARDING, "1").context("cannot let packets of desktops pass")?;
    }
    Ok(std::mem::take(bridge))
}

impl Bridge {
    /// What an earlier supervisor made, if it has not taken it back.
    fn known(layout: &Layout) -> Option<Self> {
        serde_json::from_slice(&fs::read(layout.network()).ok()?).ok()
    }

    /// Takes everything back.
    pub async fn down(self, layout: &Layout) {
        if let Some(interface) = &self.interface
            && let Err(error) = qvd_net::release_port(interface).await
        {
            warn!(interface, "still a port of the bridge: {error}");
        }
        if self.made
            && let Err(error) = qvd_net::lower_bridge(&self.name).await
        {
            warn!(bridge = self.name, "not removed: {error}");
        }
        if self.forwarding_was_off
            && let Err(error) = fs::write(FORWARDING, "0")
        {
            warn!("forwarding not switched off again: {error}");
        }
        if let Err(error) = fs::remove_file(layout.network()) {
            warn!(path = %layout.network().display(), "not removed: {error}");
        }
    }
}
