//! Reading ahead on a thread of its own.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// Bytes of a piece, and how many pieces wait at most.
const PIECE: usize = 256 * 1024;
const PIECES: usize = 16;

/// What another thread reads, in its order; its error is the last that comes. That thread ends with what it reads, or
/// soon after this was dropped.
pub(super) struct Ahead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    taken: usize,
}

impl Ahead {
    /// Starts the thread, on which the reader is opened, too.
    pub(super) fn start<'scope, R: Read>(
        scope: &'scope Scope<'scope, '_>,
        open: impl FnOnce() -> io::Result<R> + Send + 'scope,
    ) -> io::Result<Self> {
        let (sender, pieces) = sync_channel(PIECES);
        let read = move || {
            if let Err(error) = open().and_then(|reader| send_all(reader, &sender)) {
                // Nobody waits for it where the receiver is gone.
                let _ = sender.send(Err(error));
            }
        };
        std::thread::Builder::new().name("unpack".to_owned()).spawn_scoped(scope, read)?;
        Ok(Self { pieces, piece: Vec::new(), taken: 0 })
    }
}

fn send_all(mut reader: impl Read, sender: &SyncSender<io::Result<Vec<u8>>>) -> io::Result<()> {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        reader.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        if piece.is_empty() || sender.send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.piece.get(self.taken..).unwrap_or_default();
        if rest.is_empty() {
            match self.pieces.recv() {
                Ok(piece) => self.piece = piece?,
                // The thread has read everything.
                Err(_) => return Ok(0),
            }
            self.taken = 0;
            rest = &self.piece;
        }
        let count = rest.read(buffer)?;
        self.taken += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives this many bytes, then fails.
    struct Failing(usize);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(self.0).min(1000);
            if count == 0 {
                return Err(io::Error::from_raw_os_error(5));
            }
            self.0 -= count;
            buffer[..count].fill(7);
            Ok(count)
        }
    }

    fn all<R: Read + Send>(reader: R) -> (Vec<u8>, io::Result<usize>) {
        std::thread::scope(|scope| {
            let mut bytes = Vec::new();
            let read = Ahead::start(scope, move || Ok(reader)).unwrap().read_to_end(&mut bytes);
            (bytes, read)
        })
    }

    #[test]
    fn everything_comes_in_its_order() {
        let long: Vec<u8> = (0..PIECE * 3 + 17).map(|i| (i % 251) as u8).collect();
        let (bytes, read) = all(long.as_slice());
        assert_eq!((bytes == long, read.unwrap()), (true, long.len()));
        assert_eq!(all(io::empty()).1.unwrap(), 0);
    }

    #[test]
    fn an_error_is_told_as_it_was() {
        let error = all(Failing(PIECE * 2)).1.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5));
    }

    #[test]
    fn whoever_reads_ahead_ends_when_nobody_takes() {
        std::thread::scope(|scope| {
            let mut ahead = Ahead::start(scope, || Ok(io::repeat(1))).unwrap();
            ahead.read_exact(&mut [0; 10]).unwrap();
        });
    }
}
