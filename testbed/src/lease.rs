//! A short lease, so that tests need not wait ten minutes for it to end.

use std::time::Duration;

/// How long it is: others may have the desktops of a node then.
pub const LOST: Duration = Duration::from_secs(12);

/// The keys that make it so.
pub const TIMES: [(&str, &str); 4] = [
    ("internal.hkd.agent.ticker.delay", "1"),
    ("internal.hkd.agent.ticker.timeout", "7"),
    ("internal.hkd.cluster.node.timeout", "12"),
    ("internal.hkd.agent.cluster_monitor.long_delay", "12"),
];
