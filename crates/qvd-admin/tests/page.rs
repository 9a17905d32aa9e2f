//! Pages of `docs/admin` whose tables are made from the registries. `UPDATE_PAGES=1` writes them anew.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;
use std::path::Path;

use qvd_model::action::{ACTIONS, Access, Action, Field, Object, Show, Status, Verb, action_for, entity};
use qvd_model::config::{KEYS, Key, Scope};

/// What stands between the marks of the tables of each page.
fn pages() -> [(&'static str, Vec<(&'static str, String)>); 2] {
    [
        ("api.md", vec![("actions", actions()), ("objects", objects()), ("codes", codes())]),
        ("configuration.md", vec![("keys", keys(true)), ("unheeded", keys(false))]),
    ]
}

fn keys(that_are_heeded: bool) -> String {
    let mut text = "| key | meaning | value | default | where |\n|---|---|---|---|---|\n".to_owned();
    for Key { name, default, kind, scope, secret, help, .. } in
        KEYS.iter().filter(|key| key.heeded == that_are_heeded)
    {
        let default = match default {
            None => "not set".to_owned(),
            Some("") => "empty".to_owned(),
            Some(value) => format!("`{}`", value.replace('\n', "\\n").replace('|', "\\|")),
        };
        let place = match scope {
            Scope::File => "file",
            Scope::Global => "file, database",
            Scope::Tenant => "file, database, tenant",
        };
        let kind = if *secret { format!("secret, {}", kind.describe()) } else { kind.describe() };
        writeln!(text, "| `{name}` | {} | {kind} | {default} | {place} |", help.replace('|', "or")).unwrap();
    }
    text
}

fn code(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
}

fn actions() -> String {
    let mut text =
        "| action | does | to | one of these permissions | live query follows |\n|---|---|---|---|---|\n"
            .to_owned();
    for action in ACTIONS {
        let does = match action.verb {
            Verb::List => "lists",
            Verb::Inquire(_) => "tells",
            verb => verb.as_str(),
        };
        let permissions = if action.acls.is_empty() { "none".to_owned() } else { code(action.acls) };
        let Action { name, object, channels, .. } = action;
        writeln!(text, "| `{name}` | {does} | {object} | {permissions} | {} |", code(channels)).unwrap();
    }
    text
}

fn objects() -> String {
    let mut text = String::new();
    for object in Object::ALL {
        let entity = entity(*object);
        writeln!(text, "### {object}\n").unwrap();
        text.push_str(
            "| member | is | listed | filter | order | new | change | to see | to give or change |\n",
        );
        text.push_str("|---|---|---|---|---|---|---|---|---|\n");
        for field in entity.fields {
            writeln!(text, "{}", row(*object, field)).unwrap();
        }
        for nested in entity.nested {
            let change = nested.verb == Verb::Update;
            let (new, change) = if change { ("", "may") } else { ("may", "") };
            let acls = code(nested.acls);
            writeln!(text, "| `{}` | nested | | | | {new} | {change} | | {acls} |", nested.name).unwrap();
        }
        if !entity.aliases.is_empty() {
            let aliases: Vec<_> = entity.aliases.iter().map(|(a, b)| format!("`{a}` is `{b}`")).collect();
            writeln!(text, "\nOther names: {}.", aliases.join(", ")).unwrap();
        }
        text.push('\n');
    }
    text
}

fn row(object: Object, field: &Field) -> String {
    let yes = |on: bool| if on { "yes" } else { "" };
    let has_list = action_for(object, Verb::List).is_some();
    let listed = match field.show {
        Show::Always => yes(has_list),
        Show::Super => "above tenants",
        Show::Never => "",
    };
    let new = match field.create {
        Access::No => "",
        Access::Optional => "may",
        Access::Required => "must",
    };
    let mut writing: Vec<&str> = field.create_acls.to_vec();
    writing.extend(field.update.unwrap_or_default());
    format!(
        "| `{}` | {}: {} | {listed} | {} | {} | {new} | {} | {} | {} |",
        field.name,
        field.help.replace('|', "or"),
        field.kind.describe(),
        yes(field.filter && has_list),
        yes(field.order && has_list),
        if field.update.is_some() { "may" } else { "" },
        code(field.see),
        code(&writing),
    )
}

fn codes() -> String {
    let mut text = "| code | meaning |\n|---|---|\n".to_owned();
    for status in Status::ALL {
        writeln!(text, "| {} | {} |", status.code(), status.message()).unwrap();
    }
    text
}

#[test]
fn the_tables_are_those_of_the_registries() {
    for (name, tables) in pages() {
        check(name, tables);
    }
}

fn check(name: &str, tables: Vec<(&str, String)>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/admin").join(name);
    let page = std::fs::read_to_string(&path).unwrap();
    let mut fresh = page.clone();
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
        let (head, rest) = fresh.split_once(&begin).unwrap();
        let (_, tail) = rest.split_once(&end).unwrap();
        fresh = format!("{head}{begin}\n{}\n{end}{tail}", table.trim_end().to_owned() + "\n");
    }
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    } else {
        let different = page.lines().zip(fresh.lines()).find(|(old, new)| old != new);
        assert!(page == fresh, "{name}: run this test with UPDATE_PAGES=1; first difference: {different:?}");
    }
}

#[test]
fn the_committed_document_is_that_of_the_registry() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/admin/openapi.json");
    let fresh = serde_json::to_string_pretty(&qvd_admin::openapi()).unwrap() + "\n";
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    let different = committed.lines().zip(fresh.lines()).find(|(old, new)| old != new);
    assert!(committed == fresh, "run this test with UPDATE_PAGES=1; first difference: {different:?}");
}
