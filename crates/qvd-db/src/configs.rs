//! Configuration rows and TLS material.

use qvd_model::{TenantId, config};

use crate::vault::{Place, Vault};
use crate::{Database, Error, Session, Sql};

const ROWS: Sql = Sql::new("read the configuration", "SELECT tenant_id, key, value FROM configs");
const VALUE: Sql =
    Sql::new("read a configuration row", "SELECT value FROM configs WHERE tenant_id = $1 AND key = $2");
const VERSION: Sql = Sql::new(
    "read the version of a configuration row",
    "SELECT xmin::text AS version FROM configs WHERE tenant_id = $1 AND key = $2",
);
const SET: Sql = Sql::new(
    "set a configuration row",
    "INSERT INTO configs (tenant_id, key, value) VALUES ($1, $2, $3) \
     ON CONFLICT (tenant_id, key) DO UPDATE SET value = excluded.value",
);
const DELETE: Sql =
    Sql::new("delete a configuration row", "DELETE FROM configs WHERE tenant_id = $1 AND key = $2");
const PEM: Sql = Sql::new("read TLS material", "SELECT value FROM ssl_configs WHERE key = $1");
const SET_PEM: Sql = Sql::new(
    "set TLS material",
    "INSERT INTO ssl_configs (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
);
const DELETE_PEM: Sql = Sql::new("delete TLS material", "DELETE FROM ssl_configs WHERE key = $1");

pub(crate) const ALL: &[Sql] = &[ROWS, VALUE, VERSION, SET, DELETE, PEM, SET_PEM, DELETE_PEM];

/// A row: tenant (`-1` for global), key, unexpanded value.
pub type Row = (TenantId, String, String);

/// All rows of all tenants, with opened secrets.
pub async fn rows(database: &Database) -> Result<Vec<Row>, Error> {
    let client = database.client().await?;
    let rows = ROWS.query(&client, &[]).await?;
    rows.iter()
        .map(|row| {
            let (tenant, key) =
                (TenantId(ROWS.column(row, "tenant_id")?), ROWS.column::<String>(row, "key")?);
            let value: Option<String> = ROWS.column(row, "value")?;
            let value = opened(database.vault(), tenant, &key, value.unwrap_or_default())?;
            Ok((tenant, key, value))
        })
        .collect()
}

fn opened(vault: &Vault, tenant: TenantId, key: &str, stored: String) -> Result<String, Error> {
    if config::is_secret(key) { vault.open(Place::Setting(tenant, key), &stored) } else { Ok(stored) }
}

/// The value of a row, if there is one.
pub async fn value(
    vault: &Vault,
    session: &impl Session,
    tenant: TenantId,
    key: &str,
) -> Result<Option<String>, Error> {
    let Some(row) = VALUE.query_opt(session, &[&tenant.0, &key]).await? else { return Ok(None) };
    let stored: Option<String> = VALUE.column(&row, "value")?;
    opened(vault, tenant, key, stored.unwrap_or_default()).map(Some)
}

/// What tells a row from an earlier one, if there is a row; it says nothing about the value.
pub async fn version(session: &impl Session, tenant: TenantId, key: &str) -> Result<Option<String>, Error> {
    let row = VERSION.query_opt(session, &[&tenant.0, &key]).await?;
    row.map(|row| VERSION.column(&row, "version")).transpose()
}

/// Sets a row, a secret sealed; a trigger announces it.
pub async fn set(
    vault: &Vault,
    session: &impl Session,
    tenant: TenantId,
    key: &str,
    value: &str,
) -> Result<(), Error> {
    let sealed;
    let stored = if config::is_secret(key) {
        sealed = vault.seal(Place::Setting(tenant, key), value)?;
        &sealed
    } else {
        value
    };
    SET.execute(session, &[&tenant.0, &key, &stored]).await.map(drop)
}

/// Deletes a row, so that the value below it is in force again. Whether there was one.
pub async fn delete(session: &impl Session, tenant: TenantId, key: &str) -> Result<bool, Error> {
    DELETE.execute(session, &[&tenant.0, &key]).await.map(|count| count > 0)
}

/// PEM text of `l7r.ssl.key`, `.cert`, `.ca` or `.crl`.
pub async fn pem(vault: &Vault, session: &impl Session, key: &str) -> Result<Option<String>, Error> {
    let Some(row) = PEM.query_opt(session, &[&key]).await? else { return Ok(None) };
    let stored: String = PEM.column(&row, "value")?;
    if config::is_secret(key) { vault.open(Place::Pem(key), &stored).map(Some) } else { Ok(Some(stored)) }
}

/// Stores PEM text, a private key sealed; a trigger announces it.
pub async fn set_pem(vault: &Vault, session: &impl Session, key: &str, pem: &str) -> Result<(), Error> {
    let sealed;
    let stored = if config::is_secret(key) {
        sealed = vault.seal(Place::Pem(key), pem)?;
        &sealed
    } else {
        pem
    };
    SET_PEM.execute(session, &[&key, &stored]).await.map(drop)
}

/// Removes PEM text; a trigger announces it.
pub async fn delete_pem(session: &impl Session, key: &str) -> Result<(), Error> {
    DELETE_PEM.execute(session, &[&key]).await.map(drop)
}
