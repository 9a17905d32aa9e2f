//! Who asks, and what that one may do (`spec/api.md` 7).

use qvd_db::admin::identity::{self, Administrator};
use qvd_db::admin::select::Scope;
use qvd_db::admin::write::Creator;
use qvd_db::events::Actor;
use qvd_db::{Database, Error};
use qvd_logic::roles::{Holder, Rules};
use qvd_model::acl::ACLS;
use qvd_model::action::acl_matches;

use crate::token::Token;

/// The administrator of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its id; none for root on the API's host.
    pub id: Option<i32>,
    /// Its name.
    pub name: String,
    /// Its tenant; 0 for super-administrators.
    pub tenant: i32,
    /// The name of its tenant.
    pub tenant_name: String,
    /// Operative ACLs, sorted.
    pub acls: Vec<String>,
    /// The token by which it is known, if it is by one.
    pub token: Option<Token>,
}

/// The recovery administrator.
pub(crate) const RECOVERY: i32 = 0;

impl Caller {
    /// Root on the API's host: may do everything.
    pub(crate) fn root() -> Self {
        Self {
            id: None,
            name: "root".to_owned(),
            tenant: 0,
            tenant_name: "*".to_owned(),
            acls: ACLS.iter().map(|acl| acl.name.to_owned()).collect(),
            token: None,
        }
    }

    /// The API itself, which goes on with what somebody has begun.
    pub(crate) fn service() -> Self {
        Self { name: "api".to_owned(), acls: Vec::new(), ..Self::root() }
    }

    /// An administrator with its operative ACLs.
    pub(crate) async fn load(database: &Database, who: &Administrator, rules: Rules) -> Result<Self, Error> {
        let client = database.client().await?;
        let granted = identity::acls(&client, who.id).await?;
        Ok(Self {
            id: Some(who.id),
            name: who.name.clone(),
            tenant: who.tenant,
            tenant_name: who.tenant_name.clone(),
            acls: rules
                .operative(holder_of(who.id, who.tenant), granted.iter().map(String::as_str))
                .into_iter()
                .map(str::to_owned)
                .collect(),
            token: None,
        })
    }

    /// Whether it stands above tenants.
    pub const fn is_super(&self) -> bool {
        self.tenant == 0
    }

    /// Whether one of the patterns is among its ACLs; no patterns ask for nothing.
    pub fn may(&self, patterns: &[&str]) -> bool {
        patterns.is_empty()
            || patterns.iter().any(|pattern| self.acls.iter().any(|acl| acl_matches(pattern, acl)))
    }

    /// Whose rows it sees.
    pub(crate) const fn scope(&self) -> Scope {
        if self.is_super() { Scope::All } else { Scope::Tenant(self.tenant) }
    }

    /// Whether a row of this tenant is in its scope.
    pub(crate) const fn reaches(&self, tenant: i32) -> bool {
        if self.is_super() { tenant != -1 } else { tenant == self.tenant }
    }

    /// As it stands with what it makes.
    pub(crate) fn creator(&self) -> Creator {
        Creator { id: self.id, name: self.name.clone() }
    }

    /// As it stands in events.
    pub(crate) fn actor(&self) -> Actor {
        Actor::administrator(&self.name)
    }
}

/// What an administrator is to the rules about ACLs.
pub(crate) const fn holder_of(administrator: i32, tenant: i32) -> Holder {
    match (administrator, tenant) {
        (RECOVERY, _) => Holder::Recovery,
        (_, 0) => Holder::Super,
        _ => Holder::Tenant,
    }
}
