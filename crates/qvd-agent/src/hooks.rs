//! Hooks: the administrator's own programs, run at fixed points (`spec/vma.md` 9).

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tracing::info;

use crate::launch;
use crate::parameters::Parameters;
use crate::settings::Settings;

/// Why a hook stands in the way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    #[error("hook {key}: cannot run {}: {source}", program.display())]
    Run { key: &'static str, program: PathBuf, source: std::io::Error },
    #[error("hook {key}: {} ended with {status}", program.display())]
    Failed { key: &'static str, program: PathBuf, status: ExitStatus },
    #[error("hook {key}: {} did not end within {limit:?}", program.display())]
    Late { key: &'static str, program: PathBuf, limit: Duration },
}

/// The moment at which a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The configuration key.
    pub(crate) key: &'static str,
    /// Name of the last argument pair, e.g. `qvd.hook.on_action`.
    name: &'static str,
    /// Value of the last argument pair.
    value: &'static str,
}

const fn action(key: &'static str, value: &'static str) -> Moment {
    Moment { key, name: "qvd.hook.on_action", value }
}

const fn provisioning(key: &'static str, value: &'static str) -> Moment {
    Moment { key, name: "qvd.hook.on_provisioning", value }
}

const fn state(key: &'static str, value: &'static str) -> Moment {
    Moment { key, name: "qvd.hook.on_state", value }
}

/// Every moment. The values are the documented ones, irregular as they are.
pub(crate) const PRE_CONNECT: Moment = action("vma.on_action.pre-connect", "pre_connect");
pub(crate) const CONNECT: Moment = action("vma.on_action.connect", "connect");
pub(crate) const SUSPEND: Moment = action("vma.on_action.suspend", "suspend");
pub(crate) const STOP: Moment = action("vma.on_action.stop", "stop");
pub(crate) const POWEROFF: Moment = action("vma.on_action.poweroff", "poweroff");
pub(crate) const EXPIRE: Moment = action("vma.on_action.expire", "expire");
pub(crate) const MOUNT_HOME: Moment = provisioning("vma.on_provisioning.mount_home", "mount_home");
pub(crate) const ADD_USER: Moment = provisioning("vma.on_provisioning.add_user", "add_user");
pub(crate) const AFTER_ADD_USER: Moment =
    provisioning("vma.on_provisioning.after_add_user", "after_add_user");
pub(crate) const CONNECTED: Moment = state("vma.on_state.connected", "connected");
pub(crate) const SUSPENDED: Moment = state("vma.on_state.suspended", "suspended");
pub(crate) const DISCONNECTED: Moment = state("vma.on_state.disconnected", "stopped");

/// Whether a program is configured for the moment.
pub(crate) fn is_set(settings: &Settings, moment: Moment) -> bool {
    program(settings, moment).is_some()
}

fn program(settings: &Settings, moment: Moment) -> Option<&PathBuf> {
    settings.hooks.programs.iter().find(|(key, _)| *key == moment.key).map(|(_, program)| program)
}

/// Runs the program of a moment, if there is one, and waits for it. It gets the parameters as alternating
/// names and values, then `more`, then its moment; and all of them, secrets too, in its environment.
pub(crate) async fn run(
    settings: &Settings,
    moment: Moment,
    parameters: &Parameters,
    more: &[(&str, &str)],
) -> Result<(), HookError> {
    let Some(program) = program(settings, moment) else { return Ok(()) };
    let key = moment.key;
    let failed = |source| HookError::Run { key, program: program.clone(), source };
    let last = [(moment.name, moment.value)];
    let mut command = Command::new(program);
    for (name, value) in parameters.public().chain(more.iter().copied()).chain(last) {
        command.arg(name).arg(value);
    }
    for (name, value) in parameters.all().chain(more.iter().copied()).chain(last) {
        command.env(variable(name), value);
    }
    let log = launch::log(settings, "qvd-hooks.log").map_err(failed)?;
    command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
    let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(failed)?;
    info!("hook {key} runs");
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let limit = settings.hooks.limit;
    match tokio::time::timeout(limit, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(HookError::Failed { key, program: program.clone(), status }),
        Ok(Err(source)) => Err(failed(source)),
        Err(_) => {
            if let Some(group) = group {
                // It may have ended this moment.
                let _ = killpg(group, Signal::SIGKILL);
            }
            Err(HookError::Late { key, program: program.clone(), limit })
        }
    }
}

/// `qvd.client.os` becomes `QVD_CLIENT_OS`, `auth_token` `QVD_AUTH_TOKEN`. The prefix keeps parameters from
/// setting variables that mean something to the system, such as `LD_PRELOAD`.
fn variable(name: &str) -> String {
    let name = name.strip_prefix("qvd.").unwrap_or(name);
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    format!("QVD_{}", plain.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_ours() {
        assert_eq!(variable("qvd.client.os"), "QVD_CLIENT_OS");
        assert_eq!(variable("auth_token"), "QVD_AUTH_TOKEN");
        assert_eq!(variable("LD_PRELOAD"), "QVD_LD_PRELOAD");
    }
}
