//! The rows of a database, as a test looks at them.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, NoTls, SimpleQueryMessage};

/// What announces changes of what tests wait for.
const CHANNELS: [&str; 4] = ["vm_changed", "desktop_changed", "host_changed", "qvd_config_changed"];
/// Not every column has a channel.
const LOOK: Duration = Duration::from_millis(50);

/// A connection to a database that is made when it is needed, and again when the server was away.
pub struct Rows {
    /// Directory of the server's socket.
    socket: PathBuf,
    client: Mutex<Option<Client>>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Rows {
    /// The database `qvd` of the server with its socket in this directory.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), client: Mutex::new(None) }
    }

    /// One value as text: the first column of the first row, empty if it is null or there is none.
    pub fn value(&self, statement: &str) -> Result<String> {
        let mut connection = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let mut client = match connection.take() {
            Some(client) if !client.is_closed() => client,
            _ => self.connect()?,
        };
        let answer = match client.simple_query(statement) {
            // The server may have gone since the last question.
            Err(_) if client.is_closed() => {
                client = self.connect()?;
                client.simple_query(statement)
            }
            answer => answer,
        };
        *connection = Some(client);
        let rows = answer.with_context(|| statement.to_owned())?.into_iter();
        let mut values = rows.filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        Ok(values.next().unwrap_or_default())
    }

    /// Waits until a statement gives this value: looks again whenever something is announced.
    pub fn wait_for(&self, statement: &str, wanted: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let found = self.value(statement)?;
            if found == wanted {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "`{statement}` is `{found}` and not `{wanted}` after {limit:?}");
            self.listen(left.min(LOOK))?;
        }
    }

    fn listen(&self, limit: Duration) -> Result<()> {
        let mut connection = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(client) = connection.as_mut() else { bail!("there is no connection to listen on") };
        // An error is that of a server that went away, which the next question finds out.
        let _ = client.notifications().timeout_iter(limit).next();
        Ok(())
    }

    fn connect(&self) -> Result<Client> {
        let mut config = postgres::Config::new();
        config.host_path(&self.socket).user("postgres").dbname("qvd");
        let client = config.connect(NoTls);
        let mut client = client.with_context(|| format!("no database at {}", self.socket.display()))?;
        for channel in CHANNELS {
            client.batch_execute(&format!("LISTEN {channel}"))?;
        }
        Ok(client)
    }
}
