//! Layouts for programs: nothing but data, moments in UTC.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::{Listing, Style};

impl Listing {
    /// Values between separators; quoted only where it must be, for those who split at the separator.
    pub(super) fn separated(&self, style: Style, separator: char, out: &mut dyn Write) -> io::Result<()> {
        let quoted = |text: &str| {
            if text.contains([separator, '"', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.to_owned()
            }
        };
        let separator = separator.to_string();
        if style.titles {
            let titles: Vec<String> = self.columns.iter().map(|c| quoted(&c.title)).collect();
            writeln!(out, "{}", titles.join(&separator))?;
        }
        for row in self.cells(false) {
            let cells: Vec<String> = row.iter().map(|c| quoted(c)).collect();
            writeln!(out, "{}", cells.join(&separator))?;
        }
        Ok(())
    }

    /// The rows under the titles of their columns.
    fn objects(&self) -> impl Iterator<Item = Map<String, Value>> {
        self.rows.iter().map(|row| {
            let value = |c: &super::Column| match row.get(&c.member) {
                // The API leaves out that it is UTC, which other programs must be told.
                Some(Value::String(moment)) if c.moment && !moment.ends_with('Z') => {
                    Value::String(format!("{moment}Z"))
                }
                value => value.cloned().unwrap_or(Value::Null),
            };
            let member = |c: &super::Column| (c.title.clone(), value(c));
            self.columns.iter().map(member).collect()
        })
    }

    pub(super) fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<_> = self.objects().collect();
        serde_json::to_writer_pretty(&mut *out, &rows)?;
        writeln!(out)
    }

    pub(super) fn json_lines(&self, out: &mut dyn Write) -> io::Result<()> {
        for row in self.objects() {
            serde_json::to_writer(&mut *out, &row)?;
            writeln!(out)?;
        }
        Ok(())
    }

    pub(super) fn yaml(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return writeln!(out, "[]");
        }
        for row in self.objects() {
            for (at, (name, value)) in row.iter().enumerate() {
                let lead = if at == 0 { "- " } else { "  " };
                // JSON is YAML, and its quotes leave no doubt about what is text.
                writeln!(out, "{lead}{}: {value}", Value::String(name.clone()))?;
            }
        }
        Ok(())
    }

    pub(super) fn list(&self, out: &mut dyn Write) -> io::Result<()> {
        for (at, row) in self.cells(true).iter().enumerate() {
            if at > 0 {
                writeln!(out)?;
            }
            for (column, cell) in self.columns.iter().zip(row) {
                writeln!(out, "{}: {}", column.title, cell.replace('\n', ", "))?;
            }
        }
        Ok(())
    }

    /// The names, for loops of a Unix shell; without a column of names the first one.
    pub(super) fn names(&self, out: &mut dyn Write) -> io::Result<()> {
        let at = self.columns.iter().position(|c| c.title == "name").unwrap_or(0);
        for row in self.cells(false) {
            writeln!(out, "{}", row.get(at).map(String::as_str).unwrap_or_default())?;
        }
        Ok(())
    }
}
