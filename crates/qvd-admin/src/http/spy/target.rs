//! What of a VM an administrator can reach, and how it is opened.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use qvd_db::admin::select::Identity;
use qvd_db::admin::ways::{self, Ways};
use qvd_model::action::Status;
use qvd_model::{VmId, VmState};
use qvd_rpc::{Agent, AgentError, View};
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::TcpStream;

use crate::app::App;
use crate::caller::Caller;
use crate::refusal::Refusal;

/// How long the agent may take: its user may be asked.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long anything else may take to answer a connection.
const CONNECTING: Duration = Duration::from_secs(10);

/// What is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The screen of the session, by the agent in the desktop.
    Screen,
    /// The SSH server in the desktop.
    Ssh,
    /// The screen of the virtual machine, by its hypervisor.
    Vnc,
    /// The serial console of the virtual machine, by its hypervisor.
    Serial,
    /// Nothing over this connection: it stands for a console that root has on the node.
    Console,
}

/// The other end.
pub(super) struct Link {
    pub(super) stream: Box<dyn Stream>,
    /// What has come from it already.
    pub(super) first: Vec<u8>,
    /// Keeps a stream open on which nothing comes.
    _silence: Option<DuplexStream>,
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

impl Target {
    /// What the arguments ask for; the screen if they do not say.
    pub(super) fn of(arguments: &Map<String, Value>) -> Result<Self, Refusal> {
        let Some(value) = arguments.get("to") else { return Ok(Self::Screen) };
        Ok(match value.as_str() {
            Some("screen") => Self::Screen,
            Some("ssh") => Self::Ssh,
            Some("vnc") => Self::Vnc,
            Some("serial") => Self::Serial,
            Some("console") => Self::Console,
            _ => {
                let known = "it is one of screen, ssh, vnc, serial and console";
                return Err(Refusal::about(Status::WrongArgumentValue, "to").because(known));
            }
        })
    }

    /// What the log calls its beginning and its end.
    pub(super) const fn actions(self) -> [&'static str; 2] {
        match self {
            Self::Screen => ["vm_spy", "vm_spy_end"],
            Self::Ssh => ["vm_ssh", "vm_ssh_end"],
            Self::Vnc => ["vm_vnc", "vm_vnc_end"],
            Self::Serial => ["vm_serial", "vm_serial_end"],
            Self::Console => ["vm_console", "vm_console_end"],
        }
    }

    /// What it is, for the story of the VM.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Screen => "the screen",
            Self::Ssh => "the SSH server",
            Self::Vnc => "the screen of the hypervisor",
            Self::Serial => "the serial console",
            Self::Console => "the console on the node",
        }
    }

    /// Whether it is a screen, which can be shown to somebody who may not use it.
    pub(super) const fn is_screen(self) -> bool {
        matches!(self, Self::Screen | Self::Vnc)
    }

    /// The ACL that it takes beside the one for all of them. An SSH server knows for itself whom it lets in.
    pub(super) const fn acl(self) -> Option<&'static str> {
        match self {
            Self::Serial | Self::Console => Some("vm.spy.interactive"),
            _ => None,
        }
    }

    /// Opens it.
    pub(super) async fn open(
        self,
        app: &App,
        vm: &Identity,
        caller: &Caller,
        only: bool,
    ) -> Result<Link, Refusal> {
        let client = app.database.client().await?;
        let ways = ways::find(&client, VmId(vm.id)).await?;
        drop(client);
        let wrong = |why: String| Refusal::about(Status::WrongType, "vm_id").because(why);
        let ways = ways.filter(|ways| ways.state == VmState::Running);
        let ways = ways.ok_or_else(|| wrong(format!("{} does not run", vm.name)))?;
        match self {
            Self::Screen => screen(app, vm, caller, only).await,
            Self::Ssh => dial(vm, ways.address, ways.ssh, "SSH server").await.map_err(wrong),
            Self::Vnc => {
                let of_host = ways.host_address;
                dial(vm, of_host, ways.vnc, "VNC port on its host; its session is seen by spy")
                    .await
                    .map_err(wrong)
            }
            Self::Serial => {
                let missing = format!("serial port on its host{}", container(&ways));
                dial(vm, ways.host_address, ways.serial, &missing).await.map_err(wrong)
            }
            Self::Console => {
                let (stream, silence) = duplex(64);
                Ok(Link { stream: Box::new(stream), first: Vec::new(), _silence: Some(silence) })
            }
        }
    }
}

fn container(ways: &Ways) -> String {
    match &ways.host_name {
        Some(name) => format!("; a container has its console on {name}, for root there"),
        None => String::new(),
    }
}

async fn screen(app: &App, vm: &Identity, caller: &Caller, only: bool) -> Result<Link, Refusal> {
    let wrong = |why: String| Refusal::about(Status::WrongType, "vm_id").because(why);
    let place = qvd_db::router::desktop(&app.database, VmId(vm.id)).await?.and_then(|desktop| desktop.place);
    let place = place.ok_or_else(|| wrong(format!("{} has no address yet", vm.name)))?;
    let agent = Agent::new(place.address, place.agent_port, place.secret);
    let view = View { only, viewer: Some(caller.name.clone()) };
    match agent.watch(&view, PATIENCE).await {
        Ok((stream, first)) => Ok(Link { stream: Box::new(stream), first, _silence: None }),
        // It is not the agent that refuses, but the user.
        Err(AgentError::Status { status: 403, text, .. }) => {
            Err(Refusal::about(Status::ActionNotAllowed, vm.name.clone()).because(text))
        }
        Err(AgentError::Status { status: 503, text, .. }) => Err(wrong(format!("{}: {text}", vm.name))),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Connects to a port that the row of the VM names.
async fn dial(vm: &Identity, address: Option<IpAddr>, port: Option<u16>, what: &str) -> Result<Link, String> {
    let (Some(address), Some(port)) = (address, port) else {
        return Err(format!("{} has no {what}", vm.name));
    };
    let target = SocketAddr::new(address, port);
    let failed =
        |problem: &dyn std::fmt::Display| format!("nothing answers at {target} of {}: {problem}", vm.name);
    match tokio::time::timeout(CONNECTING, TcpStream::connect(target)).await {
        Ok(Ok(stream)) => {
            stream.set_nodelay(true).map_err(|error| failed(&error))?;
            Ok(Link { stream: Box::new(stream), first: Vec::new(), _silence: None })
        }
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(failed(&format!("not within {} s", CONNECTING.as_secs()))),
    }
}
