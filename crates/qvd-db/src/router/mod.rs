//! What the router reads and writes: who may come in, whose VM it is, and which client has it.

mod identity;
mod sessions;
mod tickets;
mod vms;

pub use identity::{Tenant, Token, User, replace_password, tenant, token, user};
pub use sessions::{
    Claim, Contender, Ending, Kept, Session, claim, establish, forget_dead, kept, release, seize, take_over,
};
pub use tickets::{NewTicket, Refused, Return, redeem};
pub use vms::{
    Counters, Desktop, Listed, Place, Standing, count, desktop, parameters, standing, versions, vms_of,
};

use crate::Sql;

/// Statements of these modules.
pub(crate) fn statements() -> impl Iterator<Item = Sql> {
    [identity::ALL, sessions::ALL, tickets::ALL, vms::ALL].into_iter().flatten().copied()
}
