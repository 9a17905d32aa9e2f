//! The sessions of this process, and how they are told to end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use qvd_model::event::EndReason;
use tokio::sync::oneshot;

/// All sessions of this process by id.
#[derive(Debug)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<i64, Ear>>,
    number: AtomicI32,
}

#[derive(Debug)]
struct Ear {
    /// Until it is told something: the first reason counts.
    told: Option<oneshot::Sender<EndReason>>,
    /// Whether a row was seen with it; one that still waits for its VM has none.
    seen: bool,
}

/// One session's ear. Dropping it takes the session out.
#[derive(Debug)]
pub(crate) struct Told {
    sessions: Arc<Sessions>,
    id: i64,
    reason: oneshot::Receiver<EndReason>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        // Another process of this host starts elsewhere, so that numbers hardly ever meet.
        Self { open: Mutex::default(), number: AtomicI32::new(rand::random_range(1..i32::MAX)) }
    }

    /// A positive number for `l7r_pid`.
    pub(crate) fn number(&self) -> i32 {
        let next = |n: i32| Some(n.checked_add(1).unwrap_or(1));
        self.number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(1)
    }

    /// Adds a session.
    pub(crate) fn open(self: &Arc<Self>, id: i64) -> Told {
        let (sender, reason) = oneshot::channel();
        self.lock().insert(id, Ear { told: Some(sender), seen: false });
        Told { sessions: self.clone(), id, reason }
    }

    /// The ids of all sessions.
    pub(crate) fn ids(&self) -> Vec<i64> {
        self.lock().keys().copied().collect()
    }

    /// Tells a session to end; the first reason counts.
    pub(crate) fn tell(&self, id: i64, reason: EndReason) {
        if let Some(sender) = self.lock().get_mut(&id).and_then(|ear| ear.told.take()) {
            // Who no longer listens ends already.
            let _ = sender.send(reason);
        }
    }

    /// A session has its row.
    pub(crate) fn found(&self, id: i64) {
        if let Some(ear) = self.lock().get_mut(&id) {
            ear.seen = true;
        }
    }

    /// No row has the session. If one had, somebody took it out.
    pub(crate) fn missed(&self, id: i64) {
        if self.lock().get(&id).is_some_and(|ear| ear.seen) {
            self.tell(id, EndReason::NodeLost);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Ear>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// Resolves when the session is told to end, once.
    pub(crate) async fn reason(&mut self) -> EndReason {
        match (&mut self.reason).await {
            Ok(reason) => reason,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_counts_and_numbers_stay_positive() {
        let sessions = Arc::new(Sessions::new());
        sessions.number.store(i32::MAX - 1, Ordering::Relaxed);
        assert_eq!([sessions.number(), sessions.number(), sessions.number()], [i32::MAX - 1, i32::MAX, 1]);
        let mut told = sessions.open(7);
        sessions.tell(7, EndReason::TakenOver);
        sessions.tell(7, EndReason::Admin);
        assert_eq!(told.reason().await, EndReason::TakenOver);
        drop(told);
        assert!(sessions.ids().is_empty());
    }

    #[tokio::test]
    async fn only_a_session_that_had_a_row_can_lose_it() {
        let sessions = Arc::new(Sessions::new());
        let mut told = sessions.open(7);
        sessions.missed(7);
        assert!(told.reason.try_recv().is_err());
        sessions.found(7);
        sessions.missed(7);
        assert_eq!(told.reason().await, EndReason::NodeLost);
    }
}
