//! Second factors of administrators: to begin, confirm and end one, and to check a code at a login.

use qvd_auth::{Code, SecondFactor, recovery_codes};
use qvd_db::Transaction;
use qvd_db::admin::audit::{self, Record};
use qvd_db::admin::identity;
use qvd_db::admin::second_factor::{self as rows, Factor};
use qvd_db::attempts::Admission;
use qvd_model::action::Status;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::app::App;
use crate::caller::Caller;
use crate::change::Change;
use crate::envelope::Envelope;
use crate::execute::Reply;
use crate::refusal::Refusal;
use crate::session::{Origin, internal};

/// What may be asked about a second factor; the words are the actions of the request and of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Whether there is one.
    See,
    /// A new secret.
    Begin,
    /// From now on logins need a code.
    Confirm,
    /// From now on they do not.
    End,
    /// That of another administrator is gone.
    Reset,
}

const WISHES: [(&str, Wish); 5] = [
    ("second_factor_see", Wish::See),
    ("second_factor_begin", Wish::Begin),
    ("second_factor_confirm", Wish::Confirm),
    ("second_factor_end", Wish::End),
    ("second_factor_reset", Wish::Reset),
];

/// One of these ACLs, which change passwords too, is needed to reset that of somebody else.
const RESET: &[&str] = &["administrator.update.password"];

/// Does what a request to `/api/second_factor` asks for. `digest` stands for its session.
pub(crate) async fn serve(
    app: &App,
    envelope: &Envelope,
    caller: &Caller,
    origin: &Origin,
    digest: &str,
) -> Result<Reply, Refusal> {
    let name = envelope.action.as_deref().ok_or_else(|| Refusal::new(Status::NoAction))?;
    let known = WISHES.iter().find(|(word, _)| *word == name);
    let (action, wish) = *known.ok_or_else(|| Refusal::about(Status::UnknownAction, name))?;
    if caller.token.is_some() && wish != Wish::See {
        return Err(
            Refusal::about(Status::ActionNotAllowed, action).because("tokens change no second factor")
        );
    }
    let target = target(app, envelope, caller, wish).await?;
    let done = match wish {
        Wish::See => return see(app, target.id).await,
        Wish::Begin => begin(app, &target).await,
        Wish::Confirm => confirm(app, envelope, &target, digest).await,
        Wish::End => end(app, envelope, &target).await,
        Wish::Reset => reset(app, &target).await,
    };
    let status = done.as_ref().map_or_else(Refusal::status, |_| Status::Done);
    let change = match (&done, wish) {
        (Ok(_), Wish::Confirm) => said(false, true),
        (Ok(_), Wish::End | Wish::Reset) => said(true, false),
        _ => Change::default(),
    };
    let address = origin.peer.text();
    let record = Record {
        administrator: caller.id,
        administrator_name: Some(&caller.name),
        tenant: Some(target.tenant),
        tenant_name: None,
        action,
        verb: "update",
        arguments: "{}",
        object: "administrator",
        object_id: Some(target.id),
        object_name: Some(&target.name),
        status: i32::from(status.code()),
        source: envelope.source.as_deref(),
        address: Some(&address),
        superadmin: Some(caller.is_super()),
        before: change.before.as_deref(),
        after: change.after.as_deref(),
        user_agent: origin.agent.as_deref(),
    };
    let client = app.database.client().await?;
    audit::record(&client, &record).await?;
    done.map(Reply::Members)
}

fn said(before: bool, after: bool) -> Change {
    let state = |on: bool| Map::from_iter([("second_factor".to_owned(), json!(on))]);
    Change::between(Some(state(before)), Some(state(after)))
}

/// Whose second factor it is.
async fn target(
    app: &App,
    envelope: &Envelope,
    caller: &Caller,
    wish: Wish,
) -> Result<identity::Administrator, Refusal> {
    let client = app.database.client().await?;
    let other = match wish {
        Wish::Reset if !caller.may(RESET) => {
            return Err(Refusal::about(Status::ActionNotAllowed, "second_factor_reset"));
        }
        Wish::Reset => Some(envelope.id.ok_or_else(|| Refusal::about(Status::MissingArgument, "id"))?),
        _ => None,
    };
    let id = other.or(caller.id).ok_or_else(|| {
        Refusal::new(Status::NothingMatched).because("root has no login, and so no second factor")
    })?;
    let found = identity::by_id(&client, id).await?;
    found.filter(|who| caller.reaches(who.tenant)).ok_or_else(|| Refusal::new(Status::NothingMatched))
}

async fn see(app: &App, id: i32) -> Result<Reply, Refusal> {
    let client = app.database.client().await?;
    let factor = rows::find(app.database.vault(), &client, id).await?.filter(|factor| factor.confirmed);
    let members = json!({
        "confirmed": u8::from(factor.is_some()),
        "recovery_codes_left": factor.map_or(0, |factor| factor.recovery),
    });
    Ok(Reply::Members(members_of(members)))
}

async fn begin(app: &App, who: &identity::Administrator) -> Result<Map<String, Value>, Refusal> {
    let secret = SecretString::from(SecondFactor::fresh().as_str());
    let factor = SecondFactor::new(secret.expose_secret()).map_err(internal)?;
    let client = app.database.client().await?;
    if !rows::begin(app.database.vault(), &client, who.id, &secret).await? {
        return Err(Refusal::new(Status::Duplicate).because("end the second factor that is in force first"));
    }
    let account = format!("{}@{}", who.name, who.tenant_name);
    Ok(members_of(json!({"secret": secret.expose_secret(), "uri": factor.uri("QVD", &account).as_str()})))
}

async fn confirm(
    app: &App,
    envelope: &Envelope,
    who: &identity::Administrator,
    digest: &str,
) -> Result<Map<String, Value>, Refusal> {
    let client = app.database.client().await?;
    let factor = rows::find(app.database.vault(), &client, who.id).await?;
    drop(client);
    let factor = factor
        .filter(|f| !f.confirmed)
        .ok_or_else(|| Refusal::new(Status::NothingMatched).because("begin a second factor first"))?;
    let step = match code_of(envelope)? {
        Code::Now(code) => step(&factor, code)?,
        Code::Recovery(_) => None,
    };
    let step = step.ok_or_else(wrong_code)?;
    let (codes, digests): (Vec<_>, Vec<_>) = recovery_codes().into_iter().unzip();
    let (id, session) = (who.id, digest.to_owned());
    app.database
        .transaction("confirm a second factor", move |tx| {
            let (digests, session) = (digests.clone(), session.clone());
            Box::pin(async move { confirm_in(tx, id, step, &digests, &session).await })
        })
        .await?;
    let codes: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    Ok(members_of(json!({ "recovery_codes": codes })))
}

async fn confirm_in(
    tx: &Transaction<'_>,
    id: i32,
    step: i64,
    digests: &[String],
    session: &str,
) -> Result<(), Refusal> {
    if !rows::confirm(tx, id, step, digests).await? {
        return Err(Refusal::new(Status::NothingMatched));
    }
    // Sessions that were opened without a code are not trusted any more.
    Ok(identity::revoke(tx, id, session).await?)
}

async fn end(
    app: &App,
    envelope: &Envelope,
    who: &identity::Administrator,
) -> Result<Map<String, Value>, Refusal> {
    let code = code_of(envelope)?;
    let account = format!("second factor of {}", who.id);
    // Whoever stole a session must not find the code by trying.
    let attempt = match app.attempts.enter(crate::session::NOWHERE, Some(&account)).await? {
        Admission::Admitted(attempt) => attempt,
        Admission::Refused(_) => return Err(Refusal::new(Status::TooManyAttempts)),
    };
    if !takes(app, who.id, &code).await? {
        attempt.failed().await?;
        return Err(wrong_code());
    }
    attempt.succeeded().await?;
    reset(app, who).await
}

async fn reset(app: &App, who: &identity::Administrator) -> Result<Map<String, Value>, Refusal> {
    let client = app.database.client().await?;
    if rows::remove(&client, who.id).await? {
        Ok(Map::new())
    } else {
        Err(Refusal::new(Status::NothingMatched))
    }
}

/// Whether logins of an administrator need a code.
pub(crate) async fn is_in_force(app: &App, administrator: i32) -> Result<bool, Refusal> {
    let client = app.database.client().await?;
    let factor = rows::find(app.database.vault(), &client, administrator).await?;
    Ok(factor.is_some_and(|factor| factor.confirmed))
}

/// Whether a code is right; it is none any more then.
pub(crate) async fn takes(app: &App, administrator: i32, code: &Code<'_>) -> Result<bool, Refusal> {
    let client = app.database.client().await?;
    let Some(factor) = rows::find(app.database.vault(), &client, administrator).await? else {
        return Ok(false);
    };
    Ok(match code {
        Code::Recovery(digest) => rows::take_recovery(&client, administrator, digest).await?,
        Code::Now(code) => match step(&factor, code)? {
            Some(step) => rows::take_step(&client, administrator, step).await?,
            None => false,
        },
    })
}

fn step(factor: &Factor, code: &str) -> Result<Option<i64>, Refusal> {
    let factor = SecondFactor::new(factor.secret.expose_secret()).map_err(internal)?;
    let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or_default();
    Ok(factor.step(code, now))
}

fn code_of(envelope: &Envelope) -> Result<Code<'_>, Refusal> {
    let typed = envelope.code.as_deref().ok_or_else(|| Refusal::about(Status::MissingArgument, "code"))?;
    Code::parse(typed).ok_or_else(wrong_code)
}

fn wrong_code() -> Refusal {
    Refusal::about(Status::WrongArgumentValue, "code").because("it is wrong, too old, or was used before")
}

fn members_of(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
