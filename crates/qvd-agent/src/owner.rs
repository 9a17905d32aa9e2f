//! The task that owns the session: one at a time, as everything about it happens in order here.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use qvd_model::{Failure, FailureCode, SessionState};
use qvd_nx::housekeeper;
use qvd_runtime::Drain;
use qvd_wire::nx::ClientValues;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::gate::{Gate, Ticket};
use crate::hooks::{self, Moment};
use crate::launch::{LaunchError, Session};
use crate::leftover;
use crate::machine::{Effect, Event, Refused, State};
use crate::parameters::Parameters;
use crate::prepare::{self, Answer, Outcome};
use crate::provision::Wanted;
use crate::settings::Settings;
use crate::watch::Watch;

/// When the X server is woken after a signal: at once, and again in case it was busy starting.
const WAKE_UPS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(2)];

/// What routers and nodes ask of the session.
#[derive(Debug)]
pub(crate) enum Ask {
    /// A session for a client of `caller`.
    Start(Box<Start>),
    /// The session shall let go of its client; answered with whether that was possible.
    Suspend(oneshot::Sender<bool>),
    /// The session shall end; answered with whether there was one.
    Stop(oneshot::Sender<bool>),
    /// The session that can be seen, if there is one.
    See(oneshot::Sender<Option<Session>>),
}

/// A checked request for a session.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) caller: IpAddr,
    pub(crate) parameters: Parameters,
    pub(crate) client: ClientValues,
    pub(crate) wanted: Wanted,
    pub(crate) answer: Answer,
}

/// What everybody may know about the session.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) state: SessionState,
    /// Why the last session did not come up.
    pub(crate) failure: Option<Failure>,
}

/// Who the present or coming client is.
struct Client {
    peer: IpAddr,
    parameters: Parameters,
    values: ClientValues,
}

pub(crate) struct Owner {
    settings: Arc<Settings>,
    state: State,
    status: watch::Sender<Status>,
    deadline: Option<Instant>,
    gate: Gate,
    events: mpsc::Sender<Event>,
    outcomes: mpsc::Sender<Outcome>,
    moments: mpsc::Sender<Moment>,
    drain: Drain,
    request: Option<Box<Start>>,
    client: Option<Client>,
    preparation: Option<AbortHandle>,
    waking: Option<AbortHandle>,
    hastening: Option<AbortHandle>,
    session: Option<Session>,
    watch: Option<Watch>,
    server: Option<Child>,
    desktop: Option<Child>,
}

/// The ends of the channels that the owner reads.
pub(crate) struct Inbox {
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) events: mpsc::Receiver<Event>,
    outcomes: mpsc::Receiver<Outcome>,
}

impl Owner {
    pub(crate) fn new(
        settings: Arc<Settings>,
        gate: Gate,
        asks: mpsc::Receiver<Ask>,
        drain: Drain,
    ) -> (Self, Inbox, watch::Receiver<Status>) {
        let (events, event_inbox) = mpsc::channel(16);
        let (outcomes, outcome_inbox) = mpsc::channel(1);
        let (moments, moment_inbox) = mpsc::channel(64);
        let (status, seen) = watch::channel(Status { state: SessionState::Stopped, failure: None });
        drain.spawn(run_moments(settings.clone(), moment_inbox));
        let owner = Self {
            settings,
            state: State::Stopped,
            status,
            deadline: None,
            gate,
            events,
            outcomes,
            moments,
            drain,
            request: None,
            client: None,
            preparation: None,
            waking: None,
            hastening: None,
            session: None,
            watch: None,
            server: None,
            desktop: None,
        };
        (owner, Inbox { asks, events: event_inbox, outcomes: outcome_inbox }, seen)
    }

    /// Where the gate tells of its peer.
    pub(crate) fn events(&self) -> mpsc::Sender<Event> {
        self.events.clone()
    }

    /// Owns the session until the service stops, which ends it.
    pub(crate) async fn run(mut self, mut inbox: Inbox) {
        leftover::end(&self.settings).await;
        self.moment(hooks::DISCONNECTED);
        let mut stopping = false;
        while !(stopping && self.state == State::Stopped) {
            tokio::select! {
                Some(ask) = inbox.asks.recv() => self.asked(ask),
                Some(event) = inbox.events.recv() => self.happened(event),
                Some(outcome) = inbox.outcomes.recv() => self.prepared(outcome),
                event = changed(&mut self.watch) => self.happened(event),
                status = ended(&mut self.server) => {
                    info!("the X server ended: {status}");
                    self.server = None;
                    self.happened(Event::Exited);
                }
                status = ended(&mut self.desktop) => {
                    info!("the desktop ended: {status}");
                    self.desktop = None;
                    self.happened(Event::DesktopExited);
                }
                () = sleep_until(self.deadline) => {
                    warn!("the session has been {} for too long", self.state.public());
                    self.deadline = None;
                    self.happened(Event::Late);
                }
                () = self.drain.stopping(), if !stopping => {
                    stopping = true;
                    self.happened(Event::Stop);
                }
            }
        }
    }

    fn asked(&mut self, ask: Ask) {
        // Somebody who stopped waiting for the answer does not need it.
        match ask {
            Ask::Start(request) => self.start(request),
            Ask::Suspend(answer) => drop(answer.send(self.step(Event::Suspend).is_ok())),
            Ask::Stop(answer) => drop(answer.send(self.step(Event::Stop).is_ok())),
            Ask::See(answer) => {
                let seen = matches!(self.state, State::Connected | State::Suspended);
                drop(answer.send(self.session.clone().filter(|_| seen)));
            }
        }
    }

    fn start(&mut self, request: Box<Start>) {
        if self.drain.token().is_cancelled() {
            let leaving = Failure::new(FailureCode::Cancelled, "the agent is stopping");
            return drop(request.answer.send(Err(leaving)));
        }
        self.request = Some(request);
        let busy = match self.step(Event::Start) {
            Ok(()) => return,
            Err(Refused) if self.state == State::Connected => {
                self.happened(Event::Displace);
                "another client is connected; suspending it, retry later".to_owned()
            }
            Err(Refused) => format!("unable to start or resume a session that is {}", self.state.public()),
        };
        if let Some(request) = self.request.take() {
            let failure = Failure::new(FailureCode::AgentFailed, busy);
            drop(request.answer.send(Err(failure)));
        }
    }

    fn prepared(&mut self, outcome: Outcome) {
        self.preparation = None;
        match outcome {
            Outcome::Resume => self.happened(Event::Ready),
            Outcome::Failed(failure) => self.fail(failure),
            Outcome::Start(account) => {
                let Some(client) = &self.client else { return };
                match Session::new(&self.settings, account, client.parameters.clone()) {
                    Ok(session) => {
                        self.session = Some(session);
                        self.happened(Event::Ready);
                    }
                    Err(error) => self.fail(launch_failure(&error)),
                }
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        warn!("no session: {failure}");
        self.status.send_modify(|status| status.failure = Some(failure));
        self.happened(Event::Failed);
    }

    /// An event that nobody waits for.
    fn happened(&mut self, event: Event) {
        // What makes no sense now is too late; the machine says so for requests only.
        let _ = self.step(event);
    }

    fn step(&mut self, event: Event) -> Result<(), Refused> {
        let (next, effects) = self.state.step(event)?;
        if next != self.state {
            info!("session: {:?} by {event:?} to {next:?}", self.state);
            self.state = next;
            self.deadline = next.limit().map(|limit| Instant::now() + self.settings.limit(limit));
            self.status.send_modify(|status| status.state = next.public());
        }
        for effect in effects {
            if let Err(failure) = self.act(effect) {
                self.fail(failure);
                break;
            }
        }
        Ok(())
    }

    fn act(&mut self, effect: Effect) -> Result<(), Failure> {
        match effect {
            Effect::Prepare | Effect::Wake => self.prepare(),
            Effect::Abandon => self.preparation.take().iter().for_each(AbortHandle::abort),
            Effect::Launch => self.launch()?,
            Effect::Resume => self.resume()?,
            Effect::HangUp => self.signal(Signal::SIGHUP),
            Effect::Hasten => self.hasten(),
            Effect::Terminate => self.signal(Signal::SIGTERM),
            Effect::Kill => self.signal(Signal::SIGKILL),
            Effect::StartDesktop => self.start_desktop()?,
            Effect::OpenGate => self.open_gate(),
            Effect::CloseGate => self.gate.close(),
            Effect::Clear => self.clear(),
            Effect::SuspendHook => self.moment(hooks::SUSPEND),
            Effect::StateHook(SessionState::Connected) => self.moment(hooks::CONNECTED),
            Effect::StateHook(SessionState::Suspended) => self.moment(hooks::SUSPENDED),
            Effect::StateHook(_) => self.moment(hooks::DISCONNECTED),
        }
        Ok(())
    }

    fn prepare(&mut self) {
        let Some(request) = self.request.take() else { return };
        let Start { caller, parameters, client, wanted, answer } = *request;
        self.client = Some(Client { peer: caller, parameters: parameters.clone(), values: client });
        self.status.send_modify(|status| status.failure = None);
        let (settings, events, outcomes) =
            (self.settings.clone(), self.events.clone(), self.outcomes.clone());
        let resumed = self.session.is_some();
        let task = self.drain.spawn(async move {
            let outcome = if resumed {
                prepare::resume(&settings, &parameters, answer).await
            } else {
                prepare::start(&settings, &wanted, &parameters, answer, &events).await
            };
            // Without an owner there is no session to go on with.
            let _ = outcomes.send(outcome).await;
        });
        self.preparation = Some(task.abort_handle());
    }

    fn launch(&mut self) -> Result<(), Failure> {
        let (Some(session), Some(client)) = (&self.session, &self.client) else { return Ok(()) };
        leftover::unlock(&self.settings);
        session.write_options(&self.settings, &client.values).map_err(|e| launch_failure(&e))?;
        let directory = self.settings.session_directory();
        let watch = Watch::new(&directory, session.state_file(), session.link());
        self.watch = Some(watch.map_err(|e| Failure::new(FailureCode::AgentFailed, e.to_string()))?);
        self.server = Some(session.start_server(&self.settings).map_err(|e| launch_failure(&e))?);
        if let Some(pid) = pid(&self.server)
            && let Err(error) = leftover::remember(&self.settings, pid)
        {
            warn!("cannot remember the X server for a later agent: {error}");
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Failure> {
        self.hastening.take().iter().for_each(AbortHandle::abort);
        if let (Some(session), Some(client)) = (&self.session, &self.client) {
            session.write_options(&self.settings, &client.values).map_err(|e| launch_failure(&e))?;
        }
        self.signal(Signal::SIGHUP);
        Ok(())
    }

    fn start_desktop(&mut self) -> Result<(), Failure> {
        let Some(session) = &self.session else { return Ok(()) };
        match session.start_desktop(&self.settings) {
            Ok(desktop) => self.desktop = Some(desktop),
            Err(error) => {
                let failure = launch_failure(&error);
                warn!("no desktop: {failure}");
                self.status.send_modify(|status| status.failure = Some(failure));
                self.happened(Event::DesktopExited);
            }
        }
        Ok(())
    }

    fn open_gate(&self) {
        if let (Some(client), Some(session), Some(pid)) = (&self.client, &self.session, pid(&self.server)) {
            let (link, uid) = (session.link(), session.account.uid);
            self.gate.open(Ticket { peer: client.peer, link, uid, pid: pid.as_raw() });
        }
    }

    fn signal(&mut self, signal: Signal) {
        // An X server that was reaped has no pid any more, so nobody else can be hit.
        let Some(pid) = pid(&self.server) else { return };
        if let Err(error) = kill(pid, signal) {
            warn!("cannot send {signal} to the X server: {error}");
        }
        // nxagent looks at its signals before it sleeps, so one that comes in between waits for the next
        // event, perhaps for minutes when the desktop is idle. A connection is such an event. While it waits
        // for a client it looks at its link only; touching that ends a resume, so only the end may.
        let mut sockets = vec![PathBuf::from(format!("/tmp/.X11-unix/X{}", self.settings.display))];
        if let (Signal::SIGTERM, Some(session)) = (signal, &self.session) {
            sockets.push(session.link());
        }
        let waking = self.drain.spawn(async move {
            for pause in WAKE_UPS {
                tokio::time::sleep(pause).await;
                for socket in &sockets {
                    drop(UnixStream::connect(socket).await);
                }
            }
        });
        self.waking.replace(waking.abort_handle()).iter().for_each(AbortHandle::abort);
    }

    fn hasten(&mut self) {
        let (Some(server), Some(session)) = (pid(&self.server), &self.session) else { return };
        let hastening = self.drain.spawn(housekeeper::end(server, session.account.uid));
        self.hastening.replace(hastening.abort_handle()).iter().for_each(AbortHandle::abort);
    }

    fn clear(&mut self) {
        if let Some(group) = pid(&self.desktop) {
            // The desktop is a session leader, so its process group has its id; it may be gone already.
            let _ = killpg(group, Signal::SIGTERM);
        }
        if let Some(mut desktop) = self.desktop.take() {
            self.drain.spawn(async move {
                let limit = Duration::from_secs(5);
                if tokio::time::timeout(limit, desktop.wait()).await.is_err()
                    && let Some(group) = desktop.id().and_then(|id| i32::try_from(id).ok())
                {
                    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                    let _ = desktop.wait().await;
                }
            });
        }
        leftover::forget(&self.settings);
        self.waking.take().iter().for_each(AbortHandle::abort);
        self.hastening.take().iter().for_each(AbortHandle::abort);
        (self.session, self.watch, self.client, self.server) = (None, None, None, None);
    }

    fn moment(&self, moment: Moment) {
        if let Err(error) = self.moments.try_send(moment) {
            warn!("hook {} left out: {error}", moment.key);
        }
    }
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Runs hooks that nobody waits for, one after the other, in the order of what they tell.
async fn run_moments(settings: Arc<Settings>, mut moments: mpsc::Receiver<Moment>) {
    while let Some(moment) = moments.recv().await {
        let state: &[(&str, &str)] = match moment {
            hooks::SUSPEND => &[("qvd.vm.session.state", "connected")],
            _ => &[],
        };
        if let Err(error) = hooks::run(&settings, moment, &Parameters::default(), state).await {
            warn!("{error}");
        }
    }
}

fn launch_failure(error: &LaunchError) -> Failure {
    Failure::new(FailureCode::XSessionFailed, error.to_string())
}

fn pid(child: &Option<Child>) -> Option<Pid> {
    child.as_ref()?.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw)
}

async fn changed(watch: &mut Option<Watch>) -> Event {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn ended(child: &mut Option<Child>) -> String {
    match child {
        Some(child) => match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        },
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
