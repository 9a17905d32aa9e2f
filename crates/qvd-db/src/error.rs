//! What can go wrong with the database.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

/// A failed operation on the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings make no connection possible.
    #[error("database settings: {0}")]
    Settings(String),
    /// No connection could be had.
    #[error("{operation}: the database does not answer ({problem})")]
    Away {
        /// What was to be done.
        operation: &'static str,
        /// What was found.
        problem: String,
    },
    /// The server refused a statement.
    #[error("{operation}: {}", describe(source))]
    Query {
        /// What was to be done.
        operation: &'static str,
        /// What the server said.
        source: tokio_postgres::Error,
    },
    /// A row does not hold what it should.
    #[error("{operation}: column {column}: {problem}")]
    Row {
        /// What was to be done.
        operation: &'static str,
        /// Which column.
        column: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A secret cannot be opened or sealed.
    #[error("the secret {place}: {problem}")]
    Sealed {
        /// What it is of.
        place: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The file with the keys of secrets cannot be used.
    #[error("the key file {}: {problem}", file.display())]
    KeyFile {
        /// Where it is, or should be.
        file: std::path::PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The schema is not the one that this program knows.
    #[error("the database has schema {found}, this program needs {needed}; run qvd-deploy-db")]
    Schema {
        /// What `versions` says.
        found: String,
        /// What it should say.
        needed: &'static str,
    },
}

/// An error that may be a lost race of serializable transactions.
pub trait Conflict {
    /// Whether the transaction should simply be tried again.
    fn is_conflict(&self) -> bool;
}

impl Error {
    /// Puts the operation to an error of the driver.
    pub fn during(operation: &'static str) -> impl Fn(tokio_postgres::Error) -> Self {
        move |source| {
            if source.is_closed() || source.as_db_error().is_none() && is_io(&source) {
                return Self::Away { operation, problem: describe(&source) };
            }
            Self::Query { operation, source }
        }
    }

    /// Whether the database could not be reached, or is going down or coming up.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Query { source, .. } => source.code().is_some_and(|code| {
                [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW]
                    .contains(code)
                    || code.code().starts_with("08")
            }),
            _ => false,
        }
    }

    /// The constraint that a statement violated, and the kind of violation; a value that its column cannot hold
    /// violates none by name.
    pub fn violation(&self) -> Option<(&SqlState, Option<&str>)> {
        let Self::Query { source, .. } = self else { return None };
        let violated = source.as_db_error()?;
        let told = ["22", "23"].iter().any(|class| violated.code().code().starts_with(class));
        told.then(|| (violated.code(), violated.constraint()))
    }
}

impl Conflict for Error {
    fn is_conflict(&self) -> bool {
        let Self::Query { source, .. } = self else { return false };
        source.code().is_some_and(|code| {
            [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
        })
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut source = error.source();
    while let Some(inner) = source {
        if inner.is::<std::io::Error>() {
            return true;
        }
        source = inner.source();
    }
    false
}

/// The server's own words where there are some; the driver's `Display` only says "db error".
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
    }
}
