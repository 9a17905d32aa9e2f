//! What the agents in desktops write about their sessions.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Where a session is neither coming nor going.
const SETTLED: [&str; 3] = ["to Connected", "to Suspended", "to Stopped"];

/// Waits until each session below a storage directory either draws for a client or lives without one.
///
/// nxagent, which is not ours, may crash when its link breaks in the moment of a resume (see `docs/admin/farm.md`): what a
/// test does to clients and routers on purpose it does at other moments.
pub fn settle(storage: &Path, limit: Duration) -> Result<()> {
    let moves = |overlay: &fs::DirEntry| {
        let log = fs::read_to_string(overlay.path().join("var/log/qvd/qvd.log")).unwrap_or_default();
        let last = log.lines().rfind(|line| line.contains(" session: "));
        last.is_some_and(|line| !SETTLED.iter().any(|state| line.ends_with(state)))
    };
    let end = Instant::now() + limit;
    loop {
        let moving = fs::read_dir(storage.join("overlayfs"))?.flatten().filter(moves).count();
        if moving == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{moving} sessions neither draw nor sleep");
        // Files of another mount tell nobody that they grow.
        std::thread::sleep(Duration::from_millis(50));
    }
}
