//! Deletions: each selected object in its own transaction, unless something else needs it.

use std::sync::Arc;

use qvd_db::Transaction;
use qvd_db::admin::select::Identity;
use qvd_db::admin::write;
use qvd_model::action::{Object, Status};

use super::{Reply, Request, roles, selected, summed_up};
use crate::app::App;
use crate::change::{Change, state_of};
use crate::images::{delivery, files, tags};
use crate::refusal::{Doing, Refusal};

pub(super) async fn delete(app: &App, request: Arc<Request>) -> Result<Reply, Refusal> {
    let objects = selected(app, &request).await?;
    if objects.is_empty() {
        return Err(Refusal::new(Status::NothingMatched));
    }
    let mut outcomes = Vec::new();
    for object in objects {
        let (shared, target) = (request.clone(), object.clone());
        let deleted = app
            .database
            .transaction("delete", move |tx| {
                let (request, object) = (shared.clone(), target.clone());
                Box::pin(async move { delete_in(tx, &request, &object).await })
            })
            .await;
        if deleted.is_ok() && request.checked.action.object == Object::Di {
            // Only now: a deletion that is undone must still have its file.
            files::remove(app, &object.name).await;
            delivery::forget(app, object.id).await;
        }
        outcomes.push((object, deleted));
    }
    summed_up(app, &request, Doing::Deleting, outcomes).await
}

async fn delete_in(tx: &Transaction<'_>, request: &Request, object: &Identity) -> Result<(), Refusal> {
    let kind = request.checked.action.object;
    let caller = &request.circumstances.caller;
    request.precondition.check(tx, request, object).await?;
    match kind {
        Object::Administrator if caller.id == Some(object.id) => {
            return Err(Refusal::new(Status::OwnDeletion));
        }
        Object::Role => roles::check_changeable(tx, object).await?,
        Object::Tenant if object.id <= 0 || object.id == caller.tenant => {
            return Err(Refusal::about(Status::ActionNotAllowed, object.name.as_str())
                .because("this tenant is part of the installation, or your own"));
        }
        _ => {}
    }
    if let Some((status, found)) = write::obstacle(tx, kind, object.id).await? {
        return Err(Refusal::about(status, found));
    }
    let before = state_of(tx, kind, object.id).await?;
    if kind == Object::Di {
        tags::hand_over(tx, object.id).await?;
    }
    if !write::delete(tx, kind, object.id).await? {
        return Err(Refusal::new(Status::NothingMatched));
    }
    request.circumstances.tell(tx, object, "deleted").await?;
    request.circumstances.done(tx, object, &Change::between(before, None)).await?;
    Ok(())
}
