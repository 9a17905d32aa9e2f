//! From arguments to a desktop.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use qvd_connect::{
    Comeback, ConnectError, Credentials, EndReason, Ending, Pins, ProxySettings, Router, Screen, Server,
    SessionWishes, Trust, show,
};
use zeroize::Zeroizing;

use crate::arguments::Arguments;
use crate::ask::{self, Decision};
use crate::choice;
use crate::failure::Failure;

/// How long a client whose session has ended waits to hear why.
const REASON_LIMIT: Duration = Duration::from_secs(10);

/// Does what the arguments say, until the session has ended.
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let credentials = credentials(arguments).await?;
    let mut trust = trust(arguments)?;
    for _ in 0..if arguments.twice && !arguments.list { 2 } else { 1 } {
        session(arguments, &credentials, &mut trust).await?;
    }
    Ok(())
}

async fn session(arguments: &Arguments, credentials: &Credentials, trust: &mut Trust) -> Result<(), Failure> {
    let server = Server { host: arguments.host.clone(), port: arguments.port };
    let mut router = open(&server, credentials, trust).await?;
    let vms = router.vms().await?;
    if arguments.list {
        choice::print(&vms);
        return Ok(());
    }
    let vm = choice::choose(arguments, &vms).await?;
    // Before anything starts for a screen that is not there.
    let screen = Screen::open(&std::env::var("DISPLAY").unwrap_or_default())?;
    let mut progress = |text: &str| eprintln!("{text}");
    if arguments.restart {
        router.stop(vm, &mut progress).await?;
    }
    let limit = Duration::from_secs(arguments.reconnect);
    let wishes = SessionWishes {
        link: arguments.link.clone(),
        keyboard: arguments.keyboard.clone(),
        geometry: arguments.geometry.clone(),
        fullscreen: arguments.fullscreen,
        ticket: !limit.is_zero(),
    };
    let mut link = router.connect(vm, &wishes, &mut progress).await?;
    let proxy = ProxySettings {
        program: PathBuf::from("nxproxy"),
        options: arguments.nx.clone().map(|options| options.0).unwrap_or_default(),
        verbose: arguments.debug,
    };
    loop {
        let (session, ticket) = (link.session.clone(), link.ticket.take());
        let ending = show(link, &screen, &proxy).await?;
        if let (Ending::LinkEnded(said), Some(ticket)) = (&ending, ticket) {
            progress(&format!("The connection was lost ({said}); trying to come back ..."));
            let comeback = Comeback { server: &server, credentials, trust, vm, wishes: &wishes, limit };
            if let Some(back) = comeback.run(ticket, &mut progress).await? {
                progress("The connection is back.");
                link = back;
                continue;
            }
        }
        if let Ending::ProxyFailed(said) = ending {
            return Err(Failure::Proxy(said));
        }
        let reason = match session {
            Some(session) => reason(&server, credentials, trust, &session).await,
            None => None,
        };
        return outcome(ending, reason);
    }
}

/// How it ended, by what was seen here and what the router says.
fn outcome(ending: Ending, reason: Option<EndReason>) -> Result<(), Failure> {
    match (reason, ending) {
        (None | Some(EndReason::Left | EndReason::LinkLost), Ending::LinkEnded(said)) => {
            Err(Failure::LinkEnded(said))
        }
        (None | Some(EndReason::Left | EndReason::LinkLost), _) => Ok(()),
        (Some(reason), _) => Err(Failure::Ended(reason)),
    }
}

/// Why the router ended the session; `None` if nobody can tell. Nobody is asked about certificates again.
async fn reason(
    server: &Server,
    credentials: &Credentials,
    trust: &Trust,
    session: &str,
) -> Option<EndReason> {
    let asking = async {
        let mut router = Router::open(server.clone(), credentials.clone(), trust).await?;
        router.end_of(session).await
    };
    // A router that cannot be asked leaves the user with what the client saw itself.
    let answer: Result<_, ConnectError> = tokio::time::timeout(REASON_LIMIT, asking).await.ok()?;
    answer.ok().flatten().map(|end| end.reason)
}

/// Connects, and asks about the certificate where somebody can answer.
async fn open(server: &Server, credentials: &Credentials, trust: &mut Trust) -> Result<Router, Failure> {
    loop {
        let problem = match Router::open(server.clone(), credentials.clone(), trust).await {
            Ok(router) => return Ok(router),
            Err(ConnectError::Certificate(problem)) if problem.doubt.is_some() && ask::somebody() => problem,
            Err(error) => return Err(error.into()),
        };
        match ask::certificate(&problem).await {
            Decision::Refuse => return Err(ConnectError::Certificate(problem).into()),
            Decision::AcceptOnce => drop(trust.pins.accept_once(&problem)),
            Decision::Remember => {
                let path = directory().join("pins").display().to_string();
                trust.pins.remember(&problem).map_err(|source| Failure::Pins { path, source })?;
            }
        }
    }
}

async fn credentials(arguments: &Arguments) -> Result<Credentials, Failure> {
    if let Some(token) = &arguments.bearer {
        // Existing clients take it in the form in which it travels; a bare token is understood as well.
        let standard = &base64::engine::general_purpose::STANDARD;
        let token = standard.decode(token.0.trim()).unwrap_or_else(|_| token.0.as_bytes().to_vec());
        return Ok(Credentials::Bearer { token: Zeroizing::new(token) });
    }
    let user = choice::who(arguments);
    let password = match &arguments.password {
        Some(password) => password.0.clone(),
        None if ask::somebody() => {
            let question = format!("Password of {user} at {}: ", arguments.host);
            ask::password(question).await.ok_or_else(|| Failure::NoPassword { user: user.clone() })?
        }
        None => return Err(Failure::NoPassword { user }),
    };
    let password = Zeroizing::new(password.as_bytes().to_vec());
    Ok(Credentials::Basic { login: user.into_bytes(), password })
}

fn trust(arguments: &Arguments) -> Result<Trust, Failure> {
    let directory = directory();
    let path = directory.join("pins");
    let pins =
        Pins::load(&path).map_err(|source| Failure::Pins { path: path.display().to_string(), source })?;
    let mut trust = Trust::new(&directory.join("certs"), pins)?;
    trust.anybody = arguments.no_check;
    if let (Some(certificate), Some(key)) = (&arguments.certificate, &arguments.key) {
        trust.identify(certificate, key)?;
    }
    Ok(trust)
}

/// The user's directory of QVD.
fn directory() -> PathBuf {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    PathBuf::from(home.unwrap_or_else(|| "/".into())).join(".qvd")
}
