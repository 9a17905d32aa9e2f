//! The certificate of the routers (`spec/api.md` 5.11, `config_ssl`).

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qvd_auth::token_digest;
use qvd_db::admin::select::Identity;
use qvd_db::configs;
use qvd_db::{Session, Vault};
use qvd_model::TenantId;
use qvd_model::action::Status;
use qvd_relay::{Examined, TlsMaterial};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::AsyncReadExt;

use super::{Reply, Request, setup};
use crate::app::App;
use crate::change::{Change, State};
use crate::refusal::Refusal;
use crate::session::internal;

/// The largest text that is kept.
const MAX_PEM: u64 = 32768;

/// Checks the material and keeps it; every router takes it up.
pub(super) async fn set(app: &App, request: Arc<Request>) -> Result<Reply, Refusal> {
    if !request.circumstances.caller.is_super() {
        return Err(Refusal::about(Status::ArgumentNotAllowed, "cert")
            .because("the certificate is the same for all tenants; a super-administrator sets it"));
    }
    let mut texts = Vec::new();
    let mut removed = Vec::new();
    for (field, value) in &request.checked.values {
        match value {
            Some(value) => texts.push((field.name, text(app, field.name, value).await?)),
            None => removed.push(field.name),
        }
    }
    let examined = examined(app, &texts, &removed).await?;
    let vault = app.database.vault().clone();
    app.database
        .transaction("set the certificate", move |tx| {
            let (texts, removed, request) = (texts.clone(), removed.clone(), request.clone());
            let vault = vault.clone();
            Box::pin(async move {
                let before = state(&vault, tx).await?;
                for (name, text) in &texts {
                    configs::set_pem(&vault, tx, &format!("l7r.ssl.{name}"), text).await?;
                }
                for name in &removed {
                    configs::delete_pem(tx, &format!("l7r.ssl.{name}")).await?;
                }
                let name = "l7r.ssl.cert".to_owned();
                let identity = Identity { id: 0, name, tenant: Some(TenantId::GLOBAL.0) };
                request.circumstances.tell(tx, &identity, "certificate replaced").await?;
                let change = Change::between(Some(before), Some(state(&vault, tx).await?));
                request.circumstances.done(tx, &identity, &change).await?;
                Ok::<_, Refusal>(())
            })
        })
        .await?;
    let told = json!({
        "names": examined.names,
        "expires": setup::moment(examined.not_after),
        "fingerprint": examined.fingerprint,
        "warnings": examined.warnings,
    });
    let Value::Object(told) = told else { return Err(Refusal::new(Status::Internal)) };
    Ok(Reply::Set(told))
}

/// What the material is like together with what stays as it is.
async fn examined(
    app: &App,
    texts: &[(&'static str, String)],
    removed: &[&'static str],
) -> Result<Examined, Refusal> {
    let client = app.database.client().await?;
    let mut whole = Vec::new();
    for name in ["cert", "key", "ca", "crl"] {
        let given = texts.iter().find(|(n, _)| *n == name).map(|(_, text)| text.clone());
        let stays = given.is_none() && !removed.contains(&name);
        let kept = format!("l7r.ssl.{name}");
        whole.push(if stays { configs::pem(app.database.vault(), &client, &kept).await? } else { given });
    }
    drop(client);
    let mut whole = whole.into_iter();
    let mut next = || whole.next().flatten();
    let material = TlsMaterial {
        cert: next().unwrap_or_default(),
        key: next().unwrap_or_default(),
        client_ca: next(),
        client_crl: next(),
    };
    let found = qvd_relay::examine(&material, OffsetDateTime::now_utc());
    let mut found =
        found.map_err(|flaw| Refusal::about(Status::WrongArgumentValue, flaw.part).because(flaw.problem))?;
    let address = app.config.now().text("l7r.address").map_err(internal)?;
    let anywhere = address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified() || ip.is_loopback());
    if address != "*" && !anywhere && !found.is_for(&address) {
        let names = found.names.join(", ");
        found
            .warnings
            .push(format!("it is for {names}, and not for {address}, where routers listen (l7r.address)"));
    }
    Ok(found)
}

/// What is kept, the texts that are long by their digests.
async fn state(vault: &Vault, session: &impl Session) -> Result<State, Refusal> {
    let mut state = State::new();
    for name in ["cert", "key", "ca", "crl"] {
        let key = format!("l7r.ssl.{name}");
        if let Some(pem) = configs::pem(vault, session, &key).await? {
            state.insert(key, json!(token_digest(pem.as_bytes())));
        }
    }
    Ok(state)
}

/// The text itself, or that of a file in the one directory from which files are taken.
async fn text(app: &App, name: &str, value: &str) -> Result<String, Refusal> {
    if value.trim_start().starts_with("-----BEGIN") {
        return Ok(value.to_owned());
    }
    let unreadable = |why: String| Refusal::about(Status::FileUnreadable, name).because(why);
    let directory = app.config.now().text("path.api.import").map_err(internal)?;
    if directory.is_empty() {
        return Err(unreadable(
            "send the text of the file; the API reads no files, as path.api.import is empty".into(),
        ));
    }
    let path = within(Path::new(&directory), Path::new(value)).await.map_err(unreadable)?;
    let file = tokio::fs::File::open(&path).await.map_err(|e| unreadable(e.to_string()))?;
    let mut text = String::new();
    let read = file.take(MAX_PEM + 1).read_to_string(&mut text).await;
    read.map_err(|e| unreadable(e.to_string()))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_PEM {
        return Err(unreadable(format!("it is larger than {MAX_PEM} bytes")));
    }
    Ok(text)
}

/// The file, if it really is in the directory.
async fn within(directory: &Path, given: &Path) -> Result<PathBuf, String> {
    let directory = tokio::fs::canonicalize(directory).await.map_err(|e| e.to_string())?;
    let outside = || format!("only files in {} are read", directory.display());
    let path = tokio::fs::canonicalize(directory.join(given)).await.map_err(|_| outside())?;
    if path.starts_with(&directory) && path.is_file() { Ok(path) } else { Err(outside()) }
}
