//! How results are printed (`spec/cli.md` 1.12 and 6).

mod data;
mod table;

use std::io::{self, Write};
use std::str::FromStr;

use qvd_model::action::{Entity, Kind};
use serde_json::{Map, Value, json};

use crate::error::Error;

/// A layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// Semicolons between values.
    Csv,
    /// Tabulators between values.
    Tsv,
    /// One JSON array of objects.
    Json,
    /// One JSON object a line.
    JsonLines,
    /// A YAML list.
    Yaml,
    /// A block of `name: value` for each object.
    List,
    /// The first column alone.
    Name,
}

/// The layouts by name.
pub const FORMATS: &[(&str, Format)] = &[
    ("table", Format::Table),
    ("csv", Format::Csv),
    ("tsv", Format::Tsv),
    ("json", Format::Json),
    ("jsonl", Format::JsonLines),
    ("yaml", Format::Yaml),
    ("list", Format::List),
    ("name", Format::Name),
];

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = FORMATS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, format)| *format).ok_or_else(|| {
            let names: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
            Error::Usage(format!("`{text}` is not a format; expected one of {}", names.join(", ")))
        })
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// The layout.
    pub format: Format,
    /// Whether titles are printed.
    pub titles: bool,
    /// Whether states are colored.
    pub colored: bool,
}

/// A column: what stands above it, and which member of the rows it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The title.
    pub title: String,
    /// The member.
    pub member: String,
    /// Its values are moments in UTC.
    pub moment: bool,
}

impl Column {
    /// A column that is titled as it is called.
    pub fn plain(name: &str) -> Self {
        Self { title: name.to_owned(), member: name.to_owned(), moment: false }
    }

    /// A field of an object, under the name as typed.
    pub fn of(entity: &Entity, name: &str) -> Self {
        let member = entity.resolve_read(name).to_owned();
        let moment = entity.field(&member).is_some_and(|f| f.kind == Kind::Moment);
        Self { title: name.to_owned(), member, moment }
    }
}

/// Rows of the API, ready to be printed.
#[derive(Debug, Clone)]
pub struct Listing {
    /// From left to right.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Map<String, Value>>,
    /// How many there are in all.
    pub total: u64,
}

impl Listing {
    /// Prints it.
    pub fn print(&self, style: Style, out: &mut dyn Write) -> Result<(), Error> {
        let printed = match style.format {
            Format::Table => self.table(style, out),
            Format::Csv => self.separated(style, ';', out),
            Format::Tsv => self.separated(style, '\t', out),
            Format::Json => self.json(out),
            Format::JsonLines => self.json_lines(out),
            Format::Yaml => self.yaml(out),
            Format::List => self.list(out),
            Format::Name => self.names(out),
        };
        printed.map_err(unwritten)
    }

    /// Keeps only the columns of these titles, in this order.
    pub fn choose(&mut self, titles: &[String]) -> Result<(), Error> {
        if titles.is_empty() {
            return Ok(());
        }
        let chosen = titles.iter().map(|title| {
            let found = self.columns.iter().find(|c| c.title == *title || c.member == *title);
            found.cloned().ok_or_else(|| {
                let known: Vec<&str> = self.columns.iter().map(|c| c.title.as_str()).collect();
                Error::Usage(format!(
                    "--columns: there is no `{title}`; expected some of {}",
                    known.join(", ")
                ))
            })
        });
        self.columns = chosen.collect::<Result<_, _>>()?;
        Ok(())
    }

    fn cells(&self, local: bool) -> Vec<Vec<String>> {
        let cell = |row: &Map<String, Value>, column: &Column| match row.get(&column.member) {
            Some(Value::String(moment)) if column.moment && local => crate::clock::shown(moment),
            value => cell(value.unwrap_or(&Value::Null)),
        };
        self.rows.iter().map(|row| self.columns.iter().map(|c| cell(row, c)).collect()).collect()
    }
}

/// The result of an action that has no columns: how many objects it reached.
pub fn print_total(total: u64, style: Style, out: &mut dyn Write) -> Result<(), Error> {
    let written = match style.format {
        Format::Table | Format::List => writeln!(out, "Total: {total}"),
        Format::Csv | Format::Tsv if style.titles => writeln!(out, "total\n{total}"),
        Format::Csv | Format::Tsv => writeln!(out, "{total}"),
        Format::Json | Format::JsonLines => writeln!(out, "{}", json!({"total": total})),
        Format::Yaml => writeln!(out, "total: {total}"),
        Format::Name => Ok(()),
    };
    written.map_err(unwritten)
}

/// The error of output that cannot be written.
pub(crate) fn unwritten(error: io::Error) -> Error {
    Error::Output(error)
}

/// The text of a value: lists joined by commas, or a line each for roles and ACLs, maps as sorted `key=value`.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Bool(on) => u8::from(*on).to_string(),
        Value::Number(number) => number.to_string(),
        Value::Array(members) => {
            let is_map = |key: &str| members.iter().any(|m| m.get(key).is_some());
            let text = |m: &Value| match m {
                Value::Object(map) => {
                    map.get("tag").or_else(|| map.get("name")).map_or_else(|| m.to_string(), cell)
                }
                other => cell(other),
            };
            let separator = if is_map("name") { "\n" } else { ", " };
            members.iter().map(text).collect::<Vec<_>>().join(separator)
        }
        Value::Object(map) => structure(map),
    }
}

/// What roles hold is a line each; other maps are `key=value`, sorted.
fn structure(map: &Map<String, Value>) -> String {
    if let (Some(Value::Array(granted)), Some(Value::Array(revoked))) =
        (map.get("positive"), map.get("negative"))
    {
        let signed = |sign: &'static str, acls: &[Value]| {
            acls.iter().map(|acl| format!("({sign}) {}", cell(acl))).collect::<Vec<_>>()
        };
        return [signed("+", granted), signed("-", revoked)].concat().join("\n");
    }
    let by_number = !map.is_empty() && map.keys().all(|key| key.parse::<i64>().is_ok());
    let names = map.values().map(|v| v.as_str().or_else(|| v.get("name")?.as_str()));
    if let Some(mut names) = names.collect::<Option<Vec<&str>>>().filter(|_| by_number) {
        names.sort_unstable();
        return names.into_iter().map(printable).collect::<Vec<_>>().join("\n");
    }
    let mut parts: Vec<String> = map.iter().map(|(key, value)| member(key, value)).collect();
    parts.sort_unstable();
    parts.join(", ")
}

/// A member of a map; custom properties come as maps of their own.
fn member(key: &str, value: &Value) -> String {
    match (value.get("key").and_then(Value::as_str), value.get("value")) {
        (Some(key), Some(value)) => format!("{}={}", printable(key), cell(value)),
        _ => format!("{}={}", printable(key), cell(value)),
    }
}

/// Control characters would let a name redraw the terminal of whoever lists it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn listing(rows: Value) -> Listing {
        let rows: Vec<Map<String, Value>> = serde_json::from_value(rows).unwrap();
        let total = rows.len() as u64;
        Listing { columns: ["id", "name", "blocked"].map(Column::plain).to_vec(), rows, total }
    }

    pub(super) const fn style(format: Format) -> Style {
        Style { format, titles: true, colored: false }
    }

    pub(super) fn printed(listing: &Listing, style: Style) -> String {
        let mut out = Vec::new();
        listing.print(style, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_format_prints_the_same_rows() {
        let two =
            json!([{"id": 1, "name": "a;\"b", "blocked": 0}, {"id": 2, "name": "c: d", "blocked": null}]);
        let two = listing(two);
        for (format, expected) in [
            (Format::Csv, "id;name;blocked\n1;\"a;\"\"b\";0\n2;c: d;\n"),
            (Format::Tsv, "id\tname\tblocked\n1\t\"a;\"\"b\"\t0\n2\tc: d\t\n"),
            (
                Format::JsonLines,
                "{\"id\":1,\"name\":\"a;\\\"b\",\"blocked\":0}\n{\"id\":2,\"name\":\"c: d\",\"blocked\":null}\n",
            ),
            (
                Format::Yaml,
                "- \"id\": 1\n  \"name\": \"a;\\\"b\"\n  \"blocked\": 0\n\
                 - \"id\": 2\n  \"name\": \"c: d\"\n  \"blocked\": null\n",
            ),
            (Format::List, "id: 1\nname: a;\"b\nblocked: 0\n\nid: 2\nname: c: d\nblocked: \n"),
            (Format::Name, "a;\"b\nc: d\n"),
        ] {
            assert_eq!(printed(&two, style(format)), expected, "{format:?}");
        }
        let read: Value = serde_json::from_str(&printed(&two, style(Format::Json))).unwrap();
        assert_eq!(read[1], json!({"id": 2, "name": "c: d", "blocked": null}));
        let bare = Style { titles: false, ..style(Format::Csv) };
        assert_eq!(printed(&two, bare), "1;\"a;\"\"b\";0\n2;c: d;\n");
        assert_eq!(printed(&listing(json!([])), style(Format::Yaml)), "[]\n");
    }

    #[test]
    fn moments_are_local_for_people_and_utc_for_programs() {
        let mut listing = listing(json!([{"id": 1, "name": "2030-01-31T10:00:00", "blocked": 0}]));
        listing.columns[1].moment = true;
        let read: Value = serde_json::from_str(&printed(&listing, style(Format::Json))).unwrap();
        assert_eq!(read[0]["name"], "2030-01-31T10:00:00Z");
        assert!(printed(&listing, style(Format::Csv)).contains(";2030-01-31T10:00:00;"));
        assert!(
            printed(&listing, style(Format::Table)).contains(&crate::clock::shown("2030-01-31T10:00:00"))
        );
    }

    #[test]
    fn columns_can_be_chosen() {
        let mut listing = listing(json!([{"id": 1, "name": "a", "blocked": 0}]));
        listing.choose(&["name".to_owned(), "id".to_owned()]).unwrap();
        assert_eq!(printed(&listing, style(Format::Csv)), "name;id\na;1\n");
        assert!(listing.choose(&["color".to_owned()]).is_err());
    }

    #[test]
    fn structures_have_a_text_form() {
        assert_eq!(cell(&json!([{"tag": "head"}, {"tag": "default"}])), "head, default");
        assert_eq!(cell(&json!([{"name": "a"}, {"name": "b"}])), "a\nb");
        let properties = json!({"7": {"key": "z", "value": "1"}, "8": {"key": "b", "value": "2"}});
        assert_eq!(cell(&properties), "b=2, z=1");
        let acls = json!({"positive": ["vm.see-main."], "negative": ["vm.delete."]});
        assert_eq!(cell(&acls), "(+) vm.see-main.\n(-) vm.delete.");
        assert_eq!(cell(&json!({"43": {"name": "Root"}, "7": {"name": "A"}})), "A\nRoot");
        assert_eq!(cell(&json!({"43": "Root"})), "Root");
        assert_eq!(cell(&json!({"hours": 2, "days": 1})), "days=1, hours=2");
    }
}
