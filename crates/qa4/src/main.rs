//! qa4: the administrator's command line.

use std::io::Write;
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    // One thread: a process lives for one or two requests, and starting more costs more than it gains.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let code = runtime.block_on(qvd_cli::main(std::env::args().collect(), &mut out));
    match out.flush() {
        // Whoever read our output has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        other => other?,
    }
    Ok(ExitCode::from(code))
}
