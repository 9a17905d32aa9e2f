//! Statements with names.

use deadpool_postgres::{Client, GenericClient, Transaction};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};

use crate::Error;

/// Whatever can run statements: a pooled client or a transaction.
pub trait Session: GenericClient {
    /// Runs a statement whose text will hardly come again: in one round trip, and not kept by the server.
    fn query_once(
        &self,
        text: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> impl Future<Output = Result<Vec<Row>, tokio_postgres::Error>> + Send;
}

impl Session for Client {
    async fn query_once(
        &self,
        text: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.query_typed(text, parameters).await
    }
}

impl Session for Transaction<'_> {
    async fn query_once(
        &self,
        text: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.query_typed(text, parameters).await
    }
}

/// One statement. The name says what it does and stands in errors.
#[derive(Debug, Clone, Copy)]
pub struct Sql {
    /// What it does, e.g. `claim starts`.
    pub name: &'static str,
    /// The text, with `$1` … for parameters.
    pub text: &'static str,
}

pub(crate) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Sql {
    /// A named statement.
    pub const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text }
    }

    /// All rows.
    pub async fn query(&self, session: &impl Session, parameters: Parameters<'_>) -> Result<Vec<Row>, Error> {
        let statement = session.prepare_cached(self.text).await.map_err(Error::during(self.name))?;
        session.query(&statement, parameters).await.map_err(Error::during(self.name))
    }

    /// The row, if there is one; several are an error.
    pub async fn query_opt(
        &self,
        session: &impl Session,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, Error> {
        let statement = session.prepare_cached(self.text).await.map_err(Error::during(self.name))?;
        session.query_opt(&statement, parameters).await.map_err(Error::during(self.name))
    }

    /// The one row.
    pub async fn query_one(&self, session: &impl Session, parameters: Parameters<'_>) -> Result<Row, Error> {
        let statement = session.prepare_cached(self.text).await.map_err(Error::during(self.name))?;
        session.query_one(&statement, parameters).await.map_err(Error::during(self.name))
    }

    /// How many rows were touched.
    pub async fn execute(&self, session: &impl Session, parameters: Parameters<'_>) -> Result<u64, Error> {
        let statement = session.prepare_cached(self.text).await.map_err(Error::during(self.name))?;
        session.execute(&statement, parameters).await.map_err(Error::during(self.name))
    }

    /// A column of one of its rows.
    pub fn column<'r, T: FromSql<'r>>(&self, row: &'r Row, name: &'static str) -> Result<T, Error> {
        column(self.name, row, name)
    }

    /// A column that holds one word of a closed list.
    pub fn word<T>(&self, row: &Row, name: &'static str) -> Result<T, Error>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let text: &str = self.column(row, name)?;
        text.parse().map_err(|problem: T::Err| Error::Row {
            operation: self.name,
            column: name,
            problem: problem.to_string(),
        })
    }
}

/// A column of a row, by name.
pub fn column<'r, T: FromSql<'r>>(
    operation: &'static str,
    row: &'r Row,
    name: &'static str,
) -> Result<T, Error> {
    row.try_get(name).map_err(|e| Error::Row { operation, column: name, problem: e.to_string() })
}
