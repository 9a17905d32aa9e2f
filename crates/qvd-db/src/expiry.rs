//! Limits of running VMs (`spec/node.md` 2.9): past the soft one the desktop is told, past the hard one it is
//! stopped and started again.

use std::time::Duration;

use qvd_model::event::{EndReason, ObjectKind};
use qvd_model::{HostId, VmId, notify};

use crate::events::{self, Actor, Event};
use crate::{Database, Error, Sql};

const LIMITS: Sql = Sql::new(
    "read the limits of the host's VMs",
    "SELECT r.vm_id, r.vm_expiration_soft::text AS soft, r.vm_expiration_hard::text AS hard, \
     extract(epoch FROM r.vm_expiration_soft - (now() AT TIME ZONE 'UTC'))::float8 AS until_soft, \
     extract(epoch FROM r.vm_expiration_hard - (now() AT TIME ZONE 'UTC'))::float8 AS until_hard \
     FROM vm_runtimes AS r WHERE r.host_id = $1 AND r.vm_state = 'running' AND r.vm_cmd IS NULL \
     AND (r.vm_expiration_soft IS NOT NULL OR r.vm_expiration_hard IS NOT NULL) ORDER BY r.vm_id",
);
const STOP: Sql = Sql::new(
    "stop the VM that has expired",
    "UPDATE vm_runtimes AS r SET vm_cmd = 'stop', restart = true, vm_expiration_soft = NULL, \
     vm_expiration_hard = NULL FROM vms WHERE vms.id = r.vm_id AND r.vm_id = $1 AND r.host_id = $2 AND r.vm_state = 'running' \
     AND r.vm_cmd IS NULL AND r.vm_expiration_hard <= now() AT TIME ZONE 'UTC' RETURNING vms.name",
);

pub(crate) const ALL: &[Sql] = &[LIMITS, STOP];

/// A limit of a VM.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// As PostgreSQL writes it, UTC.
    pub text: String,
    /// How long until it has passed; nothing if it has.
    pub left: Duration,
}

/// A running VM with a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Limited {
    /// The VM.
    pub vm: VmId,
    /// Past it the desktop is told.
    pub soft: Option<Limit>,
    /// Past it the VM is stopped and started again.
    pub hard: Option<Limit>,
}

/// The running VMs of a host that have limits and are not told to stop.
pub async fn limits(database: &Database, host: HostId) -> Result<Vec<Limited>, Error> {
    let client = database.client().await?;
    let rows = LIMITS.query(&client, &[&host.0]).await?;
    rows.iter()
        .map(|row| {
            let limit = |text: &'static str, until: &'static str| -> Result<Option<Limit>, Error> {
                let text: Option<String> = LIMITS.column(row, text)?;
                let until: Option<f64> = LIMITS.column(row, until)?;
                Ok(text.zip(until).map(|(text, until)| Limit {
                    text,
                    // A limit at the end of time is one that is far away.
                    left: Duration::try_from_secs_f64(until.max(0.0)).unwrap_or(Duration::MAX),
                }))
            };
            Ok(Limited {
                vm: VmId(LIMITS.column(row, "vm_id")?),
                soft: limit("soft", "until_soft")?,
                hard: limit("hard", "until_hard")?,
            })
        })
        .collect()
}

/// Tells a VM of the host to stop whose hard limit has passed, notes that it is to start again, and erases its limits.
/// `false`: it has none any more, or is on its way down already.
pub async fn stop(database: &Database, actor: &Actor, host: HostId, vm: VmId) -> Result<bool, Error> {
    let mut client = database.client().await?;
    let during = Error::during(STOP.name);
    let tx = client.build_transaction().start().await.map_err(&during)?;
    let Some(row) = STOP.query_opt(&tx, &[&vm.0, &host.0]).await? else { return Ok(false) };
    let event = Event {
        kind: ObjectKind::Vm,
        id: vm.0,
        name: STOP.column(&row, "name")?,
        from: None,
        to: None,
        code: EndReason::Expired.as_str(),
        text: "its hard limit has passed; told to stop and to start again",
    };
    events::record(&tx, actor, event).await?;
    crate::commands::announce(&tx, &notify::vm_command(host)).await?;
    tx.commit().await.map_err(during)?;
    Ok(true)
}
