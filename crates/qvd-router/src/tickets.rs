//! Tickets: a client that asks for one when it connects comes back with it after it lost the connection, once, without a
//! password, and gets another one.
//!
//! So nobody has to keep a password for that, and thousands who come back at once when a router has died wait for no
//! password hash. A ticket opens the VM that it was given for and nothing else, and is stored as a digest. It ends with its
//! time (`l7r.ticket.lifetime`), when its client leaves or is told to, when another client has the VM, and by triggers of
//! the database when the VM stops, the password changes, or user or tenant are blocked.

use qvd_auth::{fresh_ticket, token_digest};
use qvd_db::router::{NewTicket, Return};
use qvd_model::event::EndReason;
use qvd_runtime::Values;
use qvd_wire::http::{Reply, Request, TICKET, TICKET_WANTED};
use zeroize::Zeroizing;

use crate::login::Identity;
use crate::refusal;

/// A ticket for a client. `Debug` hides it.
#[derive(Clone)]
pub(crate) struct Ticket {
    text: Zeroizing<String>,
    digest: Box<str>,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticket(…)")
    }
}

impl Ticket {
    pub(crate) fn fresh() -> Self {
        let text = fresh_ticket();
        Self { digest: token_digest(text.as_bytes()).into(), text }
    }

    /// As it is stored.
    pub(crate) fn row(&self, seconds: i32, parameters: Option<i32>) -> NewTicket {
        NewTicket { digest: self.digest.to_string(), seconds, parameters }
    }

    /// What the client gets.
    pub(crate) fn field(&self) -> (&'static str, String) {
        (TICKET, self.text.to_string())
    }

    pub(crate) fn digest(&self) -> Box<str> {
        self.digest.clone()
    }
}

/// How long tickets are good for; `None` where there are none.
pub(crate) fn lifetime(values: &Values) -> Result<Option<i32>, Reply> {
    let seconds = values.int::<i32>("l7r.ticket.lifetime");
    let seconds = seconds.map_err(|error| refusal::internal(&refusal::of_config(&error)))?;
    Ok((seconds > 0).then_some(seconds))
}

/// The ticket that a client gets if it reaches its desktop, and what becomes of those there were.
pub(crate) fn give(
    values: &Values,
    request: &Request,
    identity: &Identity,
) -> Result<(Option<Ticket>, Return), Reply> {
    let none = (None, Return::Password);
    if !is_wanted(request) {
        return Ok(none);
    }
    if let Some(renewed) = &identity.ticket {
        return Ok((Some(renewed.clone()), Return::Renewed));
    }
    let Some(seconds) = lifetime(values)? else { return Ok(none) };
    let ticket = Ticket::fresh();
    let row = ticket.row(seconds, identity.parameters_id);
    Ok((Some(ticket), Return::Ticket(row)))
}

/// Adds to a refusal what the client may try again with: the ticket that it came with is gone.
pub(crate) fn renew(request: &Request, identity: Option<&Identity>, reply: Reply) -> Reply {
    let renewed = identity.and_then(|identity| identity.ticket.as_ref());
    match renewed.filter(|_| is_wanted(request)) {
        Some(ticket) => {
            let (name, value) = ticket.field();
            reply.field(name, value)
        }
        None => reply,
    }
}

fn is_wanted(request: &Request) -> bool {
    request.headers.text(TICKET).is_some_and(|value| value == TICKET_WANTED)
}

/// Whether a client whose session has ended so may no longer come back with its ticket. A client that displaced itself
/// has a newer one by then.
pub(crate) fn ends_with(reason: EndReason) -> bool {
    !reason.is_interruption()
}
