//! The HTTP/1.1 dialect of the desktop port and of the agent (`spec/protocol.md` 2, 3.1, 4).
//!
//! Existing clients need exact-case names, heads in one piece, bare line feeds and `102` answers, which HTTP
//! libraries do not give; so both sides are written here. No I/O: parsers are fed bytes as they come and
//! never hold more than their limits, writers return the bytes of one write.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::as_conversions))]

mod client;
mod credentials;
mod ending;
mod headers;
mod lines;
mod query;
mod request;
mod response;
mod vms;

pub use client::{Answer, Get, ResponseError, ResponseHead, ResponseParser};
pub use credentials::{Credentials, auth_variables};
pub use ending::{SessionEnd, decode_end, encode_end};
pub use headers::Headers;
pub use query::{Query, decode_component, encode_component};
pub use request::{Limits, Method, Request, RequestError, RequestParser, Version};
pub use response::{Reply, SlaveKey, Status, interim, progress, switching};
pub use vms::{VmEntry, VmList, decode_vms, encode_vms};

/// The value of `Upgrade` that turns a connection into the raw NX stream.
pub const UPGRADE_QVD: &str = "QVD/1.0";
/// Response header that carries a progress message.
pub const VM_INFO: &str = "X-QVD-VM-Info";
/// Response header that carries what an agent is doing.
pub const VMA_INFO: &str = "X-QVD-VMA-Info";
/// Response header that carries the code of a failure (`qvd_model::FailureCode`). Ours; others ignore it.
pub const FAILURE: &str = "X-QVD-Failure";
/// Response header that carries the key of the slave channel.
pub const SLAVE_KEY: &str = "X-QVD-Slave-Key";
/// Response header of a `101` that carries the session's number, with which its client may ask afterwards why the
/// session ended: `GET` [`SESSION_END`]`?id=NUMBER`. Ours; others ignore it.
pub const SESSION: &str = "X-QVD-Session";
/// Header of a request to connect with the value [`TICKET_WANTED`]: the client wants a ticket, with which it comes back
/// after it lost the connection, in place of a password. In the answer the ticket itself, good for one request to connect
/// to the same VM as `Authorization: Bearer`. Ours; who does not ask gets none.
pub const TICKET: &str = "X-QVD-Ticket";
/// See [`TICKET`].
pub const TICKET_WANTED: &str = "wanted";
/// Path of the question why a session ended. Whoever knows the number may ask.
pub const SESSION_END: &str = "/qvd/session_end";

/// Text out of bytes of unknown encoding: UTF-8 where it is, else Latin-1 (`spec/protocol.md` 3.1).
pub fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    }
}
