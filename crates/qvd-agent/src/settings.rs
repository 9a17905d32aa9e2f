//! What the agent is configured to do, read once.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use qvd_runtime::Values;

use crate::Error;
use crate::machine::Limit;

/// How long a router may take between connecting and its client's X link.
const LINKING: Duration = Duration::from_secs(60);

/// The settings of one agent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the calls of router and node arrive.
    pub rpc: SocketAddr,
    /// Where the router connects its client to.
    pub nx: SocketAddr,
    /// X display of the session.
    pub display: u16,
    /// Whether calls and connections from inside the desktop are refused. Tests have no other machine.
    pub refuse_local: bool,
    /// Directory that holds `etc/passwd` and the homes; `/` in a desktop.
    pub root: PathBuf,
    /// Directory of the agent's own files while it runs.
    pub run: PathBuf,
    /// Directory of logs.
    pub log: PathBuf,
    /// File with the secret that callers must know.
    pub secret: PathBuf,
    /// Option file of the X server.
    pub nx_options: PathBuf,
    /// Value of the option `tolerancechecks`.
    pub tolerance: String,
    /// Values for clients that send none: parameter and value.
    pub client_defaults: Vec<(String, String)>,
    /// Login where none is given.
    pub user: String,
    /// Groups where none are given.
    pub groups: Vec<String>,
    /// Where homes are.
    pub homes: PathBuf,
    /// Shell of new accounts.
    pub shell: PathBuf,
    /// File creation mask of sessions.
    pub umask: u32,
    /// Language where the image sets none.
    pub lang: String,
    /// Programs.
    pub programs: Programs,
    /// Whether and how the user is asked before somebody sees the screen.
    pub consent: Consent,
    /// Hooks.
    pub hooks: Hooks,
    /// Limits.
    pub limits: Limits,
}

/// Programs that the agent runs. Empty paths stand for what their key says.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each is the configuration key command.<name>")]
pub struct Programs {
    pub nxagent: PathBuf,
    pub nxagent_args: Vec<String>,
    pub nxdiag: PathBuf,
    pub x_session: PathBuf,
    pub x_session_args: Vec<String>,
    pub xinit: PathBuf,
    pub x11vnc: PathBuf,
    pub x11vnc_args: Vec<String>,
    pub groupadd: PathBuf,
    pub useradd: PathBuf,
    pub userdel: PathBuf,
    pub systemd_run: PathBuf,
    pub poweroff: PathBuf,
}

/// The user's consent to be seen.
#[derive(Debug, Clone)]
pub struct Consent {
    /// Whether the user is asked, and told while somebody watches.
    pub asked: bool,
    /// The program that asks; empty for the agent's own dialog.
    pub program: PathBuf,
    /// How long the user has for the answer.
    pub limit: Duration,
}

/// Hooks: the configuration keys `vma.on_…` with their programs, and how long one may run.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    /// Key and program; only those that are set.
    pub programs: Vec<(&'static str, PathBuf)>,
    /// How long one may run.
    pub limit: Duration,
}

/// How long states may last.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "each is the configuration key internal.nxagent.timeout.<name>")]
pub struct Limits {
    pub initiating: Duration,
    pub listening: Duration,
    pub suspending: Duration,
    pub stopping: Duration,
}

const HOOKS: [&str; 12] = [
    "vma.on_action.connect",
    "vma.on_action.expire",
    "vma.on_action.poweroff",
    "vma.on_action.pre-connect",
    "vma.on_action.stop",
    "vma.on_action.suspend",
    "vma.on_provisioning.add_user",
    "vma.on_provisioning.after_add_user",
    "vma.on_provisioning.mount_home",
    "vma.on_state.connected",
    "vma.on_state.disconnected",
    "vma.on_state.suspended",
];

impl Settings {
    /// Reads the settings of a desktop.
    pub fn read(values: &Values) -> Result<Self, Error> {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let display: u16 = values.int("internal.nxagent.display")?;
        let umask = values.text("vma.user.umask")?;
        Ok(Self {
            rpc: any(values.int("internal.vm.port.vma")?),
            nx: any(qvd_wire::nx::PORT_BASE.saturating_add(display)),
            display,
            refuse_local: true,
            root: PathBuf::from("/"),
            run: values.path("path.run")?,
            log: values.path("path.log")?,
            secret: values.path("vma.secret.path")?,
            nx_options: values.path("internal.vma.nxagent.config")?,
            tolerance: values.text("internal.vma.nxagent.tolerancechecks")?,
            client_defaults: client_defaults(values)?,
            user: values.text("vma.user.default.name")?,
            groups: values.list("vma.user.default.groups")?,
            homes: values.path("vma.user.home.path")?,
            shell: values.path("vma.user.shell")?,
            umask: u32::from_str_radix(&umask, 8).ok().filter(|m| *m <= 0o777).ok_or(Error::Umask(umask))?,
            lang: values.text("vma.default.lang")?,
            programs: Programs {
                nxagent: values.path("command.nxagent")?,
                nxagent_args: words(&values.text("command.nxagent.args.extra")?),
                nxdiag: values.path("command.nxdiag")?,
                x_session: values.path("command.x-session")?,
                x_session_args: words(&values.text("command.x-session.args.extra")?),
                xinit: values.path("command.xinit")?,
                x11vnc: values.path("command.x11vnc")?,
                x11vnc_args: words(&values.text("vma.x11vnc.extra_args")?),
                groupadd: values.path("command.groupadd")?,
                useradd: values.path("command.useradd")?,
                userdel: values.path("command.userdel")?,
                systemd_run: values.path("command.systemd-run")?,
                poweroff: values.path("command.poweroff")?,
            },
            consent: Consent {
                asked: values.flag("vma.x11vnc.confirm.enabled")?,
                program: values.path("vma.x11vnc.confirm.command")?,
                limit: Duration::from_secs(values.int("vma.x11vnc.confirm.timeout")?),
            },
            hooks: hooks(values)?,
            limits: Limits {
                initiating: values.seconds("internal.nxagent.timeout.initiating")?,
                listening: values.seconds("internal.nxagent.timeout.listening")?,
                suspending: values.seconds("internal.nxagent.timeout.suspending")?,
                stopping: values.seconds("internal.nxagent.timeout.stopping")?,
            },
        })
    }

    pub(crate) fn limit(&self, limit: Limit) -> Duration {
        match limit {
            Limit::Initiating => self.limits.initiating,
            Limit::Listening => self.limits.listening,
            Limit::Linking => LINKING,
            Limit::Suspending => self.limits.suspending,
            Limit::Stopping => self.limits.stopping,
        }
    }

    /// Directory of one session; it belongs to the user.
    pub(crate) fn session_directory(&self) -> PathBuf {
        self.run.join("session")
    }

    /// A path of the desktop, below [`Settings::root`].
    pub(crate) fn inside(&self, path: &std::path::Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

fn client_defaults(values: &Values) -> Result<Vec<(String, String)>, Error> {
    let mut found = Vec::new();
    for name in ["keyboard", "os", "link", "geometry", "fullscreen"] {
        let parameter = format!("qvd.client.{name}");
        if let Some(value) = values.optional(&format!("vma.default.{parameter}"))? {
            found.push((parameter, value));
        }
    }
    Ok(found)
}

fn hooks(values: &Values) -> Result<Hooks, Error> {
    let mut programs = Vec::new();
    for key in HOOKS {
        let program = values.text(key)?;
        if !program.is_empty() {
            programs.push((key, PathBuf::from(program)));
        }
    }
    Ok(Hooks { programs, limit: values.seconds("internal.vma.hook.timeout")? })
}

/// Splits arguments at blanks; quotes keep blanks together.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use qvd_runtime::Config;

    fn settings(text: &str) -> Result<Settings, Error> {
        Settings::read(&Config::parse("vma.conf", text).unwrap().now())
    }

    #[test]
    fn an_empty_file_means_the_documented_defaults() {
        let settings = settings("").unwrap();
        assert_eq!((settings.rpc.port(), settings.nx.port(), settings.umask), (3030, 4100, 0o022));
        assert_eq!(settings.programs.nxagent, PathBuf::from("/usr/bin/nxagent"));
        assert!(settings.hooks.programs.is_empty() && settings.refuse_local);
        assert!(settings.client_defaults.is_empty());
    }

    #[test]
    fn hooks_arguments_and_client_values_are_read() {
        let settings = settings(
            "vma.on_action.connect = /opt/connect\ncommand.x-session.args.extra = -a 'b c' \"\"\n\
             vma.default.qvd.client.link = lan\n",
        )
        .unwrap();
        assert_eq!(settings.hooks.programs, [("vma.on_action.connect", PathBuf::from("/opt/connect"))]);
        assert_eq!(settings.programs.x_session_args, ["-a", "b c", ""]);
        assert_eq!(settings.client_defaults, [("qvd.client.link".to_owned(), "lan".to_owned())]);
    }

    #[test]
    fn a_mask_must_be_one() {
        assert!(matches!(settings("vma.user.umask = 999"), Err(Error::Umask(_))));
    }
}
