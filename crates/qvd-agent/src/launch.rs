//! Starting programs in the name of the user: the X server, then the desktop.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgid, setgroups, setsid, setuid};
use qvd_wire::nx::{ClientValues, Options, OptionsError};
use tokio::process::{Child, Command};

use crate::accounts::Account;
use crate::environment;
use crate::parameters::Parameters;
use crate::settings::Settings;

/// Logs of what runs as the user.
const SESSION_LOG: &str = "qvd-nxagent.log";
const SCREEN_LOG: &str = "qvd-x11vnc.log";

/// Where systemd, if it runs the desktop, keeps its own state.
const SYSTEMD: &str = "/run/systemd/system";

/// Why a session cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error("cannot make {}: {source}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot run {}: {source}", program.display())]
    Run { program: PathBuf, source: io::Error },
}

/// One session: its files and how its programs are started.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) account: Account,
    pub(crate) parameters: Parameters,
    directory: PathBuf,
}

impl Session {
    /// Makes the files of a new session, in place of those of an old one.
    pub(crate) fn new(
        settings: &Settings,
        account: Account,
        parameters: Parameters,
    ) -> Result<Self, LaunchError> {
        let session = Self { account, parameters, directory: settings.session_directory() };
        let made = |path: &Path, result: io::Result<()>| {
            result.map_err(|source| LaunchError::Make { path: path.to_owned(), source })
        };
        let directory = &session.directory;
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => made(directory, Err(error))?,
            _ => {}
        }
        made(directory, std::fs::DirBuilder::new().mode(0o700).create(directory))?;
        let cookie = session.cookie_file();
        made(&cookie, write(&cookie, 0o600, &cookie_entry(settings.display, &rand::random())))?;
        for path in [&cookie, directory] {
            made(path, chown(path, Some(session.account.uid), Some(session.account.gid)))?;
        }
        // Without it the X server, which is not root, has only the abstract socket.
        let sockets = Path::new("/tmp/.X11-unix");
        if !sockets.is_dir() {
            made(sockets, std::fs::create_dir_all(sockets))?;
            let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
            made(sockets, std::fs::set_permissions(sockets, anybody))?;
        }
        Ok(session)
    }

    /// The X server's state file.
    pub(crate) fn state_file(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// The Unix socket on which the X server waits for a client.
    pub(crate) fn link(&self) -> PathBuf {
        self.directory.join("link")
    }

    fn cookie_file(&self) -> PathBuf {
        self.directory.join("xauthority")
    }

    /// Writes the option file, which the X server reads at its start and at each resume.
    pub(crate) fn write_options(
        &self,
        settings: &Settings,
        client: &ClientValues,
    ) -> Result<(), LaunchError> {
        let mut options = Options::for_client(client);
        options.set("tolerancechecks", &settings.tolerance);
        options.set("state", &self.state_file().to_string_lossy());
        options.set("listen", &format!("unix:{}", self.link().to_string_lossy()));
        let line = options.line(settings.display)?;
        let path = &settings.nx_options;
        let new = path.with_extension("new");
        write(&new, 0o640, line.as_bytes())
            .and_then(|()| chown(&new, None, Some(self.account.gid)))
            .and_then(|()| std::fs::rename(&new, path))
            .map_err(|source| LaunchError::Make { path: path.clone(), source })
    }

    /// Starts the X server: a client of the user's X server far away, a server for the desktop.
    pub(crate) fn start_server(&self, settings: &Settings) -> Result<Child, LaunchError> {
        let programs = &settings.programs;
        let display = format!(":{}", settings.display);
        let mut command = self.command(settings, &programs.nxagent)?;
        command
            .arg(&display)
            .args(["-nolisten", "tcp", "-auth"])
            .arg(self.cookie_file())
            .args(["-name", "QVD", "-display"])
            .arg(format!("nx/nx,options={}{display}", settings.nx_options.display()))
            .args(&programs.nxagent_args);
        if programs.nxdiag.as_os_str().is_empty() {
            command.env("NX_CLIENT", std::env::current_exe().unwrap_or_default());
        } else {
            command.env("NX_CLIENT", &programs.nxdiag);
        }
        command.env("NX_ROOT", &self.directory);
        spawn(command, &programs.nxagent)
    }

    /// Starts the desktop. Where systemd runs it gets a PAM session of its own, with everything that modern
    /// desktops expect of one.
    pub(crate) fn start_desktop(&self, settings: &Settings) -> Result<Child, LaunchError> {
        let programs = &settings.programs;
        let mut words: Vec<PathBuf> = Vec::new();
        if !programs.xinit.as_os_str().is_empty() {
            words.push(programs.xinit.clone());
        }
        words.push(programs.x_session.clone());
        words.extend(programs.x_session_args.iter().map(PathBuf::from));
        let own = self.display(settings);
        let Some((program, arguments)) = words.split_first() else { return Err(self.nothing()) };
        if settings.inside(Path::new(SYSTEMD)).is_dir() {
            let environment = environment::variables(settings, &self.account, &self.parameters);
            let mut command = Command::new(&programs.systemd_run);
            command.args(systemd_arguments(&self.account, environment.into_iter().chain(own)));
            command.arg(program).args(arguments);
            self.redirect(settings, &mut command, SESSION_LOG)?;
            return spawn(command, &programs.systemd_run);
        }
        let mut command = self.command(settings, program)?;
        command.args(arguments).envs(own);
        if let Some(runtime) = self.runtime_directory(settings) {
            command.env("XDG_RUNTIME_DIR", runtime);
        }
        spawn(command, program)
    }

    /// What X clients of the session need to find it.
    fn display(&self, settings: &Settings) -> [(String, String); 2] {
        [
            ("DISPLAY".to_owned(), format!(":{}", settings.display)),
            ("XAUTHORITY".to_owned(), self.cookie_file().display().to_string()),
        ]
    }

    /// A program that runs as the user beside the desktop, on its display, and ends with whoever holds it.
    pub(crate) fn companion(&self, settings: &Settings, program: &Path) -> Result<Command, LaunchError> {
        let mut command = self.command(settings, program)?;
        command.envs(self.display(settings)).kill_on_drop(true);
        self.redirect(settings, &mut command, SCREEN_LOG)?;
        Ok(command)
    }

    fn nothing(&self) -> LaunchError {
        LaunchError::Run { program: PathBuf::new(), source: io::ErrorKind::NotFound.into() }
    }

    /// A directory for sockets of the user's programs, which logind would make.
    fn runtime_directory(&self, settings: &Settings) -> Option<PathBuf> {
        let parent = settings.inside(Path::new("/run/user"));
        let path = parent.join(self.account.uid.to_string());
        std::fs::create_dir_all(parent).ok()?;
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
            _ => {}
        }
        chown(&path, Some(self.account.uid), Some(self.account.gid)).ok()?;
        Some(path)
    }

    /// A program that runs as the user, in its home, with nothing of the agent's environment.
    fn command(&self, settings: &Settings, program: &Path) -> Result<Command, LaunchError> {
        let account = &self.account;
        let mut command = Command::new(program);
        command.env_clear().envs(environment::variables(settings, account, &self.parameters));
        command.current_dir(settings.inside(&account.home));
        self.redirect(settings, &mut command, SESSION_LOG)?;
        let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
        let mask = Mode::from_bits_truncate(settings.umask);
        let become_user = move || -> io::Result<()> {
            setsid()?;
            setgroups(&groups)?;
            setgid(gid)?;
            setuid(uid)?;
            umask(mask);
            Ok(())
        };
        // SAFETY: the closure runs between fork and exec; it makes system calls only and allocates nothing.
        #[allow(unsafe_code, reason = "the standard library cannot set supplementary groups")]
        unsafe {
            command.pre_exec(become_user);
        }
        Ok(command)
    }

    fn redirect(&self, settings: &Settings, command: &mut Command, name: &str) -> Result<(), LaunchError> {
        let made = log(settings, name).and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) =
            made.map_err(|source| LaunchError::Make { path: settings.log.join(name), source })?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        Ok(())
    }
}

pub(crate) fn spawn(mut command: Command, program: &Path) -> Result<Child, LaunchError> {
    command.spawn().map_err(|source| LaunchError::Run { program: program.to_owned(), source })
}

/// What `systemd-run` needs to run a program as a login session and to wait for it.
fn systemd_arguments(account: &Account, environment: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let options = ["--quiet", "--collect", "--wait", "--pipe", "--unit=qvd-session"];
    let mut arguments: Vec<String> = options.map(str::to_owned).to_vec();
    arguments.push(format!("--uid={}", account.name));
    arguments.push("--property=PAMName=login".to_owned());
    arguments.push("--property=WorkingDirectory=~".to_owned());
    arguments.extend(environment.map(|(name, value)| format!("--setenv={name}={value}")));
    arguments.push("--".to_owned());
    arguments
}

/// A log of the agent's directory, for appending.
pub(crate) fn log(settings: &Settings, name: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(settings.log.join(name))
}

fn write(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content)
}

/// An entry of an X authority file that fits any host name: `XAUTHORITY` of the desktop and `-auth` of the X
/// server are the same file.
fn cookie_entry(display: u16, cookie: &[u8; 16]) -> Vec<u8> {
    const ANY_ADDRESS: [u8; 2] = [0xff, 0xff];
    let mut entry = ANY_ADDRESS.to_vec();
    for field in [b"".as_slice(), display.to_string().as_bytes(), b"MIT-MAGIC-COOKIE-1", cookie] {
        entry.extend(u16::try_from(field.len()).unwrap_or(u16::MAX).to_be_bytes());
        entry.extend(field);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_file_is_one_wild_entry() {
        let entry = cookie_entry(100, &[7; 16]);
        assert!(entry.starts_with(b"\xff\xff\0\0\0\x03100\0\x12MIT-MAGIC-COOKIE-1\0\x10"));
        assert!(entry.ends_with(&[7; 16]));
    }

    #[test]
    fn systemd_gets_the_user_and_a_pam_session() {
        let account = Account {
            name: "joe".into(),
            uid: 1000,
            gid: 1000,
            groups: vec![],
            home: "/home/joe".into(),
            shell: "/bin/sh".into(),
        };
        let arguments = systemd_arguments(&account, [("A".to_owned(), "b c".to_owned())].into_iter());
        assert!(arguments.contains(&"--uid=joe".to_owned()));
        assert!(arguments.contains(&"--setenv=A=b c".to_owned()));
        assert_eq!(arguments.last().unwrap(), "--");
    }
}
