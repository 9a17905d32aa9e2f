//! A connection that fails as wanted: between a node and the database, in user space.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Everything arrives this much later, in both directions.
    Delay(Duration),
    /// Nothing arrives, and nobody is told; what was sent arrives when this is over.
    Silence,
    /// Connections are reset, and new ones as well.
    Refusal,
}

/// Passes TCP connections on to a Unix socket.
#[derive(Debug)]
pub struct Proxy {
    state: watch::Sender<State>,
    runtime: Option<Runtime>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    fault: Fault,
    /// Connections of an earlier epoch are over.
    epoch: u64,
}

/// How much is passed on at a time.
const CHUNK: usize = 64 * 1024;

impl Proxy {
    /// Passes what connects to `listener` on to the socket `target`.
    pub fn start(listener: TcpListener, target: PathBuf) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let state = watch::Sender::new(State::default());
        listener.set_nonblocking(true)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).context("cannot take the proxy's listener")?
        };
        runtime.spawn(serve(listener, target, state.clone()));
        Ok(Self { state, runtime: Some(runtime) })
    }

    /// From now on this is wrong; [`Fault::None`] ends it.
    pub fn fail(&self, fault: Fault) {
        self.state.send_modify(|state| {
            state.fault = fault;
            state.epoch += u64::from(fault == Fault::Refusal);
        });
    }

    /// Resets all connections once; new ones are fine.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.epoch += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its tasks are ours alone: nothing has to be waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: tokio::net::TcpListener, target: PathBuf, state: watch::Sender<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => {
                    connections.spawn(connection(near, target.clone(), state.subscribe()));
                }
                Err(error) => tracing::warn!("the proxy accepts no connection: {error}"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until it ends or is reset.
async fn connection(mut near: TcpStream, target: PathBuf, mut state: watch::Receiver<State>) {
    let State { fault, epoch } = *state.borrow();
    let reset = fault == Fault::Refusal || {
        let passing = state.clone();
        tokio::select! {
            () = pass(&mut near, target, passing) => false,
            _ = state.wait_for(|now| now.epoch != epoch) => true,
        }
    };
    if reset && let Err(error) = near.set_zero_linger() {
        tracing::warn!("a connection ends instead of being reset: {error}");
    }
}

async fn pass(near: &mut TcpStream, target: PathBuf, mut state: watch::Receiver<State>) {
    // A new connection is no faster than others.
    if hold(&mut state).await.is_err() {
        return;
    }
    let far = match UnixStream::connect(&target).await {
        Ok(far) => far,
        Err(error) => return tracing::debug!("the proxy's target does not answer: {error}"),
    };
    let (near_reader, near_writer) = near.split();
    let (far_reader, far_writer) = far.into_split();
    tokio::select! {
        () = copy(near_reader, far_writer, state.clone()) => {}
        () = copy(far_reader, near_writer, state) => {}
    }
}

/// One direction, until it ends.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if hold(&mut state).await.is_err()
            || to.write_all(chunk.get(..length).unwrap_or_default()).await.is_err()
        {
            return;
        }
    }
}

/// Waits as long as what is wrong demands.
async fn hold(state: &mut watch::Receiver<State>) -> Result<(), watch::error::RecvError> {
    let fault = state.wait_for(|now| now.fault != Fault::Silence).await?.fault;
    if let Fault::Delay(delay) = fault {
        tokio::time::sleep(delay).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A server that sends back what it hears, and a proxy before it.
    fn proxy(directory: &tempfile::TempDir) -> (Proxy, std::net::SocketAddr) {
        let target = directory.path().join("server");
        let server = UnixListener::bind(&target).unwrap();
        std::thread::spawn(move || {
            for stream in server.incoming().flatten() {
                std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (Proxy::start(listener, target).unwrap(), address)
    }

    fn connect(address: std::net::SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn echo(mut stream: &TcpStream, text: &str) -> std::io::Result<Duration> {
        let begun = Instant::now();
        stream.write_all(text.as_bytes())?;
        let mut heard = vec![0; text.len()];
        stream.read_exact(&mut heard)?;
        assert_eq!(heard, text.as_bytes());
        Ok(begun.elapsed())
    }

    #[test]
    fn it_delays_is_silent_and_recovers() {
        let directory = tempfile::tempdir().unwrap();
        let (proxy, address) = proxy(&directory);
        let stream = connect(address);
        echo(&stream, "at once").unwrap();
        proxy.fail(Fault::Delay(Duration::from_millis(100)));
        assert!(echo(&stream, "later").unwrap() >= Duration::from_millis(200));

        proxy.fail(Fault::Silence);
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert_eq!(echo(&stream, "held").unwrap_err().kind(), ErrorKind::WouldBlock);
        proxy.fail(Fault::None);
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut heard = [0; 4];
        (&stream).read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"held");
    }

    #[test]
    fn it_resets_and_refuses() {
        let directory = tempfile::tempdir().unwrap();
        let (proxy, address) = proxy(&directory);
        let stream = connect(address);
        echo(&stream, "here").unwrap();
        proxy.reset();
        assert_eq!((&stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        let stream = connect(address);
        echo(&stream, "here again").unwrap();
        proxy.fail(Fault::Refusal);
        assert_eq!((&stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(echo(&connect(address), "nobody").is_err());
        proxy.fail(Fault::None);
        echo(&connect(address), "back").unwrap();
    }
}
