//! SimpleRPC: how router and node talk to the agent of a desktop (`spec/protocol.md` 7.1).
//!
//! A call is `GET /vma/<method>?<name>=<value>&…`. The reply is 200 even for errors of the method: its body
//! is one JSON value, or an empty string and a message. Any other status is about the call itself. Heads are
//! those of [`crate::http`].

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::as_conversions))]

mod call;
mod reply;
mod view;

pub use call::{Call, LIMITS, Request};
pub use reply::{MalformedReply, Reply, failure_of};
pub use view::{NoUpgrade, View};

/// Where methods live.
const BASE: &str = "/vma/";

/// Longest body of a reply.
pub const MAX_BODY: usize = 64 * 1024;
