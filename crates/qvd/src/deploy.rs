//! `qvd-deploy-db` (`spec/cli.md` 5.1).

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use qvd_auth::Hasher;
use qvd_db::Settings;
use qvd_db::deploy::{Deployment, deploy, ensure};
use qvd_runtime::Config;
use secrecy::SecretString;

/// Options of the program.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Drop what is there and deploy anew; all data is lost.
    #[arg(short, long)]
    force: bool,
    /// Add what newer versions need to a database that is there; nothing is lost.
    #[arg(long, conflicts_with = "force")]
    migrate: bool,
    /// Configuration file with the connection to the database.
    #[arg(short = 'c', long, value_name = "FILE", default_value = "/etc/qvd/node.conf")]
    config_file: PathBuf,
    /// File whose first line is the password of the administrators superadmin and admin; without it one is made.
    #[arg(long, value_name = "FILE")]
    admin_password_file: Option<PathBuf>,
}

/// Documented exit code of a bad option or file.
const BAD_OPTION: u8 = 1;

/// Deploys the database that the configuration names.
pub fn run(options: Options) -> ExitCode {
    let prepared = prepare(&options);
    let (settings, deployment, password) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("qvd-deploy-db: {error:#}");
            return ExitCode::from(BAD_OPTION);
        }
    };
    let deployed = match crate::daemon::runtime() {
        Ok(runtime) => runtime.block_on(async {
            if options.migrate {
                ensure(&settings, &deployment).await
            } else {
                deploy(&settings, &deployment).await
            }
        }),
        Err(error) => {
            eprintln!("qvd-deploy-db: {error:#}");
            return ExitCode::from(BAD_OPTION);
        }
    };
    match deployed {
        Ok(qvd_db::deploy::Deployed::Created) => {
            println!("deployed {} as schema 4.3.0", settings.name);
            if let Some(password) = password {
                println!("password of administrators superadmin and admin: {password}");
            }
            ExitCode::SUCCESS
        }
        Ok(qvd_db::deploy::Deployed::Migrated(count)) => {
            println!("{count} migrations applied to {}", settings.name);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("qvd-deploy-db: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Settings, what to deploy, and the password that was made if none was given.
fn prepare(options: &Options) -> Result<(Settings, Deployment, Option<String>)> {
    let config = Config::load(&[&options.config_file])?;
    let values = config.now();
    let settings = Settings {
        hosts: values.list("database.host")?,
        port: values.int("database.port")?,
        name: values.text("database.name")?,
        user: values.text("database.user")?,
        password: values.optional("database.password")?.map(SecretString::from),
        connect_timeout: values
            .seconds("internal.database.client.connect.timeout")
            .unwrap_or(Duration::from_secs(20)),
        pool_size: 1,
    };
    let (password, made) = match &options.admin_password_file {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let line = text.lines().next().unwrap_or_default().to_owned();
            anyhow::ensure!(!line.is_empty(), "{} has no password in its first line", path.display());
            (line, None)
        }
        None => {
            let made = qvd_launch::new_password();
            (made.clone(), Some(made))
        }
    };
    let hash = crate::daemon::runtime()?.block_on(Hasher::new(1).hash(password.as_bytes()))?;
    let administrators =
        ["superadmin", "admin"].map(|name| (name.to_owned(), SecretString::from(hash.clone()))).to_vec();
    Ok((settings, Deployment { force: options.force, administrators, roles: Vec::new() }, made))
}
