//! The deployed schema is the documented one, to the letter, plus what we say we add.

use std::collections::{BTreeMap, BTreeSet};

use testbed::Scratch;

const CATALOG: &str = include_str!("inventory.sql");
const DOCUMENTED: &str = include_str!("inventory.txt");

/// Documented columns that hold more than they did.
const WIDENED: [(&str, &str, &str); 6] = [
    ("table users", "column password varchar(64)", "column password varchar(255)"),
    ("table administrators", "column password varchar(64)", "column password varchar(255)"),
    ("table configs", "column key varchar(64)!", "column key varchar(255)!"),
    ("table configs", "column value varchar(4096)!", "column value text!"),
    ("table ssl_configs", "column value varchar(32768)!", "column value text!"),
    ("table session", "column sid varchar(40)!", "column sid varchar(128)!"),
];

/// Documented mistakes that are corrected.
const CORRECTED: [(&str, &str, &str); 2] = [
    (
        "table views_setups_properties_administrator",
        "unique qvd_obj_prop_id view_type device_type",
        "unique administrator_id qvd_obj_prop_id view_type device_type",
    ),
    (
        "table views_setups_properties_administrator",
        "foreign administrator_id -> administrators.id",
        "foreign administrator_id -> administrators.id delete cascade",
    ),
];

/// Relations that only we have.
const OWN: [&str; 12] = [
    "table events",
    "table login_failures",
    "table migrations",
    "sequence events_id_seq",
    "table second_factors",
    "table api_tokens",
    "sequence api_tokens_id_seq",
    "table changes",
    "sequence changes_id_seq",
    "table changes_forgotten",
    "table api_repeats",
    "sequence session_id_seq",
];

/// Columns at the end of documented tables that only we have.
const CREATION: [&str; 3] = [
    "column creation_date timestamp",
    "column creation_admin_id integer",
    "column creation_admin_name varchar(80)",
];
const ADDED: [(&str, &[&str]); 18] = [
    ("table users", &CREATION),
    ("table vms", &CREATION),
    ("table hosts", &CREATION),
    ("table osfs", &CREATION),
    ("table tenants", &CREATION),
    ("table administrators", &CREATION),
    ("table roles", &CREATION),
    ("table dis", &["column sha256 text", "column size bigint"]),
    ("table dis", &CREATION),
    (
        "table vm_runtimes",
        &[
            "column generation bigint! = 0",
            "column vma_secret text",
            "column start_step text",
            "column failure_code text",
            "column failure_text text",
            "column failure_ts integer",
            "column session_id bigint",
            "column l7r_instance text",
            "column restart boolean! = false",
            "trigger vm_runtime_progress_trigger update of vm_cmd start_step failure_code user_cmd host_id \
             vm_runtime_progress_notify",
            "trigger vm_tickets_trigger update of vm_state vm_tickets_end",
        ],
    ),
    (
        "table host_runtimes",
        &[
            "column incarnation bigint! = 0",
            "column hypervisors text",
            "column l7r_instance text",
            "column lease_seconds double precision",
            "column beat_seconds double precision",
            "column storage text",
        ],
    ),
    ("table log", &["column before text", "column after text", "column user_agent varchar(200)"]),
    ("table user_tokens", &["column ticket boolean! = false", "index vm_id ticket"]),
    ("table users", &["trigger user_tickets_trigger update of password blocked user_tickets_end"]),
    ("table tenants", &["trigger tenant_tickets_trigger update of blocked tenant_tickets_end"]),
    ("table ssl_configs", &["trigger ssl_config_trigger insert or update or delete ssl_config_notify"]),
    (
        "table session",
        &[
            "column id serial",
            "column administrator_id integer!",
            "column address text!",
            "column user_agent varchar(200)",
            "column opened timestamp! = (now() AT TIME ZONE 'UTC",
            "column last_used timestamp! = (now() AT TIME ZONE 'UTC",
            "unique id",
            "index administrator_id",
            "foreign administrator_id -> administrators.id delete cascade not deferrable",
        ],
    ),
    ("table dis", &["column format text", "column unpacked_size bigint", "column remarks text"]),
];

/// By relation: its columns in order, and everything else about it.
#[derive(Debug, Default)]
struct Relation {
    columns: Vec<String>,
    items: BTreeSet<String>,
}

impl Relation {
    fn take(&mut self, item: &str) {
        if item.starts_with("column ") {
            self.columns.push(item.to_owned());
        } else {
            self.items.insert(item.to_owned());
        }
    }
}

type Inventory = BTreeMap<String, Relation>;

fn documented() -> Inventory {
    let text = DOCUMENTED.replace(",\n    ", ", ");
    let mut inventory = Inventory::new();
    let mut relation = String::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some(item) = line.strip_prefix("  ") else {
            relation = line.to_owned();
            inventory.insert(relation.clone(), Relation::default());
            continue;
        };
        let Some(columns) = item.strip_prefix("columns ") else {
            inventory.get_mut(&relation).unwrap().take(item);
            continue;
        };
        for column in columns.split(", ") {
            inventory.get_mut(&relation).unwrap().take(&format!("column {column}"));
            if column == "id serial" {
                let table = relation.strip_prefix("table ").unwrap();
                inventory.insert(format!("sequence {table}_id_seq"), Relation::default());
            }
        }
    }
    inventory
}

/// The name that the documented conventions give to a constraint or an index.
fn conventional_name(relation: &str, item: &str) -> Option<String> {
    let table = relation.strip_prefix("table ")?;
    let (kind, columns) = item.split_once(' ')?;
    let mut name = match kind {
        "primary" => format!("{table}_pkey"),
        "unique" => format!("{table}_{}", columns.replace(' ', "_")),
        "foreign" => format!("{table}_fk_{}", columns.split(' ').next()?),
        "index" => format!("{table}_idx_{}", columns.replace(' ', "_")),
        _ => return None,
    };
    name.truncate(63);
    Some(name)
}

#[tokio::test]
async fn the_deployed_schema_is_the_documented_one() {
    let mut expected = documented();
    let count = |kind: &str| expected.keys().filter(|name| name.starts_with(kind)).count();
    assert_eq!([count("table "), count("view "), count("sequence "), count("enum ")], [53, 4, 30, 8]);
    for (relation, before, after) in WIDENED {
        let columns = &mut expected.get_mut(relation).unwrap().columns;
        let place = columns.iter().position(|column| column == before).expect(before);
        columns[place] = after.to_owned();
    }
    for (relation, before, after) in CORRECTED {
        let items = &mut expected.get_mut(relation).unwrap().items;
        assert!(items.remove(before), "{before}");
        items.insert(after.to_owned());
    }
    for (relation, items) in ADDED {
        items.iter().for_each(|item| expected.get_mut(relation).unwrap().take(item));
    }

    let scratch = Scratch::deployed("inventory").await;
    let client = scratch.database().client().await.unwrap();
    let mut found = Inventory::new();
    for row in client.query(CATALOG, &[]).await.unwrap() {
        let relation: &str = row.get("relation");
        let entry = found.entry(relation.to_owned()).or_default();
        let Some(item) = row.get::<_, Option<&str>>("item") else { continue };
        // Whoever follows what happens has triggers of its own, on nearly every table.
        if item.starts_with("trigger") && (item.ends_with(" change_noted") || item.ends_with(" access_noted"))
        {
            continue;
        }
        entry.take(item);
        if let Some(expected) = conventional_name(relation, item)
            && !OWN.contains(&relation)
        {
            assert_eq!(row.get::<_, &str>("name"), expected, "{relation}: {item}");
        }
    }
    for relation in OWN {
        assert!(found.remove(relation).is_some(), "{relation} is missing");
    }

    let names = |inventory: &Inventory| inventory.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected));
    for (name, relation) in expected {
        assert_eq!(found[&name].columns, relation.columns, "{name}");
        let differences: Vec<_> = found[&name].items.symmetric_difference(&relation.items).collect();
        assert!(differences.is_empty(), "{name}: {differences:#?}");
    }
}
