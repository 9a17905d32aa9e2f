//! Going on as somebody who may less.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, geteuid, getgid, getgrouplist, getuid, setgid, setgroups, setuid};

/// A user, and the groups that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// Why it cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// There is no such user.
    #[error("there is no user `{0}`; make it (adduser --system {0}), or name another")]
    User(String),
    /// There is no such group.
    #[error("there is no group `{0}`; make it (addgroup --system {0}), or name another")]
    Group(String),
    /// Only root can become somebody else.
    #[error("only root can go on as `{0}`; start as root, or as that user")]
    NotRoot(String),
    /// The system refuses.
    #[error("cannot go on as `{name}`: {operation}: {source}")]
    System {
        /// The user.
        name: String,
        /// What was done.
        operation: &'static str,
        /// Why.
        source: Errno,
    },
}

impl Identity {
    /// Looks a user and a group up; an empty group is that of the user. Other groups of the user go with it.
    ///
    /// # Errors
    /// [`PrivilegeError::User`] and [`PrivilegeError::Group`] for names that nobody has.
    pub fn named(user: &str, group: &str) -> Result<Self, PrivilegeError> {
        let system =
            |operation| move |source| PrivilegeError::System { name: user.to_owned(), operation, source };
        let found = User::from_name(user).map_err(system("look it up"))?;
        let found = found.ok_or_else(|| PrivilegeError::User(user.to_owned()))?;
        let gid = match group {
            "" => found.gid,
            group => {
                let known = Group::from_name(group).map_err(system("look its group up"))?;
                known.ok_or_else(|| PrivilegeError::Group(group.to_owned()))?.gid
            }
        };
        let name = CString::new(user).map_err(|_| PrivilegeError::User(user.to_owned()))?;
        let groups = getgrouplist(&name, gid).map_err(system("look its groups up"))?;
        Ok(Self { name: user.to_owned(), uid: found.uid, gid, groups })
    }

    /// Whether it is root, which gives nothing up.
    pub const fn is_root(&self) -> bool {
        self.uid.is_root()
    }

    /// Goes on as this user, for good, with all threads. Does nothing where that is so already.
    ///
    /// # Errors
    /// [`PrivilegeError::NotRoot`] for somebody else than root, [`PrivilegeError::System`].
    pub fn assume(&self) -> Result<(), PrivilegeError> {
        if (getuid(), geteuid(), getgid()) == (self.uid, self.uid, self.gid) {
            return Ok(());
        }
        if !geteuid().is_root() {
            return Err(PrivilegeError::NotRoot(self.name.clone()));
        }
        let system =
            |operation| move |source| PrivilegeError::System { name: self.name.clone(), operation, source };
        // In this order: afterwards nothing of it is allowed any more.
        setgroups(&self.groups).map_err(system("set its groups"))?;
        setgid(self.gid).map_err(system("set its group"))?;
        setuid(self.uid).map_err(system("set the user"))?;
        if !self.uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
            return Err(PrivilegeError::System {
                name: self.name.clone(),
                operation: "give root up",
                source: Errno::EPERM,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_has_are_told() {
        let root = Identity::named("root", "").unwrap();
        assert!(root.is_root() && root.gid.as_raw() == 0);
        let nobody = Identity::named("nobody", "daemon").unwrap();
        assert_eq!(nobody.gid, Group::from_name("daemon").unwrap().unwrap().gid);
        assert!(nobody.groups.contains(&nobody.gid) && !nobody.is_root());
        let text = |user, group| Identity::named(user, group).unwrap_err().to_string();
        assert!(text("no-such-user", "").contains("no user `no-such-user`"));
        assert!(text("root", "no-such-group").contains("no group `no-such-group`"));
        assert!(text("a\0b", "").contains("a\0b"));
    }
}
