//! Who a request comes from (`spec/protocol.md` 3).

use std::net::IpAddr;

use qvd_auth::{Chain, Decision, Login, normalize, token_digest};
use qvd_db::attempts::Admission;
use qvd_db::events::{self, Actor, Event};
use qvd_db::router::{self, User};
use qvd_model::event::ObjectKind;
use qvd_model::{Failure, FailureCode, TenantId, UserId, VmId};
use qvd_runtime::Values;
use qvd_wire::http::{Credentials, Reply, Request, Status, text};
use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use crate::refusal;
use crate::router::Router;

/// Longest login that is looked at, in bytes; the column takes 64 characters.
const MAX_LOGIN: usize = 320;

/// A user who was let in on this connection.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) user: UserId,
    pub(crate) login: String,
    pub(crate) actor: Actor,
    /// The token that was used, if it may be used only once.
    pub(crate) token: Option<SecretString>,
    /// The only VM that the token opens.
    pub(crate) vm: Option<VmId>,
    /// What plug-ins say to the desktop.
    pub(crate) parameters: Vec<(String, String)>,
    /// Recognizes the same credentials on the same connection (rule R16).
    digest: String,
}

/// Lets a request in, or says no. `known` is who was let in on this connection before.
pub(crate) async fn authenticate(
    router: &Router,
    address: IpAddr,
    request: &Request,
    known: Option<&Identity>,
) -> Result<Identity, Reply> {
    let Some(credentials) = Credentials::of(&request.headers) else {
        return Err(refusal::login_rejected());
    };
    let digest = token_digest(credentials.header().as_bytes());
    if let Some(known) = known.filter(|known| known.digest == digest) {
        return Ok(known.clone());
    }
    let (account, tenant) = match &credentials {
        Credentials::Basic { login, .. } if login.len() > MAX_LOGIN => return Err(refusal::login_rejected()),
        Credentials::Basic { login, .. } => named(&router.config.now(), &text(login))?,
        Credentials::Bearer { .. } => ("bearer".to_owned(), String::new()),
    };
    let name = format!("{account}@{tenant}");
    let database = |error| refusal::internal(&refusal::of_database(&error));
    // Nobody guesses 256 bits; whoever tries is slowed down all the same, but not everybody who has a token with him.
    let claimed =
        matches!(credentials, Credentials::Basic { .. }).then(|| format!("user {}", normalize(&name, false)));
    let attempt = match router.attempts.enter(address, claimed.as_deref()).await.map_err(database)? {
        Admission::Admitted(attempt) => attempt,
        Admission::Refused(wait) => return Err(slow_down(wait.as_secs())),
    };
    router.counting.add(|c| c.auth_attempts += 1);
    let outcome = match &credentials {
        Credentials::Basic { password, .. } => by_password(router, &account, &tenant, password).await,
        Credentials::Bearer { token } => by_token(router, &text(token)).await,
    };
    let found = match outcome {
        Ok(Some(found)) => {
            attempt.succeeded().await.map_err(database)?;
            found
        }
        Ok(None) => {
            attempt.failed().await.map_err(database)?;
            info!(%address, account = name, "login rejected");
            return Err(refusal::login_rejected());
        }
        Err(reply) => {
            attempt.undecided();
            return Err(reply);
        }
    };
    router.counting.add(|c| c.auth_ok += 1);
    info!(%address, user = found.user.id.0, login = found.user.login, "logged in");
    Ok(Identity {
        user: found.user.id,
        actor: Actor::user(&found.user.login),
        login: found.user.login,
        token: found.token,
        vm: found.vm,
        parameters: found.parameters,
        digest,
    })
}

struct Found {
    user: User,
    token: Option<SecretString>,
    vm: Option<VmId>,
    parameters: Vec<(String, String)>,
}

/// Login and tenant as they are looked up.
fn named(values: &Values, typed: &str) -> Result<(String, String), Reply> {
    let read = || {
        let separators = values.text("l7r.auth.plugin.default.separators")?;
        let tenant = values.text("l7r.auth.plugin.default.tenant")?;
        let case_sensitive = values.flag("model.user.login.case-sensitive")?;
        let login = Login::split(typed, &separators, &tenant);
        Ok((normalize(&login.name, case_sensitive), normalize(&login.tenant, true)))
    };
    read().map_err(|error| refusal::internal(&refusal::of_config(&error)))
}

async fn by_password(
    router: &Router,
    login: &str,
    tenant_name: &str,
    password: &[u8],
) -> Result<Option<Found>, Reply> {
    let database = |error| refusal::internal(&refusal::of_database(&error));
    let config = |error| refusal::internal(&refusal::of_config(&error));
    let mut tenant = router::tenant(&router.database, tenant_name).await.map_err(database)?;
    if tenant.is_none() {
        let lower = normalize(tenant_name, false);
        tenant = router::tenant(&router.database, &lower).await.map_err(database)?;
    }
    // Super-administrators and the global pseudo tenant have no desktops.
    let tenant = tenant.filter(|t| t.id > TenantId::SUPER);
    let user = match tenant {
        Some(tenant) => router::user(&router.database, tenant.id, login).await.map_err(database)?,
        None => None,
    };

    let values = router.config.now();
    let salt = values.text("l7r.auth.plugin.default.salt").map_err(config)?;
    let list = |values: &Values, key| values.list(key).map_err(config);
    let tenant_values = values.for_tenant(tenant.map_or(TenantId::GLOBAL, |t| t.id));
    let chain = Chain::new(
        &list(&values, "l7r.auth.plugins.head")?,
        &list(&tenant_values, "l7r.auth.plugins")?,
        &list(&values, "l7r.auth.plugins.tail")?,
    );
    let chain = chain.map_err(|error| {
        tracing::error!(tenant = tenant_name, "{error}");
        refusal::internal(&Failure::new(FailureCode::Configuration, "Authentication is not set up"))
    })?;

    let stored = user.as_ref().and_then(|u| u.password.as_ref()).map(|p| p.expose_secret().to_owned());
    let decided = chain.decide(&router.hasher, password, stored.clone(), &salt).await;
    let decision = decided.map_err(|error| {
        tracing::error!("{error}");
        refusal::internal(&Failure::new(FailureCode::Internal, "The password could not be checked"))
    })?;
    let (Some(user), Some(tenant)) = (user, tenant) else { return Ok(None) };
    let Decision::Accepted { replacement } = decision else {
        record(router, &user, "login_rejected", "wrong password").await;
        return Ok(None);
    };
    if user.blocked || tenant.blocked {
        let text = if user.blocked { "the user is blocked" } else { "the tenant is blocked" };
        record(router, &user, "login_rejected", text).await;
        return Ok(None);
    }
    if let (Some(new), Some(old)) = (replacement, stored)
        && let Err(error) = router::replace_password(&router.database, user.id, &old, &new).await
    {
        warn!(user = user.id.0, "the old password hash stays: {error}");
    }
    record(router, &user, "login", "logged in with a password").await;
    // The default plug-in names the user to the desktop.
    let parameters = vec![("qvd.vm.user.name".to_owned(), user.login.clone())];
    Ok(Some(Found { user, token: None, vm: None, parameters }))
}

async fn by_token(router: &Router, token: &str) -> Result<Option<Found>, Reply> {
    let digest = token_digest(token.as_bytes());
    // Somebody who reads the table must not be able to present what he found there.
    let raw = if token.starts_with("sha256:") { &digest } else { token };
    let found = router::token(&router.database, raw, &digest).await;
    let found = found.map_err(|error| refusal::internal(&refusal::of_database(&error)))?;
    let Some(found) = found.filter(|f| !f.user.blocked && f.user.tenant > TenantId::SUPER) else {
        return Ok(None);
    };
    record(router, &found.user, "login", "logged in with a token").await;
    let mut parameters = vec![("qvd.vm.user.name".to_owned(), found.user.login.clone())];
    let stored = found.parameters.as_deref().map(serde_json::from_str::<serde_json::Map<_, _>>);
    if let Some(Ok(stored)) = stored {
        parameters
            .extend(stored.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))));
    }
    Ok(Some(Found {
        user: found.user,
        token: (!found.multi_use).then_some(found.key),
        vm: found.vm,
        parameters,
    }))
}

/// The user's story; a login does not fail because it cannot be written.
async fn record(router: &Router, user: &User, code: &str, text: &str) {
    let event =
        Event { kind: ObjectKind::User, id: user.id.0, name: &user.login, from: None, to: None, code, text };
    let written = async {
        let client = router.database.client().await?;
        events::record(&client, &router.actor(), event).await
    };
    if let Err(error) = written.await {
        warn!(user = user.id.0, "event not written: {error}");
    }
}

fn slow_down(seconds: u64) -> Reply {
    let text =
        format!("Too many failed logins; try again in {} s ({})\r\n", seconds, FailureCode::LoginRejected);
    Reply::text(Status::TooManyRequests, text).field("Retry-After", seconds.to_string())
}
