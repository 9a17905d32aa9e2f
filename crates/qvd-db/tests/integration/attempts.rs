//! Attempts to log in, by crowds.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use qvd_db::attempts::{Admission, Attempt, Attempts};
use qvd_logic::throttle::{Kind, PATIENCE, WAITING};
use testbed::Scratch;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn elsewhere(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, n))
}

/// One process of a daemon.
fn process(scratch: &Scratch, role: &str) -> Attempts {
    let (attempts, counting) = Attempts::new(scratch.database_as(role), CancellationToken::new());
    tokio::spawn(counting);
    attempts
}

async fn admitted(attempts: &Attempts, address: IpAddr, account: &str) -> Attempt {
    let admission = attempts.enter(address, Some(account)).await.unwrap();
    let Admission::Admitted(attempt) = admission else { unreachable!("{admission:?}") };
    attempt
}

/// How many failures count for the pair, the account and the address.
async fn counted(scratch: &Scratch) -> String {
    scratch.text("SELECT string_agg(failures::text, ' ' ORDER BY kind) FROM login_failures").await
}

/// Guesses of a crowd that begin at the same time: when each was let through, and when it had failed.
async fn crowd(
    attempts: &Attempts,
    guesses: Vec<(IpAddr, &'static str)>,
    wanted: usize,
) -> (Vec<[Instant; 2]>, usize) {
    let (done, mut failed) = mpsc::unbounded_channel();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for (address, account) in guesses {
        let (attempts, done, now, most) = (attempts.clone(), done.clone(), now.clone(), most.clone());
        tasks.spawn(async move {
            let attempt = admitted(&attempts, address, account).await;
            let begun = Instant::now();
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            let ended = Instant::now();
            attempt.failed().await.unwrap();
            let _ = done.send([begun, ended]);
        });
    }
    let mut times = Vec::new();
    while times.len() < wanted {
        times.push(failed.recv().await.unwrap());
    }
    (times, most.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_first_guesses_at_once_are_checked_one_after_the_other_and_ever_later() {
    let scratch = Scratch::deployed("guesses").await;
    let api = process(&scratch, "qvd_api");
    let (times, at_once) = crowd(&api, vec![(HOME, "joe"); 40], 5).await;
    assert_eq!(at_once, Kind::Pair.at_once());
    for (pair, failures) in times.windows(2).zip(1..) {
        // The database counts from its own moment of the failure, which is a little later.
        let waited = pair[1][0] - pair[0][1];
        assert!(waited >= Kind::Pair.delay(failures), "{waited:?} after {failures} failures");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_guessed_from_many_addresses_a_few_at_a_time() {
    let scratch = Scratch::deployed("guesses_everywhere").await;
    let router = process(&scratch, "qvd_l7r");
    let guesses: Vec<_> = (0..40).map(|n| (elsewhere(n), "joe")).collect();
    let (_, at_once) = crowd(&router, guesses, 12).await;
    assert!(at_once <= Kind::Account.at_once(), "{at_once} at once");
    // People behind one address have accounts of their own, and only that many are looked at together.
    let names: Vec<&'static str> = (0..40).map(|n| &*format!("user{n}").leak()).collect();
    let (_, at_once) = crowd(&router, names.into_iter().map(|name| (HOME, name)).collect(), 22).await;
    assert!(at_once <= Kind::Address.at_once(), "{at_once} at once");
}

#[tokio::test]
async fn routers_and_apis_count_together_and_success_forgives() {
    let scratch = Scratch::deployed("guesses_shared").await;
    let (router, api) = (process(&scratch, "qvd_l7r"), process(&scratch, "qvd_api"));
    for process in [&router, &api, &router, &api] {
        let attempt = admitted(process, HOME, "joe").await;
        attempt.failed().await.unwrap();
    }
    assert_eq!(counted(&scratch).await, "4 4 4");
    let ahead = "SELECT (free_at > now())::text FROM login_failures WHERE kind = 1";
    assert_eq!(scratch.text(ahead).await, "true", "the next one has to wait in any process");
    let begun = Instant::now();
    let attempt = admitted(&router, HOME, "joe").await;
    let until = "SELECT (free_at - touched > interval '1 second')::text FROM login_failures WHERE kind = 1";
    assert_eq!(scratch.text(until).await, "true", "its turn is taken: another one waits longer");
    assert!(begun.elapsed() > Duration::from_millis(100));
    let others = "SELECT bool_and(free_at <= now())::text FROM login_failures WHERE kind <> 1";
    assert_eq!(scratch.text(others).await, "true", "other accounts of the address do not wait behind it");
    attempt.succeeded().await.unwrap();
    assert_eq!(counted(&scratch).await, "4", "the address stays suspect");
    // Old failures do not count.
    scratch.run("UPDATE login_failures SET failures = 30, touched = now() - interval '16 minutes', free_at = now() + interval '1 hour'").await;
    admitted(&api, HOME, "eve").await.failed().await.unwrap();
    assert_eq!(counted(&scratch).await, "1 1 1");
}

#[tokio::test]
async fn who_leaves_while_the_answer_is_found_has_failed_and_an_outage_is_no_guess() {
    let scratch = Scratch::deployed("guesses_dropped").await;
    let api = process(&scratch, "qvd_api");
    drop(admitted(&api, HOME, "joe").await);
    // It has its turn after that of the other was counted.
    admitted(&api, HOME, "joe").await.undecided();
    assert_eq!(counted(&scratch).await, "1 1 1");
    let Admission::Admitted(token) = api.enter(HOME, None).await.unwrap() else { unreachable!() };
    token.failed().await.unwrap();
    assert_eq!(counted(&scratch).await, "1 1 2", "a token is only an address");
}

#[tokio::test]
async fn a_queue_has_an_end() {
    let scratch = Scratch::deployed("guesses_queue").await;
    let api = process(&scratch, "qvd_api");
    let first = admitted(&api, HOME, "joe").await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..2 * WAITING {
        let api = api.clone();
        waiting.spawn(async move { matches!(api.enter(HOME, Some("joe")).await, Ok(Admission::Refused(_))) });
    }
    for _ in 0..WAITING {
        assert!(waiting.join_next().await.unwrap().unwrap(), "one that had to wait was refused");
    }
    assert!(matches!(api.enter(HOME, Some("joe")).await, Ok(Admission::Refused(wait)) if wait == PATIENCE));
    waiting.shutdown().await;
    first.undecided();
    admitted(&api, HOME, "joe").await.undecided();
}
