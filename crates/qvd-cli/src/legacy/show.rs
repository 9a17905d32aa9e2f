//! The lists of `qa`.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

use super::Legacy;
use crate::api::Call;
use crate::clock;
use crate::error::Error;
use crate::run::write;

/// A column: its title, and the field whose value it shows. Without a field it is there for old scripts.
type Column = (&'static str, Option<&'static str>);

const VM: &[Column] = &[
    ("Id", Some("id")),
    ("Name", Some("name")),
    ("User", Some("user_name")),
    ("RealUser", Some("real_user_name")),
    ("Ip", Some("ip")),
    ("OSF", Some("osf_name")),
    ("DI_Tag", Some("di_tag")),
    ("DI", Some("di_name")),
    ("Running DI", Some("di_name_in_use")),
    ("Host", Some("host_name")),
    ("State", Some("state")),
    ("L7R", None),
    ("UserState", Some("user_state")),
    ("Blocked", Some("blocked")),
    ("Expire soft", Some("expiration_soft")),
    ("Expire hard", Some("expiration_hard")),
];
const HOST: &[Column] = &[
    ("Id", Some("id")),
    ("Name", Some("name")),
    ("Address", Some("address")),
    ("HKD", Some("heartbeat_age")),
    ("Usable RAM", Some("usable_ram")),
    ("Usable CPU", Some("usable_cpu")),
    ("VMs assigned", Some("number_of_vms_connected")),
    ("Blocked", Some("blocked")),
    ("State", Some("state")),
];
const OSF: &[Column] = &[
    ("Id", Some("id")),
    ("Name", Some("name")),
    ("RAM", Some("memory")),
    ("Overlay", Some("overlay")),
    ("UserHD", Some("user_storage")),
];
const DI: &[Column] = &[
    ("Id", Some("id")),
    ("OSF", Some("osf_id")),
    ("Version", Some("version")),
    ("Path", Some("disk_image")),
    ("Tags", Some("tags")),
];
const USER: &[Column] = &[("Id", Some("id")), ("Login", Some("name"))];

const HOST_COUNTERS: &[Column] = &[
    ("Id", Some("id")),
    ("Name", Some("name")),
    ("HTTP Requests", Some("http_requests")),
    ("Auth attempts", Some("auth_attempts")),
    ("Auth OK", Some("auth_ok")),
    ("NX attempts", Some("nx_attempts")),
    ("NX OK", Some("nx_ok")),
    ("Short sessions", Some("short_sessions")),
];
const VM_COUNTERS: &[Column] = &[
    ("Id", Some("id")),
    ("Name", Some("name")),
    ("Run attempts", Some("run_attempts")),
    ("Run OK", Some("run_ok")),
];

/// What a command lists.
pub(super) struct Sheet {
    columns: &'static [Column],
    /// A summary of the VMs stands above.
    summary: bool,
}

impl Sheet {
    /// That of `list` or `counters` of an object.
    pub(super) fn of(object: &str, word: &str) -> Self {
        let counters = word == "counters";
        let columns = match object {
            "vm" if counters => VM_COUNTERS,
            "host" if counters => HOST_COUNTERS,
            "vm" => VM,
            "host" => HOST,
            "osf" => OSF,
            "di" => DI,
            _ => USER,
        };
        Self { columns, summary: counters && object == "vm" }
    }

    /// The fields that it shows.
    pub(super) fn fields(&self) -> Vec<&'static str> {
        let summed = ["state", "blocked"].into_iter().filter(|_| self.summary);
        self.columns.iter().filter_map(|(_, field)| *field).chain(summed).collect()
    }

    /// The rows as they are printed; with `bare` nothing else.
    pub(super) fn print(&self, rows: &[Map<String, Value>], bare: bool) -> String {
        let cells = rows.iter().map(|row| self.columns.iter().map(|c| cell(row, *c)).collect()).collect();
        let titles: Vec<&str> = self.columns.iter().map(|(title, _)| *title).collect();
        let mut text = String::new();
        if self.summary && !bare {
            let count =
                |name: &str, value: Value| rows.iter().filter(|row| row.get(name) == Some(&value)).count();
            let running = count("state", Value::from("running"));
            text = format!(
                "Machines: {}\nRunning: {running}\nBlocked: {}\n\n",
                rows.len(),
                count("blocked", 1.into())
            );
        }
        text + &table(&titles, cells, bare)
    }
}

impl Legacy<'_> {
    /// `list` and `counters`.
    pub(super) async fn list(&mut self, word: &str) -> Result<(), Error> {
        let noun = self.arguments.command.noun();
        let sheet = Sheet::of(noun.word, word);
        let call = Call::list(noun.object, self.selection(), &sheet.fields())?;
        let rows = self.context.api.call(&call).await?.rows;
        write(self.context.out, &sheet.print(&rows, self.arguments.quiet))
    }
}

fn cell(row: &Map<String, Value>, (title, field): Column) -> String {
    let value = field.and_then(|field| row.get(field)).unwrap_or(&Value::Null);
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) if title.starts_with("Expire") => clock::shown(text),
        Value::String(text) => text.clone(),
        Value::Array(tags) => {
            let names = tags.iter().filter_map(|t| t.get("tag").or(Some(t))?.as_str());
            names.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    let text = match (title, text.as_str()) {
        ("Overlay", "1") => "yes".to_owned(),
        ("Overlay", "0") => "no".to_owned(),
        ("HKD", seconds) => seconds.parse().map_or_else(|_| String::new(), clock_time),
        _ => text,
    };
    let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Seconds as `HH:MM:SS`.
fn clock_time(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}

/// Columns as wide as they must be with a blank between them, titles, a line below, numbers to the right.
fn table(titles: &[&str], rows: Vec<Vec<String>>, bare: bool) -> String {
    let wide = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.width()).max();
    let widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(at, title)| {
            let title = if bare { 0 } else { title.width() };
            wide(at).unwrap_or(0).max(title)
        })
        .collect();
    let mut text = String::new();
    if !bare {
        let heads = titles.iter().zip(&widths).map(|(title, width)| padded(title, *width, false));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", heads.collect::<Vec<_>>().join(" "));
        let _ =
            writeln!(text, "{}", "-".repeat(widths.iter().sum::<usize>() + widths.len().saturating_sub(1)));
    }
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let number = cell.parse::<f64>().is_ok_and(f64::is_finite);
            padded(cell, *width, number)
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join(" "));
    }
    text
}

fn padded(text: &str, width: usize, right: bool) -> String {
    let fill = " ".repeat(width.saturating_sub(text.width()));
    if right { format!("{fill}{text}") } else { format!("{text}{fill}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_old_one() {
        let rows = vec![vec!["7".to_owned(), "rowan".to_owned()], vec!["10000".to_owned(), "-".to_owned()]];
        let expected = "Id    Login\n-----------\n    7 rowan\n10000 -    \n";
        assert_eq!(table(&["Id", "Login"], rows.clone(), false), expected);
        assert_eq!(table(&["Id", "Login"], rows, true), "    7 rowan\n10000 -    \n");
    }

    #[test]
    fn the_age_of_a_heartbeat_is_a_time() {
        assert_eq!(clock_time(4), "00:00:04");
        assert_eq!(clock_time(360_000 + 61), "100:01:01");
    }
}
