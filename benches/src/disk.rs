//! A file system of its own for a run.
//!
//! Figures must not depend on what was on the disk before. An ext4 without a journal, as some virtual machines have,
//! looks at every inode that was deleted in the last minutes when it makes a file: a run after a run would be many
//! times slower than the first.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Error, Result, ensure};

/// Tells the program that it has its file system.
const OURS: &str = "QVD_BENCHES_DISK";
/// Only what is written takes room.
const SIZE: u64 = 24 << 30;
/// Its file is gone at once, and the mount with the run, also when that is interrupted.
const RUN: &str = "
trap : INT TERM
mount -o loop \"$1\" \"$2\"
status=$?
rm \"$1\"
root=$2
shift 2
if [ $status = 0 ]; then
    TMPDIR=$root \"$@\"
    status=$?
    umount --lazy \"$root\"
fi
rmdir \"$root\"
exit $status
";

/// Whether this program has its own file system already.
pub fn is_own() -> bool {
    std::env::var_os(OURS).is_some()
}

/// Becomes this program again, with the same arguments, with a new ext4 for its files. Returns only to fail.
pub fn become_own() -> Result<()> {
    let image = tempfile::Builder::new().prefix("qvd-benches-").tempfile()?;
    image.as_file().set_len(SIZE)?;
    let made = Command::new("/usr/sbin/mkfs.ext4").arg("-q").arg(image.path()).output();
    let made = made.context("cannot run mkfs.ext4")?;
    ensure!(made.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr));
    let root = tempfile::Builder::new().prefix("qvd-benches-").tempdir()?.keep();
    let (_, image) = image.keep()?;
    let mut again = Command::new("/bin/sh");
    again.args(["-c", RUN, "sh"]).args([image, root]);
    again.arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    Err(Error::new(again.env(OURS, "1").exec()).context("cannot run /bin/sh"))
}
