//! The bridge of an installation, and the way of its desktops to the outside.

use std::fs;

use anyhow::{Context, Result};
use tracing::warn;

use crate::addresses::PREFIX;
use crate::installation::Installation;

/// The switch that lets this machine pass packets on.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// What `up` made and `down` takes back.
pub struct Bridge {
    name: String,
    /// Whether forwarding was off before.
    forwarding_was_off: bool,
}

/// Makes the bridge with the node's address. A bridge of that name that is there is used.
pub async fn up(installation: &Installation) -> Result<Bridge> {
    let name = installation.bridge.clone();
    qvd_net::raise_bridge(&name, Some((installation.address(), PREFIX)))
        .await
        .with_context(|| format!("cannot make the bridge {name}"))?;
    let before = fs::read_to_string(FORWARDING).unwrap_or_default();
    let forwarding_was_off = installation.outside.is_some() && before.trim() == "0";
    if forwarding_was_off {
        fs::write(FORWARDING, "1").context("cannot let packets of desktops pass")?;
    }
    Ok(Bridge { name, forwarding_was_off })
}

impl Bridge {
    /// Removes the bridge and restores the switch.
    pub async fn down(self) {
        if let Err(error) = qvd_net::lower_bridge(&self.name).await {
            warn!(bridge = self.name, "not removed: {error}");
        }
        if self.forwarding_was_off
            && let Err(error) = fs::write(FORWARDING, "0")
        {
            warn!("forwarding not switched off again: {error}");
        }
    }
}
