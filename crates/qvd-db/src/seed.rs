//! The rows that a new database starts with (`spec/database.md` 9): ACLs and roles from their registries, the
//! rest from a script.

use qvd_model::acl::{ACLS, acl_named};
use qvd_model::role::ROLES;
use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;

use crate::Error;

const LOOKUPS: &str = include_str!("schema/lookups.sql");
const SCRIPT: &str = include_str!("schema/initial.sql");
const SEQUENCES: &str = include_str!("schema/sequences.sql");

const INSERT_ACLS: &str = "INSERT INTO acls (id, name) SELECT * FROM unnest($1::integer[], $2::text[])";
const INSERT_ROLES: &str = "INSERT INTO roles (id, name, internal, fixed, tenant_id) \
    SELECT r.id, r.name, r.internal, true, -1 FROM unnest($1::integer[], $2::text[], $3::boolean[]) \
    AS r (id, name, internal)";
const INSERT_INHERITANCE: &str = "INSERT INTO role_role_relations (id, inheritor_id, inherited_id) \
    SELECT * FROM unnest($1::integer[], $2::integer[], $3::integer[])";
const INSERT_ASSIGNMENTS: &str = "INSERT INTO acl_role_relations (id, role_id, acl_id, positive) \
    SELECT * FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::boolean[])";

/// Until the server counts rows by itself, what roles grant would be computed a hundred times slower.
const COUNT_ROWS: &str = "ANALYZE acls, roles, role_role_relations, acl_role_relations";

/// The ACLs above this id came with 4.1.
const LAST_ORIGINAL_ACL: i32 = 331;
/// Where the assignments of later ACLs begin, behind those of all that 4.0 had.
const LATER_ASSIGNMENTS: i32 = 338;

/// Fills the empty relations and sets every sequence. Constraints must be deferred: roles come before their tenant.
pub(crate) async fn plant(tx: &Transaction<'_>) -> Result<(), Error> {
    registries(tx).await?;
    run(tx, "insert the initial rows", SCRIPT).await?;
    sequences(tx).await?;
    run(tx, "count the initial rows", COUNT_ROWS).await
}

/// The rows that every database has, whatever else is in it: words of states, ACLs, and the roles that come with them.
pub(crate) async fn registries(tx: &Transaction<'_>) -> Result<(), Error> {
    run(tx, "insert the words of states", LOOKUPS).await?;
    acls(tx).await?;
    roles(tx).await?;
    inheritance(tx).await?;
    assignments(tx).await
}

/// Sets every sequence behind the rows that are there.
pub(crate) async fn sequences(tx: &Transaction<'_>) -> Result<(), Error> {
    run(tx, "set the sequences", SEQUENCES).await
}

async fn acls(tx: &Transaction<'_>) -> Result<(), Error> {
    let (ids, names): (Vec<i32>, Vec<&str>) = ACLS.iter().map(|acl| (acl.id, acl.name)).unzip();
    insert(tx, "insert the ACLs", INSERT_ACLS, &[&ids, &names]).await
}

async fn roles(tx: &Transaction<'_>) -> Result<(), Error> {
    let (ids, names): (Vec<i32>, Vec<&str>) = ROLES.iter().map(|role| (role.id, role.name)).unzip();
    let internal: Vec<bool> = ROLES.iter().map(|role| role.internal).collect();
    insert(tx, "insert the roles", INSERT_ROLES, &[&ids, &names, &internal]).await
}

async fn inheritance(tx: &Transaction<'_>) -> Result<(), Error> {
    let edges = ROLES.iter().flat_map(|role| role.inherits.iter().map(|inherited| (role.id, *inherited)));
    let (inheritors, inherited): (Vec<i32>, Vec<i32>) = edges.unzip();
    let ids: Vec<i32> = (1..).take(inheritors.len()).collect();
    insert(tx, "insert the inheritance of roles", INSERT_INHERITANCE, &[&ids, &inheritors, &inherited]).await
}

async fn assignments(tx: &Transaction<'_>) -> Result<(), Error> {
    let (mut ids, mut holders, mut acls, mut positives) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut original, mut later) = (1.., LATER_ASSIGNMENTS..);
    for role in ROLES {
        let own = role.own.iter().map(|name| (name, true));
        for (name, positive) in own.chain(role.refused.iter().map(|name| (name, false))) {
            let Some(acl) = acl_named(name) else { continue };
            ids.extend(if acl.id > LAST_ORIGINAL_ACL { later.next() } else { original.next() });
            holders.push(role.id);
            acls.push(acl.id);
            positives.push(positive);
        }
    }
    insert(tx, "insert the ACLs of roles", INSERT_ASSIGNMENTS, &[&ids, &holders, &acls, &positives]).await
}

async fn insert(
    tx: &Transaction<'_>,
    operation: &'static str,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<(), Error> {
    tx.execute(sql, parameters).await.map(drop).map_err(Error::during(operation))
}

async fn run(tx: &Transaction<'_>, operation: &'static str, sql: &str) -> Result<(), Error> {
    tx.batch_execute(sql).await.map_err(Error::during(operation))
}
