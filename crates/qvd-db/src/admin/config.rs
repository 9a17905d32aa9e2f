//! Settings as rows of tenants.

use qvd_model::TenantId;

use crate::{Error, Session, Sql};

const TENANTS: Sql = Sql::new("read the tenants", "SELECT id, name FROM tenants ORDER BY id");

pub(crate) const ALL: &[Sql] = &[TENANTS];

/// Every tenant with its name, the pseudo tenant of global settings among them.
pub async fn tenants(session: &impl Session) -> Result<Vec<(TenantId, String)>, Error> {
    let rows = TENANTS.query(session, &[]).await?;
    rows.iter().map(|row| Ok((TenantId(TENANTS.column(row, "id")?), TENANTS.column(row, "name")?))).collect()
}
