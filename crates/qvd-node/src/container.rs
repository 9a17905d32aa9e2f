//! The hypervisor as configured: where things lie, and what a desktop's container is made of.

use std::net::Ipv4Addr;

use qvd_hypervisor::lxc::{
    Addressing, Cgroups, Confinement, Definition, Link, Lxc, Programs, host_name, link_name,
};
use qvd_hypervisor::storage::{Directories, Home, Seed, Tree};
use qvd_model::network::AddressPlan;
use qvd_model::{Failure, VmId};
use qvd_runtime::Values;
use qvd_runtime::config::ConfigError;

use crate::plan::configuration;
use crate::record::Record;

/// Processes and threads that one desktop may have.
const PIDS: u32 = 8192;

/// The directories of the storage.
pub fn directories(values: &Values) -> Result<Directories, ConfigError> {
    Ok(Directories {
        images: values.path("path.storage.images")?,
        basefs: values.path("path.storage.basefs")?,
        overlayfs: values.path("path.storage.overlayfs")?,
        rootfs: values.path("path.storage.rootfs")?,
        homefs: values.path("path.storage.homefs")?,
    })
}

/// The LXC of this node.
pub fn lxc(values: &Values) -> Result<Lxc, Failure> {
    let read = || -> Result<_, ConfigError> {
        let programs =
            Programs { start: values.path("command.lxc-start")?, stop: values.path("command.lxc-stop")? };
        Ok((programs, values.path("path.run.lxc")?, values.text("internal.hkd.cgroup")?))
    };
    let (programs, run, parent) = read().map_err(configuration)?;
    Ok(Lxc { programs, run, cgroups: Cgroups::detect(&parent)? })
}

/// The host end of a VM's link.
pub fn link(vm: VmId, values: &Values) -> Result<String, ConfigError> {
    Ok(link_name(&values.text("internal.vm.network.device.prefix")?, vm))
}

/// What is put into a desktop's root before it starts.
pub fn seed(record: &Record, home: Option<&Home>, values: &Values) -> Result<Seed, ConfigError> {
    let domain = values.text("vm.network.domain")?;
    Ok(Seed {
        host_name: host_name(&record.name, record.vm),
        dns: name_servers(values)?,
        domain: Some(domain).filter(|domain| !domain.is_empty()),
        secret: record.secret.clone(),
        home: home.map(|home| home.target.clone()),
    })
}

/// The configured server, else the node where it serves DNS, else what the node itself asks.
fn name_servers(values: &Values) -> Result<Vec<Ipv4Addr>, ConfigError> {
    if values.optional("vm.network.dns_server")?.is_some() {
        return Ok(vec![values.address("vm.network.dns_server")?]);
    }
    if values.flag("vm.network.use_dhcp")? {
        return Ok(values
            .optional("vm.network.gateway")?
            .and_then(|text| text.parse().ok())
            .into_iter()
            .collect());
    }
    let own = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers =
        own.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<Ipv4Addr>().ok());
    Ok(servers.filter(|server| !server.is_loopback()).collect())
}

/// The definition of a desktop's container.
pub fn definition(
    record: &Record,
    tree: &Tree,
    home: Option<Home>,
    plan: &AddressPlan,
    values: &Values,
) -> Result<Definition, ConfigError> {
    let addressing = if values.flag("vm.network.use_dhcp")? {
        Addressing::Dhcp
    } else {
        Addressing::Static { address: record.address, prefix: plan.prefix(), gateway: plan.gateway() }
    };
    let link = Link {
        name: link(record.vm, values)?,
        bridge: values.text("vm.network.bridge")?,
        mac: record.mac.clone(),
        addressing,
    };
    // Settings of extended images act on the node, like their hooks.
    let trusted = values.flag("vm.lxc.hooks.allow")?;
    Ok(Definition {
        vm: record.vm,
        host_name: host_name(&record.name, record.vm),
        root: directories(values)?.root(record.vm),
        read_only: false,
        init: tree.init,
        home,
        link,
        memory: Some(u64::from(record.memory) << 20),
        pids: Some(PIDS),
        confinement: Confinement::for_init(tree.init),
        image_settings: tree.extra().filter(|_| trusted),
        image_mounts: tree.fstab().filter(|_| trusted),
        extra: values.text("internal.vm.lxc.conf.extra")?,
    })
}
