//! How running VMs are reached by administrators.

use std::net::IpAddr;

use qvd_model::{VmId, VmState};

use crate::{Error, Session, Sql};

const FIND: Sql = Sql::new(
    "find the way to the VM",
    "SELECT r.vm_state, r.vm_address, h.name AS host_name, h.address AS host_address, r.vm_ssh_port, r.vm_vnc_port, \
     r.vm_serial_port FROM vm_runtimes r LEFT JOIN hosts h ON h.id = r.host_id WHERE r.vm_id = $1",
);

pub(crate) const ALL: &[Sql] = &[FIND];

/// How a VM is reached.
#[derive(Debug, Clone)]
pub struct Ways {
    /// Whether it can be.
    pub state: VmState,
    /// Its own address.
    pub address: Option<IpAddr>,
    /// The host that it runs on.
    pub host_name: Option<String>,
    /// The address of that host.
    pub host_address: Option<IpAddr>,
    /// Port of its SSH server, at its own address.
    pub ssh: Option<u16>,
    /// Port of its screen, at the address of the host.
    pub vnc: Option<u16>,
    /// Port of its serial console, at the address of the host.
    pub serial: Option<u16>,
}

/// The ways to a VM.
pub async fn find(session: &impl Session, vm: VmId) -> Result<Option<Ways>, Error> {
    let Some(row) = FIND.query_opt(session, &[&vm.0]).await? else { return Ok(None) };
    let address = |name| {
        let text: Option<&str> = FIND.column(&row, name)?;
        Ok::<_, Error>(text.and_then(|text| text.parse().ok()))
    };
    // 0 stands for none.
    let port = |name| {
        let port: Option<i32> = FIND.column(&row, name)?;
        Ok::<_, Error>(port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0))
    };
    Ok(Some(Ways {
        state: FIND.word(&row, "vm_state")?,
        address: address("vm_address")?,
        host_name: FIND.column(&row, "host_name")?,
        host_address: address("host_address")?,
        ssh: port("vm_ssh_port")?,
        vnc: port("vm_vnc_port")?,
        serial: port("vm_serial_port")?,
    }))
}
