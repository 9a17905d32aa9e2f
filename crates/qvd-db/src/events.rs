//! The story of objects: who did what when, and why something failed.

use std::sync::Arc;

use qvd_model::event::{EndReason, ObjectKind};
use qvd_model::{UserState, VmId};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{Error, Session, Sql};

const RECORD: Sql = Sql::new(
    "record an event",
    "INSERT INTO events (kind, object_id, object_name, actor, from_state, to_state, code, text) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
);
const RECORD_END: Sql = Sql::new(
    "record the end of a session",
    "INSERT INTO events (kind, object_id, object_name, actor, from_state, to_state, code, text, session_id) \
     VALUES ('vm', $1, $2, $3, $4, 'disconnected', $5, $6, $7)",
);
const END: Sql = Sql::new(
    "read the end of a session",
    "SELECT code, text FROM events WHERE session_id = $1 ORDER BY id DESC LIMIT 1",
);
const ORDERED: Sql = Sql::new(
    "read who had the VM stopped",
    "SELECT code FROM events WHERE kind = 'vm' AND object_id = $1 AND (code IN ('stop', 'expired') \
     OR to_state = 'starting') ORDER BY id DESC LIMIT 1",
);
const STORY: Sql = Sql::new(
    "read events",
    "SELECT time, object_name, actor, from_state, to_state, code, text FROM events \
     WHERE kind = $1 AND object_id = $2 ORDER BY id DESC LIMIT $3",
);

pub(crate) const ALL: &[Sql] = &[RECORD, RECORD_END, END, ORDERED, STORY];

/// Who makes something happen, as it stands in `events.actor`: `admin:NAME`, `user:LOGIN`, `hkd:HOST`, …
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(Arc<str>);

impl Actor {
    /// An administrator.
    pub fn administrator(name: &str) -> Self {
        Self(format!("admin:{name}").into())
    }

    /// A user, through a router.
    pub fn user(login: &str) -> Self {
        Self(format!("user:{login}").into())
    }

    /// The daemon of a node.
    pub fn node(host: &str) -> Self {
        Self(format!("hkd:{host}").into())
    }

    /// A router.
    pub fn router(host: &str) -> Self {
        Self(format!("l7r:{host}").into())
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Something that happened to an object.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// What kind of object.
    pub kind: ObjectKind,
    /// Which one.
    pub id: i32,
    /// Its name at that time.
    pub name: &'a str,
    /// The state it left.
    pub from: Option<&'a str>,
    /// The state it entered.
    pub to: Option<&'a str>,
    /// A word for programs: an action, a failure code, an end reason.
    pub code: &'a str,
    /// A sentence for people.
    pub text: &'a str,
}

/// A line of an object's story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When, UTC.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// The object's name at that time.
    pub name: Option<String>,
    /// Who.
    pub actor: Option<String>,
    /// The state it left.
    pub from: Option<String>,
    /// The state it entered.
    pub to: Option<String>,
    /// A word for programs.
    pub code: Option<String>,
    /// A sentence for people.
    pub text: Option<String>,
}

/// Writes an event; in the caller's transaction where there is one.
pub async fn record(session: &impl Session, actor: &Actor, event: Event<'_>) -> Result<(), Error> {
    let kind = event.kind.as_str();
    let actor = actor.as_str();
    RECORD
        .execute(
            session,
            &[&kind, &event.id, &event.name, &actor, &event.from, &event.to, &event.code, &event.text],
        )
        .await
        .map(drop)
}

/// How a client's connection to its VM ended.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The VM.
    pub vm: VmId,
    /// Its name at that time, where it is known.
    pub vm_name: &'a str,
    /// The number of the session, by which its client may ask.
    pub session: Option<i64>,
    /// The state that it left, where it is known.
    pub from: Option<UserState>,
    /// Why.
    pub reason: EndReason,
    /// A sentence for people.
    pub text: &'a str,
}

/// Writes the end of a client's connection; in the caller's transaction.
pub async fn record_end(session: &impl Session, actor: &Actor, end: End<'_>) -> Result<(), Error> {
    let End { vm, vm_name, session: number, from, reason, text } = end;
    let (actor, from, reason) = (actor.as_str(), from.map(UserState::as_str), reason.as_str());
    RECORD_END.execute(session, &[&vm.0, &vm_name, &actor, &from, &reason, &text, &number]).await.map(drop)
}

/// Why the session of this number ended, and what is known besides; `None` while it goes on, and for one that never
/// was.
pub async fn end(session: &impl Session, number: i64) -> Result<Option<(EndReason, String)>, Error> {
    let Some(row) = END.query_opt(session, &[&number]).await? else { return Ok(None) };
    Ok(Some((END.word(&row, "code")?, END.column::<Option<String>>(&row, "text")?.unwrap_or_default())))
}

/// Why the VM was told to stop since its last start; `None` if nobody told it.
pub async fn stop_ordered(session: &impl Session, vm: VmId) -> Result<Option<EndReason>, Error> {
    let Some(row) = ORDERED.query_opt(session, &[&vm.0]).await? else { return Ok(None) };
    Ok(match ORDERED.column::<&str>(&row, "code")? {
        "stop" => Some(EndReason::VmStopped),
        "expired" => Some(EndReason::Expired),
        _ => None,
    })
}

/// The latest `limit` events of an object, newest first.
pub async fn story(
    session: &impl Session,
    kind: ObjectKind,
    id: i32,
    limit: i64,
) -> Result<Vec<Line>, Error> {
    let rows = STORY.query(session, &[&kind.as_str(), &id, &limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Line {
                time: STORY.column(row, "time")?,
                name: STORY.column(row, "object_name")?,
                actor: STORY.column(row, "actor")?,
                from: STORY.column(row, "from_state")?,
                to: STORY.column(row, "to_state")?,
                code: STORY.column(row, "code")?,
                text: STORY.column(row, "text")?,
            })
        })
        .collect()
}
