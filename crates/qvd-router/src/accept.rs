//! The listening socket.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use qvd_runtime::Values;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::router::Router;
use crate::{Error, connection};

/// Pause after the system refused to give us a connection, e.g. for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Takes the supervisor's socket.
pub(crate) fn adopt(socket: OwnedFd) -> Result<TcpListener, Error> {
    TcpListener::from_std(socket.into())
        .map_err(|source| Error::Listen { address: "the inherited socket".to_owned(), source })
}

/// Binds `l7r.address` and `l7r.port`; `*` is every address of both families.
pub(crate) async fn bind(values: &Values) -> Result<TcpListener, Error> {
    let (address, port) = (values.text("l7r.address")?, values.int::<u16>("l7r.port")?);
    let listen = |host: String| async move {
        let bound = TcpListener::bind((host.as_str(), port)).await;
        bound.map_err(|source| Error::Listen { address: format!("{host}:{port}"), source })
    };
    if address != "*" {
        return listen(address).await;
    }
    match listen("::".to_owned()).await {
        Ok(listener) => Ok(listener),
        Err(error) => {
            debug!("no IPv6: {error}");
            listen("0.0.0.0".to_owned()).await
        }
    }
}

/// Gives every connection its task, until `stop`.
pub(crate) async fn accept(router: &Arc<Router>, listener: TcpListener, stop: &CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let address = peer.ip().to_canonical();
                match router.admit(address) {
                    Some(waiting) => {
                        let serving = connection::serve(router.clone(), stream, address, waiting);
                        router.connections.spawn(serving);
                    }
                    None => debug!(%address, "too many connections wait for their login; closed"),
                }
            }
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
