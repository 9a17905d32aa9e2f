//! Bytes and handshakes of one core: our relay, HAProxy, and rustls without anything around it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::BytesMut;
use qvd_relay::certificate::{SelfSigned, self_signed};
use qvd_relay::duplex::Duplex;
use qvd_relay::tls::{ServerTls, TlsMaterial};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use crate::peer;
use crate::table::Table;
use crate::usage;

/// Bytes that a desktop draws in one run.
const VOLUME: u64 = 6 << 30;
/// What it writes at a time.
const PIECE: usize = 64 * 1024;
/// Handshakes of one run.
const HANDSHAKES: u32 = 2000;
const HAPROXY: &str = "/usr/sbin/haproxy";

/// Measures both.
pub fn measure(table: &mut Table) -> Result<()> {
    ensure!(usage::installed(HAPROXY), "{HAPROXY} is the peer; install the package haproxy");
    let certificate = self_signed(&["localhost".to_owned()])?;
    let ours = gigabits(|desktop| ours(&certificate, desktop), &certificate)?;
    let peer = gigabits(|desktop| haproxy(&certificate, desktop), &certificate)?;
    let floor = gigabits(|desktop| bare(&certificate, desktop), &certificate)?;
    let beside = format!("HAProxy {peer:.1}, rustls alone with blocking sockets {floor:.1}");
    table.row(
        "desktop → client through TLS, per core",
        format!("{ours:.1} Gb/s"),
        beside,
        "≥ 18 Gb/s, ≥ HAProxy",
    );

    let [ours, bare, library] = handshakes(&certificate)?;
    let beside = format!(
        "rustls with blocking sockets {bare:.0}/s ({:.0} %), without sockets {library:.0}/s",
        ours / bare * 100.0
    );
    table.row("full TLS 1.3 handshakes, per core", format!("{ours:.0}/s"), beside, "≥ 90 % of rustls");
    Ok(())
}

/// What stands between client and desktop.
struct Middle {
    address: SocketAddr,
    /// Processor time that it took, once it has ended.
    cost: Box<dyn FnOnce() -> Result<Duration>>,
}

/// Gigabits for each second of processor time.
fn gigabits(middle: impl FnOnce(SocketAddr) -> Result<Middle>, certificate: &SelfSigned) -> Result<f64> {
    let (desktop, drawing) = desktop()?;
    let middle = middle(desktop)?;
    let mut tls = peer::client(certificate)?;
    let mut tcp = TcpStream::connect(middle.address)?;
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    stream.write_all(b"x")?;
    let mut buffer = vec![0; PIECE];
    let mut received = 0_u64;
    while received < VOLUME {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "the stream ended after {received} bytes");
        received += u64::try_from(count)?;
    }
    drop(tcp);
    joined(drawing)?;
    let cost = (middle.cost)()?;
    #[allow(clippy::cast_precision_loss, reason = "a figure")]
    Ok(VOLUME as f64 * 8.0 / cost.as_secs_f64() / 1e9)
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

fn loopback() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// A desktop that draws a lot as soon as it is looked at.
fn desktop() -> Result<(SocketAddr, JoinHandle<Result<()>>)> {
    let (listener, address) = loopback()?;
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.read_exact(&mut [0])?;
        let piece = vec![0x5a; PIECE];
        for _ in 0..VOLUME / u64::try_from(PIECE)? {
            stream.write_all(&piece)?;
        }
        // The client closes when it has everything.
        let _end = stream.read(&mut [0]);
        Ok(())
    });
    Ok((address, thread))
}

/// Runs a server on a thread of its own, as a router with one core.
fn on_one_core<T: Send + 'static>(
    listener: TcpListener,
    serve: impl AsyncFnOnce(tokio::net::TcpListener) -> Result<T> + Send + 'static,
) -> JoinHandle<Result<T>> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            listener.set_nonblocking(true)?;
            serve(tokio::net::TcpListener::from_std(listener)?).await
        })
    })
}

fn ours(certificate: &SelfSigned, desktop: SocketAddr) -> Result<Middle> {
    let tls = server(certificate)?;
    let (listener, address) = loopback()?;
    let thread = on_one_core(listener, async move |listener| {
        let (stream, _) = listener.accept().await?;
        let mut client = tls.acceptor().accept(stream).await?;
        let mut desktop = tokio::net::TcpStream::connect(desktop).await?;
        let before = usage::own_thread()?;
        Duplex::new(BytesMut::new()).run(&mut client, &mut desktop).await;
        Ok(usage::own_thread()?.saturating_sub(before))
    });
    Ok(Middle { address, cost: Box::new(move || joined(thread)) })
}

fn server(certificate: &SelfSigned) -> Result<ServerTls> {
    let material = TlsMaterial {
        cert: certificate.cert.clone(),
        key: certificate.key.clone(),
        ..TlsMaterial::default()
    };
    Ok(ServerTls::new(&material)?)
}

/// The least that a program can do with this library: one thread, one buffer.
fn bare(certificate: &SelfSigned, desktop: SocketAddr) -> Result<Middle> {
    let mut tls = ServerConnection::new(peer::server(certificate)?)?;
    let (listener, address) = loopback()?;
    let thread = std::thread::spawn(move || {
        let (mut client, _) = listener.accept()?;
        let mut first = [0];
        rustls::Stream::new(&mut tls, &mut client).read_exact(&mut first)?;
        let mut desktop = TcpStream::connect(desktop)?;
        desktop.write_all(&first)?;
        let before = usage::own_thread()?;
        let mut buffer = vec![0; PIECE];
        let mut left = VOLUME;
        while left > 0 {
            let count = desktop.read(&mut buffer)?;
            ensure!(count > 0, "the desktop ended");
            tls.writer().write_all(buffer.get(..count).unwrap_or_default())?;
            while tls.wants_write() {
                tls.write_tls(&mut client)?;
            }
            left = left.saturating_sub(u64::try_from(count)?);
        }
        Ok(usage::own_thread()?.saturating_sub(before))
    });
    Ok(Middle { address, cost: Box::new(move || joined(thread)) })
}

/// HAProxy with one thread, as everybody runs it.
fn haproxy(certificate: &SelfSigned, desktop: SocketAddr) -> Result<Middle> {
    let directory = tempfile::tempdir()?;
    let pem = directory.path().join("pem");
    std::fs::write(&pem, format!("{}{}", certificate.cert, certificate.key))?;
    let (listener, address) = loopback()?;
    let config = directory.path().join("haproxy.cfg");
    let text = format!(
        "global\n nbthread 1\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         frontend f\n bind {address} ssl crt {}\n default_backend b\nbackend b\n server d {desktop}\n",
        pem.display()
    );
    std::fs::write(&config, text)?;
    drop(listener);
    let child =
        Command::new(HAPROXY).arg("-f").arg(&config).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = Killed(child.context("cannot start HAProxy")?);
    let limit = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(address).is_err() {
        ensure!(Instant::now() < limit && child.0.try_wait()?.is_none(), "HAProxy does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let before = usage::process(child.0.id())?;
    let cost = move || {
        let after = usage::process(child.0.id())?;
        drop((child, directory));
        Ok(after.saturating_sub(before))
    };
    Ok(Middle { address, cost: Box::new(cost) })
}

/// A program that ends with its guard.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _code = self.0.wait();
    }
}

/// Full handshakes for each second of the server's processor time: ours, of the library with blocking sockets, and
/// of the library without any.
fn handshakes(certificate: &SelfSigned) -> Result<[f64; 3]> {
    let config = Arc::new(peer::client_config(certificate, false)?);
    let tls = server(certificate)?;
    let (listener, address) = loopback()?;
    let thread = on_one_core(listener, async move |listener| {
        let before = usage::own_thread()?;
        for _ in 0..HANDSHAKES {
            let (stream, _) = listener.accept().await?;
            tls.acceptor().accept(stream).await?;
        }
        Ok(usage::own_thread()?.saturating_sub(before))
    });
    knock(&config, address)?;
    let ours = joined(thread)?;

    let plain = peer::server(certificate)?;
    let (listener, address) = loopback()?;
    let thread = std::thread::spawn(move || {
        let before = usage::own_thread()?;
        for _ in 0..HANDSHAKES {
            let (mut tcp, _) = listener.accept()?;
            let mut tls = ServerConnection::new(plain.clone())?;
            while tls.is_handshaking() {
                tls.complete_io(&mut tcp)?;
            }
        }
        Ok(usage::own_thread()?.saturating_sub(before))
    });
    knock(&config, address)?;
    let bare = joined(thread)?;

    let library = in_memory(&config, &peer::server(certificate)?)?;
    let rate = |cost: Duration| f64::from(HANDSHAKES) / cost.as_secs_f64();
    Ok([rate(ours), rate(bare), rate(library)])
}

/// Shakes hands with a server, one connection after the other.
fn knock(config: &Arc<ClientConfig>, server: SocketAddr) -> Result<()> {
    for _ in 0..HANDSHAKES {
        let mut tls = ClientConnection::new(config.clone(), peer::name()?)?;
        let mut tcp = TcpStream::connect(server)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
    }
    Ok(())
}

/// Processor time of the server's half when the bytes go through memory.
fn in_memory(config: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<Duration> {
    let mut library = Duration::ZERO;
    let mut wire = Vec::new();
    for _ in 0..HANDSHAKES {
        let mut client = ClientConnection::new(config.clone(), peer::name()?)?;
        let begun = usage::own_thread()?;
        let mut own = ServerConnection::new(server.clone())?;
        library += usage::own_thread()?.saturating_sub(begun);
        while client.is_handshaking() || own.is_handshaking() {
            wire.clear();
            while client.wants_write() {
                client.write_tls(&mut wire)?;
            }
            let begun = usage::own_thread()?;
            let mut rest = wire.as_slice();
            while !rest.is_empty() {
                own.read_tls(&mut rest)?;
                own.process_new_packets()?;
            }
            let mut back = Vec::new();
            while own.wants_write() {
                own.write_tls(&mut back)?;
            }
            library += usage::own_thread()?.saturating_sub(begun);
            let mut rest = back.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest)?;
                client.process_new_packets()?;
            }
        }
    }
    Ok(library)
}
