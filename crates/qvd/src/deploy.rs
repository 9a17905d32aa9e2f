//! `qvd-deploy-db` (`spec/cli.md` 5.1).

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use nix::unistd::User;
use qvd_auth::Hasher;
use qvd_db::deploy::{DeployError, Deployed, Deployment, Standing};
use qvd_db::{Settings, deploy as database};
use qvd_launch::Sharing;
use secrecy::SecretString;

/// Options of the program.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Drop what is there and deploy anew; all data is lost, but for a backup that is made first.
    #[arg(short, long)]
    force: bool,
    /// Take over the database of that version with its data, as `migrate` does.
    #[arg(long, value_name = "VERSION", value_parser = ["4.0", "4.1", "latest"], requires = "force")]
    update_from: Option<String>,
    /// Take over the database with its data, as `migrate` does.
    #[arg(long)]
    update_schema: bool,
    /// Do not ask before --force drops a database.
    #[arg(long)]
    yes: bool,
    /// File whose first line is the password of the administrators superadmin and admin; without it one is made.
    #[arg(long, value_name = "FILE")]
    admin_password_file: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring the database up to date, or take over that of an older QVD 4; its data stays.
    Migrate {
        /// Tell what would happen, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Read this dump into the database first, which must be empty: what `pg_dump` or `qvd db dump` wrote.
        #[arg(long, value_name = "DUMP")]
        file: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Seal all secrets in the database with the newest key of the key file.
    Seal {
        /// Add a key to the file instead, to be copied to the other machines before anything is sealed with it.
        #[arg(long)]
        new_key: bool,
        #[command(flatten)]
        source: crate::archive::Source,
    },
    /// Tell what is in the database, and change nothing.
    Status {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// Configuration file with the connection to the database.
    #[arg(short = 'c', long, value_name = "FILE", default_value = "/etc/qvd/node.conf")]
    config_file: PathBuf,
    /// Directory of the backup that is made before data is changed.
    #[arg(long, value_name = "DIR", default_value = "/var/backups/qvd")]
    backup_dir: PathBuf,
    /// Make no backup.
    #[arg(long)]
    no_backup: bool,
    /// Tell more.
    #[arg(short, long)]
    verbose: bool,
}

/// Documented exit code of a bad option or file.
pub const BAD_OPTION: u8 = 1;

/// Why the program ends without having done its work.
enum Failure {
    /// Something the caller can put right: an option, a file, an answer.
    Call(anyhow::Error),
    /// The database refused.
    Deploy(DeployError),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Call(error)
    }
}

impl From<DeployError> for Failure {
    fn from(error: DeployError) -> Self {
        Self::Deploy(error)
    }
}

/// Does what the options say to the database that the configuration names.
pub fn run(options: Options) -> ExitCode {
    let outcome = match &options.verb {
        Some(Verb::Migrate { dry_run, file, common }) => migrate(common, *dry_run, file.as_deref()),
        Some(Verb::Seal { new_key, source }) => {
            source.with(Sharing::Shared, |settings| seal(settings, *new_key)).map_err(Failure::from)
        }
        Some(Verb::Status { common }) => status(common),
        None if options.update_schema || options.update_from.is_some() => {
            migrate(&options.common, false, None)
        }
        None => deploy(&options),
    };
    let (code, problem) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Call(error)) => (BAD_OPTION, format!("{error:#}")),
        Err(Failure::Deploy(error)) => (error.exit_code(), error.to_string()),
    };
    eprintln!("qvd-deploy-db: {problem}");
    ExitCode::from(code)
}

fn deploy(options: &Options) -> Result<(), Failure> {
    let settings = crate::archive::settings(&options.common.config_file)?;
    let (password, made) = administrators_password(options.admin_password_file.as_deref())?;
    let runtime = crate::daemon::runtime()?;
    let there = runtime.block_on(database::standing(&settings));
    if options.force && !matches!(there, Ok(Standing::Empty)) {
        confirm(&settings.name, options.yes)?;
        back_up(&settings, &options.common)?;
    }
    make_keys(&settings)?;
    let deployed = runtime.block_on(async {
        let hash = Hasher::new(1).hash(password.as_bytes()).await.context("cannot hash the password")?;
        let administrators =
            ["superadmin", "admin"].map(|name| (name.to_owned(), SecretString::from(hash.clone())));
        let deployment =
            Deployment { force: options.force, administrators: administrators.to_vec(), roles: Vec::new() };
        Ok::<_, Failure>(database::deploy(&settings, &deployment).await?)
    })?;
    tell(&deployed, &settings.name, false, options.common.verbose);
    if made {
        println!("password of administrators superadmin and admin: {password}");
    }
    Ok(())
}

fn migrate(common: &Common, dry: bool, dump: Option<&Path>) -> Result<(), Failure> {
    let settings = crate::archive::settings(&common.config_file)?;
    let Some(dump) = dump else { return migrate_what_is_there(&settings, common, dry) };
    crate::archive::restore(&settings, dump, false)?;
    // The dump is the backup.
    let common = Common { no_backup: true, ..common.clone() };
    let migrated = migrate_what_is_there(&settings, &common, dry);
    if dry {
        crate::daemon::runtime()?.block_on(database::empty(&settings))?;
        println!("{}: empty again", settings.name);
    }
    migrated
}

fn migrate_what_is_there(settings: &Settings, common: &Common, dry: bool) -> Result<(), Failure> {
    let runtime = crate::daemon::runtime()?;
    let rehearsed = runtime.block_on(database::migrate(settings, &Deployment::default(), true))?;
    let deployed = match rehearsed {
        rehearsed if dry => rehearsed,
        Deployed::Migrated(names) if names.is_empty() => Deployed::Migrated(names),
        _ => {
            back_up(settings, common)?;
            if let Some(kept) = runtime.block_on(database::secrets(settings))?.filter(|kept| kept.locked > 0)
            {
                settings.vault.check().with_context(|| format!("{} secrets are sealed", kept.locked))?;
            }
            make_keys(settings)?;
            runtime.block_on(database::migrate(settings, &Deployment::default(), false))?
        }
    };
    tell(&deployed, &settings.name, dry, common.verbose);
    Ok(())
}

/// Makes the key file that the configuration names, if it is not there.
fn make_keys(settings: &Settings) -> Result<()> {
    let Some(file) = settings.vault.file() else {
        println!("note: secrets are stored plain, since database.secrets.file names no key file");
        return Ok(());
    };
    // Router and API are to read it.
    let owner = User::from_name(qvd_launch::SERVICE_USER)?.map(|user| (user.uid.as_raw(), user.gid.as_raw()));
    if settings.vault.create(owner)? {
        println!(
            "key file: {}; every machine needs it, and it belongs to no backup of the database",
            file.display()
        );
    }
    Ok(())
}

fn seal(settings: &Settings, new_key: bool) -> Result<()> {
    let file = settings.vault.file().context("database.secrets.file names no key file")?;
    if new_key {
        let name = settings.vault.add_key()?;
        println!("{}: key {name} added; copy the file to the other machines, then seal", file.display());
        return Ok(());
    }
    make_keys(settings)?;
    let count = crate::daemon::runtime()?.block_on(database::seal(settings))?;
    println!("{}: {count} secrets sealed", settings.name);
    Ok(())
}

fn status(common: &Common) -> Result<(), Failure> {
    let settings = crate::archive::settings(&common.config_file)?;
    let name = &settings.name;
    let runtime = crate::daemon::runtime()?;
    if let Some(kept) = runtime.block_on(database::secrets(&settings))? {
        println!(
            "{name}: secrets: {} sealed, {} without their key, {} plain",
            kept.sealed, kept.locked, kept.plain
        );
    }
    match runtime.block_on(database::standing(&settings))? {
        Standing::Empty => println!("{name}: no QVD-DB; `qvd-deploy-db` deploys one"),
        Standing::Older(version) => {
            println!("{name}: schema {version} of an older QVD; `qvd-deploy-db migrate` takes it over");
        }
        Standing::Ours(missing) if missing.is_empty() => println!("{name}: schema 4.3.0, up to date"),
        Standing::Ours(missing) => {
            println!("{name}: schema 4.3.0, lacks {}; `qvd-deploy-db migrate` adds it", missing.join(", "));
        }
    }
    Ok(())
}

fn tell(deployed: &Deployed, name: &str, dry: bool, verbose: bool) {
    let would = if dry { "would be " } else { "" };
    match deployed {
        Deployed::Created => println!("deployed {name} as schema 4.3.0"),
        Deployed::Migrated(names) if names.is_empty() => println!("{name} is up to date"),
        Deployed::Migrated(names) => println!("{name}: {would}migrated: {}", names.join(", ")),
        Deployed::TakenOver(taken) => {
            println!("{name}: schema {} {would}taken over", taken.from);
            for (relation, rows) in taken.rows.iter().filter(|(_, rows)| verbose || *rows > 0) {
                println!("  {relation}: {rows} rows");
            }
            for note in &taken.notes {
                println!("  note: {note}");
            }
        }
    }
    if dry {
        println!("nothing was changed");
    }
}

/// Asks for the name of the database that is to be dropped, where there is somebody to ask.
fn confirm(name: &str, yes: bool) -> Result<()> {
    if yes || !std::io::stdin().is_terminal() {
        return Ok(());
    }
    print!("All data of the database {name} will be dropped. Its name, to go on: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    ensure!(answer.trim() == name, "that is not its name; nothing was changed");
    Ok(())
}

fn back_up(settings: &Settings, common: &Common) -> Result<()> {
    if common.no_backup {
        return Ok(());
    }
    let directory = &common.backup_dir;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let file = directory.join(format!("{}-{seconds}.dump", settings.name));
    let made = crate::archive::dump(settings, &file, false);
    made.context("no backup could be made, so nothing was changed; --no-backup goes on without one")?;
    println!("backup: {}", file.display());
    Ok(())
}

/// The password for the first administrators, and whether it was made here.
fn administrators_password(file: Option<&Path>) -> Result<(String, bool)> {
    let Some(path) = file else { return Ok((qvd_launch::new_password(), true)) };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok((line.to_owned(), false)),
        _ => bail!("{} has no password in its first line", path.display()),
    }
}
