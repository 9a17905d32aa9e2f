//! VMs as their user and the router see them.

use std::collections::HashMap;
use std::net::IpAddr;

use qvd_model::{Failure, FailureCode, HostId, HostState, UserId, VmCommand, VmId, VmState};
use secrecy::SecretString;
use tokio_postgres::Row;

use crate::{Database, Error, Sql, vault};

const LIST: Sql = Sql::new(
    "list the VMs of the user",
    "SELECT vms.id, vms.name, r.vm_state, coalesce(r.blocked, false) AS blocked, osfs.is_application FROM vms \
     JOIN vm_runtimes AS r ON r.vm_id = vms.id JOIN osfs ON osfs.id = vms.osf_id \
     WHERE vms.user_id = $1 AND osfs.is_application = $2 ORDER BY vms.id",
);
const DESKTOP: Sql = Sql::new(
    "read the VM",
    "SELECT vms.name, vms.user_id, coalesce(r.blocked, false) AS blocked, r.vm_state, r.vm_cmd, r.start_step, \
     r.failure_code, r.failure_text, r.vm_address, r.vm_vma_port, r.vm_x_port, r.vma_secret, \
     coalesce(h.state = 'running' AND extract(epoch FROM now() AT TIME ZONE 'UTC' - h.ok_ts) \
     <= 3 * coalesce(h.beat_seconds, 5), false) AS alive \
     FROM vms JOIN vm_runtimes AS r ON r.vm_id = vms.id LEFT JOIN host_runtimes AS h ON h.host_id = r.host_id \
     WHERE vms.id = $1",
);
const VERSIONS: Sql = Sql::new(
    "look at the rows of VMs",
    "SELECT vm_id, xmin::text::bigint AS version FROM vm_runtimes WHERE vm_id = ANY($1::integer[])",
);
const PARAMETERS: Sql = Sql::new(
    "read the properties for the session",
    "SELECT l.key, p.value, p.kind, p.object, p.property_id FROM (
         SELECT 1 AS rank, 'osf' AS kind, o.osf_id AS object, o.property_id, o.value FROM osf_properties AS o
             JOIN vms ON vms.osf_id = o.osf_id WHERE vms.id = $1
         UNION ALL SELECT 2, 'di', d.di_id, d.property_id, d.value FROM di_properties AS d
             JOIN vm_runtimes AS r ON r.current_di_id = d.di_id WHERE r.vm_id = $1
         UNION ALL SELECT 3, 'user', u.user_id, u.property_id, u.value FROM user_properties AS u
             JOIN vms ON vms.user_id = u.user_id WHERE vms.id = $1
         UNION ALL SELECT 4, 'vm', v.vm_id, v.property_id, v.value FROM vm_properties AS v WHERE v.vm_id = $1
     ) AS p JOIN qvd_object_properties_list AS q ON q.id = p.property_id
     JOIN properties_list AS l ON l.id = q.property_id WHERE l.key NOT LIKE 'l7r.auth.%' ORDER BY p.rank",
);
const STANDING: Sql =
    Sql::new("read the own host", "SELECT state, blocked FROM host_runtimes WHERE host_id = $1");
const COUNT: Sql = Sql::new(
    "count",
    "UPDATE host_counters SET http_requests = http_requests + $2, auth_attempts = auth_attempts + $3, \
     auth_ok = auth_ok + $4, nx_attempts = nx_attempts + $5, nx_ok = nx_ok + $6, \
     short_sessions = short_sessions + $7 WHERE host_id = $1",
);

pub(super) const ALL: &[Sql] = &[LIST, DESKTOP, VERSIONS, PARAMETERS, STANDING, COUNT];

/// One VM of a user's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The VM.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: VmState,
    /// Whether an administrator blocked it.
    pub blocked: bool,
    /// Whether it is an application.
    pub is_application: bool,
}

/// Where a running VM is.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its address in the desktop network.
    pub address: IpAddr,
    /// Port of the agent.
    pub agent_port: u16,
    /// Port of the X session.
    pub x_port: u16,
    /// What the agent wants to hear.
    pub secret: Option<SecretString>,
}

/// A VM and its runtime row.
#[derive(Debug, Clone)]
pub struct Desktop {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub user: UserId,
    /// Whether an administrator blocked it.
    pub blocked: bool,
    /// What it is doing.
    pub state: VmState,
    /// What somebody wants it to do.
    pub command: Option<VmCommand>,
    /// How far its start is.
    pub step: Option<String>,
    /// Why it stopped by itself, or did not start.
    pub failure: Option<Failure>,
    /// Where it is, once its node has said so.
    pub place: Option<Place>,
    /// Whether the daemon of its node lives.
    pub host_alive: bool,
}

/// How a host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub state: HostState,
    /// Whether an administrator blocked it.
    pub blocked: bool,
}

/// Increments of a host's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the columns of `host_counters`")]
pub struct Counters {
    pub http_requests: i32,
    pub auth_attempts: i32,
    pub auth_ok: i32,
    pub nx_attempts: i32,
    pub nx_ok: i32,
    pub short_sessions: i32,
}

/// The VMs of a user, desktops or applications.
pub async fn vms_of(database: &Database, user: UserId, applications: bool) -> Result<Vec<Listed>, Error> {
    let client = database.client().await?;
    let rows = LIST.query(&client, &[&user.0, &applications]).await?;
    rows.iter()
        .map(|row| {
            Ok(Listed {
                id: VmId(LIST.column(row, "id")?),
                name: LIST.column(row, "name")?,
                state: LIST.word(row, "vm_state")?,
                blocked: LIST.column(row, "blocked")?,
                is_application: LIST.column(row, "is_application")?,
            })
        })
        .collect()
}

/// A VM, if it exists.
pub async fn desktop(database: &Database, vm: VmId) -> Result<Option<Desktop>, Error> {
    let client = database.client().await?;
    let Some(row) = DESKTOP.query_opt(&client, &[&vm.0]).await? else { return Ok(None) };
    desktop_of(database, vm, DESKTOP, &row).map(Some)
}

/// A VM out of a row with its columns.
pub(super) fn desktop_of(database: &Database, vm: VmId, sql: Sql, row: &Row) -> Result<Desktop, Error> {
    let command: Option<&str> = sql.column(row, "vm_cmd")?;
    let code: Option<&str> = sql.column(row, "failure_code")?;
    let text: Option<&str> = sql.column(row, "failure_text")?;
    let address: Option<&str> = sql.column(row, "vm_address")?;
    let port = |name| {
        let port: Option<i32> = sql.column(row, name)?;
        Ok::<_, Error>(port.and_then(|port| u16::try_from(port).ok()))
    };
    let place = match (address.and_then(|a| a.parse().ok()), port("vm_vma_port")?, port("vm_x_port")?) {
        (Some(address), Some(agent_port), Some(x_port)) => {
            let stored: Option<&str> = sql.column(row, "vma_secret")?;
            let opened = stored.map(|stored| database.vault().open(vault::Place::Agent(vm), stored));
            Some(Place { address, agent_port, x_port, secret: opened.transpose()?.map(SecretString::from) })
        }
        _ => None,
    };
    Ok(Desktop {
        name: sql.column(row, "name")?,
        user: UserId(sql.column(row, "user_id")?),
        blocked: sql.column(row, "blocked")?,
        state: sql.word(row, "vm_state")?,
        command: command.and_then(|word| word.parse().ok()),
        step: sql.column(row, "start_step")?,
        failure: code.map(|code| failure(code, text.unwrap_or_default())),
        place,
        host_alive: sql.column(row, "alive")?,
    })
}

/// The versions of the runtime rows of these VMs: another one after each change.
pub async fn versions(database: &Database, vms: &[VmId]) -> Result<HashMap<VmId, i64>, Error> {
    let client = database.client().await?;
    let ids: Vec<i32> = vms.iter().map(|vm| vm.0).collect();
    let rows = VERSIONS.query(&client, &[&ids]).await?;
    rows.iter()
        .map(|row| Ok((VmId(VERSIONS.column(row, "vm_id")?), VERSIONS.column(row, "version")?)))
        .collect()
}

/// A failure out of its columns: the text ends with the advice of its code.
fn failure(code: &str, text: &str) -> Failure {
    let code = code.parse().unwrap_or(FailureCode::Internal);
    let detail = text.strip_suffix(code.advice()).unwrap_or(text).trim_end();
    Failure::new(code, detail.strip_suffix('.').unwrap_or(detail))
}

/// Properties of OSF, image, user and VM in this order; later ones win (`spec/protocol.md` 5). Those by which users are
/// authenticated are not for their desktops.
pub async fn parameters(database: &Database, vm: VmId) -> Result<Vec<(String, String)>, Error> {
    let client = database.client().await?;
    let rows = PARAMETERS.query(&client, &[&vm.0]).await?;
    let opened = |row| {
        let (kind, stored): (String, String) =
            (PARAMETERS.column(row, "kind")?, PARAMETERS.column(row, "value")?);
        let place = vault::Place::Property {
            kind: &kind,
            object: PARAMETERS.column(row, "object")?,
            property: PARAMETERS.column(row, "property_id")?,
        };
        Ok((PARAMETERS.column(row, "key")?, database.vault().open(place, &stored)?))
    };
    rows.iter().map(opened).collect()
}

/// How the own host stands; `None` if it has no row.
pub async fn standing(database: &Database, host: HostId) -> Result<Option<Standing>, Error> {
    let client = database.client().await?;
    let row = STANDING.query_opt(&client, &[&host.0]).await?;
    row.map(|row| {
        Ok(Standing { state: STANDING.word(&row, "state")?, blocked: STANDING.column(&row, "blocked")? })
    })
    .transpose()
}

/// Adds to the counters of a host.
pub async fn count(database: &Database, host: HostId, by: Counters) -> Result<(), Error> {
    let client = database.client().await?;
    let Counters { http_requests, auth_attempts, auth_ok, nx_attempts, nx_ok, short_sessions } = by;
    COUNT
        .execute(
            &client,
            &[&host.0, &http_requests, &auth_attempts, &auth_ok, &nx_attempts, &nx_ok, &short_sessions],
        )
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_failure_is_read_back() {
        let stored = Failure::new(FailureCode::NoImage, "OSF 3 has no image with tag `default`");
        assert_eq!(failure("no_image", &stored.to_string()), stored);
        assert_eq!(
            failure("from the future", "odd.").to_string(),
            Failure::new(FailureCode::Internal, "odd").to_string()
        );
    }
}
