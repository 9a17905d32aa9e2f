//! Settings of TCP connections that carry desktops.

use std::io;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;

/// Silence after which the peer is asked whether it is there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered questions that end the connection.
const KEEPALIVE_COUNT: u32 = 4;
/// Sent bytes that nobody confirms for this long end the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(120);

/// Sends small packets at once, and notices a peer that is gone within two minutes.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &seconds(KEEPALIVE_IDLE))?;
    setsockopt(stream, sockopt::TcpKeepInterval, &seconds(KEEPALIVE_INTERVAL))?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE_COUNT)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &seconds(USER_TIMEOUT).saturating_mul(1000))?;
    Ok(())
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}
