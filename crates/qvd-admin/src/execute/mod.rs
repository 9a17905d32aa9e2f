//! Carries out checked requests. One function per verb serves every object; what an object needs besides is a
//! short match beside it.

mod acls;
mod certificate;
pub(crate) mod config;
mod create;
mod delete;
mod list;
mod log;
mod matching;
mod order;
pub(crate) mod precondition;
mod properties;
mod roles;
mod second_factor;
mod setup;
mod statistics;
mod tokens;
pub(crate) mod update;
mod views;

use std::sync::Arc;

use qvd_db::Vault;
use qvd_db::admin::select::Identity;
use qvd_model::action::{Inquiry, Object, Order, Status, Verb};
use qvd_model::filter::Filter;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::caller::Caller;
use crate::check::Checked;
use crate::envelope::Pages;
use crate::record::Circumstances;
use crate::refusal::{Doing, Refusal};

pub(crate) use create::{New, create_in, log_failure, osf_of};
pub(crate) use precondition::Precondition;
pub(crate) use setup::server_datetime;

/// The answer to a request, before it is written.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Rows, each the text of a JSON object, and how many there are in all.
    Rows { rows: Vec<String>, total: i64 },
    /// A page of rows that says where the next one begins.
    Page {
        rows: Vec<String>,
        /// How many there are in all, if that was asked for.
        total: Option<i64>,
        /// Where the last row stands in the order, if there are more.
        last: Option<Vec<Option<String>>>,
    },
    /// Members at top level.
    Members(Map<String, Value>),
    /// It is set, and there is something to say about it.
    Set(Map<String, Value>),
    /// So many objects were processed.
    Done(usize),
    /// Some objects failed.
    Partial(Vec<(i32, Refusal)>),
}

/// What every verb needs.
pub(crate) struct Request {
    pub(crate) checked: Checked,
    pub(crate) circumstances: Circumstances,
    /// What the installation makes of ACLs.
    pub(crate) acl_rules: qvd_logic::roles::Rules,
    /// What the objects must still be like.
    pub(crate) precondition: Precondition,
    /// What seals secrets.
    pub(crate) vault: Vault,
}

/// Carries out a request.
pub(crate) async fn execute(app: &App, request: Arc<Request>) -> Result<Reply, Refusal> {
    let action = request.checked.action;
    let doing = match action.verb {
        Verb::List | Verb::Inquire(_) => Doing::Reading,
        Verb::Delete => Doing::Deleting,
        _ => Doing::Writing,
    };
    let outcome = match (action.verb, action.object) {
        (Verb::Inquire(Inquiry::CurrentAdministrator), _) => {
            setup::current_administrator(app, &request).await
        }
        (Verb::Inquire(Inquiry::Staging), _) => crate::images::staging::list(app).await,
        (Verb::Inquire(Inquiry::AclCounts), _) => acls::counts(app, &request).await,
        (Verb::Inquire(Inquiry::LogSources), _) => log::sources(app, &request).await,
        (Verb::Inquire(Inquiry::Statistics), _) => statistics::statistics(app, &request).await,
        (Verb::Inquire(Inquiry::SecondFactor), _) => second_factor::see(app, &request).await,
        (Verb::List, Object::Config) => config::list(app, &request).await,
        (Verb::List, Object::Acl | Object::AdministratorAcl | Object::RoleAcl) => {
            acls::list(app, &request).await
        }
        (Verb::List, _) => list::list(app, &request).await,
        (Verb::CreateOrUpdate, Object::Config) => config::set(app, &request).await,
        (Verb::CreateOrUpdate, Object::Certificate) => certificate::set(app, request.clone()).await,
        (Verb::CreateOrUpdate, _) => views::set(app, request.clone()).await,
        (Verb::Delete, Object::TenantView | Object::AdministratorView) => {
            views::reset(app, request.clone()).await
        }
        (Verb::Delete, Object::Config) => config::delete(app, &request).await,
        (Verb::Create, Object::Token) => tokens::create(app, request.clone()).await,
        (Verb::Create, _) => create::create(app, request.clone()).await,
        (Verb::Update, _) => update::update(app, request.clone()).await,
        (Verb::Delete, _) => delete::delete(app, request.clone()).await,
        (Verb::Execute(Order::ResetSecondFactor), _) => second_factor::reset(app, request.clone()).await,
        (Verb::Execute(order), Object::SecondFactor) => {
            second_factor::order(app, request.clone(), order).await
        }
        (Verb::Execute(order), _) => order::order(app, request.clone(), order).await,
    };
    let outcome = outcome.map_err(|refusal| refusal.while_doing(doing));
    // The others write what fails, with its object, where they do it.
    let settings = matches!(action.verb, Verb::CreateOrUpdate)
        || (action.verb == Verb::Delete && action.object == Object::Config);
    if let (Err(refusal), true) = (&outcome, settings) {
        log_failure(app, &request, refusal).await?;
    }
    outcome
}

/// The tokens and sessions that a caller reaches: its own, and those of others only if it may take their passwords
/// away too.
fn reached(caller: &Caller) -> Option<Filter> {
    let id = caller.id?;
    let others = caller.may(&["administrator.update.password"]);
    (!others).then(|| Filter::any_of("admin_id", [id]))
}

/// The selected objects; of an own object the one there is.
async fn selected(app: &App, request: &Request) -> Result<Vec<Identity>, Refusal> {
    let checked = &request.checked;
    let client = app.database.client().await?;
    if checked.action.object == Object::OwnAdministrator {
        let caller = &request.circumstances.caller;
        let own = caller.id.map(|id| Identity { id, name: caller.name.clone(), tenant: Some(caller.tenant) });
        return Ok(own.into_iter().collect());
    }
    let object = checked.action.object;
    if object.is_own() {
        let caller = &request.circumstances.caller;
        let (id, name) = (caller.tenant, caller.tenant_name.clone());
        return Ok(vec![Identity { id, name, tenant: Some(id) }]);
    }
    let reached = match object {
        Object::Token | Object::Session => reached(&request.circumstances.caller),
        _ => None,
    };
    let narrowed = reached.map(|reached| checked.filter.clone().and(reached));
    let filter = narrowed.as_ref().unwrap_or(&checked.filter);
    Ok(qvd_db::admin::select::identities(&client, object, filter, &checked.scope).await?)
}

/// Puts the outcomes of several objects together, and writes the failed ones to the log.
async fn summed_up(
    app: &App,
    request: &Request,
    doing: Doing,
    outcomes: Vec<(Identity, Result<(), Refusal>)>,
) -> Result<Reply, Refusal> {
    let processed = outcomes.len();
    let mut failures = Vec::new();
    for (object, outcome) in outcomes {
        let Err(refusal) = outcome else { continue };
        let refusal = refusal.while_doing(doing);
        if refusal.status() == Status::DatabaseAway {
            return Err(refusal);
        }
        let client = app.database.client().await?;
        request.circumstances.refused(&client, Some(&object), refusal.status()).await?;
        failures.push((object.id, refusal));
    }
    Ok(if failures.is_empty() { Reply::Done(processed) } else { Reply::Partial(failures) })
}

impl Reply {
    /// One new row.
    pub(crate) fn created(id: i32) -> Self {
        Self::Rows { rows: vec![json!({ "id": id }).to_string()], total: 1 }
    }

    /// A page of rows that were made in memory and are in order; `rank` tells where a row stands, ready to be compared,
    /// and as texts.
    pub(super) fn page<R, K: Ord>(
        rows: Vec<R>,
        checked: &Checked,
        rank: impl Fn(&R) -> K,
        read: impl Fn(&[Option<String>]) -> Option<K>,
        texts: impl Fn(K) -> Vec<Option<String>>,
        show: impl Fn(&R) -> String,
    ) -> Result<Self, Refusal> {
        let all = rows.len();
        let limit = checked.limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let total = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let Pages::After { row, count } = &checked.paging else {
            let skip = usize::try_from(checked.skip).unwrap_or(usize::MAX);
            let rows = rows.iter().skip(skip).take(limit).map(show).collect();
            return Ok(Self::Rows { rows, total: total(all) });
        };
        let wrong = || Refusal::about(Status::WrongFilterValue, "cursor");
        let after = row.as_deref().map(|row| read(row).ok_or_else(wrong)).transpose()?;
        let mut rest = rows.iter().filter(|row| match &after {
            None => true,
            Some(after) if checked.descending => rank(row) < *after,
            Some(after) => rank(row) > *after,
        });
        let page: Vec<&R> = rest.by_ref().take(limit).collect();
        let more = rest.next().is_some();
        let last = page.last().filter(|_| more).map(|row| texts(rank(row)));
        let rows = page.into_iter().map(show).collect();
        Ok(Self::Page { rows, total: count.then(|| total(all)), last })
    }
}
