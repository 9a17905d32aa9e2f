//! Custom properties.

use qvd_model::action::{Kind, Object};
use qvd_model::config;

use super::Statement;
use super::select::Scope;
use crate::vault::{Place, Vault};
use crate::{Error, Session, Sql};

const TENANTS_OF_KEY: Sql = Sql::new(
    "find the properties of a key",
    "SELECT tenant_id FROM properties_list WHERE key = $1 AND id IS DISTINCT FROM $2",
);
const KEYS: Sql = Sql::new(
    "read the keys of properties",
    "SELECT DISTINCT l.key FROM properties_list AS l JOIN qvd_object_properties_list AS q ON q.property_id = l.id \
     WHERE q.qvd_object::text = $1 AND ($2::integer IS NULL OR l.tenant_id = $2)",
);
/// The property of the object's own tenant wins over the one of all tenants.
const ASSIGNMENT: Sql = Sql::new(
    "find the property of a kind of object",
    "SELECT q.id FROM properties_list AS l JOIN qvd_object_properties_list AS q ON q.property_id = l.id \
     WHERE q.qvd_object::text = $1 AND l.key = $2 AND l.tenant_id IN ($3, 0) ORDER BY l.tenant_id DESC LIMIT 1",
);

pub(crate) const ALL: &[Sql] = &[TENANTS_OF_KEY, KEYS, ASSIGNMENT];

/// The keys of the properties that objects of a kind may have.
pub async fn keys(session: &impl Session, object: Object, scope: &Scope) -> Result<Vec<String>, Error> {
    let rows = KEYS.query(session, &[&object.as_str(), &scope.tenant()]).await?;
    rows.iter().map(|row| KEYS.column(row, "key")).collect()
}

/// The assignment of a property to a kind of object, as it counts for an object of a tenant.
pub async fn assignment(
    session: &impl Session,
    object: Object,
    key: &str,
    tenant: i32,
) -> Result<Option<i32>, Error> {
    let row = ASSIGNMENT.query_opt(session, &[&object.as_str(), &key, &tenant]).await?;
    row.map(|row| ASSIGNMENT.column(&row, "id")).transpose()
}

/// Gives an object a value of a property, or takes it away. The value of a secret is sealed.
pub async fn store(
    vault: &Vault,
    session: &impl Session,
    object: Object,
    id: i32,
    (assignment, key): (i32, &str),
    value: Option<&str>,
) -> Result<(), Error> {
    let place = Place::Property { kind: object.as_str(), object: id, property: assignment };
    let sealed = match value {
        Some(value) if config::sounds_secret(key) => Some(vault.seal(place, value)?),
        _ => None,
    };
    let value = sealed.as_deref().or(value);
    let mut statement = Statement::default();
    let owner = statement.bind(Kind::Int, Some(&id.to_string()));
    let property = statement.bind(Kind::Int, Some(&assignment.to_string()));
    statement.text = match value {
        None => format!(
            "DELETE FROM {object}_properties WHERE {object}_id = {owner} AND property_id = {property}"
        ),
        Some(value) => format!(
            "INSERT INTO {object}_properties ({object}_id, property_id, value) VALUES ({owner}, {property}, {}) \
             ON CONFLICT ({object}_id, property_id) DO UPDATE SET value = excluded.value",
            statement.bind(Kind::Text(0), Some(value))
        ),
    };
    statement.execute(session, "store a property").await.map(drop)
}

/// The tenants that have a property of this key, apart from the property `except`.
pub async fn tenants_of_key(
    session: &impl Session,
    key: &str,
    except: Option<i32>,
) -> Result<Vec<i32>, Error> {
    let rows = TENANTS_OF_KEY.query(session, &[&key, &except]).await?;
    rows.iter().map(|row| TENANTS_OF_KEY.column(row, "tenant_id")).collect()
}
