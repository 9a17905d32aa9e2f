//! Addresses of VMs.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use crate::{Error, Session, Sql};

const USED: Sql = Sql::new("read the addresses in use", "SELECT ip FROM vms WHERE ip IS NOT NULL");

pub(crate) const ALL: &[Sql] = &[USED];

/// The addresses that VMs have.
pub async fn used(session: &impl Session) -> Result<HashSet<Ipv4Addr>, Error> {
    let rows = USED.query(session, &[]).await?;
    let texts = rows.iter().map(|row| USED.column::<String>(row, "ip")).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
}
