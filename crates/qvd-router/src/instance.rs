//! A router's process as others see it: a lock file that lives exactly as long.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use qvd_runtime::{Values, instances};

use crate::Error;

/// The lock of this process.
#[derive(Debug)]
pub(crate) struct Instance {
    id: String,
    directory: PathBuf,
    _lock: Flock<File>,
}

impl Instance {
    /// Locks a new file below `path.run`.
    pub(crate) fn create(values: &Values) -> Result<Self, Error> {
        let directory = instances::directory_of_routers(&values.path("path.run")?);
        let io = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { operation, path, source }
        };
        std::fs::create_dir_all(&directory).map_err(io("create", &directory))?;
        let id = format!("{:032x}", rand::random::<u128>());
        let path = instances::lock_file(&directory, &id);
        // Whoever can open it can hold it: nobody else may.
        let opened = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let opened = opened.map_err(io("create", &path))?;
        let lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io("lock", &path)(errno.into()))?;
        Ok(Self { id, directory, _lock: lock })
    }

    /// Its name in rows.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether the process of this name lives on this host. The file of a dead one is removed.
    pub(crate) fn lives(&self, id: &str) -> bool {
        id == self.id || instances::lives(&self.directory, id)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A file that stays is found unlocked by the next router.
        let _ = std::fs::remove_file(instances::lock_file(&self.directory, &self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qvd_runtime::Config;

    #[test]
    fn a_process_lives_as_long_as_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::parse("t", &format!("path.run = {}\n", dir.path().display())).unwrap();
        let mine = Instance::create(&config.now()).unwrap();
        let other = Instance::create(&config.now()).unwrap();
        let id = other.id().to_owned();
        assert!(mine.lives(&id) && mine.lives(mine.id()));
        drop(other);
        assert!(!mine.lives(&id));
    }
}
