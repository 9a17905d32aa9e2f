//! Coming back to a desktop whose connection was lost.

use std::time::Duration;

use qvd_wire::http::Credentials;
use rand::Rng;
use tokio::time::Instant;

use crate::error::ConnectError;
use crate::router::{Link, Router, Server, SessionWishes};
use crate::ticket::Ticket;
use crate::trust::Trust;

/// The longest pause before the first attempt, so that not everybody whose router died comes in the same moment.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause before any other.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The desktop that was lost, and all that is needed to come back to it.
#[derive(Debug)]
pub struct Comeback<'a> {
    /// The router.
    pub server: &'a Server,
    /// What the user logged in with.
    pub credentials: &'a Credentials,
    /// Whom to believe; nobody is asked about certificates again.
    pub trust: &'a Trust,
    /// The VM.
    pub vm: i32,
    /// What the client wants of its session.
    pub wishes: &'a SessionWishes,
    /// How long to try.
    pub limit: Duration,
}

/// What an attempt logs in with.
#[derive(Debug, PartialEq, Eq)]
enum Pass {
    /// A ticket that nobody else can have used.
    Ticket(Ticket),
    /// One that the router may have taken although its answer did not arrive.
    Doubtful(Ticket),
    /// The user's own login. A ticket that is refused for good means that somebody else has the desktop, that it was
    /// stopped, or that the user may not come any more: only one that was doubtful leads here.
    Login,
}

impl Comeback<'_> {
    /// Tries until the desktop is there. `None`: time is over, or the ticket is no longer good.
    ///
    /// # Errors
    /// What trying again does not help against.
    pub async fn run(
        &self,
        ticket: Ticket,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Option<Link>, ConnectError> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut pass = Pass::Ticket(ticket);
        loop {
            let wait = pause.mul_f64(rand::rng().random_range(0.0..1.0));
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let failed = match Router::open(self.server.clone(), self.login(&pass), self.trust).await {
                Ok(router) => match router.connect(self.vm, self.wishes, progress).await {
                    Ok(link) => return Ok(Some(link)),
                    Err(error) => match pass.after(&error) {
                        Some(next) => {
                            pass = next;
                            error
                        }
                        None if matches!(error, ConnectError::LoginRejected { .. }) => return Ok(None),
                        None => return Err(error),
                    },
                },
                Err(error) if error.passes() => error,
                Err(error) => return Err(error),
            };
            tracing::debug!("not back yet: {failed}");
            if begun.elapsed() >= self.limit {
                return Ok(None);
            }
        }
    }

    fn login(&self, pass: &Pass) -> Credentials {
        match pass {
            Pass::Ticket(ticket) | Pass::Doubtful(ticket) => ticket.credentials(),
            Pass::Login => self.credentials.clone(),
        }
    }
}

impl Pass {
    /// What to try with after the router has said no, or nothing; `None` if it is not worth it.
    fn after(self, error: &ConnectError) -> Option<Self> {
        match (self, error) {
            (Self::Doubtful(_), ConnectError::LoginRejected { .. }) => Some(Self::Login),
            (_, error) if !error.passes() => None,
            (_, ConnectError::Refused { ticket: Some(new), .. }) => Some(Self::Ticket(new.clone())),
            (Self::Ticket(ticket) | Self::Doubtful(ticket), _) => Some(Self::Doubtful(ticket)),
            (Self::Login, _) => Some(Self::Login),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, ticket: Option<Ticket>) -> ConnectError {
        ConnectError::Refused { vm: 1, status, text: String::new(), ticket }
    }

    #[test]
    fn only_a_ticket_that_may_be_spent_leads_to_the_login() {
        let (old, new) = (Ticket::from("old"), Ticket::from("new"));
        let rejected = ConnectError::LoginRejected { server: String::new() };
        let lost = ConnectError::Lost { server: String::new(), detail: String::new() };
        let fresh = || Pass::Ticket(old.clone());
        let doubtful = || Pass::Doubtful(old.clone());
        assert_eq!(fresh().after(&rejected), None);
        assert_eq!(doubtful().after(&rejected), Some(Pass::Login));
        assert_eq!(Pass::Login.after(&rejected), None);
        // Whatever was lost on its way may have been taken.
        assert_eq!(fresh().after(&lost), Some(doubtful()));
        assert_eq!(fresh().after(&refused(503, None)), Some(doubtful()));
        assert_eq!(Pass::Login.after(&lost), Some(Pass::Login));
        // A router that refuses and renews leaves no doubt.
        let renewed = refused(503, Some(new.clone()));
        assert_eq!(fresh().after(&renewed), Some(Pass::Ticket(new.clone())));
        assert_eq!(doubtful().after(&renewed), Some(Pass::Ticket(new.clone())));
        for pass in [fresh(), doubtful(), Pass::Login] {
            assert_eq!(pass.after(&refused(403, Some(new.clone()))), None);
        }
    }
}
