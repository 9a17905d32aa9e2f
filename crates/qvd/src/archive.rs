//! `qvd db dump` and `qvd db restore`: a database as one file, by PostgreSQL's own programs.

use std::fs::{File, Permissions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use qvd_db::deploy::{Deployment, Standing, ensure as bring_up_to_date, living_hosts, secrets, standing};
use qvd_db::{Settings, Tls, Vault};
use qvd_launch::{Layout, Sharing, with_database};
use qvd_runtime::Config;
use secrecy::{ExposeSecret, SecretString};

/// What to do with the database.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write the whole database to a file that only its owner may read.
    Dump {
        /// Where to; it must not be there yet.
        file: PathBuf,
        /// Replace the file if it is there.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Read a dump into an empty database.
    Restore {
        /// What `qvd db dump` wrote.
        file: PathBuf,
        /// Replace what is in the database.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        source: Source,
    },
}

/// Which database.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// Configuration file with the connection to the database.
    #[arg(short = 'c', long, value_name = "FILE", default_value = "/etc/qvd/node.conf")]
    config_file: PathBuf,
    /// Data directory of an installation by `qvd up`, whose own database is meant.
    #[arg(long, value_name = "DIR", conflicts_with = "config_file")]
    data: Option<PathBuf>,
}

impl Source {
    /// Works on the database; a private one that does not run does for as long as that takes.
    pub fn with(&self, sharing: Sharing, work: impl FnOnce(&Settings) -> Result<()>) -> Result<()> {
        let Some(data) = &self.data else { return work(&settings(&self.config_file)?) };
        let layout = Layout::new(std::path::absolute(data)?);
        with_database(&layout, sharing, work)
    }
}

/// The connection that a configuration file names.
pub fn settings(file: &Path) -> Result<Settings> {
    let config = Config::load(&[file])?;
    let values = config.now();
    Ok(Settings {
        hosts: values.list("database.host")?,
        port: values.int("database.port")?,
        name: values.text("database.name")?,
        user: values.text("database.user")?,
        password: values.optional("database.password")?.map(SecretString::from),
        tls: Tls::from_words(&values.text("database.tls")?, values.optional("database.tls.ca")?.as_deref())?,
        // Whoever needs it reads it: a new database has none yet.
        vault: values.optional("database.secrets.file")?.map(Vault::at).unwrap_or_default(),
        connect_timeout: values
            .seconds("internal.database.client.connect.timeout")
            .unwrap_or(Duration::from_secs(20)),
        pool_size: 1,
    })
}

/// Runs `qvd db`.
pub fn run(verb: Verb) -> ExitCode {
    let done = match &verb {
        Verb::Dump { file, force, source } => {
            source.with(Sharing::Shared, |settings| dump(settings, file, *force))
        }
        Verb::Restore { file, force, source } => {
            source.with(Sharing::Alone, |settings| restore(settings, file, *force))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qvd db: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the database to `file`: beside it first, so that a dump is whole or not there.
pub fn dump(settings: &Settings, file: &Path, force: bool) -> Result<()> {
    ensure!(force || !file.exists(), "{} is there already; --force replaces it", file.display());
    let name = file.file_name().context("the dump needs a file name")?;
    let beside = file.with_file_name(format!(".{}.part", name.to_string_lossy()));
    // It holds password hashes and keys; its mode is set before anything is in it.
    let mut options = File::options();
    let made = options.write(true).create(true).truncate(true).mode(0o600).open(&beside);
    let part = made.with_context(|| format!("cannot create {}", beside.display()))?;
    part.set_permissions(Permissions::from_mode(0o600))?;
    let written = (|| {
        let out = part.try_clone()?;
        run_program(client("pg_dump", settings)?.arg("--format=custom").stdout(Stdio::from(out)))?;
        part.sync_all()?;
        std::fs::rename(&beside, file).with_context(|| format!("cannot write {}", file.display()))?;
        if let Some(kept) =
            crate::daemon::runtime()?.block_on(secrets(settings))?.filter(|kept| kept.plain > 0)
        {
            println!(
                "note: {} secrets in it are plain; `qvd-deploy-db seal` seals those of the database",
                kept.plain
            );
        }
        Ok(())
    })();
    if written.is_err() {
        let _gone = std::fs::remove_file(&beside);
    }
    written
}

/// Reads a dump into the database, in one transaction, and gives the daemons their rights.
pub fn restore(settings: &Settings, file: &Path, force: bool) -> Result<()> {
    let dump = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let runtime = crate::daemon::runtime()?;
    let there = runtime.block_on(standing(settings));
    ensure!(
        force || matches!(there, Ok(Standing::Empty)),
        "the database {} is not empty; --force replaces what is in it",
        settings.name
    );
    if let Some(hosts) = runtime.block_on(living_hosts(settings))? {
        bail!("hosts {hosts} wrote a heartbeat within the last five minutes; stop all daemons first");
    }
    let script = script(settings, dump).with_context(|| format!("cannot read {}", file.display()))?;
    let mut writer = client("psql", settings)?;
    writer.args(["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"]);
    if force {
        writer.arg(format!("--command={}", qvd_db::deploy::RESET));
    }
    run_program(writer.arg("--file=-").stdin(Stdio::from(script)).stdout(Stdio::null()))?;
    match runtime.block_on(standing(settings))? {
        Standing::Empty => bail!("{} holds no QVD-DB", file.display()),
        Standing::Older(version) => {
            println!(
                "restored; its schema is {version} of an older QVD: `qvd-deploy-db migrate` takes it over"
            );
        }
        Standing::Ours(_) => {
            runtime.block_on(bring_up_to_date(settings, &Deployment::default()))?;
            if let Some(kept) = runtime.block_on(secrets(settings))?.filter(|kept| kept.locked > 0) {
                let keys =
                    settings.vault.file().map_or("no key file".to_owned(), |file| file.display().to_string());
                println!(
                    "note: {} secrets are sealed with keys that are not here ({keys}); add the lines of those keys",
                    kept.locked
                );
            }
            println!("restored");
        }
    }
    Ok(())
}

/// The statements of a dump. Only a script that is whole may be run: what psql reads up to a broken end, it would commit.
fn script(settings: &Settings, mut dump: File) -> Result<File> {
    let mut head = [0; ARCHIVE.len()];
    let is_archive = dump.read_exact(&mut head).is_ok() && head == *ARCHIVE;
    dump.rewind()?;
    if is_archive {
        let script = tempfile::tempfile().context("cannot make a temporary file")?;
        let options = ["--no-owner", "--no-privileges", "--file=-"];
        let mut reader = client("pg_restore", settings)?;
        run_program(reader.args(options).stdin(Stdio::from(dump)).stdout(Stdio::from(script.try_clone()?)))?;
        (&script).rewind()?;
        return Ok(script);
    }
    let length = dump.metadata()?.len();
    dump.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    (&dump).take(TAIL).read_to_end(&mut tail)?;
    ensure!(
        String::from_utf8_lossy(&tail).contains(COMPLETE),
        "it is neither an archive of pg_dump nor a script of it that is complete"
    );
    dump.rewind()?;
    Ok(dump)
}

/// How archives of `pg_dump` begin.
const ARCHIVE: &[u8; 5] = b"PGDMP";
/// Near their end, scripts of `pg_dump` say this.
const COMPLETE: &str = "PostgreSQL database dump complete";
/// How near.
const TAIL: u64 = 1024;

/// One of PostgreSQL's own programs, for this database.
fn client(program: &str, settings: &Settings) -> Result<Command> {
    let mut command = Command::new(qvd_runtime::postgres::client_program(program)?);
    command.current_dir("/").env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
    command.env("PGHOST", settings.hosts.join(",")).env("PGPORT", settings.port.to_string());
    command.env("PGUSER", &settings.user).env("PGDATABASE", &settings.name);
    command.env("PGCONNECT_TIMEOUT", settings.connect_timeout.as_secs().max(2).to_string());
    let (mode, authorities) = settings.tls.environment();
    command.env("PGSSLMODE", mode);
    if let Some(file) = authorities {
        command.env("PGSSLROOTCERT", file);
    }
    if let Some(password) = &settings.password {
        command.env("PGPASSWORD", password.expose_secret());
    }
    command.stdin(Stdio::null());
    Ok(command)
}

fn run_program(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let output = command.stderr(Stdio::piped()).spawn()?.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", Path::new(&program).display(), said.trim());
    Ok(())
}
