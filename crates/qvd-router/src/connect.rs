//! `connect_to_vm`: the checks, then the way to the desktop (`spec/protocol.md` 4.7 and 9).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use qvd_db::events::Actor;
use qvd_db::router::{self, Ending, Session};
use qvd_logic::session::{Connect, Effect, Event, Limits};
use qvd_model::event::EndReason;
use qvd_model::{Failure, FailureCode, UserState, VmId};
use qvd_wire::http::{Query, Reply, Request, SESSION, SLAVE_KEY, Status, UPGRADE_QVD, progress, switching};
use rand::Rng;
use rand::distr::Alphanumeric;
use tokio::time::Instant;
use tracing::debug;

use crate::bridge::Bridge;
use crate::connection::{self, Connection};
use crate::login::Identity;
use crate::sessions::Told;
use crate::tickets::Ticket;
use crate::work::{Parameters, Work};
use crate::{endpoints, refusal, settings, stop, tickets};

/// What names of client parameters begin with.
const CLIENT_PREFIXES: [&str; 2] = ["qvd.client.", "custom."];
/// Longest name or value of a client parameter, in bytes.
const MAX_PARAMETER: usize = 2048;
/// Characters of a slave key.
const SLAVE_KEY_LENGTH: usize = 64;

/// Takes a client to its desktop. What it gets otherwise is an answer, or nothing if it left.
pub(crate) async fn connect(
    connection: &mut Connection,
    request: &Request,
) -> Result<Box<Bridge>, Option<Reply>> {
    let reached = reach(connection, request).await;
    let identity = connection.identity.as_ref();
    reached.map_err(|reply| reply.map(|reply| tickets::renew(request, identity, reply)))
}

async fn reach(connection: &mut Connection, request: &Request) -> Result<Box<Bridge>, Option<Reply>> {
    let (mut work, limits) = prepare(connection, request).await.map_err(Some)?;
    let shared = connection.router.clone();
    let mut told = shared.sessions.open(work.session.id);
    let mut early = BytesMut::new();
    let end = drive(connection, &mut work, limits, &mut told, &mut early).await;
    connection.remember(&early);
    let desktop = match (end, work.desktop.take()) {
        (End::Arrived, Some(desktop)) => desktop,
        (end, _) => {
            let (failure, reason) = match end {
                End::Failed(failure) => (Some(failure), EndReason::VmFailed),
                End::Told(reason) => (Some(told_to_end(work.session.vm, reason)), reason),
                End::Left | End::Arrived => (None, EndReason::Left),
            };
            let text =
                failure.as_ref().map_or("the client left while connecting".to_owned(), Failure::to_string);
            let ending = Ending { from: UserState::Connecting, reason, text, ticket: None };
            shared.release(work.session, ending).await;
            return Err(failure.map(|failure| {
                connection::log_refusal(connection.address, &failure);
                refusal::not_available(&failure)
            }));
        }
    };
    let mut fields = vec![(SLAVE_KEY, work.parameters.slave_key), (SESSION, work.session.id.to_string())];
    fields.extend(work.ticket.as_ref().map(Ticket::field));
    let ticket = work.ticket.as_ref().map(Ticket::digest);
    let bridge = Bridge { session: work.session, ticket, desktop, told };
    // The whole head in one record (rule R8).
    if connection.send(&switching(&fields)).await {
        return Ok(Box::new(bridge));
    }
    bridge.abandon(&shared).await;
    Err(None)
}

/// The checks in their order, and everything that the way needs.
async fn prepare(connection: &mut Connection, request: &Request) -> Result<(Work, Limits), Reply> {
    let shared = connection.router.clone();
    let database = |error| refusal::internal(&refusal::of_database(&error));
    let (host, standing) = endpoints::registered(&shared)?;
    shared.counting.add(|c| c.http_requests += 1);
    let asked = request.query.value("id").and_then(|id| id.parse().ok());
    let identity = endpoints::let_in(connection, request, asked).await?;
    endpoints::unblocked(standing)?;
    if !(request.headers.has_token("Connection", "Upgrade")
        && request.headers.has_token("Upgrade", UPGRADE_QVD))
    {
        let text = "This request must ask for Upgrade: QVD/1.0; use a QVD client\r\n";
        return Err(Reply::text(Status::UpgradeRequired, text).field("Upgrade", UPGRADE_QVD));
    }
    let vm = allowed(&identity, request)?;
    let client = client_parameters(&request.query)?;
    let desktop = router::desktop(&shared.database, vm).await.map_err(database)?;
    // Somebody else's VM looks as one that does not exist.
    let Some(desktop) = desktop.filter(|desktop| desktop.user == identity.user) else {
        return Err(stop::unknown(Status::NotFound, vm));
    };
    if desktop.blocked {
        let text = format!("VM {vm} ({}) is blocked", desktop.name);
        return Err(refusal::refuse(Status::Forbidden, &Failure::new(FailureCode::VmBlocked, text)));
    }

    let values = shared.config.now();
    let (ticket, comes_back) = tickets::give(&values, request, &identity)?;
    let read = || Ok((settings::limits(&values)?, values.seconds("internal.l7r.timeout.vma")?));
    let (limits, call_limit) = read().map_err(|error| refusal::internal(&refusal::of_config(&error)))?;
    let session = Session {
        vm,
        vm_name: desktop.name,
        user: identity.user,
        host: host.id,
        number: shared.sessions.number(),
        instance: shared.instance.id().to_owned(),
        id: rand::rng().random_range(1..i64::MAX),
        actor: Actor::user(&identity.login),
    };
    let parameters = Parameters {
        client,
        host_address: host.address,
        plugins: identity.parameters,
        slave_key: rand::rng().sample_iter(Alphanumeric).take(SLAVE_KEY_LENGTH).map(char::from).collect(),
    };
    let work = Work {
        router: shared,
        session,
        actor: identity.actor,
        token: identity.token,
        ticket,
        comes_back,
        parameters,
        call_limit,
        acquired: None,
        place: None,
        desktop: None,
        contender: None,
    };
    Ok((work, limits))
}

/// The VM that is asked for, if the token opens it.
fn allowed(identity: &Identity, request: &Request) -> Result<VmId, Reply> {
    if let Some(only) = identity.vm {
        let asked = request.query.value("id").and_then(|id| id.parse().ok());
        if asked.is_some_and(|asked: VmId| asked != only) {
            return Err(Reply::text(Status::Forbidden, "This token is for another virtual machine\r\n"));
        }
    }
    stop::id(request)
}

/// The parameters that a client may send; they reach hooks in the desktop as arguments.
fn client_parameters(query: &Query) -> Result<Vec<(String, String)>, Reply> {
    let mut parameters = Vec::new();
    for (name, value) in query.iter().filter(|(name, _)| *name != "id") {
        let value = value.unwrap_or_default();
        let problem = if !CLIENT_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            "is not accepted from clients"
        } else if name.len() > MAX_PARAMETER || value.len() > MAX_PARAMETER {
            "is too long"
        } else if name.chars().chain(value.chars()).any(char::is_control) {
            "holds control characters"
        } else {
            parameters.push((name.to_owned(), value.to_owned()));
            continue;
        };
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(Reply::text(Status::Forbidden, format!("Parameter {shown} {problem}\r\n")));
    }
    Ok(parameters)
}

fn told_to_end(vm: VmId, reason: EndReason) -> Failure {
    let text = match reason {
        EndReason::TakenOver => format!("another client took the session of VM {vm}"),
        EndReason::Admin => format!("an administrator ended the connection to VM {vm}"),
        EndReason::Drain => "the router is stopping".to_owned(),
        other => format!("the session of VM {vm} ended: {other}"),
    };
    Failure::new(FailureCode::Cancelled, text)
}

/// How the way ended.
enum End {
    /// At the desktop.
    Arrived,
    /// With a failure to tell.
    Failed(Failure),
    /// Somebody had it ended.
    Told(EndReason),
    /// The client left.
    Left,
}

/// Runs the machine: carries its effects out, one after the other, and listens for everything that may happen
/// meanwhile.
async fn drive(
    connection: &mut Connection,
    work: &mut Work,
    limits: Limits,
    told: &mut Told,
    early: &mut BytesMut,
) -> End {
    let shared = connection.router.clone();
    let mut row = shared.rows.watch(work.session.vm);
    let origin = Instant::now();
    let (mut machine, first) = Connect::new(work.session.vm, limits, Duration::ZERO);
    let mut effects = VecDeque::from(first);
    loop {
        let begun = Instant::now();
        let event = match effects.pop_front() {
            Some(Effect::Switch) => return End::Arrived,
            Some(Effect::Fail(failure)) => return End::Failed(failure),
            Some(Effect::Tell(text)) => {
                if !connection.send(&progress(&text)).await {
                    return End::Left;
                }
                continue;
            }
            Some(effect) => tokio::select! {
                performed = work.perform(&effect) => {
                    // What claiming it did to the row is no news.
                    row.know(work.acquired.as_ref().map(|(_, version)| *version));
                    debug!(vm = work.session.vm.0, ?effect, took = ?begun.elapsed(), "performed");
                    match performed {
                        Ok(Some(event)) => event,
                        Ok(None) => continue,
                        Err(failure) => return End::Failed(failure),
                    }
                }
                reason = told.reason() => return End::Told(reason),
                () = left(connection, early) => return End::Left,
                () = shared.ending.cancelled() => return End::Told(EndReason::Drain),
            },
            None => {
                let wake = machine.wake().map(|at| origin + at);
                tokio::select! {
                    () = row.changed() => Event::Changed,
                    () = until(wake) => Event::Tick,
                    reason = told.reason() => return End::Told(reason),
                    () = left(connection, early) => return End::Left,
                    () = shared.ending.cancelled() => return End::Told(EndReason::Drain),
                }
            }
        };
        effects.extend(machine.step(origin.elapsed(), event));
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Resolves when the client leaves; keeps what it sends before that.
async fn left(connection: &mut Connection, early: &mut BytesMut) {
    while connection.overhear(early).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_client_parameters_pass() {
        let good = Query::decode(b"id=12&qvd.client.link=lan&custom.x=%C3%A9&qvd.client.fullscreen");
        let passed = client_parameters(&good).unwrap();
        assert_eq!(passed.len(), 3);
        assert_eq!(passed[2], ("qvd.client.fullscreen".to_owned(), String::new()));
        for bad in ["qvd.vm.user.name=root", "custom.x=a%0Ab", "ID=1"] {
            let reply = client_parameters(&Query::decode(bad.as_bytes())).unwrap_err();
            assert_eq!(reply.status(), Status::Forbidden, "{bad}");
        }
        let long = format!("custom.x={}", "a".repeat(3000));
        assert!(client_parameters(&Query::decode(long.as_bytes())).is_err());
    }
}
