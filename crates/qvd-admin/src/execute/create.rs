//! Creations: an object, what belongs to it, and the records, in one transaction.

use std::net::Ipv4Addr;
use std::sync::Arc;

use qvd_db::admin::select::{Identity, Scope};
use qvd_db::admin::{network, references, select, write};
use qvd_db::{Session, Transaction};
use qvd_model::action::{Change as Part, Field, Kind, Object, Status};
use qvd_model::filter::Filter;
use qvd_model::network::AddressPlan;

use super::{Reply, Request, properties, roles};
use crate::app::App;
use crate::change::{Change, state_of};
use crate::images::tags;
use crate::refusal::Refusal;
use crate::session::internal;

/// What a creation needs that is not in the request.
#[derive(Debug, Clone)]
pub(crate) struct New {
    pub(crate) values: Vec<(&'static Field, Option<String>)>,
    /// Addresses for VMs.
    plan: Option<AddressPlan>,
}

impl New {
    /// Adds defaults from the configuration, and hashes passwords: both outside the transaction.
    pub(crate) async fn prepare(app: &App, request: &Request) -> Result<Self, Refusal> {
        let checked = &request.checked;
        let mut values = checked.values.clone();
        check_tenant(app, checked.action.object, &values)?;
        hash_passwords(app, &mut values).await?;
        let config = app.config.now();
        let flag = |key: &str| config.flag(key).map(|on| on.to_string()).map_err(internal);
        let defaults: Vec<(&str, String)> = match checked.action.object {
            Object::Vm => vec![("di_tag", "default".to_owned())],
            Object::User => vec![("blocked", "false".to_owned())],
            Object::Host => vec![("frontend", "true".to_owned()), ("backend", "true".to_owned())],
            Object::Osf => vec![
                ("memory", config.text("osf.default.memory").map_err(internal)?),
                ("overlay", flag("osf.default.overlay")?),
            ],
            Object::Di => vec![("blocked", "false".to_owned()), ("auto_publish", "0".to_owned())],
            Object::Tenant => vec![("blocked", "false".to_owned())],
            _ => Vec::new(),
        };
        for (name, value) in defaults {
            let field = checked.entity.field(name).ok_or_else(|| internal(name))?;
            match values.iter_mut().find(|(f, _)| f.name == name) {
                Some((_, Some(_))) => {}
                Some(empty) => empty.1 = Some(value),
                None => values.push((field, Some(value))),
            }
        }
        number_flags(&mut values);
        let plan = match checked.action.object {
            Object::Vm => Some(address_plan(app)?),
            _ => None,
        };
        if let Some(plan) = &plan {
            check_address(plan, &values)?;
        }
        Ok(Self { values, plan })
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(f, _)| f.name == name).and_then(|(_, value)| value.as_deref())
    }

    fn set(&mut self, field: &'static Field, value: String) {
        self.values.retain(|(f, _)| f.name != field.name);
        self.values.push((field, Some(value)));
    }

    fn id(&self, name: &str) -> Result<i32, Refusal> {
        let missing = || Refusal::about(Status::MissingArgument, name);
        self.value(name).and_then(|text| text.parse().ok()).ok_or_else(missing)
    }
}

/// The addresses of VMs, as configured.
pub(super) fn address_plan(app: &App) -> Result<AddressPlan, Refusal> {
    let config = app.config.now();
    let start = config.address("vm.network.ip.start").map_err(internal)?;
    let netmask = config.text("vm.network.netmask").map_err(internal)?;
    AddressPlan::new(start, &netmask, None).map_err(internal)
}

/// Checks that an address that is given to a VM is one for VMs: nodes trust the others.
pub(super) fn check_address(
    plan: &AddressPlan,
    values: &[(&'static Field, Option<String>)],
) -> Result<(), Refusal> {
    let given = values.iter().find(|(field, _)| field.name == "ip").and_then(|(_, value)| value.as_deref());
    match given.map(str::parse::<Ipv4Addr>) {
        None => Ok(()),
        Some(Ok(address)) if plan.is_vm(address) => Ok(()),
        Some(_) => Err(Refusal::about(Status::WrongArgumentValue, "ip").because(format!(
            "VMs have addresses from {} to {}",
            plan.first_vm(),
            plan.last_vm()
        ))),
    }
}

/// Checks that the name of a tenant can stand behind a login: what separates them would end it.
pub(super) fn check_tenant(
    app: &App,
    object: Object,
    values: &[(&'static Field, Option<String>)],
) -> Result<(), Refusal> {
    if !matches!(object, Object::Tenant | Object::OwnTenant) {
        return Ok(());
    }
    let separators = app.config.now().text("l7r.auth.plugin.default.separators").map_err(internal)?;
    let given = values.iter().find(|(field, _)| field.name == "name").and_then(|(_, value)| value.as_deref());
    match given.and_then(|name| name.chars().find(|c| separators.contains(*c))) {
        None => Ok(()),
        Some(found) => Err(Refusal::about(Status::WrongArgumentValue, "name")
            .because(format!("`{found}` separates logins from names of tenants"))),
    }
}

/// The columns of images keep this switch as a number.
pub(crate) fn number_flags(values: &mut [(&'static Field, Option<String>)]) {
    for (field, value) in values.iter_mut().filter(|(f, _)| f.name == "auto_publish") {
        debug_assert_eq!(field.kind, Kind::Switch);
        let on = matches!(value.as_deref(), Some("true" | "1"));
        *value = Some(u8::from(on).to_string());
    }
}

/// Puts hashes in place of passwords.
pub(crate) async fn hash_passwords(
    app: &App,
    values: &mut [(&'static Field, Option<String>)],
) -> Result<(), Refusal> {
    for (_, value) in values.iter_mut().filter(|(f, _)| f.kind == Kind::Password) {
        if let Some(password) = value {
            *password = app.hasher.hash(password.as_bytes()).await.map_err(internal)?;
        }
    }
    Ok(())
}

pub(super) async fn create(app: &App, request: Arc<Request>) -> Result<Reply, Refusal> {
    let prepared = Arc::new(New::prepare(app, &request).await?);
    let inner = request.clone();
    let created = app
        .database
        .transaction("create", move |tx| {
            let (request, new) = (inner.clone(), New::clone(&prepared));
            Box::pin(async move { create_in(tx, &request, new).await })
        })
        .await;
    match created {
        Ok(identity) => Ok(Reply::created(identity.id)),
        Err(refusal) => {
            let refusal = refusal.while_doing(crate::refusal::Doing::Writing);
            log_failure(app, &request, &refusal).await?;
            Err(refusal)
        }
    }
}

/// The OSF that a new image is for. Whoever may not refer to it learns so before anything is sent.
pub(crate) async fn osf_of(app: &App, request: &Request) -> Result<i32, Refusal> {
    let mut new = New::prepare(app, request).await?;
    let client = app.database.client().await?;
    resolve_names(&client, request, &mut new).await?;
    owner(&client, request, &new).await?;
    new.id("osf_id")
}

/// Writes a creation that failed to the log.
pub(crate) async fn log_failure(app: &App, request: &Request, refusal: &Refusal) -> Result<(), Refusal> {
    if refusal.status() == Status::DatabaseAway {
        return Ok(());
    }
    let client = app.database.client().await?;
    Ok(request.circumstances.refused(&client, None, refusal.status()).await?)
}

/// The creation inside a transaction.
pub(crate) async fn create_in(
    tx: &Transaction<'_>,
    request: &Request,
    mut new: New,
) -> Result<Identity, Refusal> {
    let object = request.checked.action.object;
    resolve_names(tx, request, &mut new).await?;
    if object == Object::Property {
        let key = new.value("key").unwrap_or_default();
        properties::check_key(tx, None, key, new.id("tenant_id")?).await?;
    }
    let tenant = owner(tx, request, &new).await?;
    if object == Object::HostProperty {
        properties::check_host(&request.circumstances.caller, tenant)?;
    }
    let mut chosen = false;
    if object == Object::Vm && new.value("ip").is_none() {
        chosen = true;
        let ip = free_address(tx, &new).await?;
        let field = request.checked.entity.field("ip").ok_or_else(|| internal("ip"))?;
        new.set(field, ip.to_string());
    }
    if object == Object::Di && new.value("version").is_none() {
        chosen = true;
        let version = qvd_db::admin::images::next_version(tx, new.id("osf_id")?).await?;
        let field = request.checked.entity.field("version").ok_or_else(|| internal("version"))?;
        new.set(field, version);
    }
    let values: Vec<_> = new.values.iter().map(|(f, v)| (f.name, v.as_deref())).collect();
    let inserted = write::insert(tx, object, &values, &request.circumstances.caller.creator()).await;
    let id = inserted.map_err(|error| match error.violation() {
        // A free address or version that somebody else took at the same time: the next try finds another.
        Some((_, Some(constraint)))
            if chosen && ["_ip", "_version"].iter().any(|c| constraint.contains(c)) =>
        {
            Refusal::Race(error)
        }
        _ => error.into(),
    })?;
    if object == Object::Vm {
        super::update::check_expiration(tx, id).await?;
    }
    let name = match new.value(request.checked.entity.key) {
        Some(name) => name.to_owned(),
        // It is called like what it refers to.
        None => named(tx, object, id).await?,
    };
    let tenant = if object == Object::Tenant { Some(id) } else { tenant };
    let identity = Identity { id, name, tenant };
    if object == Object::Di {
        let version = new.value("version").unwrap_or_default();
        tags::on_creation(tx, id, new.id("osf_id")?, version).await?;
    }
    for (operation, values) in &request.checked.nested {
        match operation.change {
            Part::AddTags => tags::add(tx, id, values).await?,
            Part::RemoveTags => tags::remove(tx, id, values).await?,
            Part::AssignProperty => properties::assign(tx, request, id, tenant, values).await?,
            Part::AssignAcls | Part::UnassignAcls | Part::AssignRoles | Part::UnassignRoles => {
                roles::change(tx, request, &identity, operation.change, values).await?;
            }
            // These come in a list of their own.
            Part::SetProperties | Part::RemoveProperties => {}
        }
    }
    properties::store(tx, request, &identity).await?;
    request.circumstances.tell(tx, &identity, "created").await?;
    let change = Change::between(None, state_of(tx, object, id).await?);
    request.circumstances.done(tx, &identity, &change).await?;
    Ok(identity)
}

/// What an object is called in the database.
async fn named(session: &impl Session, object: Object, id: i32) -> Result<String, Refusal> {
    let own = Filter::any_of("id", [id]);
    let found = select::identities(session, object, &own, &Scope::All).await?;
    Ok(found.into_iter().next().map(|identity| identity.name).unwrap_or_default())
}

/// Puts ids in place of names. A name must be of a row in the caller's scope; those of the same tenant as the
/// rest of the request win.
async fn resolve_names(session: &impl Session, request: &Request, new: &mut New) -> Result<(), Refusal> {
    let caller = &request.circumstances.caller;
    let mut tenant: Option<i32> = new.value("tenant_id").and_then(|t| t.parse().ok());
    for (field, name) in &request.checked.named {
        if new.value(field.name).is_some() {
            return Err(Refusal::about(Status::WrongArgumentValue, field.name)
                .because("it is given by number and by name"));
        }
        let Some(object) = refers_to(field.name) else { continue };
        // Logins and tenants are stored normalized; the check of the request has not seen what kind this is.
        let found = references::by_name(session, object, name).await?;
        let global = request.checked.action.object == Object::Config;
        let mut reachable: Vec<_> =
            found.into_iter().filter(|r| caller.reaches(r.tenant) || (global && r.tenant == -1)).collect();
        if reachable.len() > 1
            && let Some(tenant) = tenant
        {
            reachable.retain(|r| r.tenant == tenant);
        }
        match reachable.as_slice() {
            [one] => {
                tenant = tenant.or(Some(one.tenant));
                new.set(field, one.id.to_string());
            }
            [] => return Err(Refusal::about(Status::ForeignReference, name.as_str())),
            _ => {
                return Err(Refusal::about(Status::WrongArgumentValue, name.as_str())
                    .because(format!("several tenants have one; give {} instead", field.name)));
            }
        }
    }
    Ok(())
}

pub(super) fn refers_to(field: &str) -> Option<Object> {
    match field {
        "user_id" => Some(Object::User),
        "osf_id" => Some(Object::Osf),
        "tenant_id" => Some(Object::Tenant),
        "property_id" => Some(Object::Property),
        _ => None,
    }
}

/// Checks that everything the new object refers to is in the caller's scope and of one tenant, which is the
/// tenant of the object.
async fn owner(session: &impl Session, request: &Request, new: &New) -> Result<Option<i32>, Refusal> {
    let caller = &request.circumstances.caller;
    let mut owner = None;
    for (field, value) in &new.values {
        let (Some(object), Some(id)) = (refers_to(field.name), value.as_deref().and_then(|v| v.parse().ok()))
        else {
            continue;
        };
        let found = references::by_id(session, object, id).await?;
        // A row of another tenant is not told apart from one that is not there.
        let found = found.filter(|r| caller.reaches(r.tenant)).ok_or_else(|| {
            let unknown_osf = request.checked.action.object == Object::Di && caller.is_super();
            let status = if unknown_osf { Status::UnknownReference } else { Status::ForeignReference };
            Refusal::about(status, field.name)
        })?;
        match owner {
            Some(tenant) if tenant != found.tenant => return Err(Refusal::new(Status::TenantsDiffer)),
            _ => owner = Some(found.tenant),
        }
    }
    Ok(owner)
}

async fn free_address(session: &impl Session, new: &New) -> Result<Ipv4Addr, Refusal> {
    let used = network::used(session).await?;
    let plan = new.plan.as_ref().ok_or_else(|| internal("no address plan"))?;
    plan.highest_free(|address| used.contains(&address)).ok_or_else(|| {
        Refusal::about(Status::Internal, "ip").because("every address of vm.network is given to a VM")
    })
}
