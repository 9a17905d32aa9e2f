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

/// A client's session and the connection to its desktop.
pub(crate) struct Bridge {
    pub(crate) session: Session,
    pub(crate) desktop: TcpStream,
    pub(crate) told: Told,
}

impl Bridge {
    /// Copies until either side ends, somebody has it ended, or the router stops; then releases the session.
    pub(crate) async fn run(self: Box<Self>, router: Arc<Router>, mut client: Stream, early: BytesMut) {
        let Self { session, mut desktop, mut told } = *self;
        let begun = Instant::now();
        info!(vm = session.vm.0, user = session.user.0, session = session.id, "connected");
        let mut relay = Duplex::new(early);
        let cause = tokio::select! {
            ended = relay.run(&mut client, &mut desktop) => Err(ended),
            reason = told.reason() => Ok(reason),
            () = router.ending.cancelled() => Ok(EndReason::Drain),
        };
        tokio::join!(duplex::close(&mut client), duplex::close(&mut desktop));
        drop((client, desktop));
        let reason = match cause {
            Ok(reason) => reason,
            Err(ended) => cause::of(&router, session.vm, &ended).await.reason(),
        };
        drop(told);
        end(&router, session, reason, relay.traffic(), begun.elapsed()).await;
    }

    /// The client left before the first byte.
    pub(crate) async fn abandon(self, router: &Arc<Router>) {
        end(router, self.session, EndReason::Left, Traffic::default(), Duration::ZERO).await;
    }
}

async fn end(router: &Arc<Router>, session: Session, reason: EndReason, traffic: Traffic, lasted: Duration) {
    let short = router.config.now().seconds("internal.l7r.short_session");
    if short.is_ok_and(|limit| lasted < limit) {
        router.counting.add(|c| c.short_sessions += 1);
    }
    info!(vm = session.vm.0, session = session.id, %reason, seconds = lasted.as_secs(), "disconnected");
    let text = format!(
        "connected for {} s; {} bytes from the client, {} to it",
        lasted.as_secs(),
        traffic.from_client,
        traffic.from_desktop
    );
    router.release(session, Ending { from: UserState::Connected, reason, text }).await;
}
