//! What the first page of the console counts (`spec/api.md` 5.10).

/// One counter.
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    /// Its name on the wire.
    pub name: &'static str,
    /// One of these ACLs is needed.
    pub acl: &'static str,
}

const fn counter(name: &'static str, acl: &'static str) -> Counter {
    Counter { name, acl }
}

/// Every counter.
pub const COUNTERS: &[Counter] = &[
    counter("users_count", "user.stats*"),
    counter("blocked_users_count", "user.stats.blocked"),
    counter("connected_users_count", "user.stats.connected-users"),
    counter("vms_count", "vm.stats*"),
    counter("blocked_vms_count", "vm.stats.blocked"),
    counter("running_vms_count", "vm.stats.running-vms"),
    counter("hosts_count", "host.stats*"),
    counter("blocked_hosts_count", "host.stats.blocked"),
    counter("running_hosts_count", "host.stats.running-hosts"),
    counter("osfs_count", "osf.stats*"),
    counter("dis_count", "di.stats*"),
    counter("blocked_dis_count", "di.stats.blocked"),
    counter("vms_with_expiration_date", "vm.stats.close-to-expire"),
    counter("top_populated_hosts", "host.stats.top-hosts-most-vms"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::ACLS;
    use crate::action::acl_matches;

    #[test]
    fn every_counter_can_be_permitted() {
        for counter in COUNTERS {
            assert!(ACLS.iter().any(|acl| acl_matches(counter.acl, acl.name)), "{}", counter.name);
        }
    }
}
