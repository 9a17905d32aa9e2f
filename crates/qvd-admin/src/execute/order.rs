//! Orders to VMs. Placement and commands are those that routers use too.

use qvd_db::commands::{self, CommandRefusal, Stop};
use qvd_db::placement::{self, Policy, Refusal as StartRefusal};
use qvd_logic::placement::Weights;
use qvd_model::VmId;
use qvd_model::action::{Order, Status};

use super::{Reply, Request, selected, summed_up};
use crate::app::App;
use crate::refusal::{Doing, Refusal};
use crate::session::internal;

pub(super) async fn order(app: &App, request: &Request, order: Order) -> Result<Reply, Refusal> {
    let mut outcomes = Vec::new();
    for object in selected(app, request).await? {
        let vm = VmId(object.id);
        let outcome = match order {
            Order::Start => start(app, request, vm).await,
            Order::Stop => stop(app, request, vm).await,
            Order::Disconnect => disconnect(app, request, vm).await,
        };
        if outcome.is_ok() {
            let client = app.database.client().await?;
            request.circumstances.log(&client, Some(&object), Status::Done).await?;
        }
        outcomes.push((object, outcome));
    }
    summed_up(app, request, Doing::Writing, outcomes).await
}

async fn start(app: &App, request: &Request, vm: VmId) -> Result<(), Refusal> {
    let values = app.config.now();
    let weight = |name: &str| {
        values.number(&format!("l7r.loadbalancer.plugin.default.weight.{name}")).map_err(internal)
    };
    let policy = Policy {
        hypervisor: values.text("vm.hypervisor").map_err(internal)?,
        weights: Weights { ram: weight("ram")?, cpu: weight("cpu")?, random: weight("random")? },
        // The block keeps users out, not administrators.
        start_blocked: true,
    };
    let started =
        placement::start_vm(&app.database, &request.circumstances.caller.actor(), vm, &policy).await;
    match started {
        Ok(_) => Ok(()),
        Err(StartRefusal::Database(error)) => Err(error.into()),
        Err(StartRefusal::NotStopped { state, .. }) => {
            Err(Refusal::about(Status::NotStartable, state.as_str()))
        }
        Err(refusal @ StartRefusal::NoHost { .. }) => {
            Err(Refusal::new(Status::NoHost).because(refusal.to_string()))
        }
        Err(StartRefusal::Blocked(_)) => Err(Refusal::about(Status::NotStartable, "blocked")),
        Err(StartRefusal::Unknown(_)) => Err(Refusal::new(Status::NothingMatched)),
    }
}

async fn stop(app: &App, request: &Request, vm: VmId) -> Result<(), Refusal> {
    let refused = |state: &str| Err(Refusal::about(Status::NotStoppable, state));
    match commands::stop_vm(&app.database, &request.circumstances.caller.actor(), vm).await {
        Ok(Stop::Requested | Stop::Revoked) => Ok(()),
        Ok(Stop::AlreadyStopped) => refused("stopped"),
        Ok(Stop::Underway) => refused("stopping"),
        Err(CommandRefusal::NotRunning { state, .. }) => refused(state.as_str()),
        Err(refusal) => Err(other(refusal)),
    }
}

async fn disconnect(app: &App, request: &Request, vm: VmId) -> Result<(), Refusal> {
    let actor = request.circumstances.caller.actor();
    commands::disconnect(&app.database, &actor, vm).await.map_err(other)
}

fn other(refusal: CommandRefusal) -> Refusal {
    match refusal {
        CommandRefusal::Database(error) => error.into(),
        CommandRefusal::NotConnected(_) => Refusal::about(Status::NotConnected, "disconnected"),
        CommandRefusal::NotRunning { state, .. } => Refusal::about(Status::NotStoppable, state.as_str()),
        CommandRefusal::Unknown(_) => Refusal::new(Status::NothingMatched),
    }
}
