//! The rules themselves (`spec/node.md` 7.4 and 7.5), as `nft` understands them.
//!
//! Verdict `accept` ends only our own chain: rules of the administrator still have their say. Nodes answer
//! desktops because replies belong to a connection that the node began.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::firewall::Policy;

/// Our table, in the families `bridge` and `inet`.
pub(crate) const TABLE: &str = "qvd";
/// Which port, MAC and IPv4 address belong together.
pub(crate) const SPEAKERS: &str = "speakers";

/// Commands after which no table of ours exists, whether one did or not.
pub(crate) fn removal() -> Vec<Value> {
    let tables = ["bridge", "inet"].map(|family| json!({ "family": family, "name": TABLE }));
    tables
        .iter()
        .flat_map(|table| [json!({ "add": { "table": table } }), json!({ "delete": { "table": table } })])
        .collect()
}

/// Commands that make our tables.
pub(crate) fn tables(policy: &Policy) -> Vec<Value> {
    let mut table = Table { commands: Vec::new(), family: "bridge" };
    bridge(policy, &mut table);
    table.family = "inet";
    inet(policy, &mut table);
    table.commands
}

struct Table {
    commands: Vec<Value>,
    family: &'static str,
}

impl Table {
    fn begin(&mut self) {
        self.commands.push(json!({ "add": { "table": { "family": self.family, "name": TABLE } } }));
    }

    fn chain(&mut self, name: &str, kind: &str, hook: &str, priority: i32) {
        let chain = json!({
            "family": self.family, "table": TABLE, "name": name,
            "type": kind, "hook": hook, "prio": priority, "policy": "accept",
        });
        self.commands.push(json!({ "add": { "chain": chain } }));
    }

    fn rule(&mut self, chain: &str, expressions: Vec<Value>) {
        let rule = json!({ "family": self.family, "table": TABLE, "chain": chain, "expr": expressions });
        self.commands.push(json!({ "add": { "rule": rule } }));
    }
}

/// Frames between ports: spoofing and isolation.
fn bridge(policy: &Policy, table: &mut Table) {
    table.begin();
    let set = json!({
        "family": "bridge", "table": TABLE, "name": SPEAKERS,
        "type": ["ifname", "ether_addr", "ipv4_addr"],
    });
    table.commands.push(json!({ "add": { "set": set } }));
    let from_desktop = || interface("iifname", &format!("{}*", policy.prefix));
    let to_desktop = || interface("oifname", &format!("{}*", policy.prefix));

    // Before the bridge decides where to: whoever lies about itself is not heard at all.
    let chain = "spoofing";
    table.chain(chain, "filter", "prerouting", -300);
    table.rule(chain, vec![interface_is_not("iifname", &format!("{}*", policy.prefix)), accept()]);
    if policy.dhcp {
        let asking = vec![
            equal(field("ip", "saddr"), json!("0.0.0.0")),
            equal(field("ip", "daddr"), json!("255.255.255.255")),
            equal(field("udp", "sport"), json!(68)),
            equal(field("udp", "dport"), json!(67)),
            accept(),
        ];
        table.rule(chain, asking);
    }
    // A desktop that answers DHCP requests would be everybody's router.
    table.rule(chain, vec![equal(field("udp", "sport"), json!(67)), drop()]);
    table.rule(chain, vec![speaks(field("ether", "saddr"), field("ip", "saddr")), accept()]);
    let arp = [field("arp", "saddr ether"), field("ether", "saddr")];
    for mac in &arp {
        table.rule(
            chain,
            vec![
                equal(json!({ "meta": { "key": "protocol" } }), json!("arp")),
                does_not_speak(mac.clone(), field("arp", "saddr ip")),
                drop(),
            ],
        );
    }
    table.rule(chain, vec![equal(json!({ "meta": { "key": "protocol" } }), json!("arp")), accept()]);
    // Including IPv6, of which desktops have none.
    table.rule(chain, vec![drop()]);

    let chain = "between";
    table.chain(chain, "filter", "forward", 0);
    if policy.protect_vms {
        table.rule(chain, vec![from_desktop(), to_desktop(), drop()]);
        // Of or to another node.
        table.rule(chain, vec![from_desktop(), equal(field("ip", "daddr"), vms(policy)), drop()]);
        table.rule(chain, vec![to_desktop(), equal(field("ip", "saddr"), vms(policy)), drop()]);
    }
    if policy.protect_host {
        let to_node = || [from_desktop(), equal(field("ip", "daddr"), nodes(policy))];
        let rule = |more: Vec<Value>| to_node().into_iter().chain(more).collect();
        if let Some(port) = policy.login {
            table.rule(chain, rule(vec![equal(field("tcp", "dport"), json!(port)), accept()]));
            table.rule(chain, rule(vec![equal(field("icmp", "type"), json!("echo-request")), accept()]));
        }
        // Bridges track no connections: a first packet is known by its flags.
        table.rule(chain, rule(vec![first_of_tcp("!="), accept()]));
        table.rule(chain, rule(vec![equal(field("icmp", "type"), json!("echo-reply")), accept()]));
        table.rule(chain, rule(vec![drop()]));
    }
    if policy.dhcp {
        // Requests are for this node's server; the other nodes do not know the desktop.
        table.rule(chain, vec![from_desktop(), equal(field("udp", "dport"), json!(67)), drop()]);
    }
}

/// What reaches the node itself, or is routed by it.
fn inet(policy: &Policy, table: &mut Table) {
    table.begin();
    let of_vm = || equal(field("ip", "saddr"), vms(policy));
    let established = || {
        json!({ "match": {
        "op": "in", "left": { "ct": { "key": "state" } }, "right": ["established", "related"] } })
    };

    let chain = "input";
    table.chain(chain, "filter", "input", -10);
    if let Some(port) = policy.login {
        table.rule(chain, vec![of_vm(), equal(field("tcp", "dport"), json!(port)), accept()]);
        table.rule(chain, vec![of_vm(), equal(field("icmp", "type"), json!("echo-request")), accept()]);
    }
    if policy.protect_host {
        table.rule(chain, vec![of_vm(), established(), accept()]);
        let services = json!({ "set": [53, 67] });
        table.rule(chain, vec![of_vm(), equal(field("udp", "dport"), services), accept()]);
        table.rule(chain, vec![of_vm(), equal(field("tcp", "dport"), json!(53)), accept()]);
        table.rule(chain, vec![of_vm(), drop()]);
    }

    let chain = "forward";
    table.chain(chain, "filter", "forward", -10);
    if policy.protect_host {
        let to_node = || [of_vm(), equal(field("ip", "daddr"), nodes(policy))];
        let rule = |more: Vec<Value>| to_node().into_iter().chain(more).collect();
        if let Some(port) = policy.login {
            table.rule(chain, rule(vec![equal(field("tcp", "dport"), json!(port)), accept()]));
            table.rule(chain, rule(vec![equal(field("icmp", "type"), json!("echo-request")), accept()]));
        }
        table.rule(chain, rule(vec![established(), accept()]));
        table.rule(chain, rule(vec![drop()]));
    }
    if policy.protect_vms {
        table.rule(chain, vec![of_vm(), equal(field("ip", "daddr"), vms(policy)), drop()]);
    }

    if let Some(outside) = &policy.nat {
        let chain = "masquerade";
        table.chain(chain, "nat", "postrouting", 100);
        table.rule(chain, vec![of_vm(), interface("oifname", outside), json!({ "masquerade": null })]);
    }
}

fn field(protocol: &str, name: &str) -> Value {
    json!({ "payload": { "protocol": protocol, "field": name } })
}

fn compare(operator: &str, left: Value, right: Value) -> Value {
    json!({ "match": { "op": operator, "left": left, "right": right } })
}

fn equal(left: Value, right: Value) -> Value {
    compare("==", left, right)
}

fn interface(key: &str, name: &str) -> Value {
    equal(json!({ "meta": { "key": key } }), json!(name))
}

fn interface_is_not(key: &str, name: &str) -> Value {
    compare("!=", json!({ "meta": { "key": key } }), json!(name))
}

fn first_of_tcp(operator: &str) -> Value {
    // Pairs only: nft before 1.1 takes no longer lists.
    let mask = json!({ "|": [{ "|": [{ "|": ["fin", "syn"] }, "rst"] }, "ack"] });
    let flags = json!({ "&": [field("tcp", "flags"), mask] });
    compare(operator, flags, json!("syn"))
}

fn speaks(mac: Value, address: Value) -> Value {
    let speaker = json!({ "concat": [{ "meta": { "key": "iifname" } }, mac, address] });
    equal(speaker, json!(format!("@{SPEAKERS}")))
}

fn does_not_speak(mac: Value, address: Value) -> Value {
    let speaker = json!({ "concat": [{ "meta": { "key": "iifname" } }, mac, address] });
    compare("!=", speaker, json!(format!("@{SPEAKERS}")))
}

fn range(first: Ipv4Addr, last: Ipv4Addr) -> Value {
    json!({ "range": [first.to_string(), last.to_string()] })
}

fn vms(policy: &Policy) -> Value {
    range(policy.plan.first_vm(), policy.plan.last_vm())
}

fn nodes(policy: &Policy) -> Value {
    let first = Ipv4Addr::from(u32::from(policy.plan.network()).saturating_add(1));
    let last = Ipv4Addr::from(u32::from(policy.plan.first_vm()).saturating_sub(1));
    range(first, last)
}

fn accept() -> Value {
    json!({ "accept": null })
}

fn drop() -> Value {
    json!({ "drop": null })
}
