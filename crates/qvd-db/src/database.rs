//! Connections and transactions.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Timeouts,
};
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::IsolationLevel;
use tokio_postgres::config::TargetSessionAttrs;
use tracing::debug;

use crate::sql::Sql;
use crate::tls::Tls;
use crate::{Conflict, Error, Vault};

/// A transaction that rolls back unless it is committed.
pub type Transaction<'a> = deadpool_postgres::Transaction<'a>;

/// The schema version that this program works with.
const SCHEMA: &str = "4.3.0";
/// How often a serializable transaction is tried.
const TRIES: u32 = 10;
/// Longest pause after the first lost race; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// How long sent data may stay unacknowledged before the connection counts as dead.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

const SCHEMA_VERSION: Sql =
    Sql::new("read the schema version", "SELECT version FROM versions WHERE component = 'schema'");

/// Statements of this module.
pub(crate) const ALL: &[Sql] = &[SCHEMA_VERSION];

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Hosts to try in order: names, addresses, or directories with a Unix socket.
    pub hosts: Vec<String>,
    /// TCP port, and part of the socket's name.
    pub port: u16,
    /// Database name.
    pub name: String,
    /// Role.
    pub user: String,
    /// Password, where the server asks for one.
    pub password: Option<SecretString>,
    /// Whether the way there is encrypted.
    pub tls: Tls,
    /// What seals the secrets in it.
    pub vault: Vault,
    /// Limit of one attempt to connect.
    pub connect_timeout: Duration,
    /// Most connections at the same time.
    pub pool_size: usize,
}

impl Settings {
    /// Settings out of the configuration keys `database.*`; `value` looks one up.
    pub fn from_keys<E: From<Error>>(value: impl Fn(&str) -> Result<Option<String>, E>) -> Result<Self, E> {
        let text =
            |key: &str| value(key)?.ok_or_else(|| E::from(Error::Settings(format!("{key} is not set"))));
        let wrong = |key: &str| E::from(Error::Settings(format!("{key} is not a number that fits")));
        let limit = "internal.database.client.connect.timeout";
        let seconds: f64 = text(limit)?.parse().map_err(|_| wrong(limit))?;
        let hosts = text("database.host")?;
        Ok(Self {
            hosts: hosts.split(',').map(str::trim).filter(|h| !h.is_empty()).map(str::to_owned).collect(),
            port: text("database.port")?.parse().map_err(|_| wrong("database.port"))?,
            name: text("database.name")?,
            user: text("database.user")?,
            password: value("database.password")?.map(SecretString::from),
            tls: Tls::from_words(&text("database.tls")?, value("database.tls.ca")?.as_deref())?,
            vault: vault(value("database.secrets.file")?)?,
            connect_timeout: Duration::try_from_secs_f64(seconds).map_err(|_| wrong(limit))?,
            pool_size: text("internal.database.pool.size")?
                .parse()
                .map_err(|_| wrong("internal.database.pool.size"))?,
        })
    }

    /// The driver's form of the settings.
    pub fn driver(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        for host in &self.hosts {
            config.host(host).port(self.port);
        }
        config
            .dbname(&self.name)
            .user(&self.user)
            .ssl_mode(self.tls.mode())
            .application_name("qvd")
            .connect_timeout(self.connect_timeout)
            .keepalives_idle(Duration::from_secs(10))
            .tcp_user_timeout(USER_TIMEOUT)
            .options("-c timezone=UTC -c default_transaction_isolation=read\\ committed");
        if self.hosts.len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if let Some(password) = &self.password {
            config.password(password.expose_secret());
        }
        config
    }
}

/// The vault of a key file that has to be there.
fn vault(file: Option<String>) -> Result<Vault, Error> {
    let vault = file.map(Vault::at).unwrap_or_default();
    vault.check()?;
    Ok(vault)
}

/// The database. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Database {
    pool: Pool,
    vault: Vault,
}

impl Database {
    /// A pool for these settings; the first use connects.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        if settings.hosts.is_empty() {
            return Err(Error::Settings("database.host names no host".to_owned()));
        }
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(settings.driver(), settings.tls.connector()?, recycling);
        let timeouts = Timeouts {
            wait: Some(settings.connect_timeout),
            create: Some(settings.connect_timeout),
            recycle: Some(settings.connect_timeout),
        };
        let pool = Pool::builder(manager)
            .max_size(settings.pool_size)
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .pre_recycle(Hook::sync_fn(|client, _| {
                // A connection that the server closed is found out here rather than by the next statement.
                if client.is_closed() { Err(HookError::message("closed")) } else { Ok(()) }
            }))
            .build()
            .map_err(|e| Error::Settings(e.to_string()))?;
        Ok(Self { pool, vault: settings.vault.clone() })
    }

    /// What seals and opens the secrets in it.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// How many connections there are, unused ones among them, how many there may be, and how many tasks wait for one.
    pub fn pool(&self) -> [usize; 4] {
        let status = self.pool.status();
        [status.size, status.available, status.max_size, status.waiting]
    }

    /// A connection for single statements.
    pub async fn client(&self) -> Result<Object, Error> {
        self.connect("connect").await
    }

    async fn connect(&self, operation: &'static str) -> Result<Object, Error> {
        self.pool.get().await.map_err(|error| match error {
            deadpool_postgres::PoolError::Backend(source) => match Error::during(operation)(source) {
                Error::Query { source, .. } => Error::Away { operation, problem: source.to_string() },
                other => other,
            },
            other => Error::Away { operation, problem: other.to_string() },
        })
    }

    /// Runs `body` in a SERIALIZABLE transaction and commits it if it succeeds; a lost race is tried again after a
    /// short random pause. `body` may run several times and must have no effect outside the database.
    pub async fn transaction<T, E, F>(&self, operation: &'static str, body: F) -> Result<T, E>
    where
        E: From<Error> + Conflict,
        F: for<'t> Fn(&'t Transaction<'t>) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>,
    {
        let mut client = self.connect(operation).await?;
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let result = self.attempt(&mut client, operation, &body).await;
            match result {
                Err(error) if error.is_conflict() && attempt < TRIES => {
                    debug!(operation, attempt, "lost a race, trying again");
                    let jitter = rand::rng().random_range(0.0..1.0);
                    tokio::time::sleep(pause.mul_f64(jitter)).await;
                    pause *= 2;
                }
                result => return result,
            }
        }
        Err(Error::Away { operation, problem: "too many lost races".to_owned() }.into())
    }

    async fn attempt<T, E, F>(&self, client: &mut Object, operation: &'static str, body: &F) -> Result<T, E>
    where
        E: From<Error> + Conflict,
        F: for<'t> Fn(&'t Transaction<'t>) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>,
    {
        let begun = client.build_transaction().isolation_level(IsolationLevel::Serializable).start().await;
        let transaction = begun.map_err(Error::during(operation))?;
        let value = body(&transaction).await?;
        transaction.commit().await.map_err(Error::during(operation))?;
        Ok(value)
    }

    /// Refuses a database of another schema version.
    pub async fn check_schema(&self) -> Result<(), Error> {
        let client = self.client().await?;
        let row = SCHEMA_VERSION.query_opt(&client, &[]).await?;
        let found = match &row {
            Some(row) => SCHEMA_VERSION.column::<String>(row, "version")?,
            None => "none".to_owned(),
        };
        if found == SCHEMA { Ok(()) } else { Err(Error::Schema { found, needed: SCHEMA }) }
    }
}
