//! Limits of VMs: a desktop past its soft limit is told, again and again; one past its hard limit is stopped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use qvd_db::expiry::Limited;
use qvd_db::{Doorbell, expiry, router};
use qvd_model::VmId;
use qvd_rpc::Agent;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::node::Node;

/// However many VMs of the installation change, limits are not read more often.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the limits of the node's VMs; `changed` rings when a row of a VM has changed.
pub async fn follow(node: Arc<Node>, mut changed: Doorbell) {
    let mut told = HashMap::new();
    loop {
        let values = node.config.now();
        let period = values.seconds("internal.hkd.agent.expiration_monitor.delay");
        let period = period.unwrap_or(Duration::from_secs(3600)).max(PAUSE);
        let next = look(&node, &mut told, period).await.unwrap_or_else(|error| {
            warn!("limits of VMs are not read: {error}");
            PAUSE
        });
        tokio::time::sleep(PAUSE.min(next)).await;
        tokio::select! {
            () = changed.rung() => {}
            () = tokio::time::sleep(next.saturating_sub(PAUSE).min(period)) => {}
        }
    }
}

/// Acts on what has passed; how long until something else may have.
async fn look(
    node: &Node,
    told: &mut HashMap<VmId, Instant>,
    period: Duration,
) -> Result<Duration, qvd_db::Error> {
    let limited = expiry::limits(&node.database, node.own.host).await?;
    told.retain(|vm, _| limited.iter().any(|now| now.vm == *vm && now.soft.is_some()));
    let mut next = period;
    for vm in limited {
        if vm.hard.as_ref().is_some_and(|hard| hard.left.is_zero()) {
            if expiry::stop(&node.database, &node.actor, node.own.host, vm.vm).await? {
                info!(vm = vm.vm.0, "expired; it is told to stop");
            }
            continue;
        }
        let until = |limit: Option<&expiry::Limit>| limit.map_or(Duration::MAX, |limit| limit.left);
        next = next.min(until(vm.hard.as_ref()));
        if vm.soft.as_ref().is_some_and(|soft| soft.left.is_zero()) {
            if told.get(&vm.vm).is_none_or(|at| at.elapsed() >= period) {
                told.insert(vm.vm, Instant::now());
                tell(node, &vm).await?;
            }
        } else {
            next = next.min(until(vm.soft.as_ref()));
        }
    }
    Ok(next)
}

/// Tells the agent, which runs its hook. One that does not answer is told again with the next period.
async fn tell(node: &Node, limited: &Limited) -> Result<(), qvd_db::Error> {
    let desktop = router::desktop(&node.database, limited.vm).await?;
    let Some(place) = desktop.and_then(|desktop| desktop.place) else { return Ok(()) };
    let limit = node.config.now().seconds("internal.hkd.agent.rpc.timeout").unwrap_or(PAUSE);
    let text = |limit: &Option<expiry::Limit>| limit.as_ref().map(|limit| limit.text.clone());
    let (soft, hard) = (text(&limited.soft), text(&limited.hard));
    let agent = Agent::new(place.address, place.agent_port, place.secret);
    match agent.expire(soft.as_deref(), hard.as_deref(), limit).await {
        Ok(()) => info!(vm = limited.vm.0, "past its soft limit; the desktop was told"),
        Err(error) => warn!(vm = limited.vm.0, "past its soft limit, but the desktop was not told: {error}"),
    }
    Ok(())
}
