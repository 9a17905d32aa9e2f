//! The registry has everything that the tables of existing installations have: what their clients send is taken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed test says where it failed"
)]

use std::collections::BTreeSet;

use qvd_model::action::{Access, Field, Kind, Object, Show, Status, Verb, action, entity};
use qvd_model::config;

const ACTIONS: &str = include_str!("documented/actions.txt");
const ARGUMENTS: &str = include_str!("documented/arguments.txt");
const KEYS: &str = include_str!("documented/keys.txt");
const FIELDS: &str = include_str!("documented/fields.txt");

fn lines(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split(' ').collect())
}

fn kind(field: &Field) -> &'static str {
    match field.kind {
        Kind::Int | Kind::Count | Kind::Real => "number",
        Kind::Switch => "bool",
        Kind::Text(_) | Kind::Login(_) | Kind::Password | Kind::Address => "text",
        Kind::Moment => "moment",
        Kind::Word(_) => "word",
        Kind::Structure => "structure",
    }
}

#[test]
fn every_documented_field_is_there_with_all_its_uses() {
    let mut wrong = Vec::new();
    for line in lines(FIELDS) {
        let (object, name) = (line[0], line[1]);
        let object: Object = object.parse().unwrap_or_else(|_| panic!("{object}"));
        let Some(field) = entity(object).field(name) else {
            wrong.push(format!("{object}.{name} is missing"));
            continue;
        };
        let mut expect = |what: &str, fits: bool| {
            if !fits {
                wrong.push(format!("{object}.{name}: {what} {field:?}"));
            }
        };
        expect("type", line[2] == kind(field));
        expect(
            "list",
            match line[3] {
                "list" => field.show == Show::Always,
                "super" => field.show == Show::Super,
                _ => true,
            },
        );
        expect("filter", line[4] == "-" || field.filter);
        expect("order", line[5] == "-" || field.order);
        expect(
            "create",
            match line[6] {
                "required" => field.create == Access::Required,
                "optional" => field.create == Access::Optional,
                _ => true,
            },
        );
        expect("update", line[7] == "-" || field.update.is_some());
        let documented: BTreeSet<&str> = line[8..].iter().copied().collect();
        expect("see", documented == field.see.iter().copied().collect());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_documented_action_is_there_with_its_permissions() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in lines(ACTIONS) {
        let Some(action) = action(line[0]) else {
            wrong.push(format!("{} is missing", line[0]));
            continue;
        };
        let verb = if action.verb == Verb::List { "list" } else { action.verb.as_str() };
        if line[1] != "-" && (line[1] != verb || line[2] != action.object.as_str()) {
            wrong.push(format!("{}: {verb} {}", line[0], action.object));
        }
        let documented: BTreeSet<&str> = line[3..].iter().copied().collect();
        if documented != action.acls.iter().copied().collect() {
            wrong.push(format!("{}: {:?}", line[0], action.acls));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(count, 82);
}

#[test]
fn every_documented_argument_needs_its_permission() {
    let mut wrong = Vec::new();
    for line in lines(ARGUMENTS) {
        let (object, change, name) = (line[0], line[1] == "change", line[2]);
        let entity = entity(object.parse().unwrap_or_else(|_| panic!("{object}")));
        let nested = entity.nested.iter().find(|n| n.name == name && (n.verb == Verb::Update) == change);
        let found = match (nested, entity.field(name)) {
            (Some(nested), _) => Some(nested.acls),
            (None, Some(field)) if change => field.update,
            (None, Some(field)) => (field.create != Access::No).then_some(field.create_acls),
            (None, None) => None,
        };
        let documented: BTreeSet<&str> = line[3..].iter().copied().collect();
        if found.map(|acls| acls.iter().copied().collect()) != Some(documented) {
            wrong.push(format!("{}: {found:?}", line.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Those that existing servers send, and those that they only announce but clients have words for.
const CODES: &[u16] = &[
    0, 1100, 1200, 1300, 2100, 2210, 2211, 2220, 2230, 2240, 2250, 2251, 2260, 2261, 2270, 2290, 3200, 3300,
    3400, 3500, 3600, 3700, 4100, 4110, 4210, 4220, 4230, 4250, 4260, 5110, 5120, 5130, 5140, 5200, 6100,
    6210, 6220, 6230, 6231, 6240, 6250, 6310, 6320, 6322, 6330, 6340, 6350, 6360, 6370, 6410, 6430, 6440,
    6450, 6600, 6610, 6620, 7100, 7110, 7120, 7200, 7210, 7211, 7212, 7213, 7214, 7215, 7220, 7230, 7300,
    7310, 7320, 7321, 7330, 7340, 7350, 7360, 7373, 7382, 7500,
];

#[test]
fn every_documented_code_is_there_and_new_ones_are_above() {
    let missing: Vec<_> = CODES.iter().filter(|code| Status::from_code(**code).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let own = Status::ALL.iter().map(|status| status.code()).filter(|code| !CODES.contains(code));
    assert!(own.clone().all(|code| code > 9000), "{:?}", own.collect::<Vec<_>>());
}

#[test]
fn every_documented_key_is_registered() {
    let missing: Vec<_> = lines(KEYS).map(|line| line[0]).filter(|key| config::key(key).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
