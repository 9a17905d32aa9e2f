//! The database of a farm, which a node joins instead of having one of its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use qvd_db::{Database, Settings, Tls, Vault, hosts};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::installation::Installation;
use crate::layout::Daemon;
use crate::passwords::Passwords;

/// Limit of one attempt to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How the daemons of a node reach the database of their farm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FarmDatabase {
    /// Servers to try in order: names, addresses, or directories with a Unix socket.
    pub hosts: Vec<String>,
    /// Their port.
    pub port: u16,
    /// Name of the database.
    pub name: String,
    /// The role of all daemons, where they do not have one each.
    pub user: Option<String>,
    /// `database.tls`, if it is not the default.
    #[serde(default)]
    pub tls: Option<String>,
    /// `database.tls.ca`.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

impl FarmDatabase {
    /// Refuses what can be no server.
    pub fn check(&self) -> Result<()> {
        for host in &self.hosts {
            let directory = Path::new(host);
            let named = host.chars().all(|c| c.is_ascii_alphanumeric() || ".:-_".contains(c));
            if host.is_empty() || !(named || directory.is_absolute()) {
                bail!(
                    "--database {host}: give the name or address of a server, or a directory with its socket"
                );
            }
            let socket = directory.join(format!(".s.PGSQL.{}", self.port));
            if directory.is_absolute() && !socket.exists() {
                bail!("--database {host}: there is no socket {}", socket.display());
            }
        }
        if self.ca.is_some() && self.tls.as_deref() != Some("verify") {
            bail!("--database-ca is for --database-tls verify");
        }
        self.tls().map(drop).map_err(|error| anyhow::anyhow!("--database-tls: {error}"))
    }

    /// Whether connections are encrypted.
    fn tls(&self) -> Result<Tls, qvd_db::Error> {
        let Some(word) = &self.tls else { return Ok(Tls::default()) };
        let ca = self.ca.as_ref().map(|path| path.display().to_string());
        Tls::from_words(word, ca.as_deref())
    }

    /// The role of a daemon.
    pub fn role(&self, daemon: Daemon) -> &str {
        self.user.as_deref().unwrap_or(daemon.role())
    }

    /// How one of the daemons connects.
    pub fn settings(&self, daemon: Daemon, passwords: &Passwords) -> Result<Settings, qvd_db::Error> {
        let role = self.role(daemon);
        Ok(Settings {
            hosts: self.hosts.clone(),
            port: self.port,
            name: self.name.clone(),
            user: role.to_owned(),
            password: passwords.find(role).map(SecretString::from),
            tls: self.tls()?,
            vault: Vault::default(),
            connect_timeout: CONNECT_LIMIT,
            pool_size: 2,
        })
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        format!("{} port {}", self.hosts.join(", "), self.port)
    }
}

/// What keeps a node out of the farm, as sentences that say what to do. `running`: our own daemons run already.
pub async fn findings(installation: &Installation, passwords: &Passwords, running: bool) -> Vec<String> {
    let Some(farm) = &installation.farm else { return Vec::new() };
    let mut findings = Vec::new();
    for daemon in Daemon::ALL {
        // The API's role registers this node, so it is needed even where no API runs.
        if let Err(error) = try_role(farm, daemon, passwords).await {
            let place = farm.place();
            findings.push(format!("QVD-DB at {place} cannot be used as {}: {error}", farm.role(daemon)));
        }
    }
    if findings.is_empty() {
        match others(farm, passwords).await {
            Ok(others) => compare(installation, &others, running, &mut findings),
            Err(error) => findings.push(format!("the hosts of the farm cannot be read: {error}")),
        }
    }
    findings
}

async fn try_role(farm: &FarmDatabase, daemon: Daemon, passwords: &Passwords) -> Result<(), qvd_db::Error> {
    Database::new(&farm.settings(daemon, passwords)?)?.check_schema().await
}

async fn others(farm: &FarmDatabase, passwords: &Passwords) -> Result<Vec<hosts::Registered>, qvd_db::Error> {
    hosts::registered(&Database::new(&farm.settings(Daemon::Hkd, passwords)?)?).await
}

/// What the hosts of the farm have against this one.
fn compare(
    installation: &Installation,
    hosts: &[hosts::Registered],
    running: bool,
    findings: &mut Vec<String>,
) {
    let address = installation.address();
    for host in hosts {
        let name = &host.name;
        let their = host.address.parse::<Ipv4Addr>().ok();
        if *name == installation.node {
            if host.lives && their != Some(address) && !running {
                findings.push(format!(
                    "--node {name}: a host of this name runs already, at {}; choose another name",
                    host.address
                ));
            }
            continue;
        }
        match their {
            Some(their) if their == address => {
                findings.push(format!("--address {address}: host {name} has it; choose another one"));
            }
            Some(their) if !installation.contains(their) => findings.push(format!(
                "--address {address}: host {name} has {their}, and all hosts of a farm share one /{} network",
                crate::addresses::PREFIX
            )),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::installation::tests::installation;

    fn farm(host: &str) -> FarmDatabase {
        FarmDatabase {
            hosts: vec![host.to_owned()],
            port: 5432,
            name: "qvd".to_owned(),
            user: None,
            tls: None,
            ca: None,
        }
    }

    #[test]
    fn servers_are_names_addresses_or_directories_with_a_socket() {
        for good in ["db.example.org", "192.0.2.1", "2001:db8::1"] {
            farm(good).check().unwrap();
        }
        for bad in ["", "a b", "run/postgresql", "postgres://db/qvd"] {
            assert!(farm(bad).check().is_err(), "{bad:?}");
        }
        let directory = tempfile::tempdir().unwrap();
        let farm = farm(&directory.path().display().to_string());
        assert!(farm.check().unwrap_err().to_string().contains(".s.PGSQL.5432"));
        std::fs::write(directory.path().join(".s.PGSQL.5432"), "").unwrap();
        farm.check().unwrap();
    }

    #[test]
    fn encryption_that_cannot_be_had_is_refused() {
        for (tls, ca, words) in [
            (Some("yes"), None, "`yes`"),
            (Some("verify"), None, "database.tls.ca"),
            (Some("require"), Some("/ca.pem"), "--database-ca is for --database-tls verify"),
            (None, Some("/ca.pem"), "--database-ca is for --database-tls verify"),
        ] {
            let farm = FarmDatabase { tls: tls.map(str::to_owned), ca: ca.map(PathBuf::from), ..farm("db") };
            let problem = farm.check().unwrap_err().to_string();
            assert!(problem.contains(words), "{problem}");
        }
        FarmDatabase { tls: Some("require".to_owned()), ..farm("db") }.check().unwrap();
    }

    #[test]
    fn daemons_have_a_role_each_or_one_for_all() {
        let mut farm = farm("db");
        assert_eq!(
            Daemon::ALL.map(|daemon| farm.role(daemon).to_owned()),
            ["qvd_api", "qvd_node", "qvd_l7r"]
        );
        farm.user = Some("qvd".to_owned());
        assert!(Daemon::ALL.iter().all(|daemon| farm.role(*daemon) == "qvd"));
    }

    #[test]
    fn other_hosts_object_to_their_address_and_to_another_network() {
        let host = |name: &str, address: &str, lives| hosts::Registered {
            name: name.to_owned(),
            address: address.to_owned(),
            lives,
        };
        let objections = |hosts: &[hosts::Registered], running| {
            let mut findings = Vec::new();
            compare(&installation(), hosts, running, &mut findings);
            findings
        };
        // Ours is node1 at 10.73.0.1.
        let fine = [host("node1", "10.73.0.1", true), host("node2", "10.73.0.2", true)];
        assert_eq!(objections(&fine, false), [""; 0]);
        assert!(objections(&[host("node2", "10.73.0.1", false)], false)[0].contains("host node2 has it"));
        assert!(objections(&[host("node2", "10.91.0.2", true)], false)[0].contains("share one /16"));
        let same_name = [host("node1", "10.73.0.9", true)];
        assert!(objections(&same_name, false)[0].contains("runs already, at 10.73.0.9"));
        assert_eq!(objections(&same_name, true), [""; 0]);
        assert_eq!(objections(&[host("node1", "10.73.0.9", false)], false), [""; 0]);
    }
}
