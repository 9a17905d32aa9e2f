//! Deploying QVD-DB: the schema as numbered migrations, the initial data, the roles of the daemons.
//!
//! Facts: `spec/database.md` 9 and 12, `spec/cli.md` 5.1.

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::{Client, Transaction};
use tracing::info;

use crate::takeover::{self, TakenOver};
use crate::{Error, Settings, secrets, seed};

/// A numbered, immutable step of the schema.
#[derive(Debug, Clone, Copy)]
struct Migration {
    number: i32,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "relations", sql: include_str!("schema/0001_relations.sql") },
    Migration {
        number: 2,
        name: "views and triggers",
        sql: include_str!("schema/0002_views_and_triggers.sql"),
    },
    Migration { number: 3, name: "additions", sql: include_str!("schema/0003_additions.sql") },
    Migration { number: 4, name: "creation", sql: include_str!("schema/0004_creation.sql") },
    Migration { number: 5, name: "corrections", sql: include_str!("schema/0005_corrections.sql") },
    Migration { number: 6, name: "session ends", sql: include_str!("schema/0006_session_ends.sql") },
    Migration { number: 7, name: "leases", sql: include_str!("schema/0007_leases.sql") },
    Migration { number: 8, name: "audit", sql: include_str!("schema/0008_audit.sql") },
    Migration { number: 9, name: "login failures", sql: include_str!("schema/0009_login_failures.sql") },
    Migration { number: 10, name: "tickets", sql: include_str!("schema/0010_tickets.sql") },
    Migration { number: 11, name: "sealed secrets", sql: include_str!("schema/0011_sealed.sql") },
    Migration { number: 12, name: "tokens", sql: include_str!("schema/0012_tokens.sql") },
    Migration { number: 13, name: "image contents", sql: include_str!("schema/0013_image_contents.sql") },
    Migration { number: 14, name: "second factors", sql: include_str!("schema/0014_second_factors.sql") },
    Migration { number: 15, name: "changes", sql: include_str!("schema/0015_changes.sql") },
    Migration { number: 16, name: "restarts", sql: include_str!("schema/0016_restarts.sql") },
    Migration { number: 17, name: "repeats", sql: include_str!("schema/0017_repeats.sql") },
    Migration { number: 18, name: "sessions", sql: include_str!("schema/0018_sessions.sql") },
];
const GRANTS: &str = include_str!("schema/grants.sql");
/// Drops every object of the schema `public`, but for those of extensions.
pub const RESET: &str = include_str!("schema/reset.sql");

/// The journal of applied migrations.
const JOURNAL: &str = "CREATE TABLE IF NOT EXISTS migrations (number integer PRIMARY KEY, name text NOT NULL, \
    checksum text NOT NULL, applied timestamp with time zone NOT NULL DEFAULT now())";

/// Only one deployment at a time; the number is arbitrary but fixed.
const LOCK: &str = "SELECT pg_advisory_xact_lock(4300)";

/// Roles belong to the whole server: another deployment may make them at the same time.
const MAKE_ROLE: &str = "DO $$ BEGIN CREATE ROLE %I LOGIN; \
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
const SET_PASSWORD: &str = "ALTER ROLE %I LOGIN PASSWORD %L";

/// The roles of the daemons.
pub const ROLES: [&str; 3] = ["qvd_node", "qvd_l7r", "qvd_api"];

/// What a deployment is to do.
#[derive(Debug, Clone, Default)]
pub struct Deployment {
    /// Drop what is there. All data is lost.
    pub force: bool,
    /// Password hashes of the administrators that a new database starts with, by name.
    pub administrators: Vec<(String, SecretString)>,
    /// Passwords of the daemons' roles; a role that is not named gets none.
    pub roles: Vec<(String, SecretString)>,
}

/// What a deployment found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deployed {
    /// The database was empty, or emptied, and is complete now.
    Created,
    /// It was there; the names of the migrations that were added.
    Migrated(Vec<&'static str>),
    /// It was of an older version, and is ours now with all its data.
    TakenOver(TakenOver),
}

/// Why a deployment failed. Nothing is changed then.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// There is a QVD-DB already.
    #[error("the database is already deployed; --force drops it with all its data")]
    AlreadyDeployed,
    /// The database could not be reached.
    #[error(transparent)]
    Connection(Error),
    /// The relations could not be made.
    #[error("schema: {0}")]
    Schema(Error),
    /// The initial rows could not be made.
    #[error("initial data: {0}")]
    Rows(Error),
    /// Something else made the database, or a version that is too old.
    #[error(
        "the database is {found}: only QVD 4.0 to 4.3 can be taken over; --force drops it with all its data"
    )]
    Foreign {
        /// What it looks like.
        found: String,
    },
    /// A version that can be taken over made the database, which nobody asked for.
    #[error("the database is of an older QVD 4; `qvd-deploy-db migrate` takes it over with its data")]
    Older,
    /// Daemons of the older version are still at work.
    #[error(
        "hosts {hosts} wrote a heartbeat within the last five minutes; stop their daemons, since old and new ones \
         cannot share a database"
    )]
    Living {
        /// Their names.
        hosts: String,
    },
    /// Relations that are not QVD's refer to those that would be replaced.
    #[error("{relations} are not of QVD but refer to its tables; drop them, and make them again afterwards")]
    Dependents {
        /// Their names.
        relations: String,
    },
    /// A migration that was applied is not the one this program knows.
    #[error("migration {number} ({name}) was applied in another form; this program cannot continue from it")]
    Changed {
        /// Its number.
        number: i32,
        /// Its name.
        name: &'static str,
    },
}

impl DeployError {
    /// The documented exit code of `qvd-deploy-db`.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::AlreadyDeployed => 2,
            Self::Connection(_)
            | Self::Schema(_)
            | Self::Foreign { .. }
            | Self::Older
            | Self::Living { .. }
            | Self::Dependents { .. }
            | Self::Changed { .. } => 3,
            Self::Rows(_) => 4,
        }
    }
}

/// Deploys a new QVD-DB; refuses one that is there unless forced. `settings` must name the owner of the database.
pub async fn deploy(settings: &Settings, deployment: &Deployment) -> Result<Deployed, DeployError> {
    let (mut client, _connection) = connect(settings).await?;
    let tx = begin(&mut client).await?;
    if exists(&tx, "configs").await? {
        if !deployment.force {
            return Err(DeployError::AlreadyDeployed);
        }
        batch(&tx, "drop the old schema", RESET).await.map_err(DeployError::Schema)?;
    }
    create(&tx, deployment).await?;
    finish(tx, settings, deployment).await?;
    info!(database = settings.name, "deployed");
    Ok(Deployed::Created)
}

/// Deploys a new QVD-DB, or brings the one that is there up to date; refuses one of an older QVD.
pub async fn ensure(settings: &Settings, deployment: &Deployment) -> Result<Deployed, DeployError> {
    let (mut client, _connection) = connect(settings).await?;
    let tx = begin(&mut client).await?;
    let deployed = if !exists(&tx, "configs").await? {
        create(&tx, deployment).await?;
        Deployed::Created
    } else if exists(&tx, "migrations").await? {
        Deployed::Migrated(migrate_in(&tx).await?)
    } else {
        return Err(DeployError::Older);
    };
    finish(tx, settings, deployment).await?;
    Ok(deployed)
}

/// Brings the database that is there up to date, taking over that of an older QVD 4 with its data. Everything is
/// done and undone again if `dry`: what comes back is then what would have happened.
pub async fn migrate(
    settings: &Settings,
    deployment: &Deployment,
    dry: bool,
) -> Result<Deployed, DeployError> {
    let (mut client, _connection) = connect(settings).await?;
    let tx = begin(&mut client).await?;
    if !exists(&tx, "configs").await? {
        return Err(DeployError::Foreign { found: "empty".to_owned() });
    }
    let deployed = if exists(&tx, "migrations").await? {
        Deployed::Migrated(migrate_in(&tx).await?)
    } else {
        Deployed::TakenOver(takeover::take_over(&tx, async |tx| migrate_in(tx).await.map(drop)).await?)
    };
    if !dry {
        finish(tx, settings, deployment).await?;
        info!(database = settings.name, "migrated");
    }
    Ok(deployed)
}

/// How a database stands to this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There is no QVD-DB in it.
    Empty,
    /// An older QVD made it; the version of its schema.
    Older(String),
    /// It is ours; the names of the migrations that it lacks.
    Ours(Vec<&'static str>),
}

/// Looks at a database and changes nothing.
pub async fn standing(settings: &Settings) -> Result<Standing, DeployError> {
    let (mut client, _connection) = connect(settings).await?;
    let tx = begin(&mut client).await?;
    if !exists(&tx, "configs").await? {
        return Ok(Standing::Empty);
    }
    if !exists(&tx, "migrations").await? {
        return takeover::version(&tx).await.map(Standing::Older);
    }
    migrate_in(&tx).await.map(Standing::Ours)
}

/// How the secrets of a database are kept, if it is ours; changes nothing.
pub async fn secrets(settings: &Settings) -> Result<Option<secrets::Standing>, DeployError> {
    let (mut client, _connection) = connect(settings).await?;
    let tx = begin(&mut client).await?;
    if !exists(&tx, "migrations").await? {
        return Ok(None);
    }
    secrets::standing(&tx, &settings.vault).await.map(Some).map_err(DeployError::Rows)
}

/// Seals all secrets with the newest key; how many there were that were not.
pub async fn seal(settings: &Settings) -> Result<usize, DeployError> {
    let (mut client, _connection) = connect(settings).await?;
    let tx = begin(&mut client).await?;
    if !exists(&tx, "migrations").await? {
        return Err(DeployError::Older);
    }
    let sealed = secrets::seal(&tx, &settings.vault, secrets::Which::All).await.map_err(DeployError::Rows)?;
    tx.commit().await.map_err(|e| DeployError::Rows(Error::during("seal the secrets")(e)))?;
    Ok(sealed)
}

/// Drops everything in a database.
pub async fn empty(settings: &Settings) -> Result<(), DeployError> {
    let (mut client, _connection) = connect(settings).await?;
    let tx = begin(&mut client).await?;
    batch(&tx, "empty the database", RESET).await.map_err(DeployError::Schema)?;
    tx.commit().await.map_err(|e| DeployError::Schema(Error::during("empty the database")(e)))
}

/// The names of hosts whose daemons wrote a heartbeat within the last five minutes, if there are any.
pub async fn living_hosts(settings: &Settings) -> Result<Option<String>, DeployError> {
    let (mut client, _connection) = connect(settings).await?;
    let tx = begin(&mut client).await?;
    if exists(&tx, "host_runtimes").await? { takeover::living_hosts(&tx).await } else { Ok(None) }
}

async fn create(tx: &Transaction<'_>, deployment: &Deployment) -> Result<(), DeployError> {
    migrate_in(tx).await?;
    initial_rows(tx, deployment).await.map_err(DeployError::Rows)
}

/// Creates an empty database of this name if there is none. `settings` must name a role that may, and another
/// database of the same server.
pub async fn create_database(settings: &Settings, name: &str) -> Result<(), DeployError> {
    let (client, _connection) = connect(settings).await?;
    let during = Error::during("create the database");
    let found = client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await;
    if found.map_err(|e| DeployError::Schema(during(e)))?.is_some() {
        return Ok(());
    }
    let quoted = name.replace('"', "\"\"");
    let statement = format!("CREATE DATABASE \"{quoted}\" ENCODING 'UTF8' TEMPLATE template0");
    client.batch_execute(&statement).await.map_err(|e| DeployError::Schema(during(e)))
}

async fn finish(
    tx: Transaction<'_>,
    settings: &Settings,
    deployment: &Deployment,
) -> Result<(), DeployError> {
    let sealed =
        secrets::seal(&tx, &settings.vault, secrets::Which::Plain).await.map_err(DeployError::Rows)?;
    if sealed > 0 {
        info!(database = settings.name, sealed, "secrets sealed");
    }
    grant(&tx, deployment).await.map_err(DeployError::Schema)?;
    let isolation = format!(
        "ALTER DATABASE \"{}\" SET default_transaction_isolation TO 'serializable'",
        settings.name.replace('"', "\"\"")
    );
    batch(&tx, "set the isolation level", &isolation).await.map_err(DeployError::Schema)?;
    tx.commit().await.map_err(|e| DeployError::Schema(Error::during("commit the deployment")(e)))
}

/// Ends the connection's task with the deployment.
struct Connection(tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn connect(settings: &Settings) -> Result<(Client, Connection), DeployError> {
    let connecting = settings.driver();
    let (client, connection) = connecting
        .connect(settings.tls.connector().map_err(DeployError::Connection)?)
        .await
        .map_err(|e| DeployError::Connection(Error::during("connect to deploy")(e)))?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("deployment connection: {error}");
        }
    });
    Ok((client, Connection(task)))
}

async fn begin(client: &mut Client) -> Result<Transaction<'_>, DeployError> {
    let tx = client.transaction().await;
    let tx = tx.map_err(|e| DeployError::Connection(Error::during("begin the deployment")(e)))?;
    batch(&tx, "lock the deployment", LOCK).await.map_err(DeployError::Connection)?;
    batch(&tx, "defer constraints", "SET CONSTRAINTS ALL DEFERRED").await.map_err(DeployError::Connection)?;
    Ok(tx)
}

async fn exists(tx: &Transaction<'_>, table: &str) -> Result<bool, DeployError> {
    let during = Error::during("look for a schema");
    let found = tx.query_one("SELECT to_regclass('public.' || $1::text) IS NOT NULL", &[&table]).await;
    let row = found.map_err(|e| DeployError::Connection(during(e)))?;
    row.try_get(0).map_err(|e| DeployError::Connection(during(e)))
}

/// Applies the migrations that are missing; their names.
async fn migrate_in(tx: &Transaction<'_>) -> Result<Vec<&'static str>, DeployError> {
    let during = Error::during("read the journal of migrations");
    batch(tx, "make the journal of migrations", JOURNAL).await.map_err(DeployError::Schema)?;
    let mut added = Vec::new();
    for migration in MIGRATIONS {
        let known = tx
            .query_opt(
                "SELECT checksum = md5($2) FROM migrations WHERE number = $1",
                &[&migration.number, &migration.sql],
            )
            .await
            .map_err(|e| DeployError::Schema(during(e)))?;
        if let Some(row) = known {
            if row.try_get::<_, bool>(0).map_err(|e| DeployError::Schema(during(e)))? {
                continue;
            }
            return Err(DeployError::Changed { number: migration.number, name: migration.name });
        }
        batch(tx, migration.name, migration.sql).await.map_err(DeployError::Schema)?;
        tx.execute(
            "INSERT INTO migrations (number, name, checksum) VALUES ($1, $2, md5($3))",
            &[&migration.number, &migration.name, &migration.sql],
        )
        .await
        .map_err(|e| DeployError::Schema(during(e)))?;
        added.push(migration.name);
    }
    Ok(added)
}

async fn initial_rows(tx: &Transaction<'_>, deployment: &Deployment) -> Result<(), Error> {
    seed::plant(tx).await?;
    for (name, hash) in &deployment.administrators {
        tx.execute("UPDATE administrators SET password = $2 WHERE name = $1", &[name, &hash.expose_secret()])
            .await
            .map_err(Error::during("set the administrators' passwords"))?;
    }
    Ok(())
}

/// Makes the daemons' roles and gives them their rights. An owner that may not make roles keeps the single role
/// of existing installations.
async fn grant(tx: &Transaction<'_>, deployment: &Deployment) -> Result<(), Error> {
    let during = Error::during("make the daemons' roles");
    let row = tx
        .query_one("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user", &[])
        .await
        .map_err(&during)?;
    if !row.try_get::<_, bool>(0).map_err(&during)? {
        info!("the database role may not create roles; all daemons share it");
        return Ok(());
    }
    for role in ROLES {
        let password = deployment.roles.iter().find(|(name, _)| name == role).map(|(_, p)| p.expose_secret());
        let row = tx.query_one("SELECT format($1, $2::text)", &[&MAKE_ROLE, &role]).await.map_err(&during)?;
        batch(tx, "make the daemons' roles", row.try_get(0).map_err(&during)?).await?;
        let Some(password) = password else { continue };
        let row = tx
            .query_one("SELECT format($1, $2::text, $3::text)", &[&SET_PASSWORD, &role, &password])
            .await
            .map_err(&during)?;
        batch(tx, "set the passwords of the daemons' roles", row.try_get(0).map_err(&during)?).await?;
    }
    batch(tx, "grant rights", GRANTS).await
}

async fn batch(tx: &Transaction<'_>, operation: &'static str, sql: &str) -> Result<(), Error> {
    tx.batch_execute(sql).await.map_err(Error::during(operation))
}
