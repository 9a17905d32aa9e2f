//! TERM and INT ask a daemon to stop, USR1 to let its work run out beside a successor.

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

/// What a daemon that can be replaced is asked to do.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    /// End.
    pub stop: CancellationToken,
    /// Take no new work, since a successor does, and end with what there is.
    pub retire: CancellationToken,
}

impl From<CancellationToken> for Orders {
    /// A daemon that nobody replaces.
    fn from(stop: CancellationToken) -> Self {
        Self { stop, retire: CancellationToken::new() }
    }
}

/// A token that is cancelled by the first USR1.
pub fn retire_token() -> std::io::Result<CancellationToken> {
    let mut usr1 = signal(SignalKind::user_defined1())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = usr1.recv() => tracing::info!("USR1 received, a successor takes over"),
            () = cancel.cancelled() => {}
        }
        cancel.cancel();
    });
    Ok(token)
}
