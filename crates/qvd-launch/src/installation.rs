//! What `qvd up` chose when it made an installation, and the files it wrote then.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::unistd::User;
use qvd_db::{Settings, Vault};
use qvd_runtime::properties::format as entry;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::addresses::PREFIX;
use crate::database::settings;
use crate::farm::FarmDatabase;
use crate::layout::{Daemon, Layout};
use crate::passwords::{Passwords, SECRETS};

/// The unprivileged user of router and API.
pub const SERVICE_USER: &str = "qvd";

/// The choices of an installation. They are kept: `qvd up` comes back with the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Name of the node.
    pub node: String,
    /// Where the router and the API listen.
    pub listen: IpAddr,
    /// The router's port.
    pub port: u16,
    /// The API's port.
    pub api_port: u16,
    /// The bridge of the desktops.
    pub bridge: String,
    /// Their network, a /16.
    pub network: Ipv4Addr,
    /// The interface through which they reach the outside, if there is one.
    pub outside: Option<String>,
    /// The node's address in the desktop network, if it is not the first one.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// The interface that leads to the desktop network of the other nodes.
    #[serde(default)]
    pub interface: Option<String>,
    /// Where images, homes and layers are kept, if not in the data directory.
    #[serde(default)]
    pub storage: Option<PathBuf>,
    /// The database of the farm, if there is none in the data directory.
    #[serde(default)]
    pub farm: Option<FarmDatabase>,
    /// Whether the API runs here.
    #[serde(default = "always")]
    pub api: bool,
}

/// Installations of one machine have an API.
const fn always() -> bool {
    true
}

/// The network that an address is of.
pub fn network_of(address: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(address) & (u32::MAX << (32 - u32::from(PREFIX))))
}

impl Installation {
    /// What an earlier `qvd up` chose.
    pub fn read(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.installation();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| format!("{} is damaged", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Keeps the choices.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        write(&layout.installation(), &serde_json::to_vec_pretty(self)?, 0o644, None)
    }

    /// The node's address in the desktop network.
    pub fn address(&self) -> Ipv4Addr {
        self.address.unwrap_or_else(|| Ipv4Addr::from(u32::from(self.network) + 1))
    }

    /// Whether an address is one of the desktop network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        network_of(address) == self.network
    }

    /// The daemons of this node, in the order in which they start.
    pub fn daemons(&self) -> impl Iterator<Item = Daemon> {
        Daemon::ALL.into_iter().filter(|daemon| self.api || *daemon != Daemon::Api)
    }

    /// The ports that router and API listen on.
    pub fn ports(&self) -> Vec<u16> {
        if self.api { vec![self.port, self.api_port] } else { vec![self.port] }
    }

    /// `path.storage.root`.
    pub fn storage(&self, layout: &Layout) -> PathBuf {
        self.storage.clone().unwrap_or_else(|| layout.storage())
    }

    /// The first address for desktops.
    pub fn first_vm(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 100)
    }

    /// Makes the directories, the configuration files and the certificate.
    pub fn lay_out(&self, layout: &Layout, passwords: &Passwords) -> Result<()> {
        let service = User::from_name(SERVICE_USER)?.context("the service user is missing")?;
        let storage = self.storage(layout);
        for (directory, mode, given) in [
            (layout.root().to_owned(), 0o755, false),
            (layout.configuration_directory(), 0o755, false),
            (layout.run(), 0o755, false),
            (layout.log(), 0o755, false),
            (layout.certificates(), 0o755, false),
            (storage.clone(), 0o755, false),
            (storage.join("staging"), 0o755, true),
            (storage.join("images"), 0o755, true),
            (layout.run().join("l7r"), 0o755, true),
        ] {
            let owner = given.then_some(&service);
            make_directory(&directory, mode, owner)?;
        }
        make_logs(layout, &service)?;
        let (vault, owner) = (Vault::at(layout.secrets()), (service.uid.as_raw(), service.gid.as_raw()));
        match (&self.farm, passwords.find(SECRETS)) {
            (Some(_), Some(keys)) => vault.create_from(keys, Some(owner))?,
            (Some(_), None) => false,
            (None, _) => vault.create(Some(owner))?,
        };
        for daemon in self.daemons() {
            let text = self.configuration(layout, daemon, passwords)?;
            let owner = (!daemon.is_privileged()).then_some(&service);
            write(&layout.configuration(daemon), text.as_bytes(), 0o600, owner)?;
        }
        let (cert, key) = (layout.certificates().join("cert.pem"), layout.certificates().join("key.pem"));
        if !cert.exists() || !key.exists() {
            let names =
                [self.node.clone(), "localhost".to_owned(), "127.0.0.1".to_owned(), self.listen.to_string()];
            let made = qvd_relay::certificate::self_signed(&names)?;
            write(&key, made.key.as_bytes(), 0o600, Some(&service))?;
            write(&cert, made.cert.as_bytes(), 0o644, None)?;
        }
        Ok(())
    }

    /// How a daemon reaches the database.
    pub fn database(&self, layout: &Layout, daemon: Daemon, passwords: &Passwords) -> Result<Settings> {
        if let Some(farm) = &self.farm {
            return Ok(Settings { vault: self.vault(layout), ..farm.settings(daemon, passwords)? });
        }
        let password = passwords.find(daemon.role()).map(SecretString::from);
        Ok(Settings { user: daemon.role().to_owned(), password, ..settings(layout, crate::DATABASE) })
    }

    /// What opens the secrets in the database. Those of a farm may be plain.
    fn vault(&self, layout: &Layout) -> Vault {
        let keys = layout.secrets();
        if self.farm.is_none() || keys.exists() { Vault::at(keys) } else { Vault::default() }
    }

    /// A configuration file, in the documented syntax.
    fn configuration(&self, layout: &Layout, daemon: Daemon, passwords: &Passwords) -> Result<String> {
        let below = |path: &Path| path.display().to_string();
        let mut text = String::from("# Written by qvd up; changes are lost. Set keys with: qa4 config set\n");
        let mut add = |key: &str, value: &str| text.push_str(&entry(key, value));
        add("nodename", &self.node);
        let settings = self.database(layout, daemon, passwords)?;
        add("database.host", &settings.hosts.join(","));
        add("database.port", &settings.port.to_string());
        add("database.name", &settings.name);
        add("database.user", &settings.user);
        if let Some(password) = &settings.password {
            add("database.password", password.expose_secret());
        }
        if let Some(file) = self.vault(layout).file() {
            add("database.secrets.file", &below(file));
        }
        let farm = self.farm.as_ref();
        if let Some(tls) = farm.and_then(|farm| farm.tls.as_deref()) {
            add("database.tls", tls);
        }
        if let Some(ca) = farm.and_then(|farm| farm.ca.as_deref()) {
            add("database.tls.ca", &below(ca));
        }
        add("path.run", &below(&layout.run()));
        add("path.log", &below(&layout.log()));
        add("path.storage.root", &below(&self.storage(layout)));
        add("log.filename", &below(&layout.log_file(daemon)));
        add("log.api.filename", &below(&layout.log_file(Daemon::Api)));
        add("api.url", &format!("https://{}:{}/", self.listen, self.api_port));
        add("api.socket", &below(&layout.api_socket()));
        add("path.api.ssl", &below(&layout.certificates()));
        add("path.l7r.ssl", &below(&layout.certificates()));
        add("l7r.address", &self.listen.to_string());
        add("l7r.port", &self.port.to_string());
        add("vm.network.bridge", &self.bridge);
        add("vm.network.ip.start", &self.first_vm().to_string());
        add("vm.network.netmask", &PREFIX.to_string());
        add("vm.network.gateway", &self.address().to_string());
        // A desktop that is told its address starts a little faster than one that asks for it.
        add("vm.network.use_dhcp", "0");
        add("internal.vm.network.device.prefix", &device_prefix(&self.bridge));
        add("internal.hkd.cgroup", control_group(&self.bridge));
        if let Some(outside) = &self.outside {
            add("vm.network.firewall.nat.iface", outside);
        }
        Ok(text)
    }
}

/// Host interfaces of several installations on one machine must not collide.
fn device_prefix(bridge: &str) -> String {
    if bridge == crate::BRIDGE {
        "qvd".to_owned()
    } else {
        format!("{}-", bridge.chars().take(6).collect::<String>())
    }
}

/// Control groups neither: VMs of two installations may have the same number.
fn control_group(bridge: &str) -> &str {
    if bridge == crate::BRIDGE { "qvd" } else { bridge }
}

fn make_directory(path: &Path, mode: u32, owner: Option<&User>) -> Result<()> {
    let made = || -> std::io::Result<()> {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        give(path, owner)
    };
    made().with_context(|| format!("cannot make {}", path.display()))
}

/// Makes the log files. Root opens files in their directory, also for others to write to, so nobody else may put
/// a link there; the unprivileged daemons own their files only.
fn make_logs(layout: &Layout, service: &User) -> Result<()> {
    chown(layout.log(), Some(0), Some(0))
        .with_context(|| format!("cannot take {} over", layout.log().display()))?;
    for daemon in Daemon::ALL {
        let owner = (!daemon.is_privileged()).then_some(service);
        make_log(&layout.log_file(daemon), owner)?;
        make_log(&layout.last_words(daemon), None)?;
    }
    Ok(())
}

fn make_log(path: &Path, owner: Option<&User>) -> Result<()> {
    let made = || -> std::io::Result<()> {
        let mut options = fs::File::options();
        let file = options
            .create(true)
            .append(true)
            .mode(0o640)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path)?;
        let (uid, gid) = owner.map_or((0, 0), |user| (user.uid.as_raw(), user.gid.as_raw()));
        fchown(file, Some(uid), Some(gid))
    };
    made().with_context(|| format!("cannot make {}", path.display()))
}

/// Writes a file so that it is complete or unchanged, and never readable by others in between.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32, owner: Option<&User>) -> Result<()> {
    let fresh = path.with_extension("new");
    let written = || -> std::io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file =
            fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        give(&fresh, owner)?;
        fs::rename(&fresh, path)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

fn give(path: &Path, owner: Option<&User>) -> std::io::Result<()> {
    match owner {
        Some(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    pub fn installation() -> Installation {
        Installation {
            node: "node1".to_owned(),
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8443,
            api_port: 443,
            bridge: "qvdnet".to_owned(),
            network: Ipv4Addr::new(10, 73, 0, 0),
            outside: None,
            address: None,
            interface: None,
            storage: None,
            farm: None,
            api: true,
        }
    }

    #[test]
    fn each_daemon_gets_a_file_that_reads_back_without_problems() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let passwords = Passwords::keep(&layout).unwrap();
        for daemon in Daemon::ALL {
            let text = installation().configuration(&layout, daemon, &passwords).unwrap();
            let config = qvd_runtime::Config::parse("f", &text).unwrap();
            assert_eq!(config.now().problems(), [""; 0]);
            assert_eq!(config.now().unheeded(), [""; 0]);
            assert_eq!(config.now().text("database.user").unwrap(), daemon.role());
            assert_eq!(config.now().text("database.password").unwrap(), passwords.of(daemon.role()));
            assert_eq!(config.now().address("vm.network.gateway").unwrap(), Ipv4Addr::new(10, 73, 0, 1));
        }
    }

    #[test]
    fn no_link_stands_for_a_log_of_root() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir(layout.log()).unwrap();
        let nobody = User::from_name("nobody").unwrap().unwrap();
        chown(layout.log(), Some(nobody.uid.as_raw()), None).unwrap();
        make_logs(&layout, &nobody).unwrap();
        assert_eq!(fs::metadata(layout.log()).unwrap().uid(), 0);
        assert_eq!(fs::metadata(layout.log_file(Daemon::L7r)).unwrap().uid(), nobody.uid.as_raw());
        assert_eq!(fs::metadata(layout.log_file(Daemon::Hkd)).unwrap().uid(), 0);

        let victim = dir.path().join("victim");
        fs::remove_file(layout.last_words(Daemon::L7r)).unwrap();
        std::os::unix::fs::symlink(&victim, layout.last_words(Daemon::L7r)).unwrap();
        assert!(make_logs(&layout, &nobody).is_err());
        assert!(!victim.exists());
    }
}
