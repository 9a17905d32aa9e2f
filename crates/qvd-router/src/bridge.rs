//! A connection that has reached its desktop: bytes, until something ends it.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use qvd_db::router::{Ending, Session};
use qvd_model::UserState;
use qvd_model::event::EndReason;
use qvd_relay::{Duplex, Traffic, duplex};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::info;

use crate::cause;
use crate::router::Router;
use crate::sessions::Told;
use crate::stream::Stream;
use crate::tickets;

/// A client's session and the connection to its desktop.
pub(crate) struct Bridge {
    pub(crate) session: Session,
    /// The digest of the client's ticket.
    pub(crate) ticket: Option<Box<str>>,
    pub(crate) desktop: TcpStream,
    pub(crate) told: Told,
}

impl Bridge {
    /// Copies until either side ends, somebody has it ended, or the router stops; then releases the session.
    pub(crate) async fn run(self: Box<Self>, router: Arc<Router>, mut client: Stream, early: BytesMut) {
        let Self { session, ticket, mut desktop, mut told } = *self;
        let begun = Instant::now();
        info!(vm = session.vm.0, user = session.user.0, session = session.id, "connected");
        let mut relay = Duplex::new(early);
        let cause = tokio::select! {
            ended = relay.run(&mut client, &mut desktop) => Err(ended),
            reason = told.reason() => Ok(reason),
            () = router.ending.cancelled() => Ok(EndReason::Drain),
        };
        duplex::close(&mut desktop).await;
        drop(desktop);
        let reason = match cause {
            Ok(reason) => reason,
            // Boxed, so that the task does not carry its size as long as it copies.
            Err(ended) => Box::pin(cause::of(&router, session.vm, &ended)).await.reason(),
        };
        drop(told);
        let lasted = begun.elapsed();
        end(&router, session, ending(reason, ticket, relay.traffic(), lasted), lasted).await;
        // Not before its ticket has ended, or it would come back with it.
        duplex::close(&mut client).await;
    }

    /// The client left before the first byte. It may not have got its ticket, and may.
    pub(crate) async fn abandon(self, router: &Arc<Router>) {
        let ending = ending(EndReason::Left, None, Traffic::default(), Duration::ZERO);
        end(router, self.session, ending, Duration::ZERO).await;
    }
}

async fn end(router: &Arc<Router>, session: Session, ending: Ending, lasted: Duration) {
    let short = router.config.now().seconds("internal.l7r.short_session");
    if short.is_ok_and(|limit| lasted < limit) {
        router.counting.add(|c| c.short_sessions += 1);
    }
    let Ending { reason, .. } = &ending;
    info!(vm = session.vm.0, session = session.id, %reason, seconds = lasted.as_secs(), "disconnected");
    router.release(session, ending).await;
}

fn ending(reason: EndReason, ticket: Option<Box<str>>, traffic: Traffic, lasted: Duration) -> Ending {
    let text = format!(
        "connected for {} s; {} bytes from the client, {} to it",
        lasted.as_secs(),
        traffic.from_client,
        traffic.from_desktop
    );
    let ticket = ticket.filter(|_| tickets::ends_with(reason));
    Ending { from: UserState::Connected, reason, text, ticket }
}
