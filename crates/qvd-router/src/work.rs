//! What the machine of a connect asks for, carried out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use qvd_db::events::Actor;
use qvd_db::placement::{self, Refusal};
use qvd_db::router::{self, Claim, Contender, Desktop, Place, Return, Session};
use qvd_logic::session::{Effect, Event, Row};
use qvd_model::{Failure, FailureCode, VmCommand};
use qvd_relay::link;
use qvd_rpc::Agent;
use secrecy::SecretString;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::refusal;
use crate::router::Router;
use crate::tickets::Ticket;

/// Everything that a connect needs besides its client.
pub(crate) struct Work {
    pub(crate) router: Arc<Router>,
    pub(crate) session: Session,
    pub(crate) actor: Actor,
    /// Consumed when the session is established.
    pub(crate) token: Option<SecretString>,
    /// With what the client may come back.
    pub(crate) ticket: Option<Ticket>,
    /// What is written about that.
    pub(crate) comes_back: Return,
    /// What the client and its plug-ins say to the desktop.
    pub(crate) parameters: Parameters,
    /// `internal.l7r.timeout.vma`.
    pub(crate) call_limit: Duration,
    /// The VM as it was when the session was acquired, and the version of its row.
    pub(crate) acquired: Option<(Box<Desktop>, i64)>,
    /// Where the desktop is.
    pub(crate) place: Option<Place>,
    /// The connection to the desktop.
    pub(crate) desktop: Option<TcpStream>,
    /// The session that has the VM, and since when its router is known to be told to let go.
    pub(crate) contender: Option<(Contender, Instant)>,
}

/// A router that is told to let go of a session does so at once, unless it does not live or cannot hear.
const PATIENCE: Duration = Duration::from_secs(2);

/// The parameters of a session by origin; later origins win (`spec/protocol.md` 5).
pub(crate) struct Parameters {
    pub(crate) client: Vec<(String, String)>,
    pub(crate) host_address: String,
    pub(crate) plugins: Vec<(String, String)>,
    pub(crate) slave_key: String,
}

impl Work {
    /// Carries an effect out; `None` if nothing came of it that the machine waits for. May be dropped at any
    /// point: the session is released by its id.
    pub(crate) async fn perform(&mut self, effect: &Effect) -> Result<Option<Event>, Failure> {
        let database = &self.router.database;
        let event = match effect {
            Effect::Claim => self.claim().await?,
            Effect::ForgetOrphan => {
                self.forget_orphan().await?;
                return Ok(None);
            }
            Effect::TakeOver => {
                let told = router::take_over(database, &self.session).await;
                return told.map(|_| None).map_err(|e| refusal::of_database(&e));
            }
            Effect::ReadRow => self.read().await?,
            Effect::OrderStart => self.order().await?,
            Effect::RevokeStart => {
                self.revoke().await;
                return Ok(None);
            }
            Effect::StartX => self.start_x().await?,
            Effect::AskX => match self.agent()?.x_state(self.call_limit).await {
                Ok(state) => Event::XIs(state),
                Err(error) => Event::XSilent(error.failure()),
            },
            Effect::AskWhy => Event::XFailed(self.why().await?),
            Effect::Link => self.link().await,
            Effect::Establish => {
                let established =
                    router::establish(database, &self.session, self.token.as_ref(), &self.comes_back).await;
                Event::Established(established.map_err(|e| refusal::of_database(&e))?)
            }
            // These are the client's side.
            Effect::Switch | Effect::Tell(_) | Effect::Fail(_) => return Ok(None),
        };
        Ok(Some(event))
    }

    async fn claim(&mut self) -> Result<Event, Failure> {
        match router::claim(&self.router.database, &self.session).await {
            Ok(Claim::Acquired(desktop, version)) => {
                self.acquired = Some((desktop, version));
                Ok(Event::Acquired)
            }
            Ok(Claim::Gone) => Ok(Event::Gone),
            Ok(Claim::Contended(found)) => {
                let known = self.contender.take().filter(|(known, _)| *known == found);
                let (contender, since) = self.contender.insert(known.unwrap_or((found, Instant::now())));
                let here = contender.host == Some(self.session.host);
                let instance = contender.instance.as_deref().unwrap_or_default();
                let dead = here && !self.router.instance.lives(instance);
                Ok(Event::Contended { orphan: dead || since.elapsed() >= PATIENCE })
            }
            Err(error) => Err(refusal::of_database(&error)),
        }
    }

    /// Releases the session of a router that is dead, or deaf.
    async fn forget_orphan(&self) -> Result<(), Failure> {
        crate::watch::forget_dead(&self.router).await;
        let Some((contender, since)) = &self.contender else { return Ok(()) };
        if since.elapsed() < PATIENCE {
            return Ok(());
        }
        let seized = router::seize(&self.router.database, &self.session, contender.session).await;
        if seized.map_err(|e| refusal::of_database(&e))? {
            let host = contender.host.map_or(0, |host| host.0);
            tracing::warn!(vm = self.session.vm.0, host, "took the session from a router that did not react");
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<Event, Failure> {
        let desktop = match self.acquired.take() {
            Some((desktop, _)) => *desktop,
            None => self.read_row().await?,
        };
        let Desktop { state, command, step, failure, place, host_alive, .. } = desktop;
        let row = Row { state, command, placed: place.is_some(), step, failure, host_alive };
        self.place = place;
        Ok(Event::Row(row))
    }

    async fn read_row(&self) -> Result<Desktop, Failure> {
        let read = router::desktop(&self.router.database, self.session.vm).await;
        read.map_err(|e| refusal::of_database(&e))?.ok_or_else(|| {
            let text = format!("VM {} was deleted", self.session.vm);
            Failure::new(FailureCode::UnknownVm, text)
        })
    }

    async fn order(&self) -> Result<Event, Failure> {
        let policy = crate::settings::policy(&self.router.config.now());
        let policy = policy.map_err(|e| refusal::of_config(&e))?;
        let vm = self.session.vm;
        match placement::start_vm(&self.router.database, &self.actor, vm, &policy).await {
            // Somebody else was faster; the row will tell.
            Ok(_) | Err(Refusal::NotStopped { .. }) => Ok(Event::Ordered),
            Err(Refusal::Database(error)) => Err(refusal::of_database(&error)),
            Err(refused) => Ok(Event::Refused(refused.into())),
        }
    }

    async fn revoke(&self) {
        let desktop = router::desktop(&self.router.database, self.session.vm).await;
        if matches!(desktop, Ok(Some(d)) if d.command == Some(VmCommand::Start)) {
            let vm = self.session.vm;
            if let Err(error) = qvd_db::commands::stop_vm(&self.router.database, &self.actor, vm).await {
                tracing::warn!(vm = vm.0, "the start is not revoked: {error}");
            }
        }
    }

    fn agent(&self) -> Result<Agent, Failure> {
        let place = self.place.as_ref().ok_or_else(|| {
            Failure::new(FailureCode::Internal, format!("VM {} has no address", self.session.vm))
        })?;
        Ok(Agent::new(place.address, place.agent_port, place.secret.clone()))
    }

    async fn start_x(&self) -> Result<Event, Failure> {
        let properties = router::parameters(&self.router.database, self.session.vm).await;
        let bag = self.parameters.merged(properties.map_err(|e| refusal::of_database(&e))?);
        Ok(match self.agent()?.x_start(bag, self.call_limit).await {
            Ok(()) => Event::XAccepted,
            Err(error) => Event::XRefused(error.failure()),
        })
    }

    async fn why(&self) -> Result<Failure, Failure> {
        let known = self.agent()?.x_failure(self.call_limit).await.ok().flatten();
        Ok(known.unwrap_or_else(|| {
            let text = format!("the X session of VM {} ended while it was starting", self.session.vm);
            Failure::new(FailureCode::XSessionFailed, text)
        }))
    }

    async fn link(&mut self) -> Event {
        let Some(place) = &self.place else { return Event::NotLinked("no address".to_owned()) };
        let port = SocketAddr::new(place.address, place.x_port);
        self.router.counting.add(|c| c.nx_attempts += 1);
        let connecting = async {
            let stream = TcpStream::connect(port).await?;
            link::tune(&stream, link::SILENCE)?;
            Ok::<_, std::io::Error>(stream)
        };
        match timeout(self.call_limit, connecting).await {
            Ok(Ok(stream)) => {
                self.router.counting.add(|c| c.nx_ok += 1);
                self.desktop = Some(stream);
                Event::Linked
            }
            Ok(Err(error)) => Event::NotLinked(format!("the X session at {port} takes no link: {error}")),
            Err(_) => Event::NotLinked(format!("the X session at {port} does not answer")),
        }
    }
}

impl Parameters {
    fn merged(&self, properties: Vec<(String, String)>) -> Vec<(String, String)> {
        let host = [("host_address".to_owned(), self.host_address.clone())];
        let key = [("qvd.slave.key".to_owned(), self.slave_key.clone())];
        let all = self.client.iter().cloned().chain(host).chain(properties);
        let mut bag: Vec<(String, String)> = Vec::new();
        for (name, value) in all.chain(self.plugins.iter().cloned()).chain(key) {
            match bag.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => bag.push((name, value)),
            }
        }
        bag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn properties_override_clients_and_plugins_override_properties() {
        let parameters = Parameters {
            client: vec![pair("qvd.client.link", "lan"), pair("qvd.client.os", "linux")],
            host_address: "10.0.0.1".to_owned(),
            plugins: vec![pair("qvd.vm.user.name", "joe")],
            slave_key: "k".to_owned(),
        };
        let bag = parameters.merged(vec![pair("qvd.client.link", "adsl"), pair("qvd.vm.user.name", "x")]);
        assert_eq!(
            bag,
            [
                pair("qvd.client.link", "adsl"),
                pair("qvd.client.os", "linux"),
                pair("host_address", "10.0.0.1"),
                pair("qvd.vm.user.name", "joe"),
                pair("qvd.slave.key", "k"),
            ]
        );
    }
}
