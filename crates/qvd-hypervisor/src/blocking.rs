//! Work with files and processes that would hold up everybody else's.

use std::io;

use crate::Error;

/// Runs it on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let finished = tokio::task::spawn_blocking(work).await;
    finished.map_err(|error| Error::process("finish", what)(io::Error::other(error)))?
}
