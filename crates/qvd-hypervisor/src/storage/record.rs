//! What is remembered beside a base tree: which image it was unpacked from.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::Error;

/// The side record of a base tree, kept as JSON.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Record {
    /// Bytes of the image file.
    pub(super) size: u64,
    /// Its time of change, in nanoseconds since 1970.
    pub(super) mtime: u64,
    /// Its hash, lower-case hex.
    pub(super) sha256: String,
}

/// Size and time of change of a file.
pub(super) fn stamp(metadata: &std::fs::Metadata) -> (u64, u64) {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    (metadata.len(), since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0))
}

impl Record {
    /// Reads the record; `None` for trees that another program unpacked, or when it cannot be understood.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Error> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::storage("read", path)(error)),
        }
    }

    /// Writes it so that a reader sees the old or the new one.
    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let temporary = path.with_extension(format!("new-{}", std::process::id()));
        let written = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        };
        written().map_err(Error::storage("write", path))
    }
}
