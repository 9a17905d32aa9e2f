//! What an installation is to be: the earlier choices, changed by what the caller of `qvd up` wants now.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::addresses;
use crate::farm::FarmDatabase;
use crate::installation::{Installation, network_of};
use crate::layout::Layout;

/// What the caller of `qvd up` wants. What is not said is as before, or as by default.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where everything is kept.
    pub data: PathBuf,
    /// Name of the node.
    pub node: Option<String>,
    /// Address of router and API.
    pub listen: Option<IpAddr>,
    /// Port of the router.
    pub port: Option<u16>,
    /// Port of the API.
    pub api_port: Option<u16>,
    /// Whether the API runs here.
    pub api: Option<bool>,
    /// Name of the bridge.
    pub bridge: Option<String>,
    /// The desktop network, a /16.
    pub network: Option<Ipv4Addr>,
    /// The node's address in it.
    pub address: Option<Ipv4Addr>,
    /// The interface that leads to the desktop network of the other nodes.
    pub interface: Option<String>,
    /// Where images, homes and layers are kept.
    pub storage: Option<PathBuf>,
    /// Servers of the farm's database.
    pub database: Vec<String>,
    /// Their port.
    pub database_port: Option<u16>,
    /// Name of the farm's database.
    pub database_name: Option<String>,
    /// The role of all daemons there.
    pub database_user: Option<String>,
    /// Whether connections to it are encrypted, as `database.tls`.
    pub database_tls: Option<String>,
    /// Who may have signed the certificates of its servers, as `database.tls.ca`.
    pub database_ca: Option<PathBuf>,
    /// A file with the passwords of the daemons' roles.
    pub passwords: Option<PathBuf>,
}

/// The installation that is wanted; every option is checked as far as it can be without changing anything.
pub fn choose(layout: &Layout, options: &Options) -> Result<Installation> {
    let before = Installation::read(layout)?;
    let farm = choose_farm(before.as_ref(), options)?;
    if farm.is_none() {
        refuse_farm_options(options)?;
    }
    let chosen = Installation {
        farm,
        ..match before {
            Some(before) => before,
            None => fresh(options)?,
        }
    };
    let node = options.node.clone().unwrap_or(chosen.node);
    check_name("--node", &node, 127)?;
    let bridge = options.bridge.clone().unwrap_or(chosen.bridge);
    check_name("--bridge", &bridge, 15)?;
    let interface = options.interface.clone().or(chosen.interface);
    if let Some(interface) = &interface {
        check_name("--interface", interface, 15)?;
    }
    let address = options.address.or(chosen.address);
    let network = match (options.network, options.address) {
        (Some(network), _) => network,
        (None, Some(address)) => network_of(address),
        (None, None) => chosen.network,
    };
    let storage = match &options.storage {
        Some(path) => Some(std::path::absolute(path)?),
        None => chosen.storage,
    };
    let chosen = Installation {
        node,
        listen: options.listen.unwrap_or(chosen.listen),
        port: options.port.unwrap_or(chosen.port),
        api_port: options.api_port.unwrap_or(chosen.api_port),
        bridge,
        network,
        outside: chosen.outside,
        address,
        interface,
        storage,
        farm: chosen.farm,
        api: options.api.unwrap_or(chosen.api),
    };
    check(&chosen)?;
    Ok(chosen)
}

/// An installation that nothing was said about.
fn fresh(options: &Options) -> Result<Installation> {
    let given = options.network.or(options.address.map(network_of));
    let network = given.or_else(addresses::free_network).context(
        "every network on offer collides with a route of this machine; choose a /16 with --network",
    )?;
    Ok(Installation {
        node: host_name()?,
        listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 8443,
        api_port: 443,
        bridge: crate::BRIDGE.to_owned(),
        network,
        outside: addresses::default_interface(),
        address: None,
        interface: None,
        storage: None,
        farm: None,
        api: options.database.is_empty(),
    })
}

fn choose_farm(before: Option<&Installation>, options: &Options) -> Result<Option<FarmDatabase>> {
    if before.is_some_and(|before| before.farm.is_none()) && !options.database.is_empty() {
        bail!(
            "--database: the installation in {} has a database of its own; join the farm with another --data directory",
            options.data.display()
        );
    }
    let known = before.and_then(|before| before.farm.clone());
    let Some(known) = known.or_else(|| {
        let hosts = options.database.clone();
        let name = crate::DATABASE.to_owned();
        (!hosts.is_empty()).then_some(FarmDatabase {
            hosts,
            port: 5432,
            name,
            user: None,
            tls: None,
            ca: None,
        })
    }) else {
        return Ok(None);
    };
    let farm = FarmDatabase {
        hosts: if options.database.is_empty() { known.hosts } else { options.database.clone() },
        port: options.database_port.unwrap_or(known.port),
        name: options.database_name.clone().unwrap_or(known.name),
        user: options.database_user.clone().or(known.user),
        tls: options.database_tls.clone().or(known.tls),
        ca: match &options.database_ca {
            Some(path) => Some(std::path::absolute(path)?),
            None => known.ca,
        },
    };
    farm.check()?;
    Ok(Some(farm))
}

/// An option without effect is a mistake of whoever gave it.
fn refuse_farm_options(options: &Options) -> Result<()> {
    for (option, given) in [
        ("--database-port", options.database_port.is_some()),
        ("--database-name", options.database_name.is_some()),
        ("--database-user", options.database_user.is_some()),
        ("--database-tls", options.database_tls.is_some()),
        ("--database-ca", options.database_ca.is_some()),
        ("--passwords", options.passwords.is_some()),
        ("--api=false", options.api == Some(false)),
    ] {
        if given {
            bail!("{option} is for a node that joins a farm: say where its database is with --database");
        }
    }
    Ok(())
}

fn check(chosen: &Installation) -> Result<()> {
    let Installation { network, .. } = chosen;
    if network_of(*network) != *network {
        bail!("--network {network}: give the address of a /16, such as 10.73.0.0");
    }
    let address = chosen.address();
    if !chosen.contains(address) || address <= *network || address >= chosen.first_vm() {
        bail!(
            "--address {address}: nodes of the network {network}/{} have addresses above {network} and below {}, \
             where those of desktops begin",
            addresses::PREFIX,
            chosen.first_vm()
        );
    }
    if chosen.farm.is_some() {
        let missing: Vec<&str> = [
            ("--address with the node's own address in the desktop network", chosen.address.is_some()),
            ("--storage with the directory that all nodes share", chosen.storage.is_some()),
        ]
        .into_iter()
        .filter_map(|(option, given)| (!given).then_some(option))
        .collect();
        if !missing.is_empty() {
            bail!("a node that joins a farm needs {}", missing.join(", and "));
        }
    }
    Ok(())
}

fn check_name(option: &str, name: &str, longest: usize) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let more = |c: char| option != "--bridge" && (c == '.' || c == '_');
    if name.is_empty() || name.len() > longest || !name.chars().all(|c| fine(c) || more(c)) {
        bail!("{option} {name}: a name has 1 to {longest} letters, digits and hyphens");
    }
    Ok(())
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    Ok(name.split('.').next().unwrap_or("node1").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: Options) -> String {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        choose(&layout, &options).unwrap_err().to_string()
    }

    fn joining() -> Options {
        Options {
            database: vec!["db".to_owned()],
            node: Some("node2".to_owned()),
            address: Some(Ipv4Addr::new(10, 73, 0, 2)),
            storage: Some(PathBuf::from("/srv/qvd")),
            ..Options::default()
        }
    }

    #[test]
    fn a_node_joins_with_its_address_and_the_shared_storage() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let chosen = choose(&layout, &joining()).unwrap();
        assert_eq!(chosen.address(), Ipv4Addr::new(10, 73, 0, 2));
        assert_eq!(chosen.network, Ipv4Addr::new(10, 73, 0, 0));
        assert!(!chosen.api);
        assert_eq!(chosen.farm.as_ref().unwrap().place(), "db port 5432");
        chosen.write(&layout).unwrap();
        // Nothing has to be said twice.
        assert_eq!(choose(&layout, &Options::default()).unwrap(), chosen);
        let other = Options { api: Some(true), database_port: Some(5433), ..Options::default() };
        let changed = choose(&layout, &other).unwrap();
        assert!(changed.api && changed.farm.unwrap().port == 5433);
    }

    #[test]
    fn what_a_farm_needs_is_said() {
        let words = refused(Options { address: None, storage: None, ..joining() });
        assert!(words.contains("--address") && words.contains("--storage"), "{words}");
        let words = refused(Options { address: Some(Ipv4Addr::new(10, 73, 0, 100)), ..joining() });
        assert!(words.contains("--address 10.73.0.100") && words.contains("below 10.73.0.100"), "{words}");
        let words = refused(Options { network: Some(Ipv4Addr::new(10, 91, 0, 0)), ..joining() });
        assert!(words.contains("network 10.91.0.0/16"), "{words}");
        let words = refused(Options { network: Some(Ipv4Addr::new(10, 73, 1, 0)), ..joining() });
        assert!(words.contains("--network 10.73.1.0"), "{words}");
        assert!(refused(Options { node: Some("a b".to_owned()), ..joining() }).contains("--node a b"));
        assert!(
            refused(Options { interface: Some("eth/1".to_owned()), ..joining() }).contains("--interface")
        );
    }

    #[test]
    fn options_without_effect_are_refused() {
        let words = refused(Options { passwords: Some(PathBuf::from("/p")), ..Options::default() });
        assert!(words.contains("--passwords is for a node that joins a farm"), "{words}");
        let words = refused(Options { api: Some(false), ..Options::default() });
        assert!(words.contains("--api=false"), "{words}");
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        choose(&layout, &Options::default()).unwrap().write(&layout).unwrap();
        let error = choose(&layout, &joining()).unwrap_err().to_string();
        assert!(error.contains("has a database of its own"), "{error}");
    }
}
