//! The ways into a running VM: `ssh`, `vnc`, `spy` and `console`.
//!
//! The API checks who may, writes it down and connects; `qa4` carries the bytes to a port of its own machine that lets
//! only its own user in, and runs the program for it (see `forward`). So they work wherever `qa4` does. The console of a
//! container is the exception: root has it on the node of the container.

mod console;
mod forward;
pub(crate) mod words;

use std::process::Stdio;

use qvd_model::action::Object;
use qvd_model::filter::Filter;
use serde_json::{Map, Value, json};
use tokio::process::Command;

use crate::api::{Api, Call};
use crate::error::Error;
use crate::options::Place;
use forward::Forward;

/// A way into a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Its SSH server, by `ssh`.
    Ssh,
    /// The screen that its hypervisor shows, by `vncviewer`.
    Vnc,
    /// The screen of its session, by `vncviewer`.
    Spy,
    /// Its console.
    Console,
}

impl Way {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Ssh, Self::Vnc, Self::Spy, Self::Console];

    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Vnc => "vnc",
            Self::Spy => "spy",
            Self::Console => "console",
        }
    }

    /// The way of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.word() == word)
    }
}

/// The VM that is meant.
#[derive(Debug)]
struct Vm {
    id: i64,
    name: String,
    /// Host and serial port, where they were asked for.
    row: Map<String, Value>,
}

/// Goes this way into the one VM that is selected, and passes arguments on to the program.
pub(crate) async fn go(
    api: &mut Api,
    way: Way,
    selection: Option<Filter>,
    passed: &[String],
) -> Result<(), Error> {
    let vm = the_one(api, way, selection).await?;
    match way {
        Way::Ssh => ssh(api, &vm, passed).await,
        Way::Vnc => view(api, &vm, "vnc", passed).await,
        Way::Spy => view(api, &vm, "screen", passed).await,
        Way::Console => match vm.row.get("serial_port").and_then(Value::as_u64) {
            Some(port) if port > 0 => serial(api, &vm, passed).await,
            _ => console::attach(api, &vm, passed).await,
        },
    }
}

async fn the_one(api: &mut Api, way: Way, selection: Option<Filter>) -> Result<Vm, Error> {
    let mut fields = vec!["id", "name", "state"];
    if way == Way::Console {
        fields.extend(["host_name", "serial_port"]);
    }
    let rows = api.call(&Call::list(Object::Vm, selection, &fields)?).await?.rows;
    let count = rows.len();
    let Ok([row]) = <[Map<String, Value>; 1]>::try_from(rows) else {
        return Err(Error::Usage(match count {
            0 => format!("no VM matches; {} takes one", way.word()),
            _ => format!("{count} VMs match; {} takes one: name it, or give its id", way.word()),
        }));
    };
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (name, id) = (text("name"), row.get("id").and_then(Value::as_i64).unwrap_or_default());
    if text("state") != "running" {
        return Err(Error::Usage(format!("{name} does not run; qa4 vm id={id} start --wait starts it")));
    }
    Ok(Vm { id, name, row })
}

/// The address of a VM is another VM's one day, its number never; and there may be several installations.
fn alias(vm: &Vm, place: &Place) -> String {
    let installation = match place {
        Place::Socket(_) => String::new(),
        Place::Url(url) => {
            let host =
                url.strip_prefix("https://").unwrap_or(url).split(['/', ':']).next().unwrap_or_default();
            let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            format!(".{}", host.to_ascii_lowercase().chars().filter(plain).collect::<String>())
        }
    };
    format!("qvd-vm-{}{installation}", vm.id)
}

async fn ssh(api: &mut Api, vm: &Vm, passed: &[String]) -> Result<(), Error> {
    let alias = alias(vm, &api.settings().place);
    let forward = Forward::open(api, &json!({ "vm_id": vm.id, "to": "ssh" })).await?;
    let mut command = Command::new("ssh");
    command.arg("-p").arg(forward.port().to_string());
    command.args(["-o", "HostName=127.0.0.1", "-o", &format!("HostKeyAlias={alias}")]).arg(&alias);
    forward.serve(command.args(passed)).await
}

/// Who asks the viewer for a view only is announced so to the user.
async fn view(api: &mut Api, vm: &Vm, to: &str, passed: &[String]) -> Result<(), Error> {
    let only = passed.iter().any(|word| {
        let word = word.trim_start_matches('-').to_ascii_lowercase();
        word == "viewonly" || word == "viewonly=1"
    });
    if to == "screen" {
        eprintln!("qa4: the user of {} is asked, if its image says so", vm.name);
    }
    let forward = Forward::open(api, &json!({ "vm_id": vm.id, "to": to, "view_only": only })).await?;
    let mut command = Command::new("vncviewer");
    command.arg(format!("127.0.0.1::{}", forward.port()));
    forward.serve(command.args(passed)).await
}

async fn serial(api: &mut Api, vm: &Vm, passed: &[String]) -> Result<(), Error> {
    let forward = Forward::open(api, &json!({ "vm_id": vm.id, "to": "serial" })).await?;
    let mut command = Command::new("telnet");
    command.args(["127.0.0.1", &forward.port().to_string()]);
    forward.serve(command.args(passed)).await
}

/// Starts a program that talks to whoever gave the command.
fn spawn(command: &mut Command) -> Result<tokio::process::Child, Error> {
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit()).kill_on_drop(true);
    command.spawn().map_err(|error| {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let hint = if missing { "; install it on this machine" } else { "" };
        Error::Usage(format!("cannot run {program}: {error}{hint}"))
    })
}

/// The end of such a program is the end of the command.
fn ended(status: std::io::Result<std::process::ExitStatus>) -> Result<(), Error> {
    let status = status.map_err(|error| Error::Usage(error.to_string()))?;
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(0) => Ok(()),
        Some(code) => Err(Error::Ended(code)),
        None => Err(Error::Ended(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vm_of_each_installation_has_a_name_for_its_key() {
        let vm = Vm { id: 7, name: "desk".into(), row: Map::new() };
        assert_eq!(alias(&vm, &Place::Socket("/s".into())), "qvd-vm-7");
        assert_eq!(alias(&vm, &Place::Url("https://API.example:8444/x".into())), "qvd-vm-7.api.example");
    }
}
