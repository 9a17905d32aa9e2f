//! Settings of TCP connections that carry desktops.

use std::io;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;

/// How long a peer may be silent where nobody says otherwise.
pub const SILENCE: Duration = Duration::from_secs(120);
/// Unanswered questions that end the connection.
const KEEPALIVE_COUNT: u32 = 4;

/// Sends small packets at once, and notices within `silence` that the peer is gone: after half of it an idle peer is
/// asked whether it is there, and what it does not confirm for as long ends the connection as well.
pub fn tune(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    let silence = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
    let seconds = |parts: u32| (silence / parts / 1000).max(1);
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &seconds(2))?;
    setsockopt(stream, sockopt::TcpKeepInterval, &seconds(2 * KEEPALIVE_COUNT))?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE_COUNT)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &silence)?;
    Ok(())
}
