//! The shipped roles grant the documented figures, and expansion agrees with a walk along every path.

use proptest::prelude::*;

use super::*;

/// Effective ACLs of the shipped roles, by id (`spec/api.md` appendix B).
#[rustfmt::skip]
const FIGURES: [usize; 67] = [
    2, 1, 18, 1, 11, 3, 6, 1, 36, 2, 21, 6, 6, 186, 2, 1, 30, 2, 21, 4,
    91, 100, 168, 4, 1, 35, 2, 24, 5, 3, 15, 4, 141, 10, 91, 19, 1, 1, 16, 2,
    10, 2, 244, 1, 2, 28, 1, 20, 4, 244, 2, 1, 25, 1, 18, 3, 4, 3, 1, 3,
    1, 42, 5, 28, 5, 1, 45,
];

const ROOT: RoleId = RoleId(43);

#[test]
fn shipped_roles_grant_the_documented_figures() {
    let roles = Roles::shipped();
    let effective: Vec<usize> = (1..=67).map(|id| roles.effective(RoleId(id)).len()).collect();
    assert_eq!(effective, FIGURES);
    assert_eq!(effective.iter().sum::<usize>(), 1837);
}

#[test]
fn a_refusal_cuts_one_path_only() {
    let roles = Roles::shipped();
    let [l1, l2, l3] = [21, 22, 23].map(|id| roles.effective(RoleId(id)));
    assert!(!l1.contains("vm.update.name"));
    assert!(!l2.contains("vm.update.name"));
    assert!(l3.contains("vm.update.name"), "it comes through QVD Updater");
}

#[test]
fn an_unknown_role_grants_nothing_and_breaks_nothing() {
    let lost = Role { inherits: [RoleId(9)].into(), ..Role::default() };
    let roles: Roles = [(RoleId(1), lost)].into_iter().collect();
    assert!(roles.effective(RoleId(1)).is_empty());
    assert!(roles.effective(RoleId(2)).is_empty());
}

#[test]
fn inheritance_is_transitive() {
    let roles = Roles::shipped();
    assert!(roles.inherits_from(ROOT, RoleId(64)), "Root inherits from VMs Reader through four others");
    assert!(!roles.inherits_from(RoleId(64), ROOT));
    assert!(roles.inherits_from(ROOT, ROOT));
}

#[test]
fn operative_acls_depend_on_who_holds_them() {
    let roles = Roles::shipped();
    let root = || roles.granted([ROOT]);
    let count = |rules: Rules, holder| rules.operative(holder, root()).len();
    let existing = Rules { multitenant: true, log: false };
    assert_eq!(count(existing, Holder::Super), 230, "14 of the 244 are about the log");
    assert_eq!(count(existing, Holder::Tenant), 230 - 27, "27 more are about tenants");
    assert_eq!(count(Rules { multitenant: true, log: true }, Holder::Super), 244);
    assert_eq!(count(Rules { multitenant: false, log: true }, Holder::Super), 244 - 28);
    assert_eq!(count(Rules { multitenant: true, log: true }, Holder::Tenant), 244 - 28);
}

#[test]
fn the_recovery_administrator_can_repair_the_others() {
    let rules = Rules { multitenant: true, log: true };
    let operative = rules.operative(Holder::Recovery, []);
    assert_eq!(operative.len(), 18 + 2 + 28 + 16);
    assert!(operative.contains("role.update.assign-acl") && !operative.contains("vm.create."));
    assert!(rules.operative(Holder::Super, []).is_empty());
    let single = Rules { multitenant: false, log: true };
    assert!(!single.operative(Holder::Recovery, []).contains("tenant.create."));
}

/// Whether some path of inheritance leads from `role` to one that grants `acl`, past none that refuses it.
fn some_path_delivers(roles: &Roles, role: RoleId, acl: &str, path: &mut Vec<RoleId>) -> bool {
    let Some(found) = roles.0.get(&role).filter(|_| !path.contains(&role)) else { return false };
    match found.entries.get(acl) {
        Some(Entry::Positive) => true,
        Some(Entry::Negative) => false,
        None => {
            path.push(role);
            let delivered = found.inherits.iter().any(|parent| some_path_delivers(roles, *parent, acl, path));
            path.pop();
            delivered
        }
    }
}

const SOME_ACLS: [&str; 4] = ["di.create.", "osf.create.", "user.create.", "vm.create."];

fn any_role() -> impl Strategy<Value = Role> {
    let entry = prop_oneof![Just(Entry::Positive), Just(Entry::Negative)];
    let acl = prop::sample::select(&SOME_ACLS[..]).prop_map(str::to_owned);
    let entries = prop::collection::btree_map(acl, entry, 0..4);
    // Ids up to 7 of which 0 to 5 exist: circles, the role itself and roles that are gone are among them.
    let inherits = prop::collection::btree_set((0..8).prop_map(RoleId), 0..4);
    (entries, inherits).prop_map(|(entries, inherits)| Role { entries, inherits })
}

fn any_roles() -> impl Strategy<Value = Roles> {
    prop::collection::vec(any_role(), 6).prop_map(|roles| (0..).map(RoleId).zip(roles).collect())
}

proptest! {
    #[test]
    fn expansion_agrees_with_a_walk_along_every_path(roles in any_roles()) {
        for role in (0..8).map(RoleId) {
            let expected: BTreeSet<&str> = SOME_ACLS
                .into_iter()
                .filter(|acl| some_path_delivers(&roles, role, acl, &mut Vec::new()))
                .collect();
            prop_assert_eq!(roles.effective(role), expected, "role {}", role);
        }
    }

    #[test]
    fn several_roles_grant_their_union_and_hiding_only_takes_away(roles in any_roles(), log: bool, multitenant: bool) {
        let held = [RoleId(0), RoleId(1)];
        let granted = roles.granted(held);
        for acl in SOME_ACLS {
            let by_any = held.iter().any(|role| roles.effective(*role).contains(acl));
            prop_assert_eq!(granted.contains(acl), by_any);
        }
        let rules = Rules { multitenant, log };
        prop_assert!(rules.operative(Holder::Tenant, granted.iter().copied()).is_subset(&granted));
    }
}
