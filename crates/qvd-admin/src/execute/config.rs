//! Settings: not rows but layers, so lists are made from the configuration in memory (`spec/api.md` 5.11).

use std::collections::BTreeSet;

use qvd_db::configs;
use qvd_model::TenantId;
use qvd_model::action::{Object, Status};
use qvd_model::config::{self, MASK, Scope as KeyScope};
use serde_json::{Map, Value, json};

use super::matching::holds;
use super::{Reply, Request};
use crate::app::{App, Stored};
use crate::caller::Caller;
use crate::change::{Change, State};
use crate::refusal::Refusal;
use crate::session::internal;

/// Settings that only concern the machinery.
const HIDDEN: [&str; 4] = ["vma.", "internal.", "client.", "database."];

fn is_hidden(key: &str) -> bool {
    HIDDEN.iter().any(|prefix| key.starts_with(prefix))
}

/// One setting as one tenant sees it.
struct Setting {
    tenant: TenantId,
    tenant_name: String,
    key: String,
    operative: String,
    default: Option<String>,
    is_default: bool,
}

pub(super) async fn list(app: &App, request: &Request) -> Result<Reply, Refusal> {
    let checked = &request.checked;
    let mut settings = settings(app, request).await?;
    settings.retain(|setting| holds(&checked.filter, &|f| setting.text(f)));
    let rank = |s: &Setting| {
        let order: Vec<String> = checked.order.iter().map(|f| s.text(f).unwrap_or_default()).collect();
        (order, s.tenant, s.key.clone())
    };
    settings.sort_by_cached_key(rank);
    if checked.descending {
        settings.reverse();
    }
    let read = |row: &[Option<String>]| {
        let mut texts = row.iter().cloned().collect::<Option<Vec<String>>>()?;
        let (key, tenant) = (texts.pop()?, TenantId(texts.pop()?.parse().ok()?));
        (texts.len() == checked.order.len()).then_some((texts, tenant, key))
    };
    let texts = |(order, tenant, key): (Vec<String>, TenantId, String)| {
        order.into_iter().chain([tenant.to_string(), key]).map(Some).collect()
    };
    let show = |s: &Setting| Value::Object(s.members(&checked.fields)).to_string();
    Reply::page(settings, checked, rank, read, texts, show)
}

async fn settings(app: &App, request: &Request) -> Result<Vec<Setting>, Refusal> {
    let caller = &request.circumstances.caller;
    let stored = stored(app).await?;
    let client = app.database.client().await?;
    let mut tenants = qvd_db::admin::config::tenants(&client).await?;
    tenants.retain(|(id, _)| caller.is_super() || id.0 == caller.tenant);
    let snapshot = app.config.now();
    let mut settings = Vec::new();
    for (tenant, name) in tenants {
        let values = snapshot.for_tenant(tenant);
        let own = stored.keys().filter(|(t, _)| *t == tenant).map(|(_, key)| key.clone());
        let keys: BTreeSet<String> = values.keys().into_iter().chain(own).collect();
        // What has no effect is shown where somebody set it.
        let known = |key: &String| {
            config::key(key).is_none_or(|known| known.heeded)
                || values.raw(key).is_some_and(|(_, origin)| origin != "default")
        };
        for key in keys.into_iter().filter(|key| !is_hidden(key) && known(key)) {
            let secret = config::is_secret(&key);
            let mask = |value: String| if secret && !value.is_empty() { MASK.to_owned() } else { value };
            let is_default = !stored.contains_key(&(tenant, key.clone()));
            let below =
                if tenant == TenantId::GLOBAL { None } else { stored.get(&(TenantId::GLOBAL, key.clone())) };
            let default = below.cloned().or_else(|| values.raw_in_file(&key).map(str::to_owned));
            // A value that cannot be expanded is shown as it is written.
            let operative = match values.optional(&key) {
                Ok(value) => value.unwrap_or_default(),
                Err(_) => values.raw(&key).map(|(raw, _)| raw.to_owned()).unwrap_or_default(),
            };
            settings.push(Setting {
                tenant,
                tenant_name: name.clone(),
                operative: mask(operative),
                default: default.map(mask),
                is_default,
                key,
            });
        }
    }
    Ok(settings)
}

async fn stored(app: &App) -> Result<Stored, Refusal> {
    let rows = configs::rows(&app.database).await?;
    Ok(rows.into_iter().map(|(tenant, key, value)| ((tenant, key), value)).collect())
}

impl Setting {
    fn text(&self, field: &str) -> Option<String> {
        match field {
            "tenant_id" => Some(self.tenant.to_string()),
            "tenant_name" => Some(self.tenant_name.clone()),
            "key" => Some(self.key.clone()),
            "operative_value" => Some(self.operative.clone()),
            "default_value" => self.default.clone(),
            "is_default" => Some(self.is_default.to_string()),
            _ => None,
        }
    }

    fn members(&self, fields: &[&str]) -> Map<String, Value> {
        let member = |field: &&str| {
            let value = match *field {
                "tenant_id" => json!(self.tenant.0),
                "is_default" => json!(u8::from(self.is_default)),
                other => json!(self.text(other)),
            };
            ((*field).to_owned(), value)
        };
        fields.iter().map(member).collect()
    }
}

pub(super) async fn set(app: &App, request: &Request) -> Result<Reply, Refusal> {
    let caller = &request.circumstances.caller;
    let value_of = |name: &str| {
        let found = request.checked.values.iter().find(|(f, _)| f.name == name);
        found
            .and_then(|(_, value)| value.clone())
            .ok_or_else(|| Refusal::about(Status::MissingArgument, name))
    };
    let (key, value) = (value_of("key")?, value_of("value")?);
    let tenant = match request.checked.named.iter().find(|(f, _)| f.name == "tenant_id") {
        Some((_, name)) => tenant_named(app, name).await?,
        None => TenantId(value_of("tenant_id")?.parse().map_err(internal)?),
    };
    let tenant = place(app, caller, Some(tenant))?;
    check_key(app, request, &key, &value, tenant).await?;
    let client = app.database.client().await?;
    if qvd_db::admin::references::by_id(&client, Object::Tenant, tenant.0).await?.is_none() {
        return Err(Refusal::about(Status::ForeignReference, "tenant_id"));
    }
    drop(client);
    let shown = if config::is_secret(&key) { MASK.to_owned() } else { value.clone() };
    let text = format!("set to `{shown}` for tenant {tenant}");
    change(app, request, tenant, key.clone(), Some(value), text).await?;
    let row = json!({"key": key, "tenant_id": tenant.0});
    Ok(Reply::Rows { rows: vec![row.to_string()], total: 1 })
}

/// The tenant of a setting: the given one, or that of the caller. Where there are no tenants their administrator sets
/// what holds for all.
pub(crate) fn place(app: &App, caller: &Caller, given: Option<TenantId>) -> Result<TenantId, Refusal> {
    if caller.is_super() {
        return Ok(given.unwrap_or(TenantId::GLOBAL));
    }
    let multitenant = app.is_multitenant().map_err(internal)?;
    Ok(if multitenant { given.unwrap_or(TenantId(caller.tenant)) } else { TenantId::GLOBAL })
}

async fn tenant_named(app: &App, name: &str) -> Result<TenantId, Refusal> {
    let client = app.database.client().await?;
    let found = qvd_db::admin::references::by_name(&client, Object::Tenant, name).await?;
    let [one] = found.as_slice() else { return Err(Refusal::about(Status::ForeignReference, name)) };
    Ok(TenantId(one.id))
}

async fn check_key(
    app: &App,
    request: &Request,
    key: &str,
    value: &str,
    tenant: TenantId,
) -> Result<(), Refusal> {
    let caller = &request.circumstances.caller;
    if is_hidden(key) || (!caller.is_super() && config::is_secret(key)) {
        return Err(Refusal::about(Status::ArgumentNotAllowed, key));
    }
    if let Some(secret) = config::secret_reference(value) {
        let why = format!("a setting may not show `{secret}`, which is a secret");
        return Err(Refusal::about(Status::WrongArgumentValue, key).because(why));
    }
    if value.starts_with(qvd_db::vault::PREFIX) {
        let why = format!("values that begin with {} are sealed ones", qvd_db::vault::PREFIX);
        return Err(Refusal::about(Status::WrongArgumentValue, key).because(why));
    }
    match config::key(key) {
        None if !caller.is_super() && app.config.now().raw(key).is_none() => {
            return Err(Refusal::about(Status::KeyNotDeclared, key));
        }
        Some(known) if known.scope == KeyScope::File => {
            return Err(Refusal::about(Status::KeyOfFile, key));
        }
        Some(known) if known.scope == KeyScope::Global && tenant != TenantId::GLOBAL => {
            return Err(Refusal::about(Status::ArgumentNotAllowed, key)
                .because("this setting is the same for all tenants; set it for tenant -1"));
        }
        // References are checked when they are read, with the values of that moment.
        Some(known) if !value.contains("${") => known
            .check(value)
            .map_err(|e| Refusal::about(Status::WrongArgumentValue, key).because(e.to_string()))?,
        _ => {}
    }
    let off = ["f", "false", "n", "no", "off", "0"].contains(&value.trim().to_ascii_lowercase().as_str());
    if key == "wat.multitenant" && off {
        let client = app.database.client().await?;
        if qvd_db::admin::config::tenants(&client).await?.len() != 3 {
            return Err(Refusal::new(Status::SeveralTenants));
        }
    }
    Ok(())
}

pub(super) async fn delete(app: &App, request: &Request) -> Result<Reply, Refusal> {
    let caller = &request.circumstances.caller;
    let multitenant = app.is_multitenant().map_err(internal)?;
    let filter = &request.checked.filter;
    if caller.is_super() && !filter.mentions("tenant_id") && !filter.mentions("tenant_name") {
        // A key alone would be reset in every tenant.
        return Err(Refusal::about(Status::MissingFilter, "tenant_id"));
    }
    let stored = stored(app).await?;
    let client = app.database.client().await?;
    let tenants = qvd_db::admin::config::tenants(&client).await?;
    drop(client);
    let own = if multitenant { caller.tenant } else { TenantId::GLOBAL.0 };
    let mut matched: Vec<_> = stored
        .into_keys()
        .filter(|(tenant, key)| {
            let reachable = caller.is_super() || tenant.0 == own;
            let name = tenants.iter().find(|(id, _)| id == tenant).map(|(_, name)| name.clone());
            let setting = Setting {
                tenant: *tenant,
                tenant_name: name.unwrap_or_default(),
                key: key.clone(),
                operative: String::new(),
                default: None,
                is_default: false,
            };
            reachable && !is_hidden(key) && holds(filter, &|f| setting.text(f))
        })
        .collect();
    matched.sort();
    if matched.is_empty() {
        return Err(Refusal::new(Status::NothingMatched));
    }
    let count = matched.len();
    for (tenant, key) in matched {
        let text = format!("back to the default for tenant {tenant}");
        change(app, request, tenant, key, None, text).await?;
    }
    Ok(Reply::Done(count))
}

/// Writes a setting, its event and its record, and reads the configuration anew.
async fn change(
    app: &App,
    request: &Request,
    tenant: TenantId,
    key: String,
    value: Option<String>,
    text: String,
) -> Result<(), Refusal> {
    let (circumstances, vault) = (request.circumstances.clone(), app.database.vault().clone());
    let bound = request.precondition.clone();
    app.database
        .transaction("change a setting", move |tx| {
            let (mut circumstances, key, vault) = (circumstances.clone(), key.clone(), vault.clone());
            let (value, text, bound) = (value.clone(), text.clone(), bound.clone());
            Box::pin(async move {
                bound.check_setting(tx, tenant, &key).await?;
                let before = configs::value(&vault, tx, tenant, &key).await?;
                match &value {
                    Some(value) => configs::set(&vault, tx, tenant, &key, value).await?,
                    None => {
                        configs::delete(tx, tenant, &key).await?;
                        circumstances.ask(&json!({"key": key, "value": before}));
                    }
                }
                // Settings have no number; their story is found by name.
                let name = key.clone();
                let identity = qvd_db::admin::select::Identity { id: 0, name, tenant: Some(tenant.0) };
                circumstances.tell(tx, &identity, &text).await?;
                let state =
                    |value: Option<String>| value.map(|v| State::from_iter([(key.clone(), json!(v))]));
                let change = Change::between(state(before), state(value));
                circumstances.done(tx, &identity, &change).await?;
                Ok::<_, Refusal>(())
            })
        })
        .await?;
    app.load_rows().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_the_console_are_evaluated_in_memory() {
        let setting = Setting {
            tenant: TenantId(1),
            tenant_name: "default".into(),
            key: "l7r.port".into(),
            operative: "8443".into(),
            default: None,
            is_default: true,
        };
        let fits = |filter: serde_json::Value| {
            holds(&qvd_model::filter::json::parse(&filter).unwrap(), &|f| setting.text(f))
        };
        assert!(fits(json!({"key": {"~": "l7r.%"}, "tenant_id": 1})));
        assert!(!fits(json!({"-not": {"key": {"~": "%.%"}}})));
        assert!(fits(json!({"operative_value": {">": "900"}})));
        assert!(fits(json!({"default_value": null})));
        assert!(fits(json!({"key": {"!=": ["a", "b"]}})));
        assert!(
            qvd_model::action::entity(Object::Config)
                .fields
                .iter()
                .all(|f| f.name == "value" || f.name == "default_value" || setting.text(f.name).is_some())
        );
    }
}
