//! Logging in, sessions, and who a request is from (`spec/api.md` 2).

use std::net::{IpAddr, Ipv4Addr};

use qvd_auth::{Code, Verdict, fresh_token, normalize, token_digest};
use qvd_db::admin::audit::{self, Record};
use qvd_db::admin::identity::{self, Administrator, Opening};
use qvd_db::attempts::Admission;
use qvd_logic::roles::Rules;
use qvd_model::action::Status;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::app::App;
use crate::caller::{Caller, RECOVERY};
use crate::envelope::Envelope;
use crate::refusal::{Doing, Refusal};
use crate::second_factor;
use crate::token;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Root of this machine, on the Unix socket.
    Root,
    /// Somebody else on the Unix socket.
    Local,
    /// Somebody on the network.
    Remote(IpAddr),
}

/// Stands for no address in particular.
pub(crate) const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl Peer {
    /// As it stands in records.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Root | Self::Local => "local".to_owned(),
            Self::Remote(address) => address.to_string(),
        }
    }

    const fn address(self) -> IpAddr {
        match self {
            Self::Root | Self::Local => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::Remote(address) => address,
        }
    }
}

/// Where a request comes from.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) peer: Peer,
    /// The program, as it calls itself.
    pub(crate) agent: Option<String>,
    /// What it shows to be known.
    pub(crate) bearer: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("peer", &self.peer).field("agent", &self.agent).finish_non_exhaustive()
    }
}

/// A caller who is known, and the session to give back.
pub(crate) struct Known {
    pub(crate) caller: Caller,
    /// The session's id and life in seconds, if there is one.
    pub(crate) session: Option<(Zeroizing<String>, i64)>,
}

/// Finds out who a request is from: credentials, else a session, else root on the Unix socket.
pub(crate) async fn recognize(
    app: &App,
    envelope: &Envelope,
    cookie: Option<&str>,
    origin: &Origin,
) -> Result<Known, Refusal> {
    if let (Some(login), Some(password)) = (&envelope.login, &envelope.password) {
        return log_in(app, login, password, envelope, origin).await;
    }
    let bearer = origin.bearer.as_ref().map(|bearer| bearer.as_str());
    if let Some(token) = bearer.filter(|bearer| bearer.starts_with(token::PREFIX)) {
        return Ok(Known { caller: token::recognize(app, token).await?, session: None });
    }
    match bearer.or(envelope.sid.as_deref()).or(cookie) {
        Some(sid) => resume(app, sid, origin.peer).await,
        None if origin.peer == Peer::Root => Ok(Known { caller: Caller::root(), session: None }),
        None => Err(Refusal::new(Status::NotAuthenticated)),
    }
}

async fn log_in(
    app: &App,
    login: &str,
    password: &str,
    envelope: &Envelope,
    origin: &Origin,
) -> Result<Known, Refusal> {
    let peer = origin.peer;
    let tenant = envelope.tenant.as_deref();
    // Spellings of one name are one account.
    let spelling = |text: &str| normalize(text, false);
    let account = format!("administrator {}@{}", spelling(login), spelling(tenant.unwrap_or_default()));
    let attempt = match app.attempts.enter(peer.address(), Some(&account)).await? {
        Admission::Admitted(attempt) => attempt,
        Admission::Refused(wait) => return Err(Refusal::too_early(wait)),
    };
    let outcome = authenticate(app, login, tenant, password, envelope.code.as_deref()).await;
    match &outcome {
        Ok(_) => attempt.succeeded().await?,
        Err(refusal) if refusal.status() == Status::NotAuthenticated => attempt.failed().await?,
        Err(_) => attempt.undecided(),
    }
    let known = match outcome {
        Ok(administrator) => open(app, administrator, origin).await,
        Err(refusal) => Err(refusal),
    };
    let caller = known.as_ref().ok().map(|k| &k.caller);
    let name = caller.map_or(login, |c| c.name.as_str());
    let address = peer.text();
    let record = Record {
        administrator: caller.and_then(|c| c.id),
        administrator_name: Some(name),
        tenant: caller.map(|c| c.tenant),
        tenant_name: tenant,
        action: "login",
        verb: "login",
        arguments: "{}",
        object: "administrator",
        object_id: caller.and_then(|c| c.id),
        object_name: Some(name),
        status: known.as_ref().map_or_else(|r| i32::from(r.status().code()), |_| 0),
        source: envelope.source.as_deref(),
        address: Some(&address),
        superadmin: caller.map(Caller::is_super),
        before: None,
        after: None,
        user_agent: origin.agent.as_deref(),
    };
    let client = app.database.client().await?;
    audit::record(&client, &record).await?;
    known
}

/// Checks login, tenant and password. An unknown administrator costs the same time as a wrong password.
async fn authenticate(
    app: &App,
    login: &str,
    tenant: Option<&str>,
    password: &str,
    code: Option<&str>,
) -> Result<Administrator, Refusal> {
    let refused = || Refusal::new(Status::NotAuthenticated);
    let values = app.config.now();
    let fault = |e: qvd_runtime::config::ConfigError| Refusal::new(Status::Internal).because(e.to_string());
    let case_sensitive = values.flag("model.user.login.case-sensitive").map_err(fault)?;
    let multitenant = values.flag("wat.multitenant").map_err(fault)?;
    let salt = values.text("l7r.auth.plugin.default.salt").map_err(fault)?;
    let login = normalize(login, case_sensitive);
    let tenant = tenant.map(|t| normalize(t, case_sensitive));
    let mut found = Vec::new();
    if tenant.is_some() || !multitenant {
        let client = app.database.client().await?;
        found = identity::by_login(&client, &login, tenant.as_deref()).await?;
        // Where there are no tenants nobody stands above them, except for recovery.
        found.retain(|a| multitenant || a.tenant != 0 || a.id == RECOVERY);
    }
    // Several administrators of a name cannot be told apart without a tenant.
    let who = if found.len() == 1 { found.pop() } else { None };
    let stored = who.as_ref().and_then(|a| a.password.clone());
    let verify = async |password: &str| {
        app.hasher.verify(password.as_bytes(), stored.clone(), &salt).await.map_err(internal)
    };
    let mut verdict = verify(password).await?;
    let mut given = code.map_or(Given::Nothing, |code| Given::Apart(Code::parse(code)));
    if verdict == Verdict::Rejected
        && code.is_none()
        && let Some((front, behind)) = Code::behind(password)
    {
        // Clients that know of no second factor send both in one. Whether there is one takes the same time.
        verdict = verify(front).await?;
        given = Given::Behind(behind);
    }
    match (who, verdict) {
        (Some(who), Verdict::Accepted { replacement }) => {
            check_code(app, who.id, given).await?;
            if let (Some(new), Some(old)) = (replacement, stored) {
                let client = app.database.client().await?;
                identity::replace_hash(&client, who.id, &new, &old).await?;
            }
            if who.blocked { Err(Refusal::new(Status::TenantBlocked)) } else { Ok(who) }
        }
        _ => Err(refused()),
    }
}

/// The code of a second factor, as it came.
enum Given<'a> {
    Nothing,
    /// In a member of its own; `None` is something that can be no code.
    Apart(Option<Code<'a>>),
    /// At the end of the password.
    Behind(Code<'a>),
}

/// Checks the code of an administrator whose password is right.
async fn check_code(app: &App, administrator: i32, given: Given<'_>) -> Result<(), Refusal> {
    let refused = Refusal::new(Status::NotAuthenticated);
    match (second_factor::is_in_force(app, administrator).await?, given) {
        (true, Given::Nothing) => Err(Refusal::new(Status::SecondFactorNeeded)),
        (true, Given::Apart(Some(code)) | Given::Behind(code)) => {
            let client = app.database.client().await?;
            let taken = second_factor::takes(app.database.vault(), &client, administrator, &code).await?;
            if taken { Ok(()) } else { Err(refused) }
        }
        // A password with a code too many is a wrong one.
        (true, Given::Apart(None)) | (false, Given::Behind(_)) => Err(refused),
        (false, Given::Nothing | Given::Apart(_)) => Ok(()),
    }
}

async fn open(app: &App, who: Administrator, origin: &Origin) -> Result<Known, Refusal> {
    let caller = caller(app, &who).await?;
    let sid = fresh_token();
    let life = life(app)?;
    let client = app.database.client().await?;
    identity::purge(&client, now()).await?;
    let opening = Opening {
        digest: &token_digest(sid.as_bytes()),
        administrator: who.id,
        address: &origin.peer.text(),
        user_agent: origin.agent.as_deref(),
        expires: end(life),
    };
    identity::open(&client, opening).await?;
    Ok(Known { caller, session: Some((sid, life)) })
}

async fn resume(app: &App, sid: &str, peer: Peer) -> Result<Known, Refusal> {
    let Found { who, digest, row, at_last } = find(app, sid, peer).await?;
    let life = life(app)?;
    // Not at every request: a session in use is written once a minute.
    if row.unnoticed {
        let client = app.database.client().await?;
        let expires = end(life).min(i32::try_from(at_last).unwrap_or(i32::MAX));
        if !identity::extend(&client, &digest, expires).await? {
            return Err(Refusal::new(Status::SessionNotExtended));
        }
    }
    Ok(Known { caller: caller(app, &who).await?, session: Some((Zeroizing::new(sid.to_owned()), life)) })
}

/// A session that is still good.
struct Found {
    who: Administrator,
    digest: String,
    row: identity::Found,
    /// When it ends whatever happens, as seconds of the epoch.
    at_last: i64,
}

async fn find(app: &App, sid: &str, peer: Peer) -> Result<Found, Refusal> {
    let refused = || Refusal::new(Status::NotAuthenticated);
    let digest = token_digest(sid.as_bytes());
    let client = app.database.client().await?;
    let row = identity::find(&client, &digest).await?.ok_or_else(refused)?;
    let bound = app.config.now().flag("api.session.bind-address").map_err(internal)?;
    if bound && row.address != peer.text() {
        return Err(refused());
    }
    let longest = app.config.now().int("api.session.max-life").map_err(internal)?;
    let at_last = row.opened.saturating_add(longest);
    if row.expires < now() || at_last < i64::from(now()) {
        identity::close(&client, &digest).await?;
        return Err(Refusal::new(Status::SessionExpired));
    }
    let who = identity::by_id(&client, row.administrator).await?.ok_or_else(refused)?;
    if who.blocked {
        return Err(Refusal::new(Status::TenantBlocked));
    }
    Ok(Found { who, digest, row, at_last })
}

/// Who has been known before, with what that one may do now, and when its session or token ends. Being looked at is
/// no use of a session, so it does not live longer for it.
pub(crate) async fn still(
    app: &App,
    cookie: Option<&str>,
    origin: &Origin,
) -> Result<(Caller, Option<i64>), Refusal> {
    let bearer = origin.bearer.as_ref().map(|bearer| bearer.as_str());
    if let Some(token) = bearer.filter(|bearer| bearer.starts_with(token::PREFIX)) {
        let caller = token::recognize(app, token).await?;
        let ends = caller.token.as_ref().and_then(|token| token.expiration.as_ref()).map(|(ends, _)| *ends);
        return Ok((caller, ends));
    }
    match bearer.or(cookie) {
        Some(sid) => {
            let Found { who, row, at_last, .. } = find(app, sid, origin.peer).await?;
            Ok((caller(app, &who).await?, Some(at_last.min(i64::from(row.expires)))))
        }
        None if origin.peer == Peer::Root => Ok((Caller::root(), None)),
        None => Err(Refusal::new(Status::NotAuthenticated)),
    }
}

/// Ends the session of a request.
pub(crate) async fn log_out(app: &App, sid: &str) -> Result<(), Refusal> {
    let client = app.database.client().await?;
    match identity::close(&client, &token_digest(sid.as_bytes())).await {
        Err(error) if !error.is_away() => Err(Refusal::Database(error).while_doing(Doing::Deleting))
            .map_err(|_| Refusal::new(Status::LogoutFailed)),
        other => other.map_err(Refusal::from),
    }
}

async fn caller(app: &App, who: &Administrator) -> Result<Caller, Refusal> {
    Ok(Caller::load(&app.database, who, acl_rules(app)?).await?)
}

/// What the installation makes of ACLs.
pub(crate) fn acl_rules(app: &App) -> Result<Rules, Refusal> {
    let values = app.config.now();
    Ok(Rules {
        multitenant: values.flag("wat.multitenant").map_err(internal)?,
        log: values.flag("api.log.enabled").map_err(internal)?,
    })
}

fn life(app: &App) -> Result<i64, Refusal> {
    app.config.now().int("api.session.life").map_err(internal)
}

pub(crate) fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Status::Internal).because(error.to_string())
}

fn now() -> i32 {
    i32::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(i32::MAX)
}

fn end(life: i64) -> i32 {
    i32::try_from(OffsetDateTime::now_utc().unix_timestamp().saturating_add(life)).unwrap_or(i32::MAX)
}
