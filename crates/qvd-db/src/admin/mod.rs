//! The statements of the administration plane.
//!
//! Lists, creations and changes are built from the action registry: [`relation`] says where each field of each
//! object is kept, [`select`] and [`write`] put statements together from it. Only constants of this crate become
//! SQL; every value is a bind parameter, given as text and cast to the type of its field.

pub mod audit;
pub mod changes;
pub mod config;
pub mod identity;
pub mod images;
pub mod metrics;
pub mod network;
pub mod properties;
pub mod references;
mod relation;
pub mod repeats;
pub mod roles;
pub mod second_factor;
pub mod select;
pub mod state;
pub mod statistics;
pub mod tokens;
pub mod views;
pub mod ways;
pub mod write;

use qvd_model::action::Kind;
use tokio_postgres::types::{ToSql, Type};

use crate::{Error, Session, Sql};

/// Statements of these modules.
pub(crate) fn statements() -> impl Iterator<Item = Sql> {
    [
        audit::ALL,
        changes::ALL,
        config::ALL,
        identity::ALL,
        images::ALL,
        metrics::ALL,
        network::ALL,
        properties::ALL,
        references::ALL,
        repeats::ALL,
        roles::ALL,
        second_factor::ALL,
        statistics::ALL,
        tokens::ALL,
        views::ALL,
        ways::ALL,
        write::ALL,
    ]
    .into_iter()
    .flatten()
    .copied()
    .chain(relation::statements())
}

/// A statement that is being put together.
#[derive(Debug, Default)]
pub(crate) struct Statement {
    pub(crate) text: String,
    parameters: Vec<Parameter>,
}

#[derive(Debug)]
enum Parameter {
    One(Option<String>),
    Many(Vec<String>),
}

impl Statement {
    /// A value as an expression of the type of `kind`.
    pub(crate) fn bind(&mut self, kind: Kind, value: Option<&str>) -> String {
        self.parameters.push(Parameter::One(value.map(str::to_owned)));
        format!("${}::text::{}", self.parameters.len(), sql_type(kind))
    }

    /// Values as an array of the type of `kind`.
    pub(crate) fn bind_many(&mut self, kind: Kind, values: Vec<String>) -> String {
        self.parameters.push(Parameter::Many(values));
        format!("${}::text[]::{}[]", self.parameters.len(), sql_type(kind))
    }

    fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.parameters
            .iter()
            .map(|parameter| -> &(dyn ToSql + Sync) {
                match parameter {
                    Parameter::One(value) => value,
                    Parameter::Many(values) => values,
                }
            })
            .collect()
    }

    pub(crate) async fn query(
        &self,
        session: &impl Session,
        name: &'static str,
    ) -> Result<Vec<tokio_postgres::Row>, Error> {
        let types = self.parameters.iter().map(|parameter| match parameter {
            Parameter::One(_) => Type::TEXT,
            Parameter::Many(_) => Type::TEXT_ARRAY,
        });
        let parameters: Vec<_> = self.parameters().into_iter().zip(types).collect();
        // There is no end of different texts.
        session.query_once(&self.text, &parameters).await.map_err(Error::during(name))
    }

    pub(crate) async fn execute(&self, session: &impl Session, name: &'static str) -> Result<u64, Error> {
        session.execute(&self.text, &self.parameters()).await.map_err(Error::during(name))
    }
}

const fn sql_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Int | Kind::Count => "integer",
        Kind::Switch => "boolean",
        Kind::Moment => "timestamp",
        Kind::Real => "double precision",
        Kind::Text(_) | Kind::Login(_) | Kind::Password | Kind::Address | Kind::Word(_) | Kind::Structure => {
            "text"
        }
    }
}
