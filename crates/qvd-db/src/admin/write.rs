//! Creations, changes and deletions, from the registry.

use qvd_model::action::{Object, Status, entity};
use tokio_postgres::types::ToSql;

use super::Statement;
use super::relation::{Storage, relation};
use crate::{Error, Session, Sql};

/// Who makes an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creator {
    /// The administrator, unless it is root on the API's host.
    pub id: Option<i32>,
    /// Its name.
    pub name: String,
}

/// A value for a field; canonical, `None` for nothing.
pub type Value<'a> = (&'a str, Option<&'a str>);

const EXPIRES_LATE: Sql = Sql::new(
    "compare the expirations",
    "SELECT vm_id FROM vm_runtimes WHERE vm_id = $1 AND vm_expiration_soft > vm_expiration_hard",
);

pub(crate) const ALL: &[Sql] = &[EXPIRES_LATE];

/// Makes an object with its companion rows; the result is its id.
pub async fn insert(
    session: &impl Session,
    object: Object,
    values: &[Value<'_>],
    creator: &Creator,
) -> Result<i32, Error> {
    const NAME: &str = "create";
    let storage = storage(object)?;
    let mut statement = Statement::default();
    let mut columns = Vec::new();
    let mut expressions = Vec::new();
    for (column, field, value) in placed(storage.columns, values) {
        let kind = kind(object, field);
        columns.push(column);
        expressions.push(statement.bind(kind, value));
    }
    for (column, value) in storage.constants {
        columns.push(column);
        expressions.push((*value).to_owned());
    }
    if storage.created {
        columns.extend(["creation_date", "creation_admin_id", "creation_admin_name"]);
        expressions.push("now() AT TIME ZONE 'UTC'".to_owned());
        let id = creator.id.map(|id| id.to_string());
        expressions.push(statement.bind(qvd_model::action::Kind::Int, id.as_deref()));
        expressions.push(statement.bind(qvd_model::action::Kind::Text(80), Some(&creator.name)));
    }
    statement.text = format!(
        "INSERT INTO {} ({}) VALUES ({}) RETURNING id",
        storage.table,
        columns.join(", "),
        expressions.join(", ")
    );
    let rows = statement.query(session, NAME).await?;
    let id: i32 = match rows.first() {
        Some(row) => crate::column(NAME, row, "id")?,
        None => return Err(Error::Row { operation: NAME, column: "id", problem: "no row".to_owned() }),
    };
    for companion in storage.companions {
        companion.execute(session, &[&id]).await?;
    }
    write_side(session, object, storage, id, values).await?;
    Ok(id)
}

/// Changes an object; `false` if it is not there any more.
pub async fn update(
    session: &impl Session,
    object: Object,
    id: i32,
    values: &[Value<'_>],
) -> Result<bool, Error> {
    let storage = storage(object)?;
    // Also without a column to change: the row must be there, and stay until the transaction ends.
    let found = lock(session, storage, id).await?;
    if found {
        let set = placed(storage.columns, values);
        assign(session, object, storage.table, "id", id, set).await?;
        write_side(session, object, storage, id, values).await?;
    }
    Ok(found)
}

/// Removes an object and what belongs to it; `false` if it is not there any more.
pub async fn delete(session: &impl Session, object: Object, id: i32) -> Result<bool, Error> {
    let storage = storage(object)?;
    for belonging in storage.belongings {
        belonging.execute(session, &[&id]).await?;
    }
    let mut statement = Statement::default();
    let id = statement.bind(qvd_model::action::Kind::Int, Some(&id.to_string()));
    statement.text = format!("DELETE FROM {} WHERE id = {id}", storage.table);
    Ok(statement.execute(session, "delete").await? > 0)
}

/// What forbids the deletion of an object, if something does: a status and what was found.
pub async fn obstacle(
    session: &impl Session,
    object: Object,
    id: i32,
) -> Result<Option<(Status, String)>, Error> {
    for (guard, status) in storage(object)?.guards {
        if let Some(row) = guard.query_opt(session, &[&id]).await? {
            let found = row.try_get(0).map_err(|e| Error::Row {
                operation: guard.name,
                column: "0",
                problem: e.to_string(),
            })?;
            return Ok(Some((*status, found)));
        }
    }
    Ok(None)
}

/// Whether a VM would be asked to leave only after it was restarted.
pub async fn expires_in_order(session: &impl Session, vm: i32) -> Result<bool, Error> {
    let parameters: &[&(dyn ToSql + Sync)] = &[&vm];
    Ok(EXPIRES_LATE.query_opt(session, parameters).await?.is_none())
}

async fn lock(session: &impl Session, storage: &Storage, id: i32) -> Result<bool, Error> {
    let mut statement = Statement::default();
    let id = statement.bind(qvd_model::action::Kind::Int, Some(&id.to_string()));
    statement.text = format!("SELECT id FROM {} WHERE id = {id} FOR UPDATE", storage.table);
    Ok(!statement.query(session, "lock the object").await?.is_empty())
}

async fn write_side(
    session: &impl Session,
    object: Object,
    storage: &Storage,
    id: i32,
    values: &[Value<'_>],
) -> Result<(), Error> {
    let Some((table, key)) = storage.side else { return Ok(()) };
    assign(session, object, table, key, id, placed(storage.side_columns, values)).await
}

type Placed<'v> = Vec<(&'static str, &'v str, Option<&'v str>)>;

/// The values that have a column among `columns`.
fn placed<'v>(columns: &'static [(&'static str, &'static str)], values: &[Value<'v>]) -> Placed<'v> {
    values
        .iter()
        .filter_map(|(field, value)| {
            let (_, column) = columns.iter().find(|(name, _)| name == field)?;
            Some((*column, *field, *value))
        })
        .collect()
}

async fn assign(
    session: &impl Session,
    object: Object,
    table: &str,
    key: &str,
    id: i32,
    values: Placed<'_>,
) -> Result<(), Error> {
    if values.is_empty() {
        return Ok(());
    }
    let mut statement = Statement::default();
    let set: Vec<String> = values
        .into_iter()
        .map(|(column, field, value)| format!("{column} = {}", statement.bind(kind(object, field), value)))
        .collect();
    let id = statement.bind(qvd_model::action::Kind::Int, Some(&id.to_string()));
    statement.text = format!("UPDATE {table} SET {} WHERE {key} = {id}", set.join(", "));
    statement.execute(session, "update").await.map(drop)
}

fn kind(object: Object, field: &str) -> qvd_model::action::Kind {
    match (object, field) {
        // A flag that the schema keeps as a number.
        (Object::Di, "auto_publish") => qvd_model::action::Kind::Int,
        _ => entity(object).field(field).map_or(qvd_model::action::Kind::Text(0), |f| f.kind),
    }
}

fn storage(object: Object) -> Result<&'static Storage, Error> {
    relation(object).and_then(|r| r.storage.as_ref()).ok_or_else(|| Error::Row {
        operation: "write",
        column: "-",
        problem: format!("{object} is not written this way"),
    })
}
