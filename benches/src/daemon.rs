//! A daemon as a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testbed::programs::program;
use tokio::net::TcpStream;

/// How long one may take until it serves.
const LIMIT: Duration = Duration::from_secs(20);

/// A daemon that serves; it is killed with this.
pub struct Daemon(Child);

impl Daemon {
    /// Starts `qvd daemon NAME` with this configuration file and waits until it accepts connections.
    pub async fn start(name: &str, config: &Path, address: SocketAddr) -> Result<Self> {
        let mut command = Command::new(program("qvd")?);
        command.args(["daemon", name, "-f"]).arg(config).stdin(Stdio::null());
        let mut daemon = Self(command.spawn().with_context(|| format!("cannot start {name}"))?);
        let end = Instant::now() + LIMIT;
        while TcpStream::connect(address).await.is_err() {
            ensure!(daemon.0.try_wait()?.is_none() && Instant::now() < end, "{name} does not serve");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(daemon)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _code = self.0.wait();
    }
}
