//! Publication: from then on VMs start from the image.

use std::sync::Arc;

use qvd_db::Session;
use qvd_db::admin::images::{self, Outcome};
use qvd_db::admin::select::Identity;
use qvd_model::action::{Object, Status};

use super::tags::DEFAULT;
use crate::app::App;
use crate::change::{Change, state_of};
use crate::execute::{Reply, Request};
use crate::record::Circumstances;
use crate::refusal::{Doing, Refusal};

/// Publishes the image of a request.
pub(crate) async fn publish(app: &App, request: Arc<Request>) -> Result<Reply, Refusal> {
    let client = app.database.client().await?;
    let object = request.checked.action.object;
    let checked = &request.checked;
    let found = qvd_db::admin::select::identities(&client, object, &checked.filter, &checked.scope).await?;
    drop(client);
    let Some(image) = found.into_iter().next() else { return Err(Refusal::new(Status::ImageNotFound)) };
    let published = app
        .database
        .transaction("publish an image", move |tx| {
            let (request, image) = (request.clone(), image.clone());
            Box::pin(async move {
                let before = state_of(tx, Object::Di, image.id).await?;
                publish_in(tx, &request.circumstances, &image).await?;
                let change = Change::between(before, state_of(tx, Object::Di, image.id).await?);
                request.circumstances.done(tx, &image, &change).await
            })
        })
        .await;
    published.map(|()| Reply::Done(1)).map_err(|refusal| refusal.while_doing(Doing::Writing))
}

/// The publication inside a transaction.
pub(crate) async fn publish_in(
    session: &impl Session,
    circumstances: &Circumstances,
    image: &Identity,
) -> Result<(), Refusal> {
    let Some(row) = images::image(session, image.id).await? else {
        return Err(Refusal::new(Status::ImageNotFound));
    };
    if row.state != "ready" {
        return Err(Refusal::about(Status::Internal, row.state)
            .because("an image can be published once its file is there and checked, and only once"));
    }
    // New VMs boot from `default`: somebody has to carry it, and the first image is the only candidate.
    let has_default = images::tag(session, image.id, DEFAULT).await?.is_some();
    if !has_default && !images::has_holder(session, row.osf, DEFAULT, image.id).await? {
        images::add_tag(session, image.id, DEFAULT, false).await?;
    }
    images::consolidate(session, image.id).await?;
    images::set_state(session, image.id, "published", Outcome { percentage: 1.0, ..Outcome::default() })
        .await?;
    images::expire_vms(session, image.id, row.expiration_soft, row.expiration_hard).await?;
    circumstances.tell(session, image, "published").await?;
    Ok(())
}
