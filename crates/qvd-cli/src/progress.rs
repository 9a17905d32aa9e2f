//! How far a transfer is: a bar on a terminal, elsewhere a line from time to time.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressStyle};

/// The time between two lines.
const EVERY: Duration = Duration::from_secs(5);

/// A transfer that is watched.
#[derive(Debug, Clone)]
pub(crate) struct Progress(Shown);

#[derive(Debug, Clone)]
enum Shown {
    Bar(ProgressBar),
    Lines(Arc<Lines>),
    Nothing,
}

#[derive(Debug)]
struct Lines {
    what: &'static str,
    length: u64,
    /// What was there before; it says nothing about the speed.
    before: AtomicU64,
    done: AtomicU64,
    start: Instant,
    /// Milliseconds after the start at which the next line is due.
    due: AtomicU64,
}

impl Progress {
    /// Bytes on their way.
    pub(crate) fn of_bytes(length: u64, what: &'static str, quiet: bool) -> Self {
        Self::new(length, what, quiet, "{msg} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    }

    /// Work of which the percentage is known.
    pub(crate) fn of_percent(what: &'static str, quiet: bool) -> Self {
        Self::new(100, what, quiet, "{msg} {bar:40} {percent}% {eta}")
    }

    fn new(length: u64, what: &'static str, quiet: bool, template: &str) -> Self {
        if std::io::stderr().is_terminal() {
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            return Self(Shown::Bar(ProgressBar::new(length).with_style(style).with_message(what)));
        }
        if quiet {
            return Self(Shown::Nothing);
        }
        let due = AtomicU64::new(millis(EVERY));
        let (before, done) = (AtomicU64::new(0), AtomicU64::new(0));
        let lines = Lines { what, length, before, done, start: Instant::now(), due };
        Self(Shown::Lines(Arc::new(lines)))
    }

    /// So much more is done.
    pub(crate) fn advance(&self, by: u64) {
        match &self.0 {
            Shown::Bar(bar) => bar.inc(by),
            Shown::Lines(lines) => {
                lines.done.fetch_add(by, Relaxed);
                lines.tell_if_due();
            }
            Shown::Nothing => {}
        }
    }

    /// So much is done.
    pub(crate) fn reach(&self, done: u64) {
        match &self.0 {
            Shown::Bar(bar) => bar.set_position(done),
            Shown::Lines(lines) => {
                lines.done.store(done, Relaxed);
                lines.tell_if_due();
            }
            Shown::Nothing => {}
        }
    }

    /// So much was there already: it goes on from here.
    pub(crate) fn resume(&self, done: u64) {
        match &self.0 {
            Shown::Bar(bar) => {
                bar.set_position(done);
                bar.reset_eta();
            }
            Shown::Lines(lines) => {
                let before = lines.done.swap(done, Relaxed);
                lines.before.fetch_add(done.saturating_sub(before), Relaxed);
            }
            Shown::Nothing => {}
        }
    }

    /// Something to know that does not disturb the bar.
    pub(crate) fn say(&self, text: &str) {
        match &self.0 {
            Shown::Bar(bar) => bar.println(format!("qa4: {text}")),
            Shown::Lines(_) => eprintln!("qa4: {text}"),
            Shown::Nothing => {}
        }
    }

    /// It is over.
    pub(crate) fn end(&self) {
        if let Shown::Bar(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    fn tell_if_due(&self) {
        let spent = self.start.elapsed();
        if millis(spent) >= self.due.load(Relaxed) {
            self.due.store(millis(spent + EVERY), Relaxed);
            eprintln!("qa4: {}", self.line(spent));
        }
    }
}

impl Lines {
    fn line(&self, spent: Duration) -> String {
        line(self.what, self.before.load(Relaxed), self.done.load(Relaxed), self.length, spent)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// `uploading 45%, 12.00 MiB/s, 8 seconds left`
fn line(what: &str, before: u64, done: u64, length: u64, spent: Duration) -> String {
    let percent = done.saturating_mul(100).checked_div(length).unwrap_or(100);
    let moved = done.saturating_sub(before);
    let rate = moved.saturating_mul(1000).checked_div(millis(spent)).unwrap_or(0);
    let mut text = format!("{what} {percent}%");
    if length > 100 {
        text.push_str(&format!(", {}/s", BinaryBytes(rate)));
    }
    if let Some(left) = length.saturating_sub(done).checked_div(rate).filter(|_| rate > 0) {
        text.push_str(&format!(", {} left", HumanDuration(Duration::from_secs(left))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_rate_and_time_left() {
        let mib = 1 << 20;
        assert_eq!(
            line("uploading", 0, 50 * mib, 100 * mib, Duration::from_secs(5)),
            "uploading 50%, 10.00 MiB/s, 5 seconds left"
        );
        assert_eq!(
            line("uploading", 40 * mib, 50 * mib, 100 * mib, Duration::from_secs(5)),
            "uploading 50%, 2.00 MiB/s, 25 seconds left"
        );
        assert_eq!(line("uploading", 0, 0, 100 * mib, Duration::ZERO), "uploading 0%, 0 B/s");
        assert_eq!(line("importing", 0, 0, 0, Duration::ZERO), "importing 100%");
    }
}
