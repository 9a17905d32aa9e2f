//! Tags: within an OSF a tag means one usable image.

use qvd_db::Session;
use qvd_db::admin::images;
use qvd_model::action::Status;

use crate::refusal::Refusal;

/// The tag of the newest image.
pub(super) const HEAD: &str = "head";
/// The tag that new VMs boot from.
pub(super) const DEFAULT: &str = "default";

/// Gives a new image its version as a fixed tag, and `head`.
pub(crate) async fn on_creation(
    session: &impl Session,
    di: i32,
    osf: i32,
    version: &str,
) -> Result<(), Refusal> {
    if [HEAD, DEFAULT].contains(&version) {
        return Err(Refusal::about(Status::WrongArgumentValue, "version")
            .because(format!("`{version}` goes from image to image, and a version stays with its own")));
    }
    if images::is_fixed_elsewhere(session, osf, version, di).await? {
        return Err(Refusal::about(Status::FixedTag, version));
    }
    images::add_tag(session, di, version, true).await?;
    images::add_tag(session, di, HEAD, false).await?;
    Ok(())
}

/// Gives an image tags.
pub(crate) async fn add(session: &impl Session, di: i32, tags: &[String]) -> Result<(), Refusal> {
    let image = changed(session, di).await?;
    for tag in tags {
        if images::is_fixed_elsewhere(session, image.osf, tag, di).await? {
            return Err(Refusal::about(Status::FixedTag, tag.as_str()));
        }
        if images::tag(session, di, tag).await?.is_none() {
            images::add_tag(session, di, tag, false).await?;
        }
    }
    consolidate(session, di, &image).await
}

/// Takes tags away from an image.
pub(crate) async fn remove(session: &impl Session, di: i32, tags: &[String]) -> Result<(), Refusal> {
    let image = changed(session, di).await?;
    for tag in tags {
        match images::tag(session, di, tag).await? {
            Some(fixed) if fixed || tag == HEAD || tag == DEFAULT => {
                return Err(Refusal::about(Status::TagNotRemovable, tag.as_str()));
            }
            Some(_) => images::remove_tag(session, di, tag).await?,
            None => {}
        }
    }
    consolidate(session, di, &image).await
}

async fn changed(session: &impl Session, di: i32) -> Result<images::Image, Refusal> {
    images::image(session, di).await?.ok_or_else(|| Refusal::new(Status::ImageNotFound))
}

async fn consolidate(session: &impl Session, di: i32, image: &images::Image) -> Result<(), Refusal> {
    if image.state == "published" {
        images::consolidate(session, di).await?;
    }
    Ok(())
}

/// Gives `head` and `default` of an image that is deleted to the newest other published one.
pub(crate) async fn hand_over(session: &impl Session, di: i32) -> Result<(), Refusal> {
    let Some(image) = images::image(session, di).await? else { return Ok(()) };
    if image.state != "published" {
        return Ok(());
    }
    for tag in [HEAD, DEFAULT] {
        if images::tag(session, di, tag).await?.is_some()
            && let Some(heir) = images::heir(session, image.osf, di).await?
            && images::tag(session, heir, tag).await?.is_none()
        {
            images::add_tag(session, heir, tag, false).await?;
        }
    }
    Ok(())
}
