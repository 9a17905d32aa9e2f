//! Notifications: one supervised connection per process.
//!
//! A [`Doorbell`] rings when something was notified, once its channel is really listened to, and after every
//! reconnect. Whoever hears it reads the rows; a notification itself says nothing.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{Error, Settings};

/// A connection that does not answer within this time is given up.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Pauses between attempts to reconnect.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

type Channels = Arc<Mutex<HashMap<String, watch::Sender<u64>>>>;

/// The process's ear for notifications. Clones share it.
#[derive(Debug, Clone)]
pub struct Listener {
    channels: Channels,
    fresh: mpsc::UnboundedSender<String>,
    connected: watch::Receiver<bool>,
}

/// Rings for one channel.
#[derive(Debug, Clone)]
pub struct Doorbell {
    rings: watch::Receiver<u64>,
}

impl Doorbell {
    /// Waits for the next ring. Rings that came in between count as one; never resolves after the listener ended.
    pub async fn rung(&mut self) {
        if self.rings.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Listener {
    /// Starts listening with these settings until `stop`. The future is the listener itself: run it as a task.
    pub fn new(
        settings: &Settings,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let channels = Channels::default();
        let (fresh, wanted) = mpsc::unbounded_channel();
        let (connected, is_connected) = watch::channel(false);
        let supervisor =
            Supervisor { settings: settings.clone(), channels: channels.clone(), wanted, connected };
        (Self { channels, fresh, connected: is_connected }, async move {
            tokio::select! {
                () = supervisor.run() => {}
                () = stop.cancelled() => {}
            }
        })
    }

    /// A doorbell for a channel.
    pub fn subscribe(&self, channel: impl Into<String>) -> Doorbell {
        let channel = channel.into();
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bell) = channels.get(&channel) {
            return Doorbell { rings: bell.subscribe() };
        }
        let bell = watch::Sender::new(0);
        let rings = bell.subscribe();
        channels.insert(channel.clone(), bell);
        // A listener that has ended rings no more; its subscribers are ending too.
        let _ = self.fresh.send(channel);
        Doorbell { rings }
    }

    /// Whether notifications arrive at present.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }
}

struct Supervisor {
    settings: Settings,
    channels: Channels,
    wanted: mpsc::UnboundedReceiver<String>,
    connected: watch::Sender<bool>,
}

impl Supervisor {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(error) = self.listen(&mut pause).await else { return };
            self.connected.send_replace(false);
            warn!("no notifications: {error}; reconnecting in {pause:?}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection, until it fails. Ends well only when nobody can subscribe any more.
    async fn listen(&mut self, pause: &mut Duration) -> Result<(), Error> {
        let during = Error::during("listen");
        let connecting = self.settings.driver();
        let (client, mut connection) =
            connecting.connect(self.settings.tls.connector()?).await.map_err(&during)?;
        let channels = self.channels.clone();
        let driving = tokio::spawn(async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(note))) => ring(&channels, note.channel()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return debug!("notification connection: {error}"),
                    None => return,
                }
            }
        });
        let _end = AbortOnDrop(driving);
        for channel in self.known() {
            subscribe(&client, &channel).await?;
        }
        info!("listening for notifications");
        *pause = FIRST_PAUSE;
        self.connected.send_replace(true);
        for channel in self.known() {
            ring(&self.channels, &channel);
        }
        loop {
            tokio::select! {
                channel = self.wanted.recv() => match channel {
                    Some(channel) => {
                        subscribe(&client, &channel).await?;
                        ring(&self.channels, &channel);
                    }
                    None => return Ok(()),
                },
                () = tokio::time::sleep(HEARTBEAT) => execute(&client, "SELECT 1").await?,
            }
        }
    }

    fn known(&self) -> Vec<String> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn subscribe(client: &Client, channel: &str) -> Result<(), Error> {
    execute(client, &format!("LISTEN \"{}\"", channel.replace('"', "\"\""))).await
}

async fn execute(client: &Client, statement: &str) -> Result<(), Error> {
    match tokio::time::timeout(HEARTBEAT, client.batch_execute(statement)).await {
        Ok(result) => result.map_err(Error::during("listen")),
        Err(_) => Err(Error::Away { operation: "listen", problem: "no answer in time".to_owned() }),
    }
}

fn ring(channels: &Channels, channel: &str) {
    let channels = channels.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bell) = channels.get(channel) {
        bell.send_modify(|rings| *rings += 1);
    }
}
