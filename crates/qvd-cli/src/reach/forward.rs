//! A port of this machine that leads into a VM, through the API.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;

use super::{ended, spawn};
use crate::api::{Api, Tunnel};
use crate::error::Error;

const CHUNK: usize = 32 << 10;

/// A port for one connection of a program of the same user.
pub(super) struct Forward {
    listener: TcpListener,
    address: SocketAddr,
    tunnel: Tunnel,
}

impl Forward {
    /// Opens the way, so that whatever refuses it is known before a program runs, and then the port.
    pub(super) async fn open(api: &mut Api, arguments: &Value) -> Result<Self, Error> {
        let tunnel = api.tunnel(arguments).await?;
        let local = |error: std::io::Error| Error::Usage(format!("no local port: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(local)?;
        let address = listener.local_addr().map_err(local)?;
        Ok(Self { listener, address, tunnel })
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Runs the program that connects to the port, and carries what it says, until it ends.
    pub(super) async fn serve(self, command: &mut Command) -> Result<(), Error> {
        let Self { listener, address, mut tunnel } = self;
        let mut program = spawn(command)?;
        let carrying = async {
            let stream = match accept(&listener, address).await {
                Ok(stream) => stream,
                Err(error) => return format!("no connection of the program: {error}"),
            };
            drop(listener);
            carry(stream, &mut tunnel).await
        };
        tokio::select! {
            status = program.wait() => {
                // The API may be gone already.
                let _ = tunnel.close(None).await;
                return ended(status);
            }
            why = carrying => {
                if !why.is_empty() {
                    eprintln!("qa4: {why}");
                }
            }
        }
        let _ = tunnel.close(None).await;
        ended(program.wait().await)
    }
}

/// The connection of a program of this user; those of others, who can see the port as well, are dropped.
async fn accept(listener: &TcpListener, address: SocketAddr) -> std::io::Result<TcpStream> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let table = std::fs::read_to_string("/proc/self/net/tcp")?;
        if owner(&table, peer, address) == Some(nix::unistd::geteuid().as_raw()) {
            stream.set_nodelay(true)?;
            return Ok(stream);
        }
    }
}

/// The user of the connection from `from` to `to`, as the kernel's table has it.
fn owner(table: &str, from: SocketAddr, to: SocketAddr) -> Option<u32> {
    let written = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => {
            format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port())
        }
        SocketAddr::V6(_) => String::new(),
    };
    let (from, to) = (written(from), written(to));
    table.lines().find_map(|line| {
        let mut parts = line.split_whitespace().skip(1);
        let is_it = parts.next()? == from && parts.next()? == to;
        if is_it { parts.nth(4)?.parse().ok() } else { None }
    })
}

/// Carries both ways until either side ends it; what to say about that, if anything.
async fn carry(mut stream: TcpStream, tunnel: &mut Tunnel) -> String {
    let mut chunk = vec![0; CHUNK];
    loop {
        tokio::select! {
            read = stream.read(&mut chunk) => match read {
                Ok(0) | Err(_) => return String::new(),
                Ok(count) => {
                    let bytes = Bytes::copy_from_slice(chunk.get(..count).unwrap_or_default());
                    if let Err(error) = tunnel.send(Message::Binary(bytes)).await {
                        return format!("the way through the API ended: {error}");
                    }
                }
            },
            message = tunnel.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return String::new();
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    // What it says is said to whoever asked to be let in.
                    let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
                    return if reason == "the desktop ended it" { String::new() } else { format!("the API ended it: {reason}") };
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return format!("the way through the API ended: {error}"),
                None => return String::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_connections_of_this_user_are_taken() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let own = client.local_addr().unwrap();
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        assert_eq!(owner(&table, own, address), Some(nix::unistd::geteuid().as_raw()));
        assert_eq!(owner("  sl  local_address rem_address\n", own, address), None);
        assert_eq!(accept(&listener, address).await.unwrap().peer_addr().unwrap(), own);
    }
}
