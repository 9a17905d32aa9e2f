//! The table of the manual.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use super::{Listing, Style};

impl Listing {
    pub(super) fn table(&self, style: Style, out: &mut dyn Write) -> io::Result<()> {
        let cells = self.cells(true);
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
        if style.titles {
            let titles = self.columns.iter().zip(&widths).map(|(c, w)| padded(&c.title, *w, false));
            writeln!(out, "|{}|", titles.collect::<Vec<_>>().join("|"))?;
            writeln!(out, "{}", rule('+', '+', '+'))?;
        }
        for row in &cells {
            let height = row.iter().map(|c| c.split('\n').count()).max().unwrap_or(1);
            for line in 0..height {
                let parts = row.iter().zip(&widths).zip(&self.columns).map(|((cell, width), column)| {
                    let text = cell.split('\n').nth(line).unwrap_or_default();
                    let text = padded(text, *width, is_numeric(cell));
                    match color(cell) {
                        Some(color) if style.colored && column.member.ends_with("state") => {
                            format!("\u{1b}[{color}m{text}\u{1b}[0m")
                        }
                        _ => text,
                    }
                });
                writeln!(out, "|{}|", parts.collect::<Vec<_>>().join("|"))?;
            }
        }
        writeln!(out, "{}", rule('\'', '+', '\''))?;
        writeln!(out, "Total: {}", self.total)
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

/// The color of a state, beside its word: green is well, red needs somebody, yellow is under way.
fn color(state: &str) -> Option<u8> {
    match state {
        "running" | "connected" | "published" | "ready" => Some(32),
        "zombie" | "lost" | "fail" | "upload_stalled" => Some(31),
        "starting" | "stopping" | "connecting" | "debugging" | "new" | "generating" | "uploading"
        | "verifying" => Some(33),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{listing, printed, style};
    use super::super::{Format, Style};
    use serde_json::json;

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
        assert_eq!(printed(&listing(rows), style(Format::Table)), expected);
        let expected = "\
.----+------+---------.
| id | name | blocked |
+----+------+---------+
'----+------+---------'
Total: 0
";
        assert_eq!(printed(&listing(json!([])), style(Format::Table)), expected);
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
        assert_eq!(printed(&listing(rows), style(Format::Table)), expected);
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        let rows = json!([{"id": 1, "name": "a\u{1b}[2J", "blocked": 0}]);
        assert!(!printed(&listing(rows), style(Format::Table)).contains('\u{1b}'));
    }

    #[test]
    fn only_states_are_colored() {
        let mut listing = listing(json!([{"id": 1, "name": "running", "blocked": "running"}]));
        listing.columns[2].member = "state".to_owned();
        listing.rows[0].insert("state".to_owned(), json!("running"));
        let text = printed(&listing, Style { colored: true, ..style(Format::Table) });
        assert_eq!(text.matches("\u{1b}[32m").count(), 1, "{text}");
    }
}
