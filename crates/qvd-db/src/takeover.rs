//! Taking over the database of an older QVD 4 (`spec/database.md` 12).
//!
//! Its relations are moved aside, ours are made, the rows are copied and set right, and what was moved aside is
//! dropped: all in one transaction, so that the result is the schema of a new deployment, to the letter, or nothing
//! has happened.

use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;

use crate::deploy::DeployError;
use crate::{Error, seed};

const BEGIN: &str = include_str!("schema/takeover_begin.sql");
const END: &str = include_str!("schema/takeover_end.sql");

/// Relations whose rows are copied.
const COPIED: &[&str] = &[
    "tenants",
    "users",
    "user_connections",
    "workspaces",
    "workspace_settings",
    "workspace_setting_collection",
    "desktops",
    "desktop_settings",
    "desktop_setting_collection",
    "administrators",
    "role_administrator_relations",
    "wat_setups_by_administrators",
    "wat_setups_by_tenants",
    "views_setups_attributes_administrator",
    "views_setups_attributes_tenant",
    "views_setups_properties_administrator",
    "views_setups_properties_tenant",
    "configs",
    "ssl_configs",
    "hosts",
    "host_runtimes",
    "host_counters",
    "host_properties",
    "osfs",
    "dis",
    "di_tags",
    "di_runtimes",
    "di_properties",
    "osf_properties",
    "vms",
    "vm_runtimes",
    "vm_counters",
    "vm_properties",
    "user_properties",
    "properties_list",
    "qvd_object_properties_list",
    "log",
    "wat_log",
];

/// Relations that are filled from the registries in code, except for what administrators added to them.
const PLANTED: &[&str] = &[
    "acls",
    "roles",
    "acl_role_relations",
    "role_role_relations",
    "versions",
    "vm_states",
    "vm_cmds",
    "user_states",
    "user_cmds",
    "host_states",
    "host_cmds",
];

/// Relations of sessions and tokens, which older versions kept readable and we do not: their rows end here.
const ENDED: &[&str] = &["session", "session_up", "user_tokens", "user_auth_parameters"];

/// Enumerated types of schema 4.0 to 4.3.
const TYPES: &[&str] = &[
    "administrator_and_tenant_views_setups_device_type_enum",
    "administrator_and_tenant_views_setups_qvd_object_enum",
    "administrator_and_tenant_views_setups_view_type_enum",
    "log_qvd_object_enum",
    "log_type_of_action_enum",
    "language_enum",
    "user_portal_parameters_enum",
    "di_generation_state_enum",
];

const VERSION: &str = "SELECT version FROM versions WHERE component = 'schema'";

/// A daemon of the older version writes its heartbeat every two minutes.
const LIVING_HOSTS: &str = "SELECT string_agg(name, ', ' ORDER BY name) FROM hosts JOIN host_runtimes ON host_id = id \
    WHERE state IN ('starting', 'running', 'stopping') AND ok_ts > now() AT TIME ZONE 'UTC' - interval '5 minutes'";

/// Views and tables of the administrator's own that refer to relations which are to be replaced.
const DEPENDENTS: &str = "SELECT string_agg(DISTINCT dependent::regclass::text, ', ') FROM ( \
    SELECT r.ev_class AS dependent, d.refobjid AS relation FROM pg_depend AS d \
    JOIN pg_rewrite AS r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass \
    UNION ALL SELECT conrelid, confrelid FROM pg_constraint WHERE contype = 'f') AS reference \
    JOIN pg_class AS t ON t.oid = relation JOIN pg_class AS v ON v.oid = dependent \
    WHERE t.relnamespace = 'public'::regnamespace AND t.relname = ANY ($1::text[]) \
    AND NOT (v.relnamespace = 'public'::regnamespace AND (v.relname = ANY ($1::text[]) OR v.relname IN ( \
    'all_acl_role_relations', 'all_role_role_relations', 'operative_views_in_administrators', \
    'operative_views_in_tenants')))";

/// The columns that a relation has now and had before; how the old value becomes the new one.
const COMMON_COLUMNS: &str = "SELECT string_agg(quote_ident(new.attname), ', ' ORDER BY new.attnum), \
    string_agg(CASE WHEN t.typtype = 'e' THEN format('%I::text::%s', new.attname, t.oid::regtype) \
    ELSE quote_ident(new.attname) END, ', ' ORDER BY new.attnum) \
    FROM pg_attribute AS new JOIN pg_attribute AS old ON old.attname = new.attname \
    JOIN pg_type AS t ON t.oid = new.atttypid \
    WHERE new.attrelid = to_regclass('public.' || $1::text) AND old.attrelid = to_regclass('qvd_before.' || $1::text) \
    AND new.attnum > 0 AND old.attnum > 0 AND NOT new.attisdropped AND NOT old.attisdropped";

/// The columns that a relation had and has no more.
const LOST_COLUMNS: &str = "SELECT string_agg(old.attname, ', ') FROM pg_attribute AS old \
    WHERE old.attrelid = to_regclass('qvd_before.' || $1::text) AND old.attnum > 0 AND NOT old.attisdropped \
    AND NOT EXISTS (SELECT 1 FROM pg_attribute AS new WHERE new.attrelid = to_regclass('public.' || $1::text) \
    AND new.attname = old.attname AND NOT new.attisdropped)";

/// What an administrator should know of the result: a sentence, and how often it applies.
const NOTES: &[(&str, &str)] = &[
    (
        "VMs were marked as not stopped, and are stopped now",
        "SELECT count(*) FROM qvd_before.vm_runtimes WHERE vm_state <> 'stopped'",
    ),
    (
        "OSFs had no size of homes, and have none (0) now",
        "SELECT count(*) FROM qvd_before.osfs WHERE user_storage_size IS NULL",
    ),
    (
        "OSFs have homes of a terabyte or more: sizes are in MB, but `qa osf add` of older versions wrote bytes; check them",
        "SELECT count(*) FROM osfs WHERE user_storage_size >= 1048576",
    ),
    (
        "images had no state, and are published now",
        "SELECT count(*) FROM di_runtimes WHERE state = 'published' AND state_ts = 0",
    ),
    (
        "ACLs of custom roles do not exist any more, and were left out",
        "SELECT count(*) FROM qvd_before.acl_role_relations AS old JOIN qvd_before.acls AS named ON named.id = old.acl_id \
         JOIN roles ON roles.id = old.role_id AND NOT (roles.fixed AND roles.tenant_id = -1) \
         WHERE named.name NOT IN (SELECT name FROM acls)",
    ),
    (
        "passwords are of the old form, and are hashed anew at the next login of their owner",
        "SELECT (SELECT count(*) FROM users WHERE length(password) = 43) \
         + (SELECT count(*) FROM administrators WHERE length(password) = 43)",
    ),
];

/// What a take-over found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// The version of the schema that was there.
    pub from: String,
    /// Rows of each relation, as copied.
    pub rows: Vec<(&'static str, u64)>,
    /// Sentences for the administrator.
    pub notes: Vec<String>,
}

/// Replaces the relations of an older version by ours, with its rows. `migrate` makes ours.
pub(crate) async fn take_over(
    tx: &Transaction<'_>,
    migrate: impl AsyncFnOnce(&Transaction<'_>) -> Result<(), DeployError>,
) -> Result<TakenOver, DeployError> {
    let from = version(tx).await?;
    if let Some(hosts) = living_hosts(tx).await? {
        return Err(DeployError::Living { hosts });
    }
    let dependents = text(tx, "look for relations of others", DEPENDENTS, &[&relations()]).await;
    if let Some(relations) = dependents.map_err(DeployError::Connection)? {
        return Err(DeployError::Dependents { relations });
    }
    set_aside(tx).await.map_err(DeployError::Schema)?;
    migrate(tx).await?;
    let taken = fill(tx, from).await.map_err(DeployError::Rows)?;
    let dropped = batch(tx, "drop the old relations", "DROP SCHEMA qvd_before CASCADE").await;
    dropped.map(|()| taken).map_err(DeployError::Schema)
}

/// The names of hosts whose daemons are at work.
pub(crate) async fn living_hosts(tx: &Transaction<'_>) -> Result<Option<String>, DeployError> {
    text(tx, "look for living hosts", LIVING_HOSTS, &[]).await.map_err(DeployError::Connection)
}

/// The version of the schema, if it is one that can be taken over.
pub(crate) async fn version(tx: &Transaction<'_>) -> Result<String, DeployError> {
    let table = text(tx, "look for the version", "SELECT to_regclass('public.versions')::text", &[]).await;
    if table.map_err(DeployError::Connection)?.is_none() {
        return Err(DeployError::Foreign { found: "of no known version".to_owned() });
    }
    let version = text(tx, "read the version of the schema", VERSION, &[]).await;
    let version = version.map_err(DeployError::Connection)?.unwrap_or_default();
    if ["4.0", "4.1", "4.2", "4.3"].iter().any(|known| version.starts_with(known)) {
        Ok(version)
    } else {
        Err(DeployError::Foreign { found: format!("of version `{version}`") })
    }
}

fn relations() -> Vec<&'static str> {
    [COPIED, PLANTED, ENDED].concat()
}

async fn set_aside(tx: &Transaction<'_>) -> Result<(), Error> {
    let settings = "SELECT set_config('qvd.relations', $1, true), set_config('qvd.types', $2, true)";
    tx.query_one(settings, &[&relations().join(" "), &TYPES.join(" ")])
        .await
        .map_err(Error::during("name the old relations"))?;
    batch(tx, "set the old relations aside", BEGIN).await
}

async fn fill(tx: &Transaction<'_>, from: String) -> Result<TakenOver, Error> {
    seed::registries(tx).await?;
    seed::sequences(tx).await?;
    let mut taken = TakenOver { from, rows: Vec::new(), notes: Vec::new() };
    for relation in COPIED {
        if let Some(count) = copy(tx, relation).await? {
            taken.rows.push((relation, count));
        }
        let lost = text(tx, "compare columns", LOST_COLUMNS, &[relation]).await?;
        taken.notes.extend(
            lost.map(|columns| format!("{relation}: columns {columns} are unknown, and are dropped")),
        );
    }
    batch(tx, "set the rows right", END).await?;
    seed::sequences(tx).await?;
    for (sentence, count) in NOTES {
        let row = tx.query_one(*count, &[]).await.map_err(Error::during("count what was set right"))?;
        let count: i64 = row.try_get(0).map_err(Error::during("count what was set right"))?;
        if count > 0 {
            taken.notes.push(format!("{count} {sentence}"));
        }
    }
    Ok(taken)
}

/// Copies the rows of one relation; `None` if the older version did not have it.
async fn copy(tx: &Transaction<'_>, relation: &str) -> Result<Option<u64>, Error> {
    let during = Error::during("compare columns");
    let row = tx.query_one(COMMON_COLUMNS, &[&relation]).await.map_err(&during)?;
    let columns: (Option<String>, Option<String>) =
        (row.try_get(0).map_err(&during)?, row.try_get(1).map_err(&during)?);
    let (Some(names), Some(values)) = columns else { return Ok(None) };
    let statement =
        format!("INSERT INTO public.{relation} ({names}) SELECT {values} FROM qvd_before.{relation}");
    tx.execute(&statement, &[]).await.map(Some).map_err(Error::during("copy rows"))
}

async fn text(
    tx: &Transaction<'_>,
    operation: &'static str,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<String>, Error> {
    let row = tx.query_opt(sql, parameters).await.map_err(Error::during(operation))?;
    row.map_or(Ok(None), |row| row.try_get(0)).map_err(Error::during(operation))
}

async fn batch(tx: &Transaction<'_>, operation: &'static str, sql: &str) -> Result<(), Error> {
    tx.batch_execute(sql).await.map_err(Error::during(operation))
}
