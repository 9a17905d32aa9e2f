//! `get … --watch`: a listing that stays true, by the stream of changes of the API.

use std::collections::HashSet;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use qvd_model::action::Object;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::api::Call;
use crate::error::Error;
use crate::noun::Noun;
use crate::output::{Column, Format, Listing, Style, unwritten};
use crate::run::{Context, write};
use crate::transport::Connection;

/// Where the changes are told.
pub(crate) const PATH: &str = "/api/v2/changes";
/// A stream on which nothing comes for so long is dead; it says every 15 s that it lives.
const SILENCE: Duration = Duration::from_secs(40);
/// A listing is not made again sooner than this.
const PACE: Duration = Duration::from_secs(1);
/// Moves the cursor home and clears what is below.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// What the API tells about changes.
pub(crate) struct Changes {
    /// The stream ends with it.
    connection: Connection,
    body: Incoming,
    /// What came of an event that is not complete.
    begun: String,
}

impl Changes {
    pub(crate) const fn new(connection: Connection, body: Incoming) -> Self {
        Self { connection, body, begun: String::new() }
    }

    /// Waits until something about these objects may have changed, or with `None` until anything comes.
    async fn wait(&mut self, object: Option<Object>) -> Result<(), Error> {
        let place = self.connection.place().to_owned();
        let over = |problem: String| Error::Unreachable { place: place.clone(), problem };
        loop {
            while let Some(end) = self.begun.find("\n\n") {
                let event: String = self.begun.drain(..end + 2).collect();
                match meaning(&event) {
                    Meaning::End(why) => return Err(over(why)),
                    Meaning::Everything => return Ok(()),
                    Meaning::Change(kind) if object.is_none_or(|o| o.as_str() == kind) => return Ok(()),
                    Meaning::Alive if object.is_none() => return Ok(()),
                    Meaning::Change(_) | Meaning::Alive => {}
                }
            }
            let frame = timeout(SILENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| over("the stream of changes is silent".to_owned()))?;
            let frame = frame.ok_or_else(|| over("the stream of changes ended".to_owned()))?;
            if let Ok(bytes) = frame.map_err(|e| over(e.to_string()))?.into_data() {
                self.begun.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    }
}

/// What an event means for a listing.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// A row of this kind is another.
    Change(String),
    /// Whatever it shows may be another.
    Everything,
    /// Nothing; the stream lives.
    Alive,
    /// The stream is over.
    End(String),
}

fn meaning(event: &str) -> Meaning {
    let line = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let data: Value = line("data:").and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
    let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match line("event:") {
        Some("change") => Meaning::Change(text("kind")),
        Some("ready" | "reset") => Meaning::Everything,
        Some("end") => Meaning::End(text("detail")),
        _ => Meaning::Alive,
    }
}

/// Shows a listing again whenever it may have changed: on a terminal in its place, elsewhere only the rows that are new or
/// others than before.
pub(crate) async fn watch(
    context: &mut Context<'_>,
    noun: &Noun,
    call: &Call,
    columns: &[Column],
) -> Result<(), Error> {
    // Changes tell nothing about lines of the log; something is written there with nearly each of them.
    let object = (noun.object != Object::Log).then_some(noun.object);
    let repaint = context.style().format == Format::Table && stdout().is_terminal();
    let patience = context.api.settings().timeout;
    let mut shown: Option<HashSet<String>> = None;
    let mut last = Instant::now();
    loop {
        let outcome = follow(context, object, call, columns, repaint, &mut shown, &mut last).await;
        match outcome {
            Err(Error::Unreachable { .. } | Error::Timeout(_))
                if last.elapsed() < patience && shown.is_some() =>
            {
                sleep(PACE).await;
            }
            other => return other,
        }
    }
}

async fn follow(
    context: &mut Context<'_>,
    object: Option<Object>,
    call: &Call,
    columns: &[Column],
    repaint: bool,
    shown: &mut Option<HashSet<String>>,
    last: &mut Instant,
) -> Result<(), Error> {
    let mut changes = context.api.changes().await?;
    loop {
        changes.wait(object).await?;
        sleep_until(*last + if shown.is_none() { Duration::ZERO } else { PACE }).await;
        let answer = context.api.call(call).await?;
        *last = Instant::now();
        let mut rows = answer.rows;
        if object.is_none() {
            // It was read from its end; people read on at the bottom.
            rows.reverse();
        }
        let all: HashSet<String> = rows.iter().map(|row| Value::Object(row.clone()).to_string()).collect();
        let before = shown.replace(all);
        if repaint {
            write(context.out, CLEAR)?;
        } else if let Some(before) = &before {
            rows.retain(|row| !before.contains(&Value::Object(row.clone()).to_string()));
        }
        if before.is_none() || repaint || !rows.is_empty() {
            let style = context.style();
            let style = Style { titles: style.titles && (before.is_none() || repaint), ..style };
            Listing { columns: columns.to_vec(), rows, total: answer.total }.print(style, context.out)?;
            context.out.flush().map_err(unwritten)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_understood() {
        let change = "event: change\nid: 7\ndata: {\"sequence\":7,\"kind\":\"vm\",\"id\":1,\"operation\":\"changed\"}\n\n";
        assert_eq!(meaning(change), Meaning::Change("vm".to_owned()));
        assert_eq!(meaning("event: ready\nid: 1\ndata: {}\n\n"), Meaning::Everything);
        assert_eq!(meaning(": alive\nid: 3\n\n"), Meaning::Alive);
        let end = "event: end\ndata: {\"detail\":\"the session is over\"}\n\n";
        assert_eq!(meaning(end), Meaning::End("the session is over".to_owned()));
    }
}
