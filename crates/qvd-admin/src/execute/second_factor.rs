//! The second factor of the administrator who asks: to see, begin, confirm and end it, and to take that of another one
//! away. What changes and its line in the log are one transaction.

use std::sync::Arc;

use qvd_auth::{Code, SecondFactor, recovery_codes};
use qvd_db::admin::identity::{self, Administrator};
use qvd_db::admin::second_factor as rows;
use qvd_db::admin::select::Identity;
use qvd_db::attempts::Admission;
use qvd_db::{Transaction, Vault};
use qvd_model::action::{Order, Status};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::{Reply, Request, selected, summed_up};
use crate::app::App;
use crate::change::Change;
use crate::refusal::{Doing, Refusal};
use crate::second_factor::{is_in_force, step, takes};
use crate::session::{NOWHERE, internal};

/// Whether logins need a code.
pub(super) async fn see(app: &App, request: &Request) -> Result<Reply, Refusal> {
    let who = own(app, request).await?;
    let client = app.database.client().await?;
    let factor = rows::find(app.database.vault(), &client, who.id).await?.filter(|factor| factor.confirmed);
    let members = json!({
        "confirmed": u8::from(factor.is_some()),
        "recovery_codes_left": factor.map_or(0, |factor| factor.recovery),
    });
    let Value::Object(members) = members else { return Ok(Reply::Members(Map::new())) };
    Ok(Reply::Members(members))
}

/// Gives an order to the own second factor.
pub(super) async fn order(app: &App, request: Arc<Request>, order: Order) -> Result<Reply, Refusal> {
    let who = own(app, &request).await?;
    let done = match order {
        Order::Begin => begin(app, &request, &who).await,
        Order::Confirm => confirm(app, &request, &who).await,
        _ => end(app, &request, &who).await,
    };
    if let Err(refusal) = &done
        && refusal.status() != Status::DatabaseAway
    {
        let client = app.database.client().await?;
        request.circumstances.refused(&client, Some(&identity_of(&who)), refusal.status()).await?;
    }
    done
}

/// Takes the second factors of the selected administrators away.
pub(super) async fn reset(app: &App, request: Arc<Request>) -> Result<Reply, Refusal> {
    let objects = selected(app, &request).await?;
    if objects.is_empty() {
        return Err(Refusal::new(Status::NothingMatched));
    }
    let mut outcomes = Vec::new();
    for object in objects {
        let (shared, target) = (request.clone(), object.clone());
        let done = app
            .database
            .transaction("take a second factor away", move |tx| {
                let (request, object) = (shared.clone(), target.clone());
                Box::pin(async move { remove_in(tx, &request, &object).await })
            })
            .await;
        outcomes.push((object, done));
    }
    summed_up(app, &request, Doing::Writing, outcomes).await
}

/// The administrator who asks.
async fn own(app: &App, request: &Request) -> Result<Administrator, Refusal> {
    let id = request.circumstances.caller.id.ok_or_else(|| {
        Refusal::new(Status::NothingMatched).because("root has no login, and so no second factor")
    })?;
    let client = app.database.client().await?;
    identity::by_id(&client, id).await?.ok_or_else(|| Refusal::new(Status::NothingMatched))
}

fn identity_of(who: &Administrator) -> Identity {
    Identity { id: who.id, name: who.name.clone(), tenant: Some(who.tenant) }
}

fn change(name: &str, before: bool, after: bool) -> Change {
    let state = |on: bool| Map::from_iter([(name.to_owned(), json!(on))]);
    Change::between(Some(state(before)), Some(state(after)))
}

async fn begin(app: &App, request: &Arc<Request>, who: &Administrator) -> Result<Reply, Refusal> {
    let secret = SecretString::from(SecondFactor::fresh().as_str());
    let factor = SecondFactor::new(secret.expose_secret()).map_err(internal)?;
    let uri = factor.uri("QVD", &format!("{}@{}", who.name, who.tenant_name));
    let row = json!({"secret": secret.expose_secret(), "uri": uri.as_str()}).to_string();
    let (request, object, vault) = (request.clone(), identity_of(who), app.database.vault().clone());
    app.database
        .transaction("begin a second factor", move |tx| {
            let (request, object) = (request.clone(), object.clone());
            let (vault, secret) = (vault.clone(), secret.clone());
            Box::pin(async move { begin_in(tx, &request, &object, &vault, &secret).await })
        })
        .await?;
    Ok(Reply::Rows { rows: vec![row], total: 1 })
}

async fn begin_in(
    tx: &Transaction<'_>,
    request: &Request,
    object: &Identity,
    vault: &Vault,
    secret: &SecretString,
) -> Result<(), Refusal> {
    if !rows::begin(vault, tx, object.id, secret).await? {
        return Err(Refusal::new(Status::Duplicate).because("end the second factor that is in force first"));
    }
    request.circumstances.done(tx, object, &change("second_factor_begun", false, true)).await
}

async fn confirm(app: &App, request: &Arc<Request>, who: &Administrator) -> Result<Reply, Refusal> {
    let client = app.database.client().await?;
    let factor = rows::find(app.database.vault(), &client, who.id).await?;
    drop(client);
    let factor = factor
        .filter(|f| !f.confirmed)
        .ok_or_else(|| Refusal::new(Status::NothingMatched).because("begin a second factor first"))?;
    let step = match code_of(request)? {
        Code::Now(code) => step(&factor, code)?,
        Code::Recovery(_) => None,
    };
    let step = step.ok_or_else(wrong_code)?;
    let (codes, digests): (Vec<_>, Vec<_>) = recovery_codes().into_iter().unzip();
    let (request, object) = (request.clone(), identity_of(who));
    app.database
        .transaction("confirm a second factor", move |tx| {
            let (request, object, digests) = (request.clone(), object.clone(), digests.clone());
            Box::pin(async move { confirm_in(tx, &request, &object, step, &digests).await })
        })
        .await?;
    let codes: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    Ok(Reply::Rows { rows: vec![json!({ "recovery_codes": codes }).to_string()], total: 1 })
}

async fn confirm_in(
    tx: &Transaction<'_>,
    request: &Request,
    object: &Identity,
    step: i64,
    digests: &[String],
) -> Result<(), Refusal> {
    if !rows::confirm(tx, object.id, step, digests).await? {
        return Err(Refusal::new(Status::NothingMatched));
    }
    // Sessions that were opened without a code are not trusted any more.
    identity::revoke(tx, object.id, &request.circumstances.session).await?;
    request.circumstances.tell(tx, object, "logins need a code").await?;
    request.circumstances.done(tx, object, &change("second_factor", false, true)).await
}

async fn end(app: &App, request: &Arc<Request>, who: &Administrator) -> Result<Reply, Refusal> {
    if !is_in_force(app, who.id).await? {
        return Err(Refusal::new(Status::NothingMatched).because("logins need no code"));
    }
    code_of(request)?;
    let account = format!("second factor of {}", who.id);
    // Whoever stole a session must not find the code by trying.
    let attempt = match app.attempts.enter(NOWHERE, Some(&account)).await? {
        Admission::Admitted(attempt) => attempt,
        Admission::Refused(wait) => return Err(Refusal::too_early(wait)),
    };
    let (request, object, vault) = (request.clone(), identity_of(who), app.database.vault().clone());
    let done = app
        .database
        .transaction("end a second factor", move |tx| {
            let (request, object, vault) = (request.clone(), object.clone(), vault.clone());
            Box::pin(async move {
                if !takes(&vault, tx, object.id, &code_of(&request)?).await? {
                    return Err(wrong_code());
                }
                remove_in(tx, &request, &object).await
            })
        })
        .await;
    match &done {
        Ok(()) => attempt.succeeded().await?,
        Err(refusal) if refusal.status() == Status::WrongArgumentValue => attempt.failed().await?,
        Err(_) => attempt.undecided(),
    }
    done.map(|()| Reply::Done(1))
}

async fn remove_in(tx: &Transaction<'_>, request: &Request, object: &Identity) -> Result<(), Refusal> {
    if !rows::remove(tx, object.id).await? {
        return Err(Refusal::new(Status::NothingMatched));
    }
    request.circumstances.tell(tx, object, "logins need no code any more").await?;
    request.circumstances.done(tx, object, &change("second_factor", true, false)).await
}

fn code_of(request: &Request) -> Result<Code<'_>, Refusal> {
    let given = request.checked.values.iter().find(|(field, _)| field.name == "code");
    let typed = given.and_then(|(_, value)| value.as_deref()).unwrap_or_default();
    Code::parse(typed).ok_or_else(wrong_code)
}

fn wrong_code() -> Refusal {
    Refusal::about(Status::WrongArgumentValue, "code").because("it is wrong, too old, or was used before")
}
