//! TERM and INT ask a daemon to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first TERM or INT.
pub fn stop_token() -> std::io::Result<CancellationToken> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => tracing::info!("TERM received, stopping"),
            _ = int.recv() => tracing::info!("INT received, stopping"),
            () = cancel.cancelled() => {}
        }
        cancel.cancel();
    });
    Ok(token)
}
