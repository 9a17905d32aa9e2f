//! How results are printed (`spec/cli.md` 1.12).

use std::io::{self, Write};
use std::str::FromStr;

use serde_json::{Map, Value, json};
use unicode_width::UnicodeWidthStr;

use crate::error::Error;

/// A layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// Semicolons between values.
    Csv,
    /// One JSON document.
    Json,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_uppercase().as_str() {
            "TABLE" => Ok(Self::Table),
            "CSV" => Ok(Self::Csv),
            "JSON" => Ok(Self::Json),
            _ => Err(Error::Usage(format!("`{text}` is not a format; expected TABLE, CSV or JSON"))),
        }
    }
}

/// A column: what stands above it, and which member of the rows it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The title.
    pub title: String,
    /// The member.
    pub member: String,
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
    /// Whether titles are printed.
    pub titles: bool,
}

impl Listing {
    /// Prints it.
    pub fn print(&self, format: Format, out: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Table => self.table(out),
            Format::Csv => self.csv(out),
            Format::Json => self.json(out),
        }
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let row = |row: &Map<String, Value>| {
            self.columns.iter().map(|c| cell(row.get(&c.member).unwrap_or(&Value::Null))).collect()
        };
        self.rows.iter().map(row).collect()
    }

    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let cells = self.cells();
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let values = cells.iter().filter_map(|row| row.get(at)).flat_map(|c| c.split('\n'));
                values.map(UnicodeWidthStr::width).chain([column.title.width()]).max().unwrap_or(0)
            })
            .collect();
        let rule = |left: char, middle: char, right: char| {
            let dashes: Vec<String> = widths.iter().map(|w| "-".repeat(w + 2)).collect();
            format!("{left}{}{right}", dashes.join(&middle.to_string()))
        };
        writeln!(out, "{}", rule('.', '+', '.'))?;
        if self.titles {
            let titles = self.columns.iter().zip(&widths).map(|(c, w)| padded(&c.title, *w, false));
            writeln!(out, "|{}|", titles.collect::<Vec<_>>().join("|"))?;
            writeln!(out, "{}", rule('+', '+', '+'))?;
        }
        for row in &cells {
            let height = row.iter().map(|c| c.split('\n').count()).max().unwrap_or(1);
            for line in 0..height {
                let parts = row.iter().zip(&widths).map(|(cell, width)| {
                    padded(cell.split('\n').nth(line).unwrap_or_default(), *width, is_numeric(cell))
                });
                writeln!(out, "|{}|", parts.collect::<Vec<_>>().join("|"))?;
            }
        }
        writeln!(out, "{}", rule('\'', '+', '\''))?;
        writeln!(out, "Total: {}", self.total)
    }

    fn csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let quoted = |text: &str| {
            if text.contains([';', '"', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.to_owned()
            }
        };
        if self.titles {
            let titles: Vec<String> = self.columns.iter().map(|c| quoted(&c.title)).collect();
            writeln!(out, "{}", titles.join(";"))?;
        }
        for row in self.cells() {
            let cells: Vec<String> = row.iter().map(|c| quoted(c)).collect();
            writeln!(out, "{}", cells.join(";"))?;
        }
        Ok(())
    }

    fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |row: &Map<String, Value>| {
            let member = |c: &Column| (c.title.clone(), row.get(&c.member).cloned().unwrap_or(Value::Null));
            self.columns.iter().map(member).collect::<Map<_, _>>()
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        writeln!(out, "{}", json!({"total": self.total, "rows": rows}))
    }
}

/// Prints how many objects an action processed.
pub fn print_total(total: u64, format: Format, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Table => writeln!(out, "Total: {total}"),
        Format::Csv => writeln!(out, "total\n{total}"),
        Format::Json => writeln!(out, "{}", json!({ "total": total })),
    }
}

/// One blank on each side.
fn padded(text: &str, width: usize, right: bool) -> String {
    let fill = " ".repeat(width.saturating_sub(text.width()));
    if right { format!(" {fill}{text} ") } else { format!(" {text}{fill} ") }
}

fn is_numeric(text: &str) -> bool {
    !text.is_empty() && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// The text of a value: lists joined by commas, maps as sorted `key=value`.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Bool(on) => u8::from(*on).to_string(),
        Value::Number(number) => number.to_string(),
        Value::Array(members) => {
            let text = |m: &Value| match m {
                Value::Object(map) => {
                    map.get("tag").or_else(|| map.get("name")).map_or_else(|| m.to_string(), cell)
                }
                other => cell(other),
            };
            members.iter().map(text).collect::<Vec<_>>().join(", ")
        }
        Value::Object(map) => {
            map.iter().map(|(key, value)| format!("{key}={}", cell(value))).collect::<Vec<_>>().join(", ")
        }
    }
}

/// Control characters would let a name redraw the terminal of whoever lists it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(rows: Value) -> Listing {
        let column = |name: &str| Column { title: name.to_owned(), member: name.to_owned() };
        let rows: Vec<Map<String, Value>> = serde_json::from_value(rows).unwrap();
        let total = rows.len() as u64;
        Listing { columns: ["id", "name", "blocked"].map(column).to_vec(), rows, total, titles: true }
    }

    fn printed(listing: &Listing, format: Format) -> String {
        let mut out = Vec::new();
        listing.print(format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_table_is_the_one_of_the_manual() {
        let rows =
            json!([{"id": 10000, "name": "alice", "blocked": 0}, {"id": 7, "name": "bob", "blocked": 1}]);
        let expected = "\
.-------+-------+---------.
| id    | name  | blocked |
+-------+-------+---------+
| 10000 | alice |       0 |
|     7 | bob   |       1 |
'-------+-------+---------'
Total: 2
";
        assert_eq!(printed(&listing(rows), Format::Table), expected);
        let expected = "\
.----+------+---------.
| id | name | blocked |
+----+------+---------+
'----+------+---------'
Total: 0
";
        assert_eq!(printed(&listing(json!([])), Format::Table), expected);
    }

    #[test]
    fn wide_characters_and_several_lines_keep_the_frame() {
        let rows = json!([{"id": 1, "name": "日本\nx", "blocked": null}]);
        let expected = "\
.----+------+---------.
| id | name | blocked |
+----+------+---------+
|  1 | 日本 |         |
|    | x    |         |
'----+------+---------'
Total: 1
";
        assert_eq!(printed(&listing(rows), Format::Table), expected);
    }

    #[test]
    fn csv_quotes_only_what_needs_it() {
        let rows = json!([{"id": 1, "name": "a;\"b", "blocked": 0}]);
        assert_eq!(printed(&listing(rows), Format::Csv), "id;name;blocked\n1;\"a;\"\"b\";0\n");
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        let rows = json!([{"id": 1, "name": "a\u{1b}[2J", "blocked": 0}]);
        assert!(!printed(&listing(rows), Format::Table).contains('\u{1b}'));
    }
}
