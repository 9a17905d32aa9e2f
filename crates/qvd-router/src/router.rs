//! What all connections of a router share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use qvd_auth::Hasher;
use qvd_db::attempts::Attempts;
use qvd_db::events::Actor;
use qvd_db::hosts::Host;
use qvd_db::router::{self, Ending, Session, Standing};
use qvd_db::{Database, Listener};
use qvd_model::HostId;
use qvd_relay::ServerTls;
use qvd_runtime::{Config, Drain};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::counting::Counting;
use crate::instance::Instance;
use crate::rows::Rows;
use crate::sessions::Sessions;
use crate::{Error, settings};

/// Pause between attempts to write the end of a session while the database is away.
const RELEASE_PAUSE: Duration = Duration::from_secs(1);

/// What is known about the own host.
#[derive(Debug, Clone)]
pub(crate) enum Own {
    /// The database does not answer.
    Away,
    /// There is no row with our name.
    Unregistered,
    /// There is one.
    Registered(Host, Standing),
}

/// What a router is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) database: Database,
    pub(crate) listener: Listener,
    pub(crate) attempts: Attempts,
    pub(crate) connections: Drain,
}

/// The state that connections share.
pub(crate) struct Router {
    pub(crate) config: Config,
    pub(crate) database: Database,
    pub(crate) listener: Listener,
    /// `nodename`.
    pub(crate) name: String,
    pub(crate) instance: Instance,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) rows: Arc<Rows>,
    pub(crate) counting: Counting,
    pub(crate) hasher: Hasher,
    /// Connections and the sessions that came out of them. Its token says: take no more.
    pub(crate) connections: Drain,
    /// The time for sessions to go on is over.
    pub(crate) ending: CancellationToken,
    own: ArcSwap<Own>,
    tls: ArcSwap<Option<ServerTls>>,
    pub(crate) attempts: Attempts,
    waiting: Mutex<Places>,
}

impl Router {
    pub(crate) async fn new(parts: Parts) -> Result<Arc<Self>, Error> {
        let Parts { config, database, listener, attempts, connections } = parts;
        let values = config.now();
        let parallel = std::thread::available_parallelism().map_or(2, usize::from);
        let router = Self {
            name: values.text("nodename")?,
            instance: Instance::create(&values)?,
            tls: ArcSwap::from_pointee(settings::tls(&values, &database).await?),
            own: ArcSwap::from_pointee(Own::Away),
            sessions: Arc::new(Sessions::new()),
            rows: Arc::default(),
            counting: Counting::default(),
            hasher: Hasher::new(parallel),
            attempts,
            waiting: Mutex::default(),
            ending: CancellationToken::new(),
            config,
            database,
            listener,
            connections,
        };
        router.look_at_host().await;
        if matches!(**router.own.load(), Own::Unregistered) {
            warn!(
                name = router.name,
                "there is no host of this name; create it: qa4 host new name=…,address=…"
            );
        }
        Ok(Arc::new(router))
    }

    /// The own host as it was seen last.
    pub(crate) fn own(&self) -> Arc<Own> {
        self.own.load_full()
    }

    pub(crate) fn host_id(&self) -> Option<HostId> {
        match &**self.own.load() {
            Own::Registered(host, _) => Some(host.id),
            Own::Away | Own::Unregistered => None,
        }
    }

    /// Reads the own host's rows.
    pub(crate) async fn look_at_host(&self) {
        let read = async {
            let Some(host) = qvd_db::hosts::find(&self.database, &self.name).await? else {
                return Ok(Own::Unregistered);
            };
            let standing = router::standing(&self.database, host.id).await?;
            Ok::<_, qvd_db::Error>(standing.map_or(Own::Unregistered, |s| Own::Registered(host, s)))
        };
        let own = read.await.unwrap_or_else(|error| {
            warn!("cannot read the own host: {error}");
            Own::Away
        });
        self.own.store(Arc::new(own));
    }

    /// TLS for a new connection; `None` if it is off.
    pub(crate) fn tls(&self) -> Option<ServerTls> {
        (**self.tls.load()).clone()
    }

    /// Takes new certificates into use; broken ones are reported and the old ones stay.
    pub(crate) async fn reload_tls(&self) {
        match settings::tls(&self.config.now(), &self.database).await {
            Ok(tls) => {
                let shown = |tls: Option<&ServerTls>| tls.map(|t| t.fingerprint().to_owned());
                let (old, new) = (shown((**self.tls.load()).as_ref()), shown(tls.as_ref()));
                if old != new {
                    info!(fingerprint = new, "new certificate in use");
                }
                self.tls.store(Arc::new(tls));
            }
            Err(error) => warn!("TLS stays as it is: {error}"),
        }
    }

    pub(crate) fn actor(&self) -> Actor {
        Actor::router(&self.name)
    }

    /// A place among the connections that have not logged in yet, unless there are too many.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Waiting> {
        let (most, most_here) = (
            self.most("internal.l7r.connections.waiting"),
            self.most("internal.l7r.connections.per_address"),
        );
        let mut places = self.places();
        let here = places.addresses.get(&address).copied().unwrap_or(0);
        if places.asking >= most || here >= most_here {
            return None;
        }
        places.asking = places.asking.saturating_add(1);
        places.addresses.insert(address, here.saturating_add(1));
        Some(Waiting { router: self.clone(), address, lined_up: false })
    }

    fn most(&self, key: &str) -> u32 {
        self.config.now().int::<u32>(key).unwrap_or(u32::MAX)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the end of a session, however long the database is away; resolves after at most a second.
    pub(crate) async fn release(self: &Arc<Self>, session: Session, ending: Ending) {
        let router = self.clone();
        let writing = self.connections.spawn(async move {
            while let Err(error) = router::release(&router.database, &session, &ending).await {
                warn!(vm = session.vm.0, "the end of the session is not written yet: {error}");
                tokio::select! {
                    () = tokio::time::sleep(RELEASE_PAUSE) => {}
                    () = router.ending.cancelled() => return,
                }
            }
        });
        // Whoever takes longer goes on by itself and is waited for at the end.
        let _ = tokio::time::timeout(RELEASE_PAUSE, writing).await;
    }
}

/// Connections that have not logged in yet.
#[derive(Debug, Default)]
struct Places {
    /// Those that have not said yet who they are.
    asking: u32,
    /// Those that wait for their password to be checked. They take no place from the others, of whom many may need no
    /// check: those who come back with a ticket.
    lined_up: u32,
    /// All of them by address.
    addresses: HashMap<IpAddr, u32>,
}

/// A place among the connections that have not logged in yet.
pub(crate) struct Waiting {
    router: Arc<Router>,
    address: IpAddr,
    lined_up: bool,
}

impl Waiting {
    /// Lines up for the check of a password, unless too many have.
    pub(crate) fn line_up(&mut self) -> bool {
        let most = self.router.most("internal.l7r.connections.waiting");
        let mut places = self.router.places();
        if !self.lined_up && places.lined_up < most {
            places.asking = places.asking.saturating_sub(1);
            places.lined_up = places.lined_up.saturating_add(1);
            self.lined_up = true;
        }
        self.lined_up
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut places = self.router.places();
        let place = if self.lined_up { &mut places.lined_up } else { &mut places.asking };
        *place = place.saturating_sub(1);
        if let Some(count) = places.addresses.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                places.addresses.remove(&self.address);
            }
        }
    }
}
