//! DHCP and DNS for desktops: one dnsmasq of our own (`spec/node.md` 2.12).

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use qvd_model::network::AddressPlan;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::{Child, Command};

use crate::{Error, bridge};

/// What dnsmasq has to know.
#[derive(Debug, Clone)]
pub struct Dnsmasq {
    /// The program (`command.dhcpd`).
    pub program: PathBuf,
    /// Directory of its configuration, hosts and pid file. Ours alone.
    pub directory: PathBuf,
    /// The bridge that it serves.
    pub bridge: String,
    /// The addresses of desktops.
    pub plan: AddressPlan,
    /// Whether it gives addresses (`vm.network.use_dhcp`); DNS is there in any case.
    pub dhcp: bool,
    /// What desktops resolve names with.
    pub names: Names,
}

/// How desktops resolve names.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Servers told to desktops (`vm.network.dns_server`); none means this dnsmasq itself.
    pub servers: Vec<Ipv4Addr>,
    /// Search domain (`vm.network.domain`).
    pub domain: Option<String>,
}

/// A desktop that is registered on this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// Its MAC address.
    pub mac: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its host name.
    pub name: String,
}

/// A dnsmasq that runs.
#[derive(Debug)]
pub struct Server {
    child: Child,
}

impl Server {
    /// Returns when it has ended, which it should not by itself.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }
}

/// How long it may take to serve.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How long an earlier one may take to end.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

impl Dnsmasq {
    /// Starts it and returns when it serves those who are registered; one that an earlier life of the node
    /// left is ended first. It stays when this process goes, until [`Self::stop`] or the next start.
    pub async fn start(&self) -> Result<Server, Error> {
        bridge::check(&self.bridge)?;
        self.stop().await?;
        self.write("dnsmasq.conf", &self.configuration())?;
        let failed = |source| Error::Program { program: self.program.clone(), source };
        let mut command = Command::new(&self.program);
        command.arg(self.configuration_argument()).env_clear().current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.output()?);
        remove_file(&self.pid_file()).map_err(Error::file("remove", &self.pid_file()))?;
        let mut child = command.spawn().map_err(failed)?;
        let ready = tokio::time::timeout(START_LIMIT, self.serves(&mut child)).await;
        ready.map_err(|_| Error::Timeout { program: self.program.clone(), limit: START_LIMIT })??;
        Ok(Server { child })
    }

    /// Returns when it serves, which it says by writing its pid file.
    async fn serves(&self, child: &mut Child) -> Result<(), Error> {
        while self.running().is_none() {
            if let Some(status) = child.try_wait().map_err(Error::file("wait for", &self.program))? {
                let output = format!("{status}: {}", self.last_words());
                return Err(Error::Ended { program: self.program.clone(), output });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Says which desktops there are; a running server reads them at once, others when they start. Calls must
    /// come one after the other.
    pub fn register(&self, hosts: &[Host]) -> Result<(), Error> {
        let mut hosts = hosts.to_vec();
        hosts.sort();
        let leases: String =
            hosts.iter().map(|host| format!("{},{},{}\n", host.mac, host.address, host.name)).collect();
        let names: String = hosts.iter().map(|host| format!("{} {}\n", host.address, host.name)).collect();
        self.write("hosts", &leases)?;
        self.write("names", &names)?;
        match self.running() {
            Some(handle) => self.signal(&handle, Signal::HUP),
            None => Ok(()),
        }
    }

    /// Ends it, whoever started it. One that does not run is fine.
    pub async fn stop(&self) -> Result<(), Error> {
        let Some(handle) = self.running() else { return Ok(()) };
        self.signal(&handle, Signal::TERM)?;
        let ended = tokio::task::spawn_blocking(move || {
            poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&PATIENCE)).map(|count| (count, handle))
        });
        let limit = Duration::from_secs(5);
        match ended.await {
            Ok(Ok((0, handle))) => {
                self.signal(&handle, Signal::KILL)?;
                Err(Error::Timeout { program: self.program.clone(), limit })
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Error::file("wait for the process of", &self.pid_file())(error.into())),
            Err(error) => {
                Err(Error::file("wait for the process of", &self.pid_file())(std::io::Error::other(error)))
            }
        }
    }

    /// The end of what it wrote.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(self.directory.join("output")).unwrap_or_default();
        text.lines().rev().take(3).collect::<Vec<_>>().join("; ")
    }

    /// A handle of the process in the pid file, if that is one of ours.
    fn running(&self) -> Option<std::os::fd::OwnedFd> {
        let pid: i32 = fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // Looked at after opening: numbers are used again.
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let wanted = self.configuration_argument();
        arguments.split(|byte| *byte == 0).any(|argument| argument == wanted.as_bytes()).then_some(handle)
    }

    fn signal(&self, handle: &std::os::fd::OwnedFd, signal: Signal) -> Result<(), Error> {
        match pidfd_send_signal(handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::file("signal the process of", &self.pid_file())(error.into())),
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join("pid")
    }

    fn configuration_argument(&self) -> String {
        format!("--conf-file={}", self.directory.join("dnsmasq.conf").display())
    }

    fn output(&self) -> Result<fs::File, Error> {
        let path = self.directory.join("output");
        let mut options = fs::File::options();
        options.create(true).write(true).truncate(true).mode(0o640);
        options.open(&path).map_err(Error::file("open", &path))
    }

    fn configuration(&self) -> String {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let mut lines = vec![
            "keep-in-foreground".to_owned(),
            "log-facility=-".to_owned(),
            "bind-interfaces".to_owned(),
            format!("interface={}", self.bridge),
            "except-interface=lo".to_owned(),
            format!("pid-file={}", at("pid")),
            "no-hosts".to_owned(),
            // Names of desktops are nobody else's business.
            "domain-needed".to_owned(),
            "bogus-priv".to_owned(),
            format!("addn-hosts={}", at("names")),
        ];
        if self.dhcp {
            let mask = u32::MAX << (32 - u32::from(self.plan.prefix()));
            lines.extend([
                "log-dhcp".to_owned(),
                format!(
                    "dhcp-range=interface:{},{},static,{}",
                    self.bridge,
                    self.plan.first_vm(),
                    Ipv4Addr::from(mask)
                ),
                format!("dhcp-hostsfile={}", at("hosts")),
                format!("dhcp-leasefile={}", at("leases")),
                "dhcp-lease-max=50000".to_owned(),
                "dhcp-authoritative".to_owned(),
            ]);
            lines.extend(self.plan.gateway().map(|gateway| format!("dhcp-option=option:router,{gateway}")));
            if !self.names.servers.is_empty() {
                let servers: Vec<_> = self.names.servers.iter().map(Ipv4Addr::to_string).collect();
                lines.push(format!("dhcp-option=option:dns-server,{}", servers.join(",")));
            }
        }
        if let Some(domain) = &self.names.domain {
            lines.extend([
                format!("domain={domain}"),
                format!("local=/{domain}/"),
                "expand-hosts".to_owned(),
            ]);
        }
        lines.join("\n") + "\n"
    }

    /// Replaces a file under its reader's feet without it noticing: it sees the old or the new one.
    fn write(&self, name: &str, content: &str) -> Result<(), Error> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder.create(&self.directory).map_err(Error::file("create", &self.directory))?;
        let path = self.directory.join(name);
        let temporary = self.directory.join(format!("{name}.new"));
        let written = || -> std::io::Result<()> {
            remove_file(&temporary)?;
            let mut file = fs::File::options().create_new(true).write(true).mode(0o644).open(&temporary)?;
            file.write_all(content.as_bytes())?;
            fs::rename(&temporary, &path)
        };
        written().map_err(Error::file("write", &path))
    }
}

fn remove_file(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_says_what_was_asked_for() {
        let first = Ipv4Addr::new(10, 0, 0, 100);
        let plan = AddressPlan::new(first, "24", Some(Ipv4Addr::new(10, 0, 0, 1))).unwrap();
        let mut dnsmasq = Dnsmasq {
            program: "/usr/sbin/dnsmasq".into(),
            directory: "/run/qvd/dnsmasq".into(),
            bridge: "qvdnet".to_owned(),
            plan,
            dhcp: true,
            names: Names {
                servers: vec![Ipv4Addr::new(9, 9, 9, 9)],
                domain: Some("desk.example".to_owned()),
            },
        };
        let text = dnsmasq.configuration();
        for line in [
            "dhcp-range=interface:qvdnet,10.0.0.100,static,255.255.255.0",
            "dhcp-option=option:router,10.0.0.1",
            "dhcp-option=option:dns-server,9.9.9.9",
            "domain=desk.example",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        dnsmasq.dhcp = false;
        assert!(!dnsmasq.configuration().contains("dhcp"));
    }
}
