//! What this machine has to offer: the load figures that placement uses (`spec/node.md` 2.6).

use std::path::Path;

/// Capacity of a host in the units of `host_runtimes`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Total memory in MB (kB / 1000).
    pub ram: f32,
    /// Sum of the bogomips of all processors × 0.80.
    pub cpu: f32,
}

/// Share of the processors that desktops may count on; the rest is for the node itself.
const CPU_SHARE: f32 = 0.80;
/// What one processor counts for where the kernel names no bogomips: a usual x86 core.
const TYPICAL_BOGOMIPS: f32 = 4800.0;

impl Figures {
    /// Reads them from `/proc`.
    pub fn measure() -> std::io::Result<Self> {
        Self::read(Path::new("/proc"))
    }

    fn read(proc: &Path) -> std::io::Result<Self> {
        let memory = std::fs::read_to_string(proc.join("meminfo"))?;
        let processors = std::fs::read_to_string(proc.join("cpuinfo"))?;
        Ok(Self { ram: total_kilobytes(&memory) / 1000.0, cpu: bogomips(&processors) * CPU_SHARE })
    }
}

fn total_kilobytes(meminfo: &str) -> f32 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

fn bogomips(cpuinfo: &str) -> f32 {
    let sum: f32 = fields(cpuinfo, "bogomips").filter_map(|v| v.parse::<f32>().ok()).sum();
    let count = u16::try_from(fields(cpuinfo, "processor").count()).unwrap_or(u16::MAX);
    // ARM kernels count timer ticks there, which says nothing about speed.
    if sum > f32::from(count) * 500.0 { sum } else { f32::from(count.max(1)) * TYPICAL_BOGOMIPS }
}

fn fields<'a>(cpuinfo: &'a str, field: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    pairs.filter(move |(name, _)| name.trim().eq_ignore_ascii_case(field)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_in_the_units_of_the_row() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("meminfo"), "MemTotal:       24000000 kB\nMemFree: 1 kB\n").unwrap();
        let cpu = "processor : 0\nbogomips\t: 5000.00\n\nprocessor : 1\nbogomips : 5000.00\n";
        std::fs::write(dir.path().join("cpuinfo"), cpu).unwrap();
        let figures = Figures::read(dir.path()).unwrap();
        assert_eq!(figures, Figures { ram: 24000.0, cpu: 8000.0 });
    }

    #[test]
    fn processors_without_meaningful_bogomips_count_as_typical() {
        assert_eq!(bogomips("processor : 0\nBogoMIPS : 50.00\nprocessor : 1\nBogoMIPS : 50.00\n"), 9600.0);
    }
}
