//! Showing a desktop: the link, nxproxy, and how it ended.

use qvd_relay::{Duplex, Side, duplex};
use tokio::io::AsyncWriteExt;

use crate::display::Screen;
use crate::error::ConnectError;
use crate::proxy::{Proxy, ProxySettings};
use crate::router::Link;

/// How a session on the screen ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// In order: the user closed the window or logged out, or the desktop was stopped in order.
    Left,
    /// nxproxy failed here.
    ProxyFailed(String),
    /// The router or the network ended it: taken over by another client, ended by an administrator, or lost.
    LinkEnded(String),
}

/// Shows the desktop until either side ends. Dropping the future ends it as well, and nxproxy with it.
pub async fn show(link: Link, screen: &Screen, settings: &ProxySettings) -> Result<Ending, ConnectError> {
    let mut proxy = Proxy::start(settings, &screen.display).await?;
    let Link { mut stream, early, .. } = link;
    if !early.is_empty() {
        let failed = |error: std::io::Error| ConnectError::Proxy(error.to_string());
        proxy.stream.write_all(&early).await.map_err(failed)?;
    }
    let ended = Duplex::default().run(&mut proxy.stream, &mut stream).await;
    duplex::close(&mut stream).await;
    let Some(complaint) = proxy.end().await else { return Ok(Ending::Left) };
    Ok(match ended.by {
        Side::Client => Ending::ProxyFailed(complaint),
        Side::Desktop => Ending::LinkEnded(ended.error.map_or(complaint, |error| error.to_string())),
    })
}
