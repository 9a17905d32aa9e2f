//! Orders to the supervisor: `restart DAEMON`, a line, answered by `done` or `error TEXT`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::child::Answer;
use crate::installation::Installation;
use crate::layout::{Daemon, Layout};
use crate::up::is_running;

/// How long whoever connects may take to say what it wants.
const WORD_LIMIT: Duration = Duration::from_secs(5);
/// Longest order.
const LONGEST: u64 = 64;
/// How long a restart may take: that of a node waits for the end of what it is doing.
const LIMIT: Duration = Duration::from_secs(400);

/// Where each daemon takes orders.
pub(crate) type Orders = Vec<(Daemon, mpsc::Sender<Answer>)>;

/// Takes orders, one after the other, until `stop`.
pub(crate) async fn serve(socket: UnixListener, orders: Orders, stop: CancellationToken) {
    if let Some(Err(error)) = stop.run_until_cancelled(take(socket, &orders)).await {
        warn!("no orders are taken any more: {error}");
    }
}

async fn take(socket: UnixListener, orders: &Orders) -> std::io::Result<()> {
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UnixListener::from_std(socket)?;
    loop {
        let (stream, _) = socket.accept().await?;
        if let Err(error) = answer(stream, orders).await {
            warn!("an order came to nothing: {error:#}");
        }
    }
}

async fn answer(mut stream: tokio::net::UnixStream, orders: &Orders) -> Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(LONGEST));
    tokio::time::timeout(WORD_LIMIT, reader.read_line(&mut line)).await.context("nothing was said")??;
    let said = match obey(line.trim(), orders).await {
        Ok(()) => "done\n".to_owned(),
        Err(error) => format!("error {}\n", format!("{error:#}").replace('\n', " ")),
    };
    writer.write_all(said.as_bytes()).await.context("nobody waits for the answer")
}

async fn obey(line: &str, orders: &Orders) -> Result<()> {
    let wanted = line.strip_prefix("restart ").context("no such order")?;
    let (daemon, order) = orders
        .iter()
        .find(|(daemon, _)| daemon.program() == wanted)
        .with_context(|| format!("{wanted} does not run here"))?;
    info!(daemon = daemon.program(), "restart ordered");
    let (answer, restarted) = oneshot::channel();
    let program = daemon.program();
    order.send(answer).await.with_context(|| format!("{program} has stopped"))?;
    restarted.await.unwrap_or_else(|_| bail!("{program} ended instead; see its log"))
}

/// Has daemons restarted, in the program that lies there now; all of them if none is named.
pub fn restart(data: &Path, daemons: &[Daemon], out: &mut impl Write) -> Result<()> {
    let layout = Layout::new(std::path::absolute(data)?);
    if !is_running(&layout)? {
        bail!("it is not up; use qvd up");
    }
    let all: Option<Vec<_>> =
        Installation::read(&layout)?.map(|installation| installation.daemons().collect());
    let daemons = if daemons.is_empty() { all.unwrap_or_default() } else { daemons.to_vec() };
    for daemon in daemons {
        writeln!(out, "restarting {}", daemon.program())?;
        let path = layout.control();
        let mut stream = UnixStream::connect(&path)
            .with_context(|| format!("the supervisor takes no orders at {}", path.display()))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(format!("restart {}\n", daemon.program()).as_bytes())?;
        let mut said = String::new();
        BufReader::new(stream).read_line(&mut said).context("the supervisor does not answer")?;
        match said.trim().split_once(' ') {
            None if said.trim() == "done" => {}
            Some(("error", problem)) => bail!("{problem}"),
            _ => bail!("the supervisor ended meanwhile"),
        }
    }
    Ok(())
}
