//! Orders to VMs. Placement and commands are those that routers use too; here they get their audit row in the same
//! transaction.

use std::sync::Arc;

use qvd_db::Transaction;
use qvd_db::admin::select::Identity;
use qvd_db::commands::{self, CommandRefusal, Stop};
use qvd_db::placement::{self, Policy, Refusal as StartRefusal};
use qvd_logic::placement::Weights;
use qvd_model::VmId;
use qvd_model::action::{Object, Order, Status};

use super::{Reply, Request, selected, summed_up};
use crate::app::App;
use crate::change::{Change, state_of};
use crate::refusal::{Doing, Refusal};
use crate::session::internal;

pub(super) async fn order(app: &App, request: Arc<Request>, order: Order) -> Result<Reply, Refusal> {
    let policy = policy(app)?;
    let mut outcomes = Vec::new();
    for object in selected(app, &request).await? {
        let (shared, target, policy) = (request.clone(), object.clone(), policy.clone());
        let given = app
            .database
            .transaction("give an order", move |tx| {
                let (request, object, policy) = (shared.clone(), target.clone(), policy.clone());
                Box::pin(async move { give_in(tx, &request, &object, order, &policy).await })
            })
            .await;
        outcomes.push((object, given));
    }
    summed_up(app, &request, Doing::Writing, outcomes).await
}

fn policy(app: &App) -> Result<Policy, Refusal> {
    let values = app.config.now();
    Ok(Policy {
        hypervisor: values.text("vm.hypervisor").map_err(internal)?,
        weights: Weights::read(|key| values.number(key)).map_err(internal)?,
        // The block keeps users out, not administrators.
        start_blocked: true,
    })
}

async fn give_in(
    tx: &Transaction<'_>,
    request: &Request,
    object: &Identity,
    order: Order,
    policy: &Policy,
) -> Result<(), Refusal> {
    request.precondition.check(tx, request, object).await?;
    let (vm, actor) = (VmId(object.id), request.circumstances.caller.actor());
    let before = state_of(tx, Object::Vm, object.id).await?;
    let not_stoppable = |state: &str| Err(Refusal::about(Status::NotStoppable, state));
    match order {
        Order::Start => placement::start_in(tx, &actor, vm, policy).await.map(drop).map_err(not_started)?,
        Order::Stop => match commands::stop_in(tx, &actor, vm).await.map_err(not_given)? {
            Stop::Requested | Stop::Revoked => {}
            Stop::AlreadyStopped => return not_stoppable("stopped"),
            Stop::Underway => return not_stoppable("stopping"),
        },
        Order::Disconnect => commands::disconnect_in(tx, &actor, vm).await.map_err(not_given)?,
        Order::Begin | Order::Confirm | Order::End | Order::ResetSecondFactor => {
            return Err(Refusal::new(Status::Internal).because("this is no order to VMs"));
        }
    }
    let change = Change::between(before, state_of(tx, Object::Vm, object.id).await?);
    request.circumstances.done(tx, object, &change).await
}

fn not_started(refusal: StartRefusal) -> Refusal {
    match refusal {
        StartRefusal::Database(error) => error.into(),
        StartRefusal::NotStopped { state, .. } => Refusal::about(Status::NotStartable, state.as_str()),
        StartRefusal::NoHost { .. } => Refusal::new(Status::NoHost).because(refusal.to_string()),
        StartRefusal::Blocked(_) => Refusal::about(Status::NotStartable, "blocked"),
        StartRefusal::Unknown(_) => Refusal::new(Status::NothingMatched),
    }
}

fn not_given(refusal: CommandRefusal) -> Refusal {
    match refusal {
        CommandRefusal::Database(error) => error.into(),
        CommandRefusal::NotConnected(_) => Refusal::about(Status::NotConnected, "disconnected"),
        CommandRefusal::NotRunning { state, .. } => Refusal::about(Status::NotStoppable, state.as_str()),
        CommandRefusal::Unknown(_) => Refusal::new(Status::NothingMatched),
    }
}
