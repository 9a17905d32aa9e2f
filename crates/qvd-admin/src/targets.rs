//! Requests whose address is longer than the HTTP library takes: the older console puts everything into it. What stands
//! behind the `?` travels on as a header.
//!
//! ```text
//! head ──(length)──▶ body ──(all of it)──▶ head        head ──(upgrade, chunks, too much)──▶ unread, to the end
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The header that a long query travels in. It means what it would mean in the address, whoever sends it.
pub(crate) const QUERY: &str = "x-qvd-query";

/// The library refuses addresses from 64 KiB on.
const LONG: usize = 60_000;
/// The longest head that is read: an address of 128 KiB and its headers.
const MOST: usize = 256 << 10;

/// A connection in whose requests no address is too long.
pub(crate) struct Shortened<S> {
    stream: S,
    state: State,
    /// Read and understood, but not taken yet.
    ready: Vec<u8>,
    taken: usize,
}

enum State {
    /// In the head of a request; what has come of it.
    Head(Vec<u8>),
    /// In its body, of which so much is left.
    Body(u64),
    /// Passed on without looking.
    Unread,
}

impl<S> Shortened<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, state: State::Head(Vec::new()), ready: Vec::new(), taken: 0 }
    }

    /// Takes what arrived, as far as it is looked at.
    fn understand(&mut self, mut arrived: &[u8]) {
        while !arrived.is_empty() {
            match &mut self.state {
                State::Unread => {
                    self.ready.extend_from_slice(arrived);
                    return;
                }
                State::Body(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(arrived.len());
                    let (part, rest) = arrived.split_at(here);
                    self.ready.extend_from_slice(part);
                    arrived = rest;
                    self.passed(here);
                }
                State::Head(head) => {
                    let known = head.len();
                    head.extend_from_slice(arrived);
                    // The end may have begun in what came before.
                    let Some(end) = end(head, known.saturating_sub(3)) else {
                        if head.len() > MOST {
                            self.ready.append(head);
                            self.state = State::Unread;
                        }
                        return;
                    };
                    head.truncate(end);
                    arrived = arrived.get(end - known..).unwrap_or_default();
                    self.ready.extend(shortened(head).unwrap_or_else(|| head.clone()));
                    self.state = match body(head) {
                        Some(0) => State::Head(Vec::new()),
                        Some(length) => State::Body(length),
                        None => State::Unread,
                    };
                }
            }
        }
    }

    /// So much of a body has been passed on.
    fn passed(&mut self, count: usize) {
        let State::Body(left) = &mut self.state else { return };
        *left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        if *left == 0 {
            self.state = State::Head(Vec::new());
        }
    }
}

/// Where a head ends: behind an empty line. The library takes lines without a carriage return as well.
fn end(head: &[u8], from: usize) -> Option<usize> {
    let rest = head.get(from..)?;
    let breaks = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    breaks.map(|(at, _)| from + at + 1).find_map(|next| match head.get(next..)? {
        [b'\n', ..] => Some(next + 1),
        [b'\r', b'\n', ..] => Some(next + 2),
        _ => None,
    })
}

/// The head with the query in a header, if the address is too long.
fn shortened(head: &[u8]) -> Option<Vec<u8>> {
    let line = head.split(|byte| b"\r\n".contains(byte)).next()?;
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if target.len() < LONG {
        return None;
    }
    let question = target.iter().position(|byte| *byte == b'?')?;
    let (path, query) = (target.get(..question)?, target.get(question + 1..)?);
    let header = [QUERY.as_bytes(), b": ", query].concat();
    Some([method, b" ", path, b" ", version, b"\r\n", &header, head.get(line.len()..)?].concat())
}

/// How long the body of a request is; `None` if only reading it tells, or it is no longer HTTP.
fn body(head: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(head);
    let mut length = 0;
    for line in text.lines().skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.trim().to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "transfer-encoding" | "upgrade" => return None,
            _ => {}
        }
    }
    Some(length)
}

impl<S: AsyncRead + Unpin> AsyncRead for Shortened<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let waiting = this.ready.get(this.taken..).unwrap_or_default();
            if !waiting.is_empty() {
                let count = waiting.len().min(buf.remaining());
                buf.put_slice(waiting.get(..count).unwrap_or_default());
                this.taken += count;
                if this.taken == this.ready.len() {
                    this.ready = Vec::new();
                    this.taken = 0;
                }
                return Poll::Ready(Ok(()));
            }
            match &mut this.state {
                State::Unread => return Pin::new(&mut this.stream).poll_read(cx, buf),
                State::Body(left) => {
                    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.remaining());
                    let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
                    ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
                    let count = part.filled().len();
                    buf.advance(count);
                    this.passed(count);
                    return Poll::Ready(Ok(()));
                }
                State::Head(head) => {
                    let mut room = [0; 8192];
                    let mut arrived = ReadBuf::new(&mut room);
                    ready!(Pin::new(&mut this.stream).poll_read(cx, &mut arrived))?;
                    if arrived.filled().is_empty() {
                        // The end; what there is of a head is for the library to complain about.
                        this.ready = std::mem::take(head);
                        if this.ready.is_empty() {
                            return Poll::Ready(Ok(()));
                        }
                        this.state = State::Unread;
                    } else {
                        this.understand(arrived.filled());
                    }
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shortened<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Bytes that arrive in pieces.
    struct Pieces<'a>(&'a [u8], usize);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            let (piece, rest) = this.0.split_at(this.1.min(this.0.len()).min(buf.remaining()));
            buf.put_slice(piece);
            this.0 = rest;
            Poll::Ready(Ok(()))
        }
    }

    /// What comes out of a connection on which bytes arrive in pieces of this size.
    fn passed(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut connection = Shortened::new(Pieces(bytes, piece));
        let mut all = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(connection.read_to_end(&mut all)).unwrap();
        all
    }

    #[test]
    fn only_long_addresses_are_moved() {
        let query = "a".repeat(130_000);
        let long = format!("POST /api/?{query} HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc");
        let bare = format!("GET /api/?{query} HTTP/1.1\nhost: x\n\n");
        let short = "POST /api HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\n\r\n";
        let moved =
            format!("POST /api/ HTTP/1.1\r\nx-qvd-query: {query}\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc");
        let bare_moved = format!("GET /api/ HTTP/1.1\r\nx-qvd-query: {query}\nhost: x\n\n");
        let given = [&long, short, &bare, &long, short].concat();
        let expected = [&moved, short, &bare_moved, &moved, short].concat();
        for piece in [1, 100, 1000, 8192] {
            assert!(passed(given.as_bytes(), piece) == expected.as_bytes(), "in pieces of {piece}");
        }
        // What is not understood is left alone.
        for head in ["Upgrade: websocket", "Transfer-Encoding: chunked", "Content-Length: 1, 1"] {
            let first = format!("GET /api/ws?x HTTP/1.1\r\n{head}\r\n\r\n{long}");
            assert!(passed(first.as_bytes(), 5000) == first.as_bytes(), "{head}");
        }
        let endless = format!("GET /{} HTTP/1.1\r\n", "a".repeat(MOST));
        assert!(passed(endless.as_bytes(), 5000) == endless.as_bytes());
    }

    proptest! {
        #[test]
        fn nothing_is_lost(bytes: Vec<u8>, head in "[A-Z/?:a-z \r\n0-9-]{0,200}", piece in 1_usize..300) {
            let all = [head.as_bytes(), b"\r\n\r\n", &bytes].concat();
            prop_assert_eq!(passed(&all, piece), all);
        }
    }
}
