//! Copying between a client and its desktop, until one of them ends (`spec/protocol.md` 6.1).
//!
//! A direction owns a buffer only while there are bytes in it, so that an idle session costs none; its size
//! follows what recent reads brought, from 2 to 64 KiB.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

const SMALLEST: usize = 2 * 1024;
const LARGEST: usize = 64 * 1024;

/// How long the bytes of the other direction may take to leave when one side has ended.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// One end of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The desktop.
    Desktop,
}

/// How a relay ended.
#[derive(Debug)]
pub struct Ended {
    /// The side that ended or failed.
    pub by: Side,
    /// `None` for an orderly end.
    pub error: Option<io::Error>,
}

impl Ended {
    /// Whether the side went away by itself. A client that closes TCP without TLS's farewell, as existing
    /// ones do, has left as well.
    pub fn orderly(&self) -> bool {
        self.error.as_ref().is_none_or(|error| error.kind() == io::ErrorKind::UnexpectedEof)
    }
}

/// Bytes copied so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the client to the desktop.
    pub from_client: u64,
    /// From the desktop to the client.
    pub from_desktop: u64,
}

/// A relay in both directions. It may be left and continued: nothing is lost when the future is dropped.
#[derive(Debug, Default)]
pub struct Duplex {
    upstream: Direction,
    downstream: Direction,
}

impl Duplex {
    /// A relay whose first bytes to the desktop are `early`: what the client sent without waiting.
    pub fn new(early: BytesMut) -> Self {
        let upstream = Direction { buffer: early, ..Direction::default() };
        Self { upstream, downstream: Direction::default() }
    }

    /// Bytes copied so far.
    pub fn traffic(&self) -> Traffic {
        Traffic { from_client: self.upstream.copied, from_desktop: self.downstream.copied }
    }

    /// Copies until either side ends, then flushes what the other direction holds. Neither side is closed.
    pub async fn run<C, D>(&mut self, client: &mut C, desktop: &mut D) -> Ended
    where
        C: AsyncRead + AsyncWrite + Unpin,
        D: AsyncRead + AsyncWrite + Unpin,
    {
        let ended = std::future::poll_fn(|cx| {
            if let Poll::Ready(ended) = self.upstream.poll(cx, client, desktop) {
                return Poll::Ready(ended.into(Side::Client, Side::Desktop));
            }
            self.downstream.poll(cx, desktop, client).map(|ended| ended.into(Side::Desktop, Side::Client))
        })
        .await;
        match ended.by {
            Side::Client => self.downstream.flush(client).await,
            Side::Desktop => self.upstream.flush(desktop).await,
        }
        ended
    }
}

/// Says farewell to a peer, in bounded time.
pub async fn close(stream: &mut (impl AsyncWrite + Unpin)) {
    // The peer may be gone already, and then there is nobody to tell.
    let _ = tokio::time::timeout(FLUSH_LIMIT, stream.shutdown()).await;
}

#[derive(Debug)]
struct Direction {
    buffer: BytesMut,
    /// How much the next read may bring.
    size: usize,
    unflushed: bool,
    copied: u64,
}

impl Default for Direction {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), size: SMALLEST, unflushed: false, copied: 0 }
    }
}

/// How a direction ended: who, and why.
enum End {
    Source(Option<io::Error>),
    Target(io::Error),
}

impl End {
    fn into(self, source: Side, target: Side) -> Ended {
        match self {
            Self::Source(error) => Ended { by: source, error },
            Self::Target(error) => Ended { by: target, error: Some(error) },
        }
    }
}

impl Direction {
    fn poll<S, T>(&mut self, cx: &mut Context<'_>, source: &mut S, target: &mut T) -> Poll<End>
    where
        S: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        loop {
            if self.buffer.is_empty() {
                self.buffer.reserve(self.size);
                match poll_read_buf(Pin::new(&mut *source), cx, &mut self.buffer) {
                    Poll::Pending => {
                        self.buffer = BytesMut::new();
                        if self.unflushed {
                            if let Err(error) = ready!(Pin::new(&mut *target).poll_flush(cx)) {
                                return Poll::Ready(End::Target(error));
                            }
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(0)) => return Poll::Ready(End::Source(None)),
                    Poll::Ready(Ok(read)) => self.adapt(read),
                    Poll::Ready(Err(error)) => return Poll::Ready(End::Source(Some(error))),
                }
            }
            if let Err(error) = ready!(self.poll_write(cx, target)) {
                return Poll::Ready(End::Target(error));
            }
        }
    }

    /// Writes the whole buffer.
    fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut T,
    ) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() {
            let written = ready!(Pin::new(&mut *target).poll_write(cx, &self.buffer))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.advance(written);
            self.copied = self.copied.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn adapt(&mut self, read: usize) {
        if read >= self.size {
            self.size = self.size.saturating_mul(4).min(LARGEST);
        } else if read < self.size / 8 {
            self.size = (self.size / 2).max(SMALLEST);
        }
    }

    /// Sends what is left, in bounded time; the peer may be gone.
    async fn flush<T: AsyncWrite + Unpin>(&mut self, target: &mut T) {
        let work = async {
            std::future::poll_fn(|cx| self.poll_write(cx, target)).await?;
            target.flush().await
        };
        let _ = tokio::time::timeout(FLUSH_LIMIT, work).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, duplex};

    #[tokio::test]
    async fn bytes_arrive_unchanged_in_both_directions() {
        let (mut client, mut router_client) = duplex(1000);
        let (mut desktop, mut router_desktop) = duplex(1000);
        let relay = tokio::spawn(async move {
            let mut relay = Duplex::new(BytesMut::from(&b"early"[..]));
            let ended = relay.run(&mut router_client, &mut router_desktop).await;
            (ended, relay.traffic(), relay.downstream.buffer.capacity())
        });
        let up: Vec<u8> = (0..300_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let down: Vec<u8> = up.iter().rev().copied().collect();
        let (sent, expected) = (up.clone(), down.clone());
        let talking = tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(&mut client);
            let mut received = vec![0; expected.len()];
            let (_, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut received));
            read.unwrap();
            assert!(received == expected);
        });
        let mut received = vec![0; up.len() + 5];
        let (mut reader, mut writer) = tokio::io::split(&mut desktop);
        let (_, read) = tokio::join!(writer.write_all(&down), reader.read_exact(&mut received));
        read.unwrap();
        assert!(received.starts_with(b"early") && received.ends_with(&up));
        talking.await.unwrap();
        let (ended, traffic, held) = relay.await.unwrap();
        assert!(ended.by == Side::Client && ended.orderly());
        assert_eq!((traffic.from_client, traffic.from_desktop, held), (300_005, 300_000, 0));
    }

    #[tokio::test]
    async fn what_the_desktop_said_last_still_arrives() {
        let (mut client, mut router_client) = duplex(64);
        let (mut desktop, mut router_desktop) = duplex(64 * 1024);
        let farewell = vec![7; 40_000];
        desktop.write_all(&farewell).await.unwrap();
        drop(desktop);
        let relay = tokio::spawn(async move {
            let ended = Duplex::default().run(&mut router_client, &mut router_desktop).await;
            close(&mut router_client).await;
            ended
        });
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert!(received == farewell);
        assert_eq!(relay.await.unwrap().by, Side::Desktop);
    }

    #[test]
    fn buffers_follow_the_load() {
        let mut direction = Direction::default();
        for _ in 0..3 {
            direction.adapt(direction.size);
        }
        assert_eq!(direction.size, LARGEST);
        for _ in 0..10 {
            direction.adapt(40);
        }
        assert_eq!(direction.size, SMALLEST);
    }
}
