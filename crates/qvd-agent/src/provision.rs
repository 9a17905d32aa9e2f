//! Making the account and the home of whoever the session is for (`spec/vma.md` 5.1).

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use qvd_model::{Failure, FailureCode};
use tokio::process::Command;
use tracing::{info, warn};

use crate::accounts::{self, Account};
use crate::hooks::{self, HookError};
use crate::parameters::Parameters;
use crate::settings::Settings;

/// How long a program of the system may take to make an account.
const LIMIT: Duration = Duration::from_secs(30);

/// Why there is no account to run a session in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisionError {
    #[error("{parameter}: `{value}` is not a name of a user or group")]
    Name { parameter: &'static str, value: String },
    #[error("{parameter}: `{value}` is not an id from 1 to 4294967294")]
    Id { parameter: &'static str, value: String },
    #[error("qvd.vm.user.home: `{0}` is not an absolute path without `..`")]
    Home(String),
    #[error("user {0} is the super-user; desktops do not run as it")]
    Root(String),
    #[error("cannot read the accounts of the desktop: {0}")]
    Accounts(io::Error),
    #[error("cannot make home {}: {source}", path.display())]
    MakeHome { path: PathBuf, source: io::Error },
    #[error("cannot run {}: {source}", program.display())]
    Run { program: PathBuf, source: io::Error },
    #[error("{} failed: {message}", program.display())]
    Failed { program: PathBuf, message: String },
    #[error("the account {0} does not exist although it was made")]
    NotMade(String),
    #[error(transparent)]
    Hook(#[from] HookError),
}

impl ProvisionError {
    pub(crate) fn failure(&self) -> Failure {
        Failure::new(FailureCode::XSessionFailed, self.to_string())
    }
}

/// Who the session is for, as the parameters say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    uid: Option<u32>,
    gid: Option<u32>,
    group: String,
    groups: Vec<String>,
    pub(crate) home: PathBuf,
}

impl Wanted {
    /// Reads the parameters of `spec/vma.md` 2.1; the settings fill what they leave open.
    pub(crate) fn read(settings: &Settings, parameters: &Parameters) -> Result<Self, ProvisionError> {
        let name = parameters.value("qvd.vm.user.name").unwrap_or(&settings.user).to_owned();
        check_name("qvd.vm.user.name", &name)?;
        let group = parameters.value("qvd.vm.user.group").unwrap_or(&name).to_owned();
        check_name("qvd.vm.user.group", &group)?;
        let groups = match parameters.value("qvd.vm.user.groups") {
            Some(list) => list.split(',').map(|g| g.split_whitespace().collect::<String>()).collect(),
            None => settings.groups.clone(),
        };
        let groups: Vec<String> = groups.into_iter().filter(|g| !g.is_empty()).collect();
        for group in &groups {
            check_name("qvd.vm.user.groups", group)?;
        }
        let home = match parameters.value("qvd.vm.user.home") {
            Some(home) => PathBuf::from(home),
            None => settings.homes.join(&name),
        };
        let plain = home.is_absolute() && home.components().all(|c| c != std::path::Component::ParentDir);
        if !plain || home.to_string_lossy().contains([':', '\n']) {
            return Err(ProvisionError::Home(home.display().to_string()));
        }
        let id = |parameter: &'static str| match parameters.value(parameter) {
            None => Ok(None),
            Some(value) => match value.parse() {
                Ok(id) if id != 0 && id != u32::MAX => Ok(Some(id)),
                _ => Err(ProvisionError::Id { parameter, value: value.to_owned() }),
            },
        };
        let (uid, gid) = (id("qvd.vm.user.uid")?, id("qvd.vm.user.gid")?);
        Ok(Self { uid, gid, name, group, groups, home })
    }

    /// The account, if nothing needs to be made.
    pub(crate) fn existing(&self, settings: &Settings) -> Result<Option<Account>, ProvisionError> {
        if !settings.inside(&self.home).is_dir() {
            return Ok(None);
        }
        self.account(settings)
    }

    fn account(&self, settings: &Settings) -> Result<Option<Account>, ProvisionError> {
        let found = accounts::find(settings, &self.name).map_err(ProvisionError::Accounts)?;
        match found {
            Some(account) if account.uid == 0 => Err(ProvisionError::Root(self.name.clone())),
            found => Ok(found),
        }
    }
}

fn check_name(parameter: &'static str, name: &str) -> Result<(), ProvisionError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-@+".contains(c);
    let number = name.bytes().all(|b| b.is_ascii_digit());
    if name.len() > 32 || number || name.starts_with(['-', '.', '+']) || !name.chars().all(allowed) {
        return Err(ProvisionError::Name { parameter, value: name.to_owned() });
    }
    Ok(())
}

/// Makes what is missing: first the home's file system (by hook), then the account, then the home.
pub(crate) async fn provision(
    settings: &Settings,
    wanted: &Wanted,
    parameters: &Parameters,
) -> Result<Account, ProvisionError> {
    let home = settings.inside(&wanted.home);
    if !home.is_dir() {
        hooks::run(settings, hooks::MOUNT_HOME, parameters, &[]).await?;
    }
    let account = match wanted.account(settings)? {
        Some(account) => account,
        None => add_user(settings, wanted, parameters).await?,
    };
    if !home.is_dir() {
        let skeleton = settings.inside(Path::new("/etc/skel"));
        let owner = (account.uid, account.gid);
        let made = home.clone();
        let task = tokio::task::spawn_blocking(move || make_home(&skeleton, &made, owner));
        task.await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|source| ProvisionError::MakeHome { path: home.clone(), source })?;
        info!("home {} made", home.display());
    }
    Ok(account)
}

async fn add_user(
    settings: &Settings,
    wanted: &Wanted,
    parameters: &Parameters,
) -> Result<Account, ProvisionError> {
    let own = !hooks::is_set(settings, hooks::ADD_USER);
    let made = if own {
        create_account(settings, wanted).await
    } else {
        hooks::run(settings, hooks::ADD_USER, parameters, &[]).await.map_err(Into::into)
    };
    let made = match made {
        Ok(()) => hooks::run(settings, hooks::AFTER_ADD_USER, parameters, &[]).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    if let Err(error) = made {
        if own {
            // It may not exist; then there is nothing to undo.
            let _ = system(settings, &settings.programs.userdel, &["-f", &wanted.name]).await;
        }
        return Err(error);
    }
    wanted.account(settings)?.ok_or_else(|| ProvisionError::NotMade(wanted.name.clone()))
}

async fn create_account(settings: &Settings, wanted: &Wanted) -> Result<(), ProvisionError> {
    let exists = |group: &str| accounts::has_group(settings, group).map_err(ProvisionError::Accounts);
    // A home that outlived its account, as homes of desktops do, keeps its owner.
    let owner = std::fs::metadata(settings.inside(&wanted.home)).ok().filter(|m| m.uid() != 0);
    let uid = wanted.uid.or(owner.as_ref().map(MetadataExt::uid)).map(|id| id.to_string());
    let gid =
        wanted.gid.or(owner.as_ref().map(MetadataExt::gid).filter(|g| *g != 0)).map(|id| id.to_string());
    if !exists(&wanted.group)? {
        let id = gid.as_deref().map(|gid| ["-g", gid]);
        let arguments: Vec<&str> = id.iter().flatten().copied().chain([wanted.group.as_str()]).collect();
        system(settings, &settings.programs.groupadd, &arguments).await?;
    }
    let mut groups = Vec::new();
    for group in &wanted.groups {
        if exists(group)? {
            groups.push(group.as_str());
        } else {
            warn!("group {group} does not exist; {} does not become a member", wanted.name);
        }
    }
    let groups = groups.join(",");
    let (home, shell) = (wanted.home.to_string_lossy(), settings.shell.to_string_lossy());
    let mut arguments = vec!["--badname", "-M", "-d", &home, "-g", &wanted.group, "-s", &shell];
    if !groups.is_empty() {
        arguments.extend(["-G", &groups]);
    }
    if let Some(uid) = &uid {
        arguments.extend(["-u", uid]);
    }
    arguments.push(&wanted.name);
    system(settings, &settings.programs.useradd, &arguments).await?;
    info!("account {} made", wanted.name);
    Ok(())
}

/// Runs a program that edits the account database.
async fn system(settings: &Settings, program: &Path, arguments: &[&str]) -> Result<(), ProvisionError> {
    let mut command = Command::new(program);
    if settings.root != Path::new("/") {
        command.arg("--prefix").arg(&settings.root);
    }
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let failed = |source| ProvisionError::Run { program: program.to_owned(), source };
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.unwrap_or_else(|_| Err(late())).map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    let message = if said.is_empty() { output.status.to_string() } else { said };
    Err(ProvisionError::Failed { program: program.to_owned(), message })
}

/// A home directory with a copy of the skeleton.
fn make_home(skeleton: &Path, home: &Path, owner: (u32, u32)) -> io::Result<()> {
    if let Some(parent) = home.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::DirBuilder::new().mode(0o700).create(home)?;
    if skeleton.is_dir() {
        copy_into(skeleton, home, owner)?;
    }
    lchown(home, Some(owner.0), Some(owner.1))
}

fn copy_into(from: &Path, to: &Path, owner: (u32, u32)) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(std::fs::read_link(&source)?, &target)?;
        } else if kind.is_dir() {
            std::fs::DirBuilder::new().mode(entry.metadata()?.mode() & 0o777).create(&target)?;
            copy_into(&source, &target, owner)?;
        } else if kind.is_file() {
            std::fs::copy(&source, &target)?;
        }
        lchown(&target, Some(owner.0), Some(owner.1))?;
    }
    Ok(())
}
