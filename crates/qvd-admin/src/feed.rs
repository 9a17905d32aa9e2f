//! What changes, read once for all streams of this process.
//!
//! A notification says that there is something; it is read from the position where the last reading ended. Streams
//! that do not keep up lose their place rather than hold memory: they are told to begin again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qvd_db::admin::changes::{self, Change, Changes};
use qvd_model::notify;
use tokio::sync::broadcast;
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use crate::app::App;

/// Readings that a stream may be behind.
const BEHIND: usize = 64;
/// Lines that are told at once; more are no news but another farm.
pub(crate) const LINES: i64 = 1000;
/// Lines that are read at once.
const MOST: i64 = 100_000;
/// A notification that got lost is made up for after this time.
const SWEEP: Duration = Duration::from_secs(60);
/// How often old lines are removed.
const FORGET: Duration = Duration::from_secs(600);

/// News for the streams.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// Lines, and the position behind them.
    Lines(Arc<Vec<Change>>, i64),
    /// There was more than anybody wants to read; the position behind it.
    TooMuch(i64),
}

/// Where streams get their news.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    sender: broadcast::Sender<News>,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(BEHIND) }
    }

    /// How many streams listen.
    pub(crate) fn streams(&self) -> usize {
        self.sender.receiver_count()
    }

    /// All news from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<News> {
        self.sender.subscribe()
    }
}

/// Reads news whenever there are some, from a position on that was read before anybody could listen.
pub(crate) async fn follow(app: Arc<App>, position: i64) {
    let mut bell = app.listener.subscribe(notify::CHANGES);
    let mut forget = tokio::time::interval(FORGET);
    forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reader = Reader::at(position);
    loop {
        tokio::select! {
            () = bell.rung() => {}
            () = tokio::time::sleep(SWEEP) => {}
            _ = forget.tick() => {
                if let Err(problem) = forget_old(&app).await {
                    debug!("old changes not removed: {problem}");
                }
            }
            () = app.tasks.stopping() => return,
        }
        match reader.read(&app).await {
            Ok(Some(news)) => {
                // Nobody may be listening.
                let _ = app.feed.sender.send(news);
            }
            Ok(None) => {}
            Err(problem) => warn!("changes not read: {problem}"),
        }
    }
}

async fn forget_old(app: &App) -> Result<(), qvd_db::Error> {
    changes::forget(&app.database.client().await?).await
}

/// How far the reading is.
#[derive(Debug)]
struct Reader {
    position: i64,
    /// Lines behind the position that were read already, with their transactions.
    seen: BTreeMap<i64, i64>,
}

impl Reader {
    fn at(position: i64) -> Self {
        Self { position, seen: BTreeMap::new() }
    }

    async fn read(&mut self, app: &App) -> Result<Option<News>, qvd_db::Error> {
        let client = app.database.client().await?;
        let seen: Vec<i64> = self.seen.keys().copied().collect();
        let found = changes::since(&client, self.position, MOST, &seen).await?;
        self.position = found.next;
        Ok(self.news(found))
    }

    fn news(&mut self, found: Changes) -> Option<News> {
        let Changes { lines, next, lost } = found;
        self.seen.extend(lines.iter().map(|line| (line.id, line.written)));
        self.seen.retain(|_, written| *written >= next);
        let many = i64::try_from(lines.len()).is_ok_and(|lines| lines > LINES);
        match lines.is_empty() {
            _ if lost || many => Some(News::TooMuch(next)),
            true => None,
            false => Some(News::Lines(Arc::new(lines), next)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: i64, written: i64) -> Change {
        let (kind, operation) = ("vm".to_owned(), "changed".to_owned());
        Change { id, written, kind, object: Some(7), tenant: Some(1), operation }
    }

    #[test]
    fn a_line_is_kept_in_mind_until_its_transaction_is_over_for_all() {
        let mut reader = Reader::at(1);
        let found = |lines, next| Changes { lines, next, lost: false };
        // Transaction 10 is still at work while 11 is done.
        assert!(matches!(reader.news(found(vec![line(2, 11)], 10)), Some(News::Lines(_, 10))));
        assert_eq!(reader.seen.keys().collect::<Vec<_>>(), [&2]);
        assert!(matches!(reader.news(found(vec![line(1, 10)], 12)), Some(News::Lines(_, 12))));
        assert!(reader.seen.is_empty());
        assert!(reader.news(found(Vec::new(), 12)).is_none());
        let many = (0..=LINES).map(|id| line(id, 12)).collect();
        assert!(matches!(reader.news(found(many, 12)), Some(News::TooMuch(12))));
        assert_eq!(reader.seen.len(), 1001);
        assert!(matches!(
            reader.news(Changes { lost: true, ..found(Vec::new(), 12) }),
            Some(News::TooMuch(12))
        ));
    }
}
