//! Making tokens.

use std::sync::Arc;

use qvd_auth::{fresh_token, token_digest};
use qvd_db::Transaction;
use qvd_db::admin::select::Identity;
use qvd_db::admin::tokens::{self, New};
use qvd_model::action::{Object, Status};
use serde_json::json;

use super::create::log_failure;
use super::{Reply, Request};
use crate::app::App;
use crate::change::{Change, state_of};
use crate::refusal::{Doing, Refusal};
use crate::token::{PREFIX, expanded};

/// Makes a token of the caller. It is in the answer, and nowhere else.
pub(super) async fn create(app: &App, request: Arc<Request>) -> Result<Reply, Refusal> {
    let secret = format!("{PREFIX}{}", fresh_token().as_str());
    let created = match new(&request, &secret) {
        Ok(new) => make(app, request.clone(), new).await,
        Err(refusal) => Err(refusal),
    };
    match created {
        Ok(id) => {
            let row = json!({"id": id, "token": secret}).to_string();
            Ok(Reply::Rows { rows: vec![row], total: 1 })
        }
        Err(refusal) => {
            let refusal = refusal.while_doing(Doing::Writing);
            log_failure(app, &request, &refusal).await?;
            Err(refusal)
        }
    }
}

fn new(request: &Request, secret: &str) -> Result<New, Refusal> {
    let caller = &request.circumstances.caller;
    let Some(administrator) = caller.id else {
        return Err(Refusal::about(Status::ActionNotAllowed, "token_create")
            .because("a token belongs to an administrator: log in as the one that it is for"));
    };
    let value = |name: &str| {
        let given = request.checked.values.iter().find(|(field, _)| field.name == name);
        given.and_then(|(_, value)| value.clone())
    };
    let on = |name: &str| value(name).as_deref() == Some("true");
    let mut scope = match value("scope") {
        Some(patterns) => {
            Some(expanded(&patterns, &caller.acls)?.join(" ")).filter(|names| !names.is_empty())
        }
        None => None,
    };
    let expiration = value("expiration");
    if let Some(parent) = &caller.token {
        // A part of a part, and for no longer.
        if parent.limited && scope.is_none() {
            scope = Some(caller.acls.join(" "));
        }
        if let Some((_, end)) = &parent.expiration
            && expiration.as_ref().is_none_or(|own| own > end)
        {
            return Err(Refusal::about(Status::WrongArgumentValue, "expiration")
                .because("a token makes none that outlives it"));
        }
    }
    Ok(New {
        administrator,
        name: value("name").unwrap_or_default(),
        digest: token_digest(secret.as_bytes()),
        read_only: on("read_only"),
        scope,
        manages_tokens: on("manages_tokens"),
        expiration,
    })
}

async fn make(app: &App, request: Arc<Request>, new: New) -> Result<i32, Refusal> {
    app.database
        .transaction("make a token", move |tx| {
            let (request, new) = (request.clone(), new.clone());
            Box::pin(async move { make_in(tx, &request, new).await })
        })
        .await
}

async fn make_in(tx: &Transaction<'_>, request: &Request, new: New) -> Result<i32, Refusal> {
    let id = tokens::insert(tx, &new).await?;
    let tenant = Some(request.circumstances.caller.tenant);
    let identity = Identity { id, name: new.name, tenant };
    let change = Change::between(None, state_of(tx, Object::Token, id).await?);
    request.circumstances.done(tx, &identity, &change).await?;
    Ok(id)
}
