//! Cutting a growing buffer into lines, linear in what arrives.

use bytes::{Buf, BytesMut};

/// Bytes received and not yet consumed.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// How much of the buffer is known to have no line feed.
    searched: usize,
}

impl Lines {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete line without its end (LF or CR LF).
    pub(super) fn line(&mut self) -> Option<BytesMut> {
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(position) = rest.iter().position(|b| *b == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line = self.buffer.split_to(self.searched.saturating_add(position));
        self.buffer.advance(1);
        self.searched = 0;
        if line.last() == Some(&b'\r') {
            line.truncate(line.len().saturating_sub(1));
        }
        Some(line)
    }

    /// What waits, whole lines or not.
    pub(super) fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes up to `limit` bytes out.
    pub(super) fn take(&mut self, limit: usize) -> BytesMut {
        self.searched = 0;
        self.buffer.split_to(limit.min(self.buffer.len()))
    }
}
