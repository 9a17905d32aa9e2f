//! What roles grant, and what of it is operative (`spec/api.md` 7.2, `spec/database.md` 11.3).
//!
//! A role has at most one entry for an ACL. A positive one grants it. A negative one cuts the ACL out of what the
//! role inherits, at that level only: another path may still deliver it.
//!
//! `effective(R) = own(R) ∪ (∪ effective(inherited by R) − refused(R))`, the least solution where roles inherit
//! from each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use qvd_model::RoleId;
use qvd_model::acl::ACLS;
use qvd_model::role;

/// What a role says of an ACL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entry {
    /// It grants the ACL.
    Positive,
    /// It does not pass the ACL on from the roles it inherits.
    Negative,
}

/// A role without what it inherits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// Its own entries, by name of the ACL.
    pub entries: BTreeMap<String, Entry>,
    /// The roles it inherits from directly.
    pub inherits: BTreeSet<RoleId>,
}

/// The roles of an installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles(BTreeMap<RoleId, Role>);

impl FromIterator<(RoleId, Role)> for Roles {
    fn from_iter<I: IntoIterator<Item = (RoleId, Role)>>(roles: I) -> Self {
        Self(roles.into_iter().collect())
    }
}

impl Roles {
    /// The shipped ones.
    pub fn shipped() -> Self {
        role::ROLES
            .iter()
            .map(|shipped| {
                let own = shipped.own.iter().map(|acl| ((*acl).to_owned(), Entry::Positive));
                let refused = shipped.refused.iter().map(|acl| ((*acl).to_owned(), Entry::Negative));
                let inherits = shipped.inherits.iter().copied().map(RoleId).collect();
                (RoleId(shipped.id), Role { entries: own.chain(refused).collect(), inherits })
            })
            .collect()
    }

    /// The ACLs that a role grants to its holder. A role that does not exist grants none.
    pub fn effective(&self, role: RoleId) -> BTreeSet<&str> {
        let mut granted: BTreeMap<RoleId, BTreeSet<&str>> =
            self.reachable(role).into_iter().map(|(id, role)| (id, role.own().collect())).collect();
        // Grants only ever grow, so passing them on until nothing changes ends, also in circles.
        while self.pass_on(&mut granted) {}
        granted.remove(&role).unwrap_or_default()
    }

    /// The ACLs that several roles together grant to their holder.
    pub fn granted(&self, held: impl IntoIterator<Item = RoleId>) -> BTreeSet<&str> {
        held.into_iter().flat_map(|role| self.effective(role)).collect()
    }

    /// Whether a role inherits from another, directly or through others; every role does from itself.
    pub fn inherits_from(&self, inheritor: RoleId, inherited: RoleId) -> bool {
        inheritor == inherited || self.reachable(inheritor).contains_key(&inherited)
    }

    /// A role and all that it inherits from.
    fn reachable(&self, role: RoleId) -> BTreeMap<RoleId, &Role> {
        let mut found = BTreeMap::new();
        let mut open = vec![role];
        while let Some(id) = open.pop() {
            if let Some(role) = self.0.get(&id)
                && found.insert(id, role).is_none()
            {
                open.extend(&role.inherits);
            }
        }
        found
    }

    /// Hands the grants of each role to its direct inheritors; tells whether any was new.
    fn pass_on<'a>(&'a self, granted: &mut BTreeMap<RoleId, BTreeSet<&'a str>>) -> bool {
        let mut news = false;
        let ids: Vec<RoleId> = granted.keys().copied().collect();
        for id in ids {
            let Some(role) = self.0.get(&id) else { continue };
            let inherited = role.inherits.iter().filter_map(|parent| granted.get(parent)).flatten();
            let passed: Vec<&str> = inherited.copied().filter(|acl| !role.refuses(acl)).collect();
            if let Some(mine) = granted.get_mut(&id) {
                let before = mine.len();
                mine.extend(passed);
                news |= mine.len() > before;
            }
        }
        news
    }
}

impl Role {
    fn own(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|(_, entry)| **entry == Entry::Positive).map(|(acl, _)| acl.as_str())
    }

    fn refuses(&self, acl: &str) -> bool {
        self.entries.get(acl) == Some(&Entry::Negative)
    }
}

/// Who holds roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The recovery administrator, which can always repair the rights of the others.
    Recovery,
    /// An administrator of the super-tenant.
    Super,
    /// An administrator of a tenant.
    Tenant,
}

/// What the installation makes of ACLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Whether there are tenants to administer (`wat.multitenant`).
    pub multitenant: bool,
    /// Whether the log may be read (`api.log.enabled`); existing versions keep it closed.
    pub log: bool,
}

impl Rules {
    /// Whether this holder never has the ACL and never sees it in lists.
    pub fn hides(&self, holder: Holder, acl: &str) -> bool {
        let tenants = !self.multitenant || holder == Holder::Tenant;
        (!self.log && is_about_log(acl)) || (tenants && acl.starts_with("tenant."))
    }

    /// The ACLs in force, each once, sorted, of a holder whose roles grant `granted`.
    pub fn operative<'a>(
        &self,
        holder: Holder,
        granted: impl IntoIterator<Item = &'a str>,
    ) -> BTreeSet<&'a str> {
        let recovered =
            ACLS.iter().map(|acl| acl.name).filter(|acl| holder == Holder::Recovery && recovers(acl));
        granted.into_iter().chain(recovered).filter(|acl| !self.hides(holder, acl)).collect()
    }
}

fn is_about_log(acl: &str) -> bool {
    acl.starts_with("log.") || acl.ends_with(".log")
}

fn recovers(acl: &str) -> bool {
    ["administrator.", "config.", "tenant.", "role."].iter().any(|domain| acl.starts_with(domain))
}

#[cfg(test)]
mod tests;
