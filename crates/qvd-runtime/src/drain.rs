//! Ending in order: every task is tracked, told to stop, and waited for.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one service. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Drain {
    /// Tasks that end when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { tasks: TaskTracker::new(), stop }
    }

    /// Runs a task that will be waited for.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// The sign to stop.
    pub fn token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Resolves when the service is asked to stop.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// How many tasks still run.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether no task runs.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Resolves when no task runs; nobody is asked to stop.
    pub async fn idle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Asks every task to stop and waits up to `limit`; whether all have ended.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_that_listen_end_and_stubborn_ones_are_reported() {
        let drain = Drain::default();
        let listening = drain.clone();
        drain.spawn(async move { listening.stopping().await });
        assert!(drain.finish(Duration::from_secs(5)).await);

        let drain = Drain::default();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        drain.spawn(ended);
        assert!(tokio::time::timeout(Duration::from_millis(10), drain.idle()).await.is_err());
        end.send(()).unwrap();
        drain.idle().await;
        assert!(!drain.token().is_cancelled());

        let drain = Drain::default();
        let stubborn = drain.spawn(std::future::pending::<()>());
        assert!(!drain.finish(Duration::from_millis(10)).await);
        stubborn.abort();
    }
}
