//! The account database of the desktop, read from its files: the agent is linked statically, so there is no
//! NSS.

use std::io;
use std::path::PathBuf;

use crate::settings::Settings;

/// An account, complete enough to run programs in its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// As the account database has it; see [`Settings::inside`].
    pub(crate) home: PathBuf,
    pub(crate) shell: String,
}

/// The account of this login, if there is one.
pub(crate) fn find(settings: &Settings, name: &str) -> io::Result<Option<Account>> {
    let passwd = read(settings, "/etc/passwd")?;
    let Some(mut account) = passwd.lines().filter_map(account).find(|a| a.name == name) else {
        return Ok(None);
    };
    let groups = read(settings, "/etc/group")?;
    account.groups = groups.lines().filter_map(group).filter(|g| g.has(name)).map(|g| g.gid).collect();
    account.groups.push(account.gid);
    account.groups.sort_unstable();
    account.groups.dedup();
    Ok(Some(account))
}

/// Whether a group of this name exists.
pub(crate) fn has_group(settings: &Settings, name: &str) -> io::Result<bool> {
    Ok(read(settings, "/etc/group")?.lines().filter_map(group).any(|g| g.name == name))
}

fn read(settings: &Settings, path: &str) -> io::Result<String> {
    let bytes = std::fs::read(settings.inside(path.as_ref()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn account(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let mut field = || fields.next();
    let (name, _password, uid, gid, _comment) = (field()?, field()?, field()?, field()?, field()?);
    let (home, shell) = (field()?, field()?);
    Some(Account {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        groups: Vec::new(),
        home: PathBuf::from(home),
        shell: if shell.is_empty() { "/bin/sh".to_owned() } else { shell.to_owned() },
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Group<'_> {
    fn has(&self, login: &str) -> bool {
        self.members.split(',').any(|member| member.trim() == login)
    }
}

fn group(line: &str) -> Option<Group<'_>> {
    let mut fields = line.split(':');
    let (name, _password, gid) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Group { name, gid: gid.parse().ok()?, members: fields.next().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_whole_names() {
        let group = group("audio:x:29:ana-maria,joe").unwrap();
        assert!(group.has("joe") && group.has("ana-maria") && !group.has("ana"));
        assert!(super::group("broken").is_none());
    }

    #[test]
    fn lines_that_are_no_accounts_are_skipped() {
        assert!(account("+::::::").is_none() && account("joe:x:1").is_none());
        let joe = account("joe:x:1000:1001:Joe,,,:/home/joe:").unwrap();
        assert_eq!((joe.uid, joe.gid, joe.shell.as_str()), (1000, 1001, "/bin/sh"));
    }
}
