//! What `qvd up` chose when it made an installation, and the files it wrote then.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::unistd::User;
use qvd_runtime::properties::format as entry;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::layout::{Daemon, Layout};

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
}

/// Generated passwords.
#[derive(Debug, Clone)]
pub struct Passwords(Vec<(String, String)>);

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

    /// The node's address in the desktop network: the first one.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 1)
    }

    /// The first address for desktops.
    pub fn first_vm(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 100)
    }

    /// Makes the directories, the configuration files and the certificate.
    pub fn lay_out(&self, layout: &Layout, passwords: &Passwords) -> Result<()> {
        let service = User::from_name(SERVICE_USER)?.context("the service user is missing")?;
        for (directory, mode, given) in [
            (layout.root().to_owned(), 0o755, false),
            (layout.configuration_directory(), 0o755, false),
            (layout.run(), 0o755, false),
            (layout.log(), 0o755, false),
            (layout.certificates(), 0o755, false),
            (layout.storage(), 0o755, false),
            (layout.storage().join("staging"), 0o755, true),
            (layout.storage().join("images"), 0o755, true),
            (layout.run().join("l7r"), 0o755, true),
        ] {
            let owner = given.then_some(&service);
            make_directory(&directory, mode, owner)?;
        }
        make_logs(layout, &service)?;
        for daemon in Daemon::ALL {
            let text = self.configuration(layout, daemon, passwords);
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

    /// A configuration file, in the documented syntax.
    fn configuration(&self, layout: &Layout, daemon: Daemon, passwords: &Passwords) -> String {
        let below = |path: &Path| path.display().to_string();
        let mut text = String::from("# Written by qvd up; changes are lost. Set keys with: qa4 config set\n");
        let mut add = |key: &str, value: &str| text.push_str(&entry(key, value));
        add("nodename", &self.node);
        add("database.host", &below(&layout.postgres().join("run")));
        add("database.name", crate::DATABASE);
        add("database.user", daemon.role());
        add("database.password", passwords.of(daemon.role()));
        add("path.run", &below(&layout.run()));
        add("path.log", &below(&layout.log()));
        add("path.storage.root", &below(&layout.storage()));
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
        add("vm.network.netmask", &crate::addresses::PREFIX.to_string());
        add("vm.network.gateway", &self.address().to_string());
        // A desktop that is told its address starts a little faster than one that asks for it.
        add("vm.network.use_dhcp", "0");
        add("internal.vm.network.device.prefix", &device_prefix(&self.bridge));
        add("internal.hkd.cgroup", control_group(&self.bridge));
        if let Some(outside) = &self.outside {
            add("vm.network.firewall.nat.iface", outside);
        }
        text
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

impl Passwords {
    /// The passwords of the installation, generated the first time.
    pub fn keep(layout: &Layout) -> Result<Self> {
        let path = layout.passwords();
        let mut known: Vec<(String, String)> = match fs::read_to_string(&path) {
            Ok(text) => text
                .lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| line.split_once(" = "))
                .map(|(name, password)| (name.to_owned(), password.to_owned()))
                .collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        for name in ["superadmin", "admin", "qvd_node", "qvd_l7r", "qvd_api"] {
            if !known.iter().any(|(known, _)| known == name) {
                known.push((name.to_owned(), generate()));
            }
        }
        let passwords = Self(known);
        passwords.write(layout)?;
        Ok(passwords)
    }

    /// The password of this name; empty if there is none.
    pub fn of(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, password)| password)
    }

    fn write(&self, layout: &Layout) -> Result<()> {
        let mut text = String::from(
            "# Administrators (superadmin of tenant *, admin of tenant default) and database roles\n",
        );
        for (name, password) in &self.0 {
            text.push_str(&format!("{name} = {password}\n"));
        }
        write(&layout.passwords(), text.as_bytes(), 0o600, None)
    }
}

/// 20 characters that are easy to tell apart: 110 bits.
pub fn generate() -> String {
    const ALPHABET: &[u8] = b"abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut rng = rand::rng();
    (0..20)
        .filter_map(|_| ALPHABET.get(rng.random_range(0..ALPHABET.len())))
        .map(|b| char::from(*b))
        .collect()
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
fn write(path: &Path, content: &[u8], mode: u32, owner: Option<&User>) -> Result<()> {
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
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn installation() -> Installation {
        Installation {
            node: "node1".to_owned(),
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8443,
            api_port: 443,
            bridge: "qvdnet".to_owned(),
            network: Ipv4Addr::new(10, 73, 0, 0),
            outside: None,
        }
    }

    #[test]
    fn each_daemon_gets_a_file_that_reads_back_without_problems() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let passwords = Passwords::keep(&layout).unwrap();
        for daemon in Daemon::ALL {
            let text = installation().configuration(&layout, daemon, &passwords);
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

    #[test]
    fn passwords_are_kept_and_for_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let first = Passwords::keep(&layout).unwrap();
        let second = Passwords::keep(&layout).unwrap();
        assert_eq!(first.of("superadmin"), second.of("superadmin"));
        assert_eq!(first.of("superadmin").len(), 20);
        let mode = fs::metadata(layout.passwords()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
