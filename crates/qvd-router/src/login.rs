//! Who a request comes from (`spec/protocol.md` 3).

use std::net::IpAddr;

use qvd_auth::{Chain, Decision, Login, is_ticket, normalize, token_digest};
use qvd_db::attempts::Admission;
use qvd_db::events::{self, Actor, Event};
use qvd_db::router::{self, Refused, Token, User};
use qvd_model::event::ObjectKind;
use qvd_model::{Failure, FailureCode, TenantId, UserId, VmId};
use qvd_runtime::Values;
use qvd_wire::http::{Credentials, Reply, Request, Status, text};
use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use crate::refusal;
use crate::router::{Router, Waiting};
use crate::tickets::{self, Ticket};

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
    /// The ticket that came in place of the one that was redeemed.
    pub(crate) ticket: Option<Ticket>,
    /// The only VM that the token or ticket opens.
    pub(crate) vm: Option<VmId>,
    /// What plug-ins say to the desktop.
    pub(crate) parameters: Vec<(String, String)>,
    /// Where that is kept for later logins, if it is.
    pub(crate) parameters_id: Option<i32>,
    /// Recognizes the same credentials on the same connection (rule R16).
    digest: String,
}

/// How a request is let in.
pub(crate) struct Door<'a> {
    /// Who was let in on this connection before.
    pub(crate) known: Option<&'a Identity>,
    /// The desktop that is asked for; tickets are good for nothing else.
    pub(crate) desktop: Option<VmId>,
    /// The place among those that have not logged in yet.
    pub(crate) waiting: Option<&'a mut Waiting>,
}

/// Lets a request in, or says no.
pub(crate) async fn authenticate(
    router: &Router,
    address: IpAddr,
    request: &Request,
    door: Door<'_>,
) -> Result<Identity, Reply> {
    let Some(credentials) = Credentials::of(&request.headers) else {
        return Err(refusal::login_rejected());
    };
    let digest = token_digest(credentials.header().as_bytes());
    if let Some(known) = door.known.filter(|known| known.digest == digest) {
        return Ok(known.clone());
    }
    router.counting.add(|c| c.auth_attempts += 1);
    let found = match &credentials {
        Credentials::Bearer { token } if is_ticket(token) => {
            by_ticket(router, address, token, door.desktop).await?
        }
        Credentials::Bearer { token } => {
            // Nobody guesses 256 bits; whoever tries is slowed down all the same, but not everybody who has a token
            // with him.
            counted(router, address, None, by_token(router, &text(token))).await?
        }
        Credentials::Basic { login, .. } if login.len() > MAX_LOGIN => None,
        Credentials::Basic { login, password } => {
            let name = Name::read(&router.config.now(), &text(login))?;
            if door.waiting.is_some_and(|waiting| !waiting.line_up()) {
                return Err(refusal::too_many_logins());
            }
            counted(router, address, Some(&name), by_password(router, &name, password)).await?
        }
    };
    let found = found.ok_or_else(refusal::login_rejected)?;
    router.counting.add(|c| c.auth_ok += 1);
    info!(%address, user = found.user.id.0, login = found.user.login, "logged in");
    Ok(Identity {
        user: found.user.id,
        actor: Actor::user(&found.user.login),
        login: found.user.login,
        token: found.token,
        ticket: found.ticket,
        vm: found.vm,
        parameters: found.parameters,
        parameters_id: found.parameters_id,
        digest,
    })
}

/// Has an attempt wait for its turn, and counts how it ended.
async fn counted(
    router: &Router,
    address: IpAddr,
    name: Option<&Name>,
    attempt: impl Future<Output = Result<Option<Found>, Reply>>,
) -> Result<Option<Found>, Reply> {
    let database = |error| refusal::internal(&refusal::of_database(&error));
    let account = name.map(|name| format!("{}@{}", name.login, name.tenant));
    let claimed = account.as_deref().map(|account| format!("user {}", normalize(account, false)));
    let entered = match router.attempts.enter(address, claimed.as_deref()).await.map_err(database)? {
        Admission::Admitted(entered) => entered,
        Admission::Refused(wait) => return Err(slow_down(wait.as_secs())),
    };
    match attempt.await {
        Ok(Some(found)) => {
            entered.succeeded().await.map_err(database)?;
            Ok(Some(found))
        }
        Ok(None) => {
            entered.failed().await.map_err(database)?;
            info!(%address, account = account.as_deref().unwrap_or("bearer"), "login rejected");
            Ok(None)
        }
        Err(reply) => {
            entered.undecided();
            Err(reply)
        }
    }
}

struct Found {
    user: User,
    token: Option<SecretString>,
    ticket: Option<Ticket>,
    vm: Option<VmId>,
    parameters: Vec<(String, String)>,
    parameters_id: Option<i32>,
}

impl Found {
    /// Somebody with a stored login: `token` or ticket.
    fn stored(token: Token) -> Self {
        let mut parameters = named(&token.user);
        let stored = token.parameters.as_deref().map(serde_json::from_str::<serde_json::Map<_, _>>);
        if let Some(Ok(stored)) = stored {
            let texts =
                stored.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
            parameters.extend(texts);
        }
        Self {
            user: token.user,
            token: (!token.multi_use).then_some(token.key),
            ticket: None,
            vm: token.vm,
            parameters,
            parameters_id: token.parameters_id,
        }
    }
}

/// The default plug-in names the user to the desktop.
fn named(user: &User) -> Vec<(String, String)> {
    vec![("qvd.vm.user.name".to_owned(), user.login.clone())]
}

/// Login and tenant as they are looked up.
struct Name {
    login: String,
    tenant: String,
}

impl Name {
    fn read(values: &Values, typed: &str) -> Result<Self, Reply> {
        let read = || {
            let separators = values.text("l7r.auth.plugin.default.separators")?;
            let tenant = values.text("l7r.auth.plugin.default.tenant")?;
            let case_sensitive = values.flag("model.user.login.case-sensitive")?;
            let login = Login::split(typed, &separators, &tenant);
            let (login, tenant) = (normalize(&login.name, case_sensitive), normalize(&login.tenant, true));
            Ok(Self { login, tenant })
        };
        read().map_err(|error| refusal::internal(&refusal::of_config(&error)))
    }
}

async fn by_password(router: &Router, name: &Name, password: &[u8]) -> Result<Option<Found>, Reply> {
    let Name { login, tenant: tenant_name } = name;
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
    let parameters = named(&user);
    Ok(Some(Found { user, token: None, ticket: None, vm: None, parameters, parameters_id: None }))
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
    Ok(Some(Found::stored(found)))
}

/// One statement, and no password hash: this is how everybody comes back at once when a router has died. Whoever has a
/// good ticket waits for nobody; for the others the wait comes before their answer.
async fn by_ticket(
    router: &Router,
    address: IpAddr,
    ticket: &[u8],
    desktop: Option<VmId>,
) -> Result<Option<Found>, Reply> {
    let (why, user) = match (tickets::lifetime(&router.config.now())?, desktop) {
        (None, _) => ("the configuration allows none", None),
        (_, None) => ("it is good for a request to connect only", None),
        (Some(seconds), Some(vm)) => {
            let (new, digest) = (Ticket::fresh(), token_digest(ticket));
            let row = new.row(seconds, None);
            let redeemed = router::redeem(&router.database, &digest, vm, &row, &router.actor()).await;
            match redeemed.map_err(|error| refusal::internal(&refusal::of_database(&error)))? {
                Ok(found) => return Ok(Some(Found { ticket: Some(new), ..Found::stored(found) })),
                Err(Refused::Unknown) => ("it never was, was redeemed before, or was taken away", None),
                Err(Refused::OtherVm(user)) => ("it is for another virtual machine", Some(user)),
                Err(Refused::Expired(user)) => ("it has expired", Some(user)),
                Err(Refused::Blocked(user)) => ("the user or the tenant is blocked", Some(user)),
                Err(Refused::Spent(user)) => ("somebody else was faster", Some(user)),
            }
        }
    };
    let id = user.as_ref().map(|user| user.id.0);
    info!(%address, vm = desktop.map(|vm| vm.0), user = id, "ticket refused: {why}");
    if let Some(user) = user {
        record(router, &user, "login_rejected", &format!("a ticket was refused: {why}")).await;
    }
    counted(router, address, None, async { Ok(None) }).await
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
