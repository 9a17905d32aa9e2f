//! Whatever stands in a request of an administrator of a tenant: it is refused, or it stays within the tenant.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod shapes;

use proptest::prelude::*;
use qvd_admin::caller::Caller;
use qvd_admin::check::{Rules, check};
use qvd_admin::clock::Clock;
use qvd_admin::envelope::Envelope;
use qvd_db::admin::select::Scope;
use qvd_model::acl::ACLS;
use qvd_model::action::{ACTIONS, Object};
use qvd_runtime::zone::Zone;
use serde_json::json;
use shapes::{value, word};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_body_leads_out_of_the_tenant(
        number in 0..ACTIONS.len(),
        filters in value(),
        arguments in prop::collection::btree_map(word(), value(), 0..6),
        fields in prop::collection::vec(word(), 0..3),
        order in word(),
        offset in any::<i64>(),
        block in any::<i64>(),
    ) {
        let action = &ACTIONS[number];
        let caller = Caller {
            id: Some(2),
            name: "admin".to_owned(),
            tenant: 1,
            tenant_name: "default".to_owned(),
            acls: ACLS.iter().map(|acl| acl.name.to_owned()).collect(),
            token: None,
        };
        let body = json!({"action": action.name, "filters": filters, "arguments": arguments,
            "fields": fields, "order_by": {"field": order}, "offset": offset, "block": block});
        let Ok(envelope) = Envelope::from_json(body.to_string().as_bytes()) else { return Ok(()) };
        let clock = Clock::at(time::macros::datetime!(2026-01-31 00:00), Zone::utc());
        let rules = Rules { case_sensitive: false, clock };
        let Ok(checked) = check(&envelope, action, &caller, &rules, &[]) else { return Ok(()) };
        prop_assert_eq!(&checked.scope, &Scope::Tenant(1));
        prop_assert!(!checked.filter.mentions("tenant_id") && !checked.filter.mentions("tenant_name") || matches!(
            action.object, Object::Config | Object::Log | Object::Property
        ));
        for (field, value) in &checked.values {
            prop_assert!(field.name != "tenant_id" || value.as_deref() == Some("1"), "{:?}", value);
        }
        prop_assert!(checked.skip >= 0 && checked.limit.is_none_or(|limit| limit > 0));
    }
}
