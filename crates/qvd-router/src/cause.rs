//! What lies behind the end of one side of a bridge.

use std::time::Duration;

use qvd_db::events;
use qvd_db::router::{self, Desktop};
use qvd_logic::session::{Cause, Seen};
use qvd_model::event::EndReason;
use qvd_model::{FailureCode, VmId, VmState};
use qvd_relay::{Ended, Side};
use qvd_rpc::Agent;
use tokio::time::timeout;

use crate::router::Router;

/// How long the whole question may take.
const LIMIT: Duration = Duration::from_secs(3);
/// How long the agent of a desktop that lives takes at most to say so.
const AGENT_LIMIT: Duration = Duration::from_secs(1);

/// Finds out. A VM that dies takes its connections along before its node can write that it does: where the agent is
/// silent, the row is waited for.
pub(crate) async fn of(router: &Router, vm: VmId, ended: &Ended) -> Cause {
    let mut last = None;
    // When the time is over, what was seen last has to do.
    let _ = timeout(LIMIT, look(router, vm, ended.by, &mut last)).await;
    match ended.by {
        Side::Client => Cause::Client { orderly: ended.orderly(), vm: last },
        Side::Desktop => Cause::Desktop(last),
    }
}

/// Resolves when `seen` will not get better.
async fn look(router: &Router, vm: VmId, by: Side, seen: &mut Option<Seen>) {
    let mut row = router.rows.watch(vm);
    loop {
        let Ok(mut now) = read(router, vm).await else { return };
        *seen = now.as_ref().map(|(now, _)| *now);
        let Some((now, desktop)) = &mut now else { return };
        if by == Side::Client && now.state == VmState::Running || now.is_settled() {
            return;
        }
        now.answers = answers(desktop).await;
        *seen = Some(*now);
        if now.is_settled() {
            return;
        }
        row.changed().await;
    }
}

async fn read(router: &Router, vm: VmId) -> Result<Option<(Seen, Desktop)>, qvd_db::Error> {
    let Some(desktop) = router::desktop(&router.database, vm).await? else { return Ok(None) };
    let ordered = events::stop_ordered(&router.database.client().await?, vm).await?;
    let lost = desktop.failure.as_ref().is_some_and(|failure| failure.code == FailureCode::NodeLost);
    let seen = Seen {
        state: desktop.state,
        ordered: if lost { Some(EndReason::NodeLost) } else { ordered },
        failed: desktop.failure.is_some(),
        host_alive: desktop.host_alive,
        answers: false,
    };
    Ok(Some((seen, desktop)))
}

async fn answers(desktop: &Desktop) -> bool {
    let Some(place) = desktop.place.as_ref().filter(|_| desktop.state == VmState::Running) else {
        return false;
    };
    Agent::new(place.address, place.agent_port, place.secret.clone()).x_state(AGENT_LIMIT).await.is_ok()
}
