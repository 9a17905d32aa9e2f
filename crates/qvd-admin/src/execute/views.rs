//! Which columns and filters the console shows (`spec/api.md` 5.11).

use std::sync::Arc;

use qvd_db::admin::select::Identity;
use qvd_db::admin::views::{self, Column, Owner, Place, Setting};
use qvd_db::{Session, Transaction};
use qvd_model::action::{Object, Status};
use serde_json::json;

use super::matching::holds;
use super::{Reply, Request};
use crate::app::App;
use crate::caller::{Caller, RECOVERY};
use crate::change::{Change, State};
use crate::refusal::Refusal;

/// Shows a column or filter, or hides it.
pub(super) async fn set(app: &App, request: Arc<Request>) -> Result<Reply, Refusal> {
    let id = app
        .database
        .transaction("set a view", move |tx| {
            let request = request.clone();
            Box::pin(async move { set_in(tx, &request).await })
        })
        .await?;
    Ok(Reply::Rows { rows: vec![json!({ "id": id }).to_string()], total: 1 })
}

async fn set_in(tx: &Transaction<'_>, request: &Request) -> Result<i32, Refusal> {
    let caller = &request.circumstances.caller;
    let value = |name: &str| {
        let found = request.checked.values.iter().find(|(f, _)| f.name == name);
        found.and_then(|(_, value)| value.clone())
    };
    let text = |name: &str| value(name).ok_or_else(|| Refusal::about(Status::MissingArgument, name));
    let number = |name: &str| -> Result<i32, Refusal> {
        text(name)?.parse().map_err(|_| Refusal::about(Status::WrongArgumentValue, name))
    };
    let place = Place { view: text("view_type")?, device: text("device_type")? };
    let object = request.checked.action.object;
    let (column, name, tenant) = match object {
        Object::TenantAttributeView => {
            let column = Column::Field { field: text("field")?, object: text("qvd_object")? };
            let named = request.checked.named.iter().find(|(field, _)| field.name == "tenant_id");
            let tenant = match named {
                Some((_, name)) => tenant_named(tx, name).await?,
                None => number("tenant_id")?,
            };
            (column, text("field")?, tenant)
        }
        Object::AdministratorAttributeView => {
            let column = Column::Field { field: text("field")?, object: text("qvd_object")? };
            (column, text("field")?, caller.tenant)
        }
        _ => {
            let assignment = number("qvd_obj_prop_id")?;
            let found = views::property(tx, assignment).await?;
            let own = object == Object::TenantPropertyView;
            let (tenant, key) = found
                .filter(|(tenant, _)| may_use(caller, *tenant, own))
                .ok_or_else(|| Refusal::about(Status::ForeignReference, "qvd_obj_prop_id"))?;
            (Column::Property(assignment), key, tenant)
        }
    };
    let owner = if matches!(object, Object::TenantAttributeView | Object::TenantPropertyView) {
        if !may_change(caller, &place) {
            return Err(Refusal::about(Status::ArgumentNotAllowed, "view_type"));
        }
        Owner::Tenant(tenant)
    } else {
        Owner::Administrator(caller.id.unwrap_or(RECOVERY))
    };
    let visible = value("visible").as_deref() == Some("true");
    let before = settings_of(tx, owner).await?;
    let id = views::set(tx, owner, &column, &place, visible).await?;
    let after = settings_of(tx, owner).await?;
    let property = matches!(column, Column::Property(_));
    let state = |settings: Vec<Setting>| {
        settings.iter().find(|s| s.id == id && s.property == property).map(state_of_setting)
    };
    let identity = Identity { id, name, tenant: Some(tenant) };
    request.circumstances.done(tx, &identity, &Change::between(state(before), state(after))).await?;
    Ok(id)
}

async fn settings_of(session: &impl Session, owner: Owner) -> Result<Vec<Setting>, Refusal> {
    Ok(match owner {
        Owner::Tenant(tenant) => views::of_tenants(session, Some(tenant)).await?,
        Owner::Administrator(id) => views::of_administrator(session, id).await?,
    })
}

fn state_of_setting(setting: &Setting) -> State {
    let members = [
        ("field", json!(setting.field)),
        ("qvd_object", json!(setting.object)),
        ("view_type", json!(setting.place.view)),
        ("device_type", json!(setting.place.device)),
        ("visible", json!(setting.visible)),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn tenant_named(session: &impl Session, name: &str) -> Result<i32, Refusal> {
    let found = qvd_db::admin::references::by_name(session, Object::Tenant, name).await?;
    let [one] = found.as_slice() else { return Err(Refusal::about(Status::ForeignReference, name)) };
    Ok(one.id)
}

/// Whether a property of this tenant is one of the caller's; those of the installation are everybody's to look at.
const fn may_use(caller: &Caller, tenant: i32, own: bool) -> bool {
    caller.reaches(tenant) || (!own && tenant <= 0)
}

/// Whether the caller may change what its tenant sees in this place.
fn may_change(caller: &Caller, place: &Place) -> bool {
    let acl = match (place.view.as_str(), place.device.as_str()) {
        ("list_column", _) => "views.update.columns",
        (_, "mobile") => "views.update.filters-mobile",
        _ => "views.update.filters-desktop",
    };
    caller.may(&[acl])
}

/// Goes back to what is shown by default.
pub(super) async fn reset(app: &App, request: Arc<Request>) -> Result<Reply, Refusal> {
    let removed = app
        .database
        .transaction("reset views", move |tx| {
            let request = request.clone();
            Box::pin(async move { reset_in(tx, &request).await })
        })
        .await?;
    Ok(Reply::Rows { rows: Vec::new(), total: removed })
}

async fn reset_in(tx: &Transaction<'_>, request: &Request) -> Result<i64, Refusal> {
    let caller = &request.circumstances.caller;
    let (owner, settings) = if request.checked.action.object == Object::TenantView {
        let tenant = if caller.is_super() { None } else { Some(caller.tenant) };
        (Owner::Tenant(caller.tenant), views::of_tenants(tx, tenant).await?)
    } else {
        let id = caller.id.unwrap_or(RECOVERY);
        (Owner::Administrator(id), views::of_administrator(tx, id).await?)
    };
    let mut removed = 0;
    for setting in settings {
        let permitted = matches!(owner, Owner::Administrator(_)) || may_change(caller, &setting.place);
        if !permitted || !holds(&request.checked.filter, &|field| text(&setting, field)) {
            continue;
        }
        if views::reset(tx, owner, &setting).await? {
            removed += 1;
            let tenant = setting.tenant.or(Some(caller.tenant));
            let identity = Identity { id: setting.id, name: setting.field.clone(), tenant };
            let change = Change::between(Some(state_of_setting(&setting)), None);
            request.circumstances.done(tx, &identity, &change).await?;
        }
    }
    Ok(removed)
}

fn text(setting: &Setting, field: &str) -> Option<String> {
    match field {
        "tenant_id" => setting.tenant.map(|tenant| tenant.to_string()),
        "qvd_object" => Some(setting.object.clone()),
        _ => None,
    }
}
