//! The requests of the desktop port, each with its checks in the documented order (`spec/protocol.md` 4).

use qvd_db::hosts::Host;
use qvd_db::router::{self, Standing};
use qvd_model::{Failure, FailureCode, HostState, VmId};
use qvd_wire::http::{Method, Reply, Request, SESSION_END, Status, Version, VmEntry, encode_vms};
use tracing::warn;

use crate::bridge::Bridge;
use crate::connection::Connection;
use crate::router::{Own, Router};
use crate::{connect, ended, login, refusal, stop};

/// How a connection goes on after a request.
pub(crate) enum Next {
    /// With another request.
    Another,
    /// Not at all.
    Close,
    /// As a bridge to a desktop.
    Bridge(Box<Bridge>),
}

/// Answers one request.
pub(crate) async fn answer(connection: &mut Connection, request: &Request) -> Next {
    let get = request.method == Method::Get;
    let ping = request.path == "/qvd/ping";
    if request.method == Method::Head {
        let reply = if ping { alive(&connection.router) } else { Reply::text(Status::NotFound, "") };
        // The head only, whatever it says about a body.
        return if connection.send(&reply.head()).await { Next::Another } else { Next::Close };
    }
    if get && ping {
        let reply = alive(&connection.router);
        return if connection.reply(&reply).await { Next::Another } else { Next::Close };
    }
    if request.version == Version::Http10 {
        let reply = Reply::text(Status::Version, "HTTP version not supported\r\n");
        connection.reply(&reply).await;
        return Next::Close;
    }
    let reply = match (get, request.path.as_str()) {
        (true, "/qvd/list_of_vm") => list(connection, request, false).await,
        (true, "/qvd/list_of_applications") => list(connection, request, true).await,
        (true, "/qvd/stop_vm") => stop::stop(connection, request).await,
        (true, SESSION_END) => Some(ended::tell(&connection.router, request).await),
        (true, "/qvd/connect_to_vm") => match connect::connect(connection, request).await {
            Ok(bridge) => return Next::Bridge(bridge),
            Err(Some(reply)) => {
                connection.reply(&reply).await;
                return Next::Close;
            }
            Err(None) => return Next::Close,
        },
        _ => Some(Reply::text(Status::NotFound, "")),
    };
    match reply {
        Some(reply) if connection.reply(&reply).await => Next::Another,
        _ => Next::Close,
    }
}

fn alive(router: &Router) -> Reply {
    match running(router) {
        Ok(_) => Reply::text(Status::Ok, "I am alive!\r\n"),
        Err(reply) => reply,
    }
}

/// The own host's row, as every request needs it.
pub(crate) fn registered(router: &Router) -> Result<(Host, Standing), Reply> {
    let (code, text) = match &*router.own() {
        Own::Registered(host, standing) => return Ok((host.clone(), *standing)),
        Own::Unregistered => (FailureCode::HostUnavailable, "Host is not registered in the database"),
        Own::Away => (FailureCode::DatabaseAway, "The database of this installation does not answer"),
    };
    Err(refusal::refuse(Status::Unavailable, &Failure::new(code, text)))
}

/// The own host, if it is not blocked.
pub(crate) fn unblocked(standing: Standing) -> Result<(), Reply> {
    if standing.blocked {
        return Err(unavailable("Server is blocked".to_owned()));
    }
    Ok(())
}

fn in_service(standing: Standing) -> Result<(), Reply> {
    if standing.state == HostState::Running {
        return Ok(());
    }
    Err(unavailable(format!("Server is {}", standing.state)))
}

fn running(router: &Router) -> Result<Host, Reply> {
    let (host, standing) = registered(router)?;
    in_service(standing)?;
    unblocked(standing)?;
    Ok(host)
}

fn unavailable(text: String) -> Reply {
    refusal::refuse(Status::Unavailable, &Failure::new(FailureCode::HostUnavailable, text))
}

/// Lets a request in, and remembers who it was. `desktop` is the one that it asks to connect to.
pub(crate) async fn let_in(
    connection: &mut Connection,
    request: &Request,
    desktop: Option<VmId>,
) -> Result<login::Identity, Reply> {
    let Connection { router, address, identity, waiting, .. } = connection;
    let door = login::Door { known: identity.as_ref(), desktop, waiting: waiting.as_mut() };
    let let_in = login::authenticate(router, *address, request, door).await?;
    *identity = Some(let_in.clone());
    Ok(let_in)
}

async fn list(connection: &mut Connection, request: &Request, applications: bool) -> Option<Reply> {
    let listed = async {
        let (_, standing) = registered(&connection.router)?;
        connection.router.counting.add(|c| c.http_requests += 1);
        let identity = let_in(connection, request, None).await?;
        unblocked(standing)?;
        in_service(standing)?;
        let vms = router::vms_of(&connection.router.database, identity.user, applications).await;
        let vms = vms.map_err(|error| refusal::internal(&refusal::of_database(&error)))?;
        // A token for one VM shows that VM only.
        let vms = vms.into_iter().filter(|vm| identity.vm.is_none_or(|only| only == vm.id));
        let entries: Vec<VmEntry> = vms
            .map(|vm| VmEntry {
                id: vm.id.0,
                state: vm.state.as_str().to_owned(),
                name: vm.name,
                blocked: vm.blocked,
                is_application: vm.is_application,
            })
            .collect();
        let list = encode_vms(&entries);
        if list.left_out > 0 {
            warn!(user = identity.user.0, left_out = list.left_out, "VMs do not fit into the list");
        }
        Ok(Reply::json(list.body))
    };
    Some(listed.await.unwrap_or_else(|reply: Reply| reply))
}
