//! The transitions of a machine as a table: how each `LIFECYCLE.md` is kept equal to its code.
//!
//! A test walks a machine through its states and events and puts every transition in here. What comes out must be the
//! table in the file; with `UPDATE_LIFECYCLE=1` the test writes it there instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// The lines between which the table stands.
const BEGIN: &str = "<!-- transitions: UPDATE_LIFECYCLE=1 cargo test lifecycle_md writes them -->\n";
const END: &str = "<!-- end -->\n";

/// Transitions by state and event.
#[derive(Debug, Default)]
pub struct Chart {
    order: Vec<String>,
    rows: BTreeMap<(usize, String), BTreeSet<(String, String)>>,
}

/// The name of a variant, without what is in it.
pub fn word(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let end = text.find(['(', '{', ' ']).unwrap_or(text.len());
    text.get(..end).unwrap_or(&text).to_owned()
}

impl Chart {
    /// Adds a transition. One that neither leaves its state nor has an effect says nothing, and is left out.
    pub fn add(&mut self, state: &str, event: &str, next: &str, effects: &[String]) {
        if state == next && effects.is_empty() {
            return;
        }
        let place = self.order.iter().position(|known| known == state).unwrap_or_else(|| {
            self.order.push(state.to_owned());
            self.order.len().saturating_sub(1)
        });
        let effects = if effects.is_empty() { "–".to_owned() } else { effects.join(", ") };
        self.rows.entry((place, event.to_owned())).or_default().insert((next.to_owned(), effects));
    }

    /// The table in Markdown, states in the order in which they came, events by name.
    pub fn table(&self) -> String {
        let mut text = "| state | event | next | effects |\n|---|---|---|---|\n".to_owned();
        let mut last = None;
        for ((place, event), outcomes) in &self.rows {
            for (next, effects) in outcomes {
                let state =
                    self.order.get(*place).filter(|_| last != Some(*place)).map_or("", String::as_str);
                last = Some(*place);
                text.push_str(&format!("| {state} | {event} | {next} | {effects} |\n"));
            }
        }
        text
    }

    /// The file with this table in the place of the one it has. A file without the markers stays as it is.
    pub fn update(&self, file: &str) -> String {
        let parts = file.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
        match parts {
            Some((head, tail)) => format!("{head}{BEGIN}\n{}\n{END}{tail}", self.table()),
            None => format!("{BEGIN}\n{}\n{END}", self.table()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_replaces_the_one_before() {
        let mut chart = Chart::default();
        chart.add("Off", "Push", "On", &["Light".to_owned()]);
        chart.add("Off", "Wait", "Off", &[]);
        chart.add("On", "Push", "Off", &[]);
        let file = chart.update(&format!("# Lamp\n{BEGIN}old\n{END}end\n"));
        assert!(file.starts_with("# Lamp\n") && file.ends_with("end\n"), "{file}");
        assert!(file.contains("| Off | Push | On | Light |\n| On | Push | Off | – |"), "{file}");
        assert!(!file.contains("old") && !file.contains("Wait"), "{file}");
        assert_eq!(chart.update(&file), file);
        assert_eq!(word(&Some(3)), "Some");
    }
}
