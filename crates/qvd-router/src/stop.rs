//! `stop_vm`: tells a VM to stop and waits until it has (`spec/protocol.md` 4.6).

use std::time::Duration;

use bytes::BytesMut;
use qvd_db::commands::{self, CommandRefusal};
use qvd_db::router;
use qvd_model::{Failure, FailureCode, VmId, VmState, notify};
use qvd_wire::http::{Reply, Request, Status, progress};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::{endpoints, refusal};

/// When a waiting client hears that we go on.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Answers the request; `None` if the client left.
pub(crate) async fn stop(connection: &mut Connection, request: &Request) -> Option<Reply> {
    let vm = match check(connection, request).await {
        Ok(vm) => vm,
        Err(reply) => return Some(reply),
    };
    let mut early = BytesMut::new();
    let stopped = wait(connection, vm, &mut early).await;
    connection.remember(&early);
    stopped.map(|result| result.unwrap_or_else(|reply| reply))
}

async fn check(connection: &mut Connection, request: &Request) -> Result<VmId, Reply> {
    let database = |error| refusal::internal(&refusal::of_database(&error));
    let (_, standing) = endpoints::registered(&connection.router)?;
    connection.router.counting.add(|c| c.http_requests += 1);
    let identity = endpoints::let_in(connection, request, None).await?;
    endpoints::unblocked(standing)?;
    let vm = id(request)?;
    let desktop = router::desktop(&connection.router.database, vm).await.map_err(database)?;
    let Some(desktop) = desktop else { return Err(unknown(Status::NotFound, vm)) };
    if desktop.user != identity.user || identity.vm.is_some_and(|only| only != vm) {
        return Err(unknown(Status::Forbidden, vm));
    }
    match commands::stop_vm(&connection.router.database, &identity.actor, vm).await {
        Ok(_) => Ok(vm),
        Err(CommandRefusal::Database(error)) => Err(database(error)),
        Err(CommandRefusal::Unknown(vm)) => Err(unknown(Status::NotFound, vm)),
        Err(other) => {
            let failure = Failure::new(FailureCode::HostUnavailable, other.to_string());
            Err(refusal::refuse(Status::Unavailable, &failure))
        }
    }
}

/// Waits for the VM to be stopped. `None`: the client left.
async fn wait(connection: &mut Connection, vm: VmId, early: &mut BytesMut) -> Option<Result<Reply, Reply>> {
    let database = |error| Some(Err(refusal::internal(&refusal::of_database(&error))));
    let shared = connection.router.clone();
    let limit = match shared.config.now().seconds("internal.l7r.timeout.vm_stop") {
        Ok(limit) => limit,
        Err(error) => return Some(Err(refusal::internal(&refusal::of_config(&error)))),
    };
    let mut changed = shared.listener.subscribe(notify::VM_CHANGED);
    let deadline = Instant::now() + limit;
    let mut told = false;
    loop {
        match router::desktop(&shared.database, vm).await {
            Ok(Some(desktop)) if desktop.state == VmState::Stopped => {
                return Some(Ok(Reply::text(Status::Ok, "Machine stopped\r\n")));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Some(Err(unknown(Status::NotFound, vm))),
            Err(error) => return database(error),
        }
        if !told {
            told = true;
            if !connection.send(&progress("Stopping virtual machine")).await {
                return None;
            }
        }
        tokio::select! {
            () = changed.rung() => {}
            alive = connection.overhear(early) => if !alive { return None },
            () = tokio::time::sleep_until(deadline) => {
                let text = format!("VM {vm} did not stop within {} s", limit.as_secs());
                let failure = Failure::new(FailureCode::Timeout, text);
                return Some(Err(refusal::refuse(Status::RequestTimeout, &failure)));
            }
            () = tokio::time::sleep(KEEP_ALIVE) => {
                if !connection.send(&progress("Waiting for VM to reach state 'stopped'")).await {
                    return None;
                }
            }
        }
    }
}

/// The VM that a request names.
pub(crate) fn id(request: &Request) -> Result<VmId, Reply> {
    let Some(id) = request.query.value("id") else {
        return Err(Reply::text(Status::Unprocessable, "parameter id is missing\r\n"));
    };
    // A number that cannot be an id is no VM of ours.
    id.parse().map_err(|_| {
        let failure = Failure::new(FailureCode::UnknownVm, "There is no VM with such an id");
        refusal::refuse(Status::NotFound, &failure)
    })
}

/// There is no such VM for this user.
pub(crate) fn unknown(status: Status, vm: VmId) -> Reply {
    let text = format!("VM {vm} does not exist, or belongs to somebody else");
    refusal::refuse(status, &Failure::new(FailureCode::UnknownVm, text))
}
