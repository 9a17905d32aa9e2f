//! nxproxy as a child, on a loopback port of its own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::Pid;
use qvd_nx::housekeeper;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::error::ConnectError;

/// Time for nxproxy to dial back.
const DIAL_LIMIT: Duration = Duration::from_secs(20);
/// Time for nxproxy to end after its link has ended.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Lines of output that are kept to explain an end.
const KEPT_LINES: usize = 24;
/// The offset that nxproxy adds to a display number.
const BASE: u16 = qvd_wire::nx::PORT_BASE;

/// How nxproxy runs.
#[derive(Debug, Clone)]
pub struct ProxySettings {
    /// The program; a bare name is looked up in `PATH`.
    pub program: PathBuf,
    /// Options as `name=value`.
    pub options: Vec<String>,
    /// Whether its output is shown as it comes.
    pub verbose: bool,
}

/// nxproxy, connected to us.
pub(crate) struct Proxy {
    child: Child,
    output: JoinHandle<VecDeque<String>>,
    pub(crate) stream: TcpStream,
}

impl Proxy {
    /// Starts nxproxy and waits until it has dialed.
    pub(crate) async fn start(settings: &ProxySettings, display: &str) -> Result<Self, ConnectError> {
        let failed = |error: std::io::Error| ConnectError::Proxy(error.to_string());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let Some(number) = port.checked_sub(BASE).filter(|n| *n > 0) else {
            return Err(ConnectError::Proxy(format!("port {port} is too low for it")));
        };
        let mut child = Command::new(&settings.program)
            .arg("-S")
            .args(&settings.options)
            .arg(format!("localhost:{number}"))
            .env("DISPLAY", display)
            // What nxproxy asks, nobody answers: existing command-line clients do the same.
            .env("NX_CLIENT", "/bin/false")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| ConnectError::Proxy(format!("{}: {error}", settings.program.display())))?;
        let output = tokio::spawn(read_output(child.stderr.take(), settings.verbose));
        let dialed = tokio::select! {
            dialed = tokio::time::timeout(DIAL_LIMIT, accept(&listener)) => dialed,
            status = child.wait() => {
                let status = status.map_err(failed)?;
                let said = complaint(output).await.unwrap_or_else(|| status.to_string());
                return Err(ConnectError::Proxy(format!("it ended: {said}")));
            }
        };
        match dialed {
            Ok(stream) => Ok(Self { child, output, stream: stream.map_err(failed)? }),
            Err(_) => Err(ConnectError::Proxy(format!("it did not dial within {DIAL_LIMIT:?}"))),
        }
    }

    /// Closes the connection and waits for nxproxy to end. It has nothing to complain about if both sides
    /// took leave of each other; its exit status is 0 either way.
    pub(crate) async fn end(self) -> Option<String> {
        let Self { mut child, output, stream } = self;
        drop(stream);
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let hastened = async {
            if let Some(pid) = pid {
                housekeeper::end(pid, nix::unistd::getuid().as_raw()).await;
            }
            std::future::pending::<Infallible>().await
        };
        let waited = tokio::select! {
            waited = tokio::time::timeout(END_LIMIT, child.wait()) => waited,
            never = hastened => match never {},
        };
        let status = match waited {
            Ok(status) => status,
            Err(_) => {
                // It may end this moment.
                let _ = child.kill().await;
                return Some(format!("nxproxy did not end within {END_LIMIT:?}"));
            }
        };
        match (complaint(output).await, status) {
            (None, Ok(status)) if !status.success() => Some(format!("nxproxy ended with {status}")),
            (None, Err(error)) => Some(error.to_string()),
            (complaint, _) => complaint,
        }
    }
}

/// Takes the connection of a program of this user; others on this machine may dial as well.
async fn accept(listener: &TcpListener) -> std::io::Result<TcpStream> {
    loop {
        let (stream, peer) = listener.accept().await?;
        if owner(peer).is_some_and(|uid| uid == nix::unistd::getuid().as_raw()) {
            stream.set_nodelay(true)?;
            return Ok(stream);
        }
        tracing::warn!("another user's connection to the port of nxproxy refused");
    }
}

/// The user whose program has this end of a local connection.
fn owner(address: SocketAddr) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let SocketAddr::V4(address) = address else { return None };
    let wanted = format!("{:08X}:{:04X}", u32::from(*address.ip()).swap_bytes(), address.port());
    let row = table.lines().find(|line| line.split_whitespace().nth(1) == Some(&wanted))?;
    row.split_whitespace().nth(7)?.parse().ok()
}

async fn read_output(pipe: Option<tokio::process::ChildStderr>, verbose: bool) -> VecDeque<String> {
    let mut kept = VecDeque::new();
    let Some(pipe) = pipe else { return kept };
    let mut lines = BufReader::new(pipe).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if verbose {
            tracing::debug!("nxproxy: {line}");
        }
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
    kept
}

/// What nxproxy complained about first; what follows are consequences and advice.
async fn complaint(output: JoinHandle<VecDeque<String>>) -> Option<String> {
    let lines = output.await.unwrap_or_default();
    let texts = lines
        .iter()
        .filter_map(|line| line.strip_prefix("Error:").or(line.split_once("PANIC!").map(|p| p.1)));
    texts.map(|text| text.trim().trim_end_matches('.').to_owned()).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_connection_belongs_to_whoever_made_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert_eq!(owner(near.local_addr().unwrap()), Some(nix::unistd::getuid().as_raw()));
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        assert_eq!(owner(nobody), None);
    }

    /// Stands in for an nxproxy whose housekeeper does not hear the first signal, and that waits for it.
    const DEAF: &str = r#"#!/bin/bash
display=${!#}
exec 3<>"/dev/tcp/localhost/$((BASE + ${display##*:}))"
( trap '' TERM; sleep 0.1; trap - TERM; read -r -t 600 -u 4 ) 4<> <(:) &
cat <&3 >&2
kill $!
wait
"#;

    #[tokio::test]
    async fn a_housekeeper_does_not_hold_the_end_up() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("nxproxy");
        std::fs::write(&program, DEAF.replace("BASE", &BASE.to_string())).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let settings = ProxySettings { program, options: Vec::new(), verbose: false };
        let proxy = Proxy::start(&settings, ":0").await.unwrap();
        assert_eq!(proxy.end().await, None);
    }
}
