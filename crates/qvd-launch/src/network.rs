//! The bridge of an installation.

use anyhow::Result;

use crate::installation::Installation;

/// What `up` made and `down` removes.
pub struct Bridge;

/// Makes the bridge with the node's address.
pub async fn up(_installation: &Installation) -> Result<Bridge> {
    Ok(Bridge)
}

impl Bridge {
    /// Removes the bridge.
    pub async fn down(self) {}
}
