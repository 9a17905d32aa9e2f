//! Listening sockets that belong to the supervisor and outlive this process.

use std::collections::BTreeSet;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{getsockopt, sockopt};

/// The first descriptor that a supervisor passes.
const FIRST: RawFd = 3;

/// Why a passed socket cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the inherited socket `{name}` (descriptor {descriptor}) cannot be used: {problem}")]
pub struct InheritedError {
    name: String,
    descriptor: RawFd,
    problem: String,
}

static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Takes the listening socket that the supervisor passed under this name (`LISTEN_FDS`, `LISTEN_FDNAMES` and,
/// if set, `LISTEN_PID`); `None` if there is none, or it was taken before.
pub fn inherited(name: &str) -> Result<Option<OwnedFd>, InheritedError> {
    let variable = |key: &str| std::env::var(key).ok();
    let Some(descriptor) = passed(name, std::process::id(), variable) else { return Ok(None) };
    if !TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(descriptor) {
        return Ok(None);
    }
    take(descriptor).map(Some).map_err(|problem| InheritedError {
        name: name.to_owned(),
        descriptor,
        problem,
    })
}

/// The descriptor that the environment names.
fn passed(name: &str, pid: u32, variable: impl Fn(&str) -> Option<String>) -> Option<RawFd> {
    if variable("LISTEN_PID").is_some_and(|listed| listed.parse() != Ok(pid)) {
        return None;
    }
    let count: usize = variable("LISTEN_FDS")?.parse().ok()?;
    let names = variable("LISTEN_FDNAMES")?;
    let position = names.split(':').take(count).position(|listed| listed == name)?;
    RawFd::try_from(position).ok()?.checked_add(FIRST)
}

#[allow(unsafe_code, reason = "descriptors come as numbers in the environment")]
fn take(descriptor: RawFd) -> Result<OwnedFd, String> {
    // SAFETY: borrowed only to ask what it is; a number that is no open descriptor makes the call fail.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    match getsockopt(&borrowed, sockopt::AcceptConn) {
        Ok(true) => {}
        Ok(false) => return Err("it does not listen".to_owned()),
        Err(error) => return Err(format!("it is no socket: {error}")),
    }
    let flags = fcntl(borrowed, FcntlArg::F_GETFL).map_err(|e| e.to_string())?;
    let flags = OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK;
    fcntl(borrowed, FcntlArg::F_SETFL(flags)).map_err(|e| e.to_string())?;
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|e| e.to_string())?;
    // SAFETY: the supervisor passed this descriptor to us, it was just seen to be an open socket, and
    // `TAKEN` makes sure that nobody else in this process becomes its owner.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pid: Option<&str>, fds: &str, names: &str) -> impl Fn(&str) -> Option<String> {
        let values = [
            ("LISTEN_PID", pid.map(str::to_owned)),
            ("LISTEN_FDS", Some(fds.to_owned())),
            ("LISTEN_FDNAMES", Some(names.to_owned())),
        ];
        move |key| values.iter().find(|(name, _)| *name == key).and_then(|(_, value)| value.clone())
    }

    #[test]
    fn sockets_are_found_by_name() {
        assert_eq!(passed("api", 7, environment(Some("7"), "2", "l7r:api")), Some(4));
        assert_eq!(passed("api", 7, environment(None, "2", "l7r:api")), Some(4));
        assert_eq!(passed("api", 7, environment(Some("8"), "2", "l7r:api")), None);
        assert_eq!(passed("api", 7, environment(None, "1", "l7r:api")), None);
        assert_eq!(passed("web", 7, environment(None, "2", "l7r:api")), None);
    }

    #[test]
    fn only_listening_sockets_are_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let raw = std::os::fd::IntoRawFd::into_raw_fd(listener);
        let taken = std::net::TcpListener::from(take(raw).unwrap());
        assert_eq!(taken.local_addr().unwrap(), address);

        let file = std::fs::File::open("/dev/null").unwrap();
        let raw = std::os::fd::AsRawFd::as_raw_fd(&file);
        assert!(take(raw).unwrap_err().contains("no socket"));
    }
}
