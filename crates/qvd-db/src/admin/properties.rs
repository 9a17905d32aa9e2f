//! Custom properties.

use crate::{Error, Session, Sql};

const TENANTS_OF_KEY: Sql = Sql::new(
    "find the properties of a key",
    "SELECT tenant_id FROM properties_list WHERE key = $1 AND id IS DISTINCT FROM $2",
);

pub(crate) const ALL: &[Sql] = &[TENANTS_OF_KEY];

/// The tenants that have a property of this key, apart from the property `except`.
pub async fn tenants_of_key(
    session: &impl Session,
    key: &str,
    except: Option<i32>,
) -> Result<Vec<i32>, Error> {
    let rows = TENANTS_OF_KEY.query(session, &[&key, &except]).await?;
    rows.iter().map(|row| TENANTS_OF_KEY.column(row, "tenant_id")).collect()
}
