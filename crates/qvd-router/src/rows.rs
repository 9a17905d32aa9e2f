//! The rows that connects wait for.
//!
//! A notification says that some VM has changed, not which. However many connects wait, one statement looks at all
//! their rows, and only those whose row has changed read it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qvd_db::router;
use qvd_model::{VmId, notify};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;

use crate::router::Router;

/// Rows are not looked at more often, however many VMs of the installation change.
const PAUSE: Duration = Duration::from_millis(10);
/// Nor for more than a fifth of the time: when thousands wait, each look at their rows is a long one.
const SHARE: u32 = 4;

/// The version of a row; `None` before it was looked at, and for a row that is gone.
type Version = Option<i64>;

/// Who waits for which row.
#[derive(Debug, Default)]
pub(crate) struct Rows(Mutex<HashMap<VmId, watch::Sender<Version>>>);

/// One connect's wait for changes of its row.
pub(crate) struct Watched {
    rows: Arc<Rows>,
    vm: VmId,
    versions: watch::Receiver<Version>,
    /// The version that was read.
    known: Version,
}

impl Rows {
    /// Follows the row of a VM.
    pub(crate) fn watch(self: &Arc<Self>, vm: VmId) -> Watched {
        let versions = self.waiting().entry(vm).or_insert_with(|| watch::Sender::new(None)).subscribe();
        Watched { rows: self.clone(), vm, versions, known: None }
    }

    fn ids(&self) -> Vec<VmId> {
        self.waiting().keys().copied().collect()
    }

    /// Takes what was found of the rows that were looked for.
    fn found(&self, looked: &[VmId], versions: &HashMap<VmId, i64>) {
        let waiting = self.waiting();
        for vm in looked {
            if let Some(sender) = waiting.get(vm) {
                let version = versions.get(vm).copied();
                sender.send_if_modified(|known| std::mem::replace(known, version) != version);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<VmId, watch::Sender<Version>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Tells that this version was read.
    pub(crate) fn know(&mut self, version: Version) {
        self.known = version.or(self.known);
    }

    /// Waits until the row has changed since it was looked at last, or was read.
    pub(crate) async fn changed(&mut self) {
        while self.versions.changed().await.is_ok() {
            let seen = *self.versions.borrow_and_update();
            if seen.is_none() || seen != self.known {
                self.known = None;
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut waiting = self.rows.waiting();
        // Our own receiver still counts.
        if waiting.get(&self.vm).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.vm);
        }
    }
}

/// Looks at the rows that are waited for whenever some VM has changed.
pub(crate) async fn follow(router: Arc<Router>) {
    let mut bell = router.listener.subscribe(notify::VM_CHANGED);
    let mut rested = Instant::now();
    loop {
        bell.rung().await;
        tokio::time::sleep_until(rested).await;
        let begun = Instant::now();
        rested = begun + PAUSE;
        let looked = router.rows.ids();
        if looked.is_empty() {
            continue;
        }
        match router::versions(&router.database, &looked).await {
            Ok(versions) => router.rows.found(&looked, &versions),
            // The listener rings again when it is back, and so do the connects' own clocks.
            Err(error) => debug!("rows are not looked at: {error}"),
        }
        rested = rested.max(Instant::now() + begun.elapsed() * SHARE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rings(watched: &mut Watched) -> bool {
        let rung = watched.versions.has_changed().unwrap();
        watched.versions.mark_unchanged();
        rung
    }

    #[test]
    fn only_who_waits_for_a_row_hears_of_its_change() {
        let rows = Arc::new(Rows::default());
        let [mut one, mut other] = [1, 2].map(|vm| rows.watch(VmId(vm)));
        let mut look = |first: i64, second: i64| {
            rows.found(&rows.ids(), &HashMap::from([(VmId(1), first), (VmId(2), second)]));
            (rings(&mut one), rings(&mut other))
        };
        assert_eq!(look(10, 20), (true, true), "seen for the first time");
        assert_eq!(look(10, 20), (false, false));
        assert_eq!(look(11, 20), (true, false));
        assert_eq!(look(11, 21), (false, true));
        rows.found(&[VmId(1)], &HashMap::new());
        assert!(rings(&mut one), "the row is gone");
    }

    #[tokio::test]
    async fn a_version_that_was_read_is_no_change() {
        let rows = Arc::new(Rows::default());
        let mut watched = rows.watch(VmId(1));
        let look = |version| rows.found(&[VmId(1)], &HashMap::from([(VmId(1), version)]));
        watched.know(Some(10));
        look(10);
        assert!(tokio::time::timeout(Duration::ZERO, watched.changed()).await.is_err());
        look(11);
        watched.changed().await;
        // What is read later is not what was known.
        look(10);
        watched.changed().await;
    }

    #[test]
    fn nobody_who_left_is_remembered() {
        let rows = Arc::new(Rows::default());
        let [one, same, other] = [1, 1, 2].map(|vm| rows.watch(VmId(vm)));
        drop(one);
        assert_eq!(rows.ids().len(), 2);
        drop((same, other));
        assert!(rows.ids().is_empty());
    }
}
