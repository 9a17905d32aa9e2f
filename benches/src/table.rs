//! What a run has measured, as a table in Markdown.

use std::time::Duration;

/// Rows as they come in.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    /// Adds a row and tells it at once, since a run is long.
    pub fn row(&mut self, what: &str, figure: impl Into<String>, beside: impl Into<String>, budget: &str) {
        let row = [what.to_owned(), figure.into(), beside.into(), budget.to_owned()];
        eprintln!("{}: {} ({})", row[0], row[1], row[2]);
        self.rows.push(row);
    }

    /// Prints everything.
    #[allow(clippy::print_stdout, reason = "this is what the program is for")]
    pub fn print(&self) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("| what | figure | beside it | budget |\n|---|---|---|---|");
        for [what, figure, beside, budget] in &self.rows {
            println!("| {what} | {figure} | {beside} | {budget} |");
        }
        println!("\nload at the end: {}", load.trim());
    }
}

/// The time below which this share of the runs lies, as milliseconds. `share` is between 0 and 1.
pub fn percentile(times: &[Duration], share: f64) -> f64 {
    let mut sorted: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = (last as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

/// Median and 95th percentile in milliseconds, in words.
pub fn spread(times: &[Duration]) -> String {
    format!("p50 {:.0} ms, p95 {:.0} ms", percentile(times, 0.5), percentile(times, 0.95))
}
