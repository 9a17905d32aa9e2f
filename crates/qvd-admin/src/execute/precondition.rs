//! Changes that are only wanted as long as the object is as it was read: entity tags (RFC 9110, 8.8.3 and 13.1.1).
//!
//! A tag stands for what administrators give an object: the members that can be written, its tags, properties, roles
//! and ACLs. What the installation's work moves, such as the state of a VM, is left out: a desktop that starts while
//! somebody edits its description is no reason to refuse the description.

use qvd_db::admin::select::{self, Identity, List, Marks, Paging, Scope};
use qvd_db::{Session, configs};
use qvd_model::TenantId;
use qvd_model::action::{Object, Status, entity};
use qvd_model::filter::Filter;

use serde_json::Value;

use super::Request;
use crate::caller::Caller;
use crate::change::state_of;
use crate::refusal::Refusal;

/// Which state of an object a change is meant for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Any.
    #[default]
    None,
    /// Any, but it must be there.
    Exists,
    /// One of these tags.
    OneOf(Vec<String>),
}

impl Precondition {
    /// Of a field `If-Match`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.trim() == "*" {
            return Some(Self::Exists);
        }
        let tags = text.split(',').map(|tag| {
            let inner = tag.trim().strip_prefix('"')?.strip_suffix('"')?;
            inner.bytes().all(|b| b.is_ascii_alphanumeric()).then(|| inner.to_owned())
        });
        tags.collect::<Option<Vec<_>>>().map(Self::OneOf)
    }

    /// Refuses if the object is another than was meant. In the transaction of the change, which is serializable:
    /// whoever changes it at the same time makes one of the two start again.
    pub(super) async fn check(
        &self,
        session: &impl Session,
        request: &Request,
        object: &Identity,
    ) -> Result<(), Refusal> {
        if !matches!(self, Self::OneOf(_)) {
            return Ok(());
        }
        match tag(session, request.checked.action.object, object.id, &request.checked.scope).await? {
            Some(now) => self.compare(&now),
            None => Err(Refusal::new(Status::NothingMatched)),
        }
    }

    /// The same for a setting of a tenant.
    pub(super) async fn check_setting(
        &self,
        session: &impl Session,
        tenant: TenantId,
        key: &str,
    ) -> Result<(), Refusal> {
        if !matches!(self, Self::OneOf(_)) {
            return Ok(());
        }
        self.compare(&tag_of_setting(session, tenant, key).await?)
    }

    fn compare(&self, now: &str) -> Result<(), Refusal> {
        match self {
            Self::OneOf(tags) if !tags.iter().any(|tag| tag == now) => {
                Err(Refusal::about(Status::Stale, format!("\"{now}\"")))
            }
            _ => Ok(()),
        }
    }
}

/// The tag of a setting of a tenant, whether it is set or has its default.
pub(crate) async fn tag_of_setting(
    session: &impl Session,
    tenant: TenantId,
    key: &str,
) -> Result<String, Refusal> {
    let version = configs::version(session, tenant, key).await?.unwrap_or_default();
    Ok(digest(&format!("{tenant} {key} {version}")))
}

/// The tag of an object as it is; `None` if it is not there.
pub(crate) async fn tag(
    session: &impl Session,
    object: Object,
    id: i32,
    scope: &Scope,
) -> Result<Option<String>, Refusal> {
    if object.is_own() {
        let state = state_of(session, object, id).await?;
        return Ok(state.map(|state| digest(&Value::Object(state).to_string())));
    }
    let fields: Vec<&str> = entity(object).administered().map(|field| field.name).collect();
    let list = List {
        object,
        filter: &Filter::any_of("id", [id]),
        scope,
        fields: &fields,
        properties: &[],
        order: &[],
        descending: false,
        skip: 0,
        limit: Some(1),
        paging: Paging::After { row: None, count: false },
        // Never given by administrators.
        marks: Marks::default(),
    };
    let found = select::list(session, &list).await?;
    Ok(found.rows.first().map(|row| digest(row)))
}

fn digest(text: &str) -> String {
    let digest = qvd_auth::token_digest(text.as_bytes());
    digest.trim_start_matches("sha256:").chars().take(32).collect()
}

/// The number of the one object of this kind that the caller has.
pub(crate) fn own(object: Object, caller: &Caller) -> Option<i32> {
    match object {
        Object::OwnAdministrator => caller.id,
        _ if object.is_own() => Some(caller.tenant),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read() {
        let tags = |all: &[&str]| Precondition::OneOf(all.iter().map(|t| (*t).to_owned()).collect());
        assert_eq!(Precondition::parse("*"), Some(Precondition::Exists));
        assert_eq!(Precondition::parse("\"ab\" , \"cd\""), Some(tags(&["ab", "cd"])));
        for bad in ["", "ab", "W/\"ab\"", "\"a\"b\"", "\"ab\",", "\"a b\""] {
            assert_eq!(Precondition::parse(bad), None, "{bad}");
        }
    }
}
