//! `session_end`: why a session ended, for the client that had it.
//!
//! The number of the session is the proof: 63 random bits that the router tells nobody but the client, inside TLS. So
//! whoever logged in with a token that is spent may ask as well, at any router.

use std::time::Duration;

use qvd_db::events;
use qvd_model::notify;
use qvd_wire::http::{Reply, Request, SessionEnd, Status, encode_end};
use tokio::time::Instant;

use crate::refusal;
use crate::router::Router;

/// A client may ask before its router has written the end, which is told when it is.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers the request.
pub(crate) async fn tell(router: &Router, request: &Request) -> Reply {
    let unknown = || Reply::text(Status::NotFound, "There is no end of such a session\r\n");
    let Some(number) = request.query.value("id").and_then(|id| id.parse::<i64>().ok()) else {
        return unknown();
    };
    let mut changed = router.listener.subscribe(notify::VM_CHANGED);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match end(router, number).await {
            Ok(Some(end)) => return Reply::json(encode_end(&end)),
            Ok(None) => {}
            Err(error) => return refusal::internal(&refusal::of_database(&error)),
        }
        tokio::select! {
            () = changed.rung() => {}
            () = tokio::time::sleep_until(deadline) => return unknown(),
        }
    }
}

async fn end(router: &Router, number: i64) -> Result<Option<SessionEnd>, qvd_db::Error> {
    let client = router.database.client().await?;
    let end = events::end(&client, number).await?;
    Ok(end.map(|(reason, text)| SessionEnd { reason, text }))
}
