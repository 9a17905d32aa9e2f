//! Requests that come through a proxy or a balancer (`api.trusted-proxies`).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::App;
use crate::session::Peer;

/// Puts the client in place of a trusted proxy, for sessions, guesses and the log.
pub(super) async fn believe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    if let Some(Peer::Remote(peer)) = request.extensions().get().copied() {
        let lines = request.headers().get_all("x-forwarded-for").iter();
        let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or_default()).collect();
        let origin = app.proxies.origin(peer, &lines.join(","));
        request.extensions_mut().insert(Peer::Remote(origin));
    }
    next.run(request).await
}
