//! Where the time of a connect goes, by the logs of router and node.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::table::percentile;

/// What router and node wrote since some moment.
pub struct Logs {
    files: Vec<(PathBuf, usize)>,
    begun: SystemTime,
}

/// How long each phase took in each of several connects, in the order in which they came.
#[derive(Debug, Default)]
pub struct Phases {
    order: Vec<String>,
    times: BTreeMap<String, Vec<Duration>>,
}

impl Logs {
    /// From now on.
    pub fn begin(directory: &std::path::Path) -> Self {
        let names = ["qvd-hkd.log", "qvd-l7r.log"].map(|name| directory.join(name));
        let length = |path: &PathBuf| fs::read_to_string(path).map_or(0, |text| text.len());
        let files = names.into_iter().map(|path| (length(&path), path)).map(|(a, b)| (b, a)).collect();
        Self { files, begun: SystemTime::now() }
    }

    /// Takes what was written until the first pixel, and until the whole desktop.
    pub fn end(self, phases: &mut Phases, first: Duration, whole: Duration) -> Result<()> {
        let mut marks = vec![
            (self.begun + first, "nxproxy and nxagent until the first pixel".to_owned()),
            (self.begun + whole, "the rest of the desktop".to_owned()),
        ];
        for (path, offset) in &self.files {
            let log = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            for line in log.get(*offset..).unwrap_or_default().lines() {
                let Some((stamp, rest)) = line.split_once(' ') else { continue };
                let (Some(name), Ok(at)) = (phase(rest), OffsetDateTime::parse(stamp, &Rfc3339)) else {
                    continue;
                };
                marks.push((at.into(), name));
            }
        }
        marks.sort();
        let mut last = self.begun;
        let mut sums: BTreeMap<String, Duration> = BTreeMap::new();
        for (at, name) in marks.into_iter().take_while(|(at, _)| *at <= self.begun + whole) {
            *sums.entry(name.clone()).or_default() += at.duration_since(last).unwrap_or_default();
            last = last.max(at);
            if !phases.order.contains(&name) {
                phases.order.push(name);
            }
        }
        for (name, time) in sums {
            phases.times.entry(name).or_default().push(time);
        }
        Ok(())
    }
}

impl std::fmt::Display for Phases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut words = Vec::new();
        for name in &self.order {
            let times = self.times.get(name).map(Vec::as_slice).unwrap_or_default();
            words.push(format!("{name} {:.0}", percentile(times, 0.5)));
        }
        f.write_str(&words.join(", "))
    }
}

/// What has just ended when this line was written.
fn phase(line: &str) -> Option<String> {
    let word = |key: &str| {
        let rest = line.split_once(key)?.1;
        Some(rest.split([' ', '(']).next().unwrap_or_default().to_owned())
    };
    if line.contains("logged in") {
        return Some("login".to_owned());
    }
    if line.contains("performed") {
        return word("effect=").map(|effect| format!("router: {effect}"));
    }
    if line.contains("event=Done") {
        let step = line.split_once("Starting(")?.1.split(')').next()?;
        return Some(format!("node: {step}"));
    }
    (line.contains("event=Alive") && line.contains("state=Booting")).then(|| "the desktop boots".to_owned())
}
