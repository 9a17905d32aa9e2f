//! Counters of the host, gathered and added to its row now and then.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use qvd_db::router::{self, Counters};
use tracing::debug;

use crate::router::Router;

/// How often counters are written, if there is something to write.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// Increments that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Counting(Mutex<Counters>);

impl Counting {
    /// Counts something.
    pub(crate) fn add(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes what was gathered; keeps it if the database is away. Whether there was anything.
    pub(crate) async fn flush(&self, router: &Router) -> bool {
        let Some(host) = router.host_id() else { return false };
        let gathered = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if gathered == Counters::default() {
            return false;
        }
        if let Err(error) = router::count(&router.database, host, gathered).await {
            debug!("counters kept for later: {error}");
            self.add(|counters| {
                counters.http_requests += gathered.http_requests;
                counters.auth_attempts += gathered.auth_attempts;
                counters.auth_ok += gathered.auth_ok;
                counters.nx_attempts += gathered.nx_attempts;
                counters.nx_ok += gathered.nx_ok;
                counters.short_sessions += gathered.short_sessions;
            });
        }
        true
    }
}
