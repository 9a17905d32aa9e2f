//! Homes (`spec/node.md` 6.4).

use std::path::{Path, PathBuf};

use qvd_model::VmId;

use super::base::{make_directory, make_private};
use super::directories::{Directories, single_name};
use crate::Error;
use crate::blocking::blocking;

/// Whose home it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HomeOwner {
    /// One home for each VM, seen as `/home`.
    Vm(VmId),
    /// One home for all VMs of a user (`vm.lxc.home.per.user`), seen as `/home/<login>`.
    User(String),
}

/// A home and where the desktop sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The directory of the storage.
    pub source: PathBuf,
    /// The path in the desktop, relative to its root.
    pub target: PathBuf,
}

/// Makes the home if it is missing. What is in a home is never removed here.
pub async fn prepare_home(directories: &Directories, owner: HomeOwner) -> Result<Home, Error> {
    let home = match owner {
        HomeOwner::Vm(vm) => {
            Home { source: directories.homefs.join(format!("{vm}-fs")), target: PathBuf::from("home") }
        }
        HomeOwner::User(login) => {
            single_name("login", &login)?;
            if is_home_of_vm(&login) {
                return Err(Error::Name { what: "login", name: login });
            }
            Home { source: directories.homefs.join(&login), target: Path::new("home").join(&login) }
        }
    };
    let homes = directories.homefs.clone();
    blocking("prepare a home", move || {
        make_private(&homes)?;
        make_directory(&home.source)?;
        Ok(home)
    })
    .await
}

/// Whether a login would get the directory that a VM has for itself.
fn is_home_of_vm(login: &str) -> bool {
    login.strip_suffix("-fs").is_some_and(|vm| vm.parse::<VmId>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_login_gets_the_home_of_a_vm() {
        let storage = tempfile::tempdir().unwrap();
        let at = |name: &str| storage.path().join(name);
        let directories = Directories {
            images: at("images"),
            basefs: at("basefs"),
            overlayfs: at("overlayfs"),
            rootfs: at("rootfs"),
            homefs: at("homefs"),
        };
        let own = prepare_home(&directories, HomeOwner::Vm(VmId(7))).await.unwrap();
        assert_eq!(own.source, at("homefs/7-fs"));
        let thief = prepare_home(&directories, HomeOwner::User("7-fs".to_owned())).await;
        assert!(matches!(thief, Err(Error::Name { .. })));
        let user = prepare_home(&directories, HomeOwner::User("a-fs".to_owned())).await.unwrap();
        assert_eq!((user.source, user.target), (at("homefs/a-fs"), PathBuf::from("home/a-fs")));
    }
}
