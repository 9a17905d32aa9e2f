//! Processes of a service as others on the host see them: each holds a lock file that lives exactly as long.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};

/// The directory of the lock files of the routers of a host, below `path.run`.
pub fn directory_of_routers(run: &Path) -> PathBuf {
    run.join("l7r/instances")
}

/// The lock file of a process.
pub fn lock_file(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.lock"))
}

/// Whether the process of this name lives on this host. The file of a dead one is removed.
pub fn lives(directory: &Path, id: &str) -> bool {
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return false;
    }
    let path = lock_file(directory, id);
    // The directory belongs to the service, whose word root need not take for what the file is.
    let careful = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits();
    let opened: File = match OpenOptions::new().read(true).custom_flags(careful).open(&path) {
        Ok(opened) => opened,
        // Whatever else is wrong with the file does not prove that its process is dead.
        Err(error) => return error.kind() != ErrorKind::NotFound,
    };
    match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
        Ok(_) => {
            let _ = std::fs::remove_file(&path);
            false
        }
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_as_long_as_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = lock_file(dir.path(), "abc");
        let lock = Flock::lock(File::create_new(&path).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        assert!(lives(dir.path(), "abc") && !lives(dir.path(), "abd"));
        assert!(!lives(dir.path(), "") && !lives(dir.path(), "../x"));
        // A crash leaves an unlocked file behind.
        drop(lock);
        assert!(path.exists() && !lives(dir.path(), "abc") && !path.exists());
        // What is no plain file of ours proves nothing.
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(lives(dir.path(), "abc") && path.exists());
    }
}
