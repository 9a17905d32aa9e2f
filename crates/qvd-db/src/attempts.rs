//! Attempts to log in: slowed down by those that failed, which all routers and APIs count together.
//!
//! The numbers are those of [`qvd_logic::throttle`]. An attempt waits for its turn in this process, takes a look at what
//! is known about its account and its address, waits as long as that says, and is then decided; only then the next one
//! has its turn. Where nothing has failed it costs one read.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use qvd_logic::throttle::{self, Key, Kind, MEMORY, PATIENCE, STEEPEST, WAITING};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{Database, Error, Sql};

/// Whoever finds failures takes the next free moment of each key for itself, so that trying in parallel is not faster;
/// it begins at the latest of these. `$2` holds the
/// delays by kind and number of failures, `$3` how many there are of each kind.
const ADMIT: Sql = Sql::new(
    "admit an attempt to log in",
    "WITH found AS (SELECT key, kind, failures, free_at FROM login_failures \
     WHERE key IN (SELECT encode(sha256(convert_to(name, 'UTF8')), 'hex') FROM unnest($1::text[]) AS name) \
     AND touched > clock_timestamp() - make_interval(secs => $5) ORDER BY key FOR UPDATE), \
     turn AS (SELECT greatest(max(free_at), clock_timestamp()) AS at, count(*) AS known FROM found), \
     taken AS (UPDATE login_failures AS f SET free_at = greatest(found.free_at, clock_timestamp()) + make_interval(secs => \
     ($2::double precision[])[(found.kind - 1) * $3::integer + least(found.failures, $3)]) FROM found, turn \
     WHERE f.key = found.key AND turn.at <= clock_timestamp() + make_interval(secs => $4) RETURNING f.key) \
     SELECT known, coalesce(extract(epoch FROM at - clock_timestamp()), 0)::double precision AS wait FROM turn",
);
const FAILED: Sql = Sql::new(
    "count a failed attempt to log in",
    "INSERT INTO login_failures AS f (key, kind, failures, free_at, touched) \
     SELECT encode(sha256(convert_to(name, 'UTF8')), 'hex'), kind, 1, \
     clock_timestamp() + make_interval(secs => ($3::double precision[])[(kind - 1) * $4::integer + 1]), clock_timestamp() \
     FROM unnest($1::text[], $2::smallint[]) AS asked (name, kind) ORDER BY 1 \
     ON CONFLICT (key) DO UPDATE SET failures = CASE WHEN f.touched < excluded.touched - make_interval(secs => $5) \
     THEN 1 ELSE f.failures + 1 END, touched = excluded.touched, \
     free_at = greatest(f.free_at, clock_timestamp() + make_interval(secs => \
     ($3::double precision[])[(f.kind - 1) * $4 + least(CASE WHEN f.touched < excluded.touched - make_interval(secs => $5) \
     THEN 1 ELSE f.failures + 1 END, $4)]))",
);
const FORGIVE: Sql = Sql::new(
    "forgive the failures of an account",
    "DELETE FROM login_failures WHERE key IN \
     (SELECT encode(sha256(convert_to(name, 'UTF8')), 'hex') FROM unnest($1::text[]) AS name)",
);
const FORGET: Sql = Sql::new(
    "forget old failures",
    "DELETE FROM login_failures WHERE touched < clock_timestamp() - make_interval(secs => $1)",
);

pub(crate) const ALL: &[Sql] = &[ADMIT, FAILED, FORGIVE, FORGET];

/// Admits attempts. Clones share the queues.
#[derive(Debug, Clone)]
pub struct Attempts {
    database: Database,
    queues: Arc<Mutex<HashMap<Key, Weak<Semaphore>>>>,
    abandoned: mpsc::UnboundedSender<Abandoned>,
}

/// What becomes of an attempt that wants to be made.
#[derive(Debug)]
pub enum Admission {
    /// It may be checked now.
    Admitted(Attempt),
    /// Too many wait already; it may be tried again after this time.
    Refused(Duration),
}

/// An attempt that is being checked. Whoever drops it undecided, because the client is gone for example, has failed.
#[derive(Debug)]
#[must_use = "an attempt that is dropped counts as failed"]
pub struct Attempt {
    database: Database,
    turn: Option<Turn>,
    /// Whether failures were known.
    known: bool,
    abandoned: mpsc::UnboundedSender<Abandoned>,
}

/// The right to be looked at, and by what.
#[derive(Debug)]
struct Turn {
    keys: Vec<Key>,
    /// The next ones wait for these.
    _permits: Vec<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Abandoned(Turn);

impl Attempts {
    /// Admits attempts, counted in a database. The future counts those that were dropped, until it is told to stop.
    pub fn new(
        database: Database,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Abandoned>();
        let made = Self { database: database.clone(), queues: Arc::default(), abandoned: sender };
        let counting = async move {
            loop {
                let abandoned = tokio::select! {
                    abandoned = receiver.recv() => abandoned,
                    () = stop.cancelled() => {
                        receiver.close();
                        receiver.recv().await
                    }
                };
                let Some(Abandoned(turn)) = abandoned else { return };
                if let Err(error) = count(&database, &turn.keys).await {
                    warn!("an abandoned login is not counted: {error}");
                }
            }
        };
        (made, counting)
    }

    /// Waits until an attempt may be checked. `account` is who it claims to be, normalized; `None` for a token.
    pub async fn enter(&self, address: IpAddr, account: Option<&str>) -> Result<Admission, Error> {
        let keys = throttle::keys(address, account);
        let queues: Vec<_> = keys.iter().map(|key| (key.kind, self.queue(key))).collect();
        let crowded = |(kind, queue): &(Kind, Arc<Semaphore>)| {
            // Each attempt that waits, or has its turn, holds one reference.
            *kind == Kind::Pair && Arc::strong_count(queue) > WAITING
        };
        if queues.iter().any(crowded) {
            return Ok(Admission::Refused(PATIENCE));
        }
        let (own, shared): (Vec<_>, Vec<_>) = queues.into_iter().partition(|(kind, _)| *kind == Kind::Pair);
        let mut permits = pass(own).await;
        let mut others = pass(shared.clone()).await;
        let (known, wait) = self.look(&keys).await?;
        if wait > PATIENCE {
            return Ok(Admission::Refused(wait));
        }
        if !wait.is_zero() {
            // Who waits must not keep others of the same account or address waiting.
            drop(others);
            tokio::time::sleep(wait).await;
            others = pass(shared).await;
        }
        permits.append(&mut others);
        let turn = Some(Turn { keys, _permits: permits });
        let (database, abandoned) = (self.database.clone(), self.abandoned.clone());
        Ok(Admission::Admitted(Attempt { database, turn, known, abandoned }))
    }

    /// Whether failures are known, and how long to wait.
    async fn look(&self, keys: &[Key]) -> Result<(bool, Duration), Error> {
        let client = self.database.client().await?;
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        let patience = PATIENCE.as_secs_f64();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&names, &delays(), &stride(), &patience, &MEMORY.as_secs_f64()];
        let row = ADMIT.query_one(&client, &parameters).await?;
        let (known, wait): (i64, f64) = (ADMIT.column(&row, "known")?, ADMIT.column(&row, "wait")?);
        // A moment is over before it has been waited for.
        let wait = Duration::try_from_secs_f64(wait).unwrap_or_default();
        Ok((known > 0, if wait < Duration::from_millis(1) { Duration::ZERO } else { wait }))
    }

    fn queue(&self, key: &Key) -> Arc<Semaphore> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(key).and_then(Weak::upgrade) {
            return queue;
        }
        if queues.len() == queues.capacity() {
            queues.retain(|_, queue| queue.strong_count() > 0);
        }
        let queue = Arc::new(Semaphore::new(key.kind.at_once()));
        queues.insert(key.clone(), Arc::downgrade(&queue));
        queue
    }
}

impl Attempt {
    /// The credentials were wrong.
    pub async fn failed(mut self) -> Result<(), Error> {
        match self.turn.take() {
            Some(turn) => count(&self.database, &turn.keys).await,
            None => Ok(()),
        }
    }

    /// The credentials were right: the account is trusted from this address again.
    pub async fn succeeded(mut self) -> Result<(), Error> {
        let Some(turn) = self.turn.take().filter(|_| self.known) else { return Ok(()) };
        let keys = turn.keys.iter().filter(|key| key.kind != Kind::Address);
        let names: Vec<&str> = keys.map(|key| key.name.as_str()).collect();
        let client = self.database.client().await?;
        FORGIVE.execute(&client, &[&names]).await.map(drop)
    }

    /// It could not be found out, by no fault of whoever tried.
    pub fn undecided(mut self) {
        self.turn = None;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            // Without a receiver the process ends.
            let _ = self.abandoned.send(Abandoned(turn));
        }
    }
}

async fn pass(queues: Vec<(Kind, Arc<Semaphore>)>) -> Vec<OwnedSemaphorePermit> {
    let mut permits = Vec::new();
    for (_, queue) in queues {
        // No queue is ever closed.
        permits.extend(queue.acquire_owned().await.ok());
    }
    permits
}

async fn count(database: &Database, keys: &[Key]) -> Result<(), Error> {
    let client = database.client().await?;
    let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    let kinds: Vec<i16> = keys.iter().map(|key| key.kind.number()).collect();
    let memory = MEMORY.as_secs_f64();
    FAILED.execute(&client, &[&names, &kinds, &delays(), &stride(), &memory]).await?;
    FORGET.execute(&client, &[&memory]).await.map(drop)
}

/// Seconds after 1, 2, … failures, of all kinds one after the other by their numbers.
fn delays() -> Vec<f64> {
    let failures = 1..=u32::try_from(STEEPEST).unwrap_or(u32::MAX);
    Kind::ALL
        .into_iter()
        .flat_map(|kind| failures.clone().map(move |n| kind.delay(n).as_secs_f64()))
        .collect()
}

fn stride() -> i32 {
    i32::try_from(STEEPEST).unwrap_or(i32::MAX)
}
