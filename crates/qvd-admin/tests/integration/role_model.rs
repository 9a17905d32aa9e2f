//! Any sequence of changes of roles has the effect that the rules of `spec/api.md` 5.7 and 7.2 say, seen through the
//! API. The model below is written from the rules alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use crate::sequences::every_sequence;
use crate::{Installation, PASSWORD};

/// `tenant.*` is hidden from tenant administrators.
const ACLS: [&str; 5] =
    ["user.see-main.", "vm.see-main.", "host.see-main.", "tenant.see-main.", "vm.update.state"];
const ROLES: usize = 5;
const ADMINISTRATORS: usize = 2;

#[derive(Debug, Clone)]
enum Change {
    Assign { role: usize, acl: usize },
    Unassign { role: usize, acl: usize },
    Inherit { role: usize, from: usize },
    Disinherit { role: usize, from: usize },
    Hold { administrator: usize, role: usize },
    Release { administrator: usize, role: usize },
}

fn change() -> impl Strategy<Value = Change> {
    let (role, acl, administrator) = (0..ROLES, 0..ACLS.len(), 0..ADMINISTRATORS);
    prop_oneof![
        3 => (role.clone(), acl.clone()).prop_map(|(role, acl)| Change::Assign { role, acl }),
        3 => (role.clone(), acl).prop_map(|(role, acl)| Change::Unassign { role, acl }),
        3 => (role.clone(), role.clone()).prop_map(|(role, from)| Change::Inherit { role, from }),
        2 => (role.clone(), role.clone()).prop_map(|(role, from)| Change::Disinherit { role, from }),
        1 => (administrator.clone(), role.clone())
            .prop_map(|(administrator, role)| Change::Hold { administrator, role }),
        1 => (administrator, role).prop_map(|(administrator, role)| Change::Release { administrator, role }),
    ]
}

#[derive(Debug, Default)]
struct Role {
    positive: BTreeSet<usize>,
    negative: BTreeSet<usize>,
    inherits: BTreeSet<usize>,
}

#[derive(Debug, Default)]
struct Model {
    roles: [Role; ROLES],
    holds: [BTreeSet<usize>; ADMINISTRATORS],
}

impl Model {
    fn inherited(&self, role: usize) -> BTreeSet<usize> {
        self.roles[role].inherits.iter().flat_map(|from| self.effective(*from)).collect()
    }

    fn effective(&self, role: usize) -> BTreeSet<usize> {
        let own = &self.roles[role];
        let inherited = self.inherited(role);
        inherited.difference(&own.negative).copied().chain(own.positive.iter().copied()).collect()
    }

    fn reaches(&self, from: usize, role: usize) -> bool {
        from == role || self.roles[from].inherits.iter().any(|next| self.reaches(*next, role))
    }

    /// Makes the change; the code that it is answered with.
    fn apply(&mut self, change: &Change) -> i64 {
        match *change {
            Change::Assign { role, acl } if !self.effective(role).contains(&acl) => {
                if !self.roles[role].negative.remove(&acl) {
                    self.roles[role].positive.insert(acl);
                }
            }
            Change::Unassign { role, acl } if self.effective(role).contains(&acl) => {
                self.roles[role].positive.remove(&acl);
                if self.inherited(role).contains(&acl) {
                    self.roles[role].negative.insert(acl);
                }
            }
            Change::Inherit { role, from } if self.reaches(from, role) => return 7350,
            Change::Inherit { role, from } => {
                if !self.roles[role].inherits.insert(from) {
                    return 7230;
                }
                for acl in self.effective(from) {
                    self.roles[role].positive.remove(&acl);
                    self.roles[role].negative.remove(&acl);
                }
            }
            Change::Disinherit { role, from } => {
                self.roles[role].inherits.remove(&from);
                let inherited = self.inherited(role);
                self.roles[role].negative.retain(|acl| inherited.contains(acl));
            }
            Change::Hold { administrator, role } => {
                if !self.holds[administrator].insert(role) {
                    return 7230;
                }
            }
            Change::Release { administrator, role } => {
                self.holds[administrator].remove(&role);
            }
            Change::Assign { .. } | Change::Unassign { .. } => {}
        }
        0
    }
}

/// Fresh roles and administrators of one case.
struct Case<'a> {
    it: &'a Installation,
    roles: Vec<Value>,
    administrators: Vec<Value>,
}

impl<'a> Case<'a> {
    async fn new(it: &'a Installation) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut case = Self { it, roles: Vec::new(), administrators: Vec::new() };
        for role in 0..ROLES {
            let arguments = json!({"name": format!("role {number} {role}"), "tenant_id": 1});
            case.roles.push(case.make("role_create", arguments).await);
        }
        for index in 0..ADMINISTRATORS {
            let name = format!("admin{number}x{index}");
            let arguments = json!({"name": name, "password": PASSWORD, "tenant_id": 1});
            case.administrators.push(case.make("administrator_create", arguments).await);
        }
        case
    }

    async fn make(&self, action: &str, arguments: Value) -> Value {
        let made = self.it.post("/api", &json!({"action": action, "arguments": arguments})).await.1;
        assert_eq!(made["status"], 0, "{made}");
        made["rows"][0]["id"].clone()
    }

    async fn apply(&self, change: &Change) -> i64 {
        let acls = |verb: &str, acl: usize| json!({"__acls_changes__": {verb: [ACLS[acl]]}});
        let roles = |verb: &str, role: usize| json!({"__roles_changes__": {verb: [self.roles[role]]}});
        let (action, id, arguments) = match *change {
            Change::Assign { role, acl } => ("role_update", &self.roles[role], acls("assign_acls", acl)),
            Change::Unassign { role, acl } => ("role_update", &self.roles[role], acls("unassign_acls", acl)),
            Change::Inherit { role, from } => ("role_update", &self.roles[role], roles("assign_roles", from)),
            Change::Disinherit { role, from } => {
                ("role_update", &self.roles[role], roles("unassign_roles", from))
            }
            Change::Hold { administrator, role } => {
                ("administrator_update", &self.administrators[administrator], roles("assign_roles", role))
            }
            Change::Release { administrator, role } => {
                ("administrator_update", &self.administrators[administrator], roles("unassign_roles", role))
            }
        };
        let request = json!({"action": action, "filters": {"id": id}, "arguments": arguments});
        let answer = self.it.post("/api", &request).await.1;
        if answer["status"] == 0 {
            return 0;
        }
        answer["failures"][id.to_string()]["status"].as_i64().unwrap_or_else(|| panic!("{request}: {answer}"))
    }

    /// What a role says itself, and what it inherits.
    async fn own(&self, role: usize) -> (BTreeSet<usize>, BTreeSet<usize>, BTreeSet<usize>) {
        let request = json!({"action": "role_get_list", "filters": {"id": self.roles[role]},
                             "fields": ["acls", "roles"]});
        let row = self.it.post("/api", &request).await.1["rows"][0].clone();
        let entries = |sign: &str| numbers(row["acls"][sign].as_array().unwrap(), |acl| acl.clone());
        let of = |id: &str| self.roles.iter().position(|role| role.as_i64() == id.parse().ok()).unwrap();
        let inherits = row["roles"].as_object().unwrap().keys().map(|id| of(id)).collect();
        (entries("positive"), entries("negative"), inherits)
    }

    async fn operative(&self, action: &str, member: &str, id: &Value) -> BTreeSet<usize> {
        let filters = json!({member: id, "operative": 1});
        let request = json!({"action": action, "filters": filters, "block": 0});
        let answer = self.it.post("/api", &request).await.1;
        assert_eq!(answer["status"], 0, "{answer}");
        numbers(answer["rows"].as_array().unwrap(), |row| row["name"].clone())
    }
}

fn numbers(values: &[Value], name: impl Fn(&Value) -> Value) -> BTreeSet<usize> {
    values.iter().map(|value| ACLS.iter().position(|acl| name(value) == *acl).unwrap()).collect()
}

async fn check(it: &Installation, changes: Vec<Change>) -> Result<(), TestCaseError> {
    let case = Case::new(it).await;
    let mut model = Model::default();
    for change in &changes {
        prop_assert_eq!(case.apply(change).await, model.apply(change), "{:?}", change);
        for (number, role) in model.roles.iter().enumerate() {
            let expected = (role.positive.clone(), role.negative.clone(), role.inherits.clone());
            prop_assert_eq!(case.own(number).await, expected, "role {} after {:?}", number, change);
        }
    }
    let all: BTreeMap<usize, BTreeSet<usize>> =
        (0..ROLES).map(|role| (role, model.effective(role))).collect();
    for (role, effective) in &all {
        let found = case.operative("get_acls_in_roles", "role_id", &case.roles[*role]).await;
        prop_assert_eq!(&found, effective, "role {}", role);
    }
    for (number, held) in model.holds.iter().enumerate() {
        let hidden = |acl: &usize| ACLS[*acl].starts_with("tenant.");
        let expected: BTreeSet<usize> =
            held.iter().flat_map(|role| all[role].iter().copied()).filter(|acl| !hidden(acl)).collect();
        let found = case.operative("get_acls_in_admins", "admin_id", &case.administrators[number]).await;
        prop_assert_eq!(found, expected, "administrator {}", number);
    }
    Ok(())
}

#[test]
fn roles_are_as_their_rules_say() {
    every_sequence("rolemodel", 12, change(), check);
}
