//! Base trees: an image is unpacked once, for all its VMs.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use tokio::sync::watch;

use super::directories::{Directories, RECORD, base_name};
use super::image::{self, Kind};
use super::layout::Tree;
use super::mounts::is_lower;
use super::record::{Record, stamp};
use super::unpack::{Job, Limits, unpack};
use crate::Error;
use crate::blocking::blocking;

/// Which image is wanted.
#[derive(Debug, Clone)]
pub struct Unpacking {
    /// Name of the file in the image directory (`dis.path`).
    pub file: String,
    /// The hash that was registered, lower-case hex, if one was.
    pub sha256: Option<String>,
    /// Bounds of what it may hold.
    pub limits: Limits,
    /// Whether a tree may stand for another one (`vm.lxc.redirect.allow`).
    pub redirect: bool,
}

/// How far unpacking is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the image file that were read.
    pub done: u64,
    /// Bytes of the image file; 0 while nothing is unpacked.
    pub total: u64,
}

/// Tells the thread that works for a future that nobody waits any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The base tree of an image; unpacks it unless that was done before.
///
/// Only one process of all nodes unpacks an image at a time; the others wait for it. An unpacking that was
/// interrupted leaves no base tree. Dropping the future ends the work soon after.
///
/// # Errors
/// [`Error::ImageMissing`], [`Error::ImageInvalid`], [`Error::ImageChanged`] when the content is neither what
/// was registered nor what was unpacked, [`Error::Storage`].
pub async fn prepare_base(
    directories: &Directories,
    wanted: Unpacking,
    progress: watch::Sender<Progress>,
) -> Result<Tree, Error> {
    let directories = directories.clone();
    let waiting = Waiting(Arc::default());
    let cancelled = waiting.0.clone();
    blocking("unpack an image", move || prepare(&directories, &wanted, &progress, &cancelled)).await
}

fn prepare(
    directories: &Directories,
    wanted: &Unpacking,
    progress: &watch::Sender<Progress>,
    cancelled: &AtomicBool,
) -> Result<Tree, Error> {
    let image = directories.image(&wanted.file)?;
    let base = directories.base(&wanted.file)?;
    let record = directories.base_record(&wanted.file);
    make_private(&directories.basefs)?;
    let _lock = lock(&directories.base_lock(&wanted.file))?;
    if base.try_exists().map_err(Error::storage("examine", &base))? {
        check(&image, &record, wanted.sha256.as_deref())?;
        return Tree::classify(&image, base, wanted.redirect);
    }
    remove_abandoned(&directories.basefs)?;
    let mut file = image::open(&image)?;
    let Kind::Tar(compression) = image::kind(&mut file, &image)? else {
        let found = "it is a disk, and this desktop runs as a container".to_owned();
        return Err(Error::ImageInvalid { image, found });
    };
    let (size, mtime) = stamp(&file.metadata().map_err(Error::storage("examine", &image))?);
    let told = |done| {
        let told = Progress { done, total: size };
        // A receiver that redraws for every piece would take more time than unpacking does.
        progress.send_if_modified(|last| {
            let step = done == size || done.saturating_sub(last.done) * 100 >= size;
            if step {
                *last = told;
            }
            step
        });
    };
    let temporary = Temporary::create(&directories.basefs)?;
    let job = Job { image: &image, compression, limits: wanted.limits, cancelled, told: &told };
    let hash = unpack(&job, file, &temporary.path)?;
    let sha256 = image::finish(&hash);
    expect(&image, wanted.sha256.as_deref(), &sha256)?;
    Tree::classify(&image, temporary.path.clone(), wanted.redirect)?;
    nix::unistd::syncfs(&*temporary.lock).map_err(Error::storage("write back", &temporary.path))?;
    Record { size, mtime, sha256 }.write(&record)?;
    temporary.keep(&base)?;
    Tree::classify(&image, base, wanted.redirect)
}

/// Compares an image with the tree that was unpacked from it.
fn check(image: &Path, record_path: &Path, registered: Option<&str>) -> Result<(), Error> {
    let Some(record) = Record::read(record_path)? else {
        tracing::warn!(image = %image.display(), "the base tree was unpacked by another program: not checked");
        return Ok(());
    };
    expect(image, registered, &record.sha256)?;
    let found = match fs::metadata(image) {
        Ok(metadata) => stamp(&metadata),
        // The tree is all that a desktop needs.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::storage("examine", image)(error)),
    };
    if found == (record.size, record.mtime) {
        return Ok(());
    }
    let (mut reader, hash) = image::hashed(image::open(image)?);
    io::copy(&mut reader, &mut io::sink()).map_err(Error::storage("read", image))?;
    let sha256 = image::finish(&hash);
    expect(image, Some(&record.sha256), &sha256)?;
    // Only touched: the next start need not read it all again.
    Record { size: found.0, mtime: found.1, sha256 }.write(record_path)
}

fn expect(image: &Path, expected: Option<&str>, found: &str) -> Result<(), Error> {
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(found) => Err(Error::ImageChanged {
            image: image.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Removes the base tree of an image that no VM uses any more.
pub async fn remove_base(directories: &Directories, file: &str) -> Result<(), Error> {
    let directories = directories.clone();
    let file = file.to_owned();
    blocking("remove a base tree", move || {
        let base = directories.base(&file)?;
        let _lock = lock(&directories.base_lock(&file))?;
        if base.try_exists().map_err(Error::storage("examine", &base))? {
            let doomed = Temporary::name(&directories.basefs);
            fs::rename(&base, &doomed).map_err(Error::storage("rename", &base))?;
            remove_tree(&doomed)?;
        }
        match fs::remove_file(directories.base_record(&file)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::storage("remove", directories.base_record(base_name(&file)))(error))
            }
            _ => Ok(()),
        }
    })
    .await
}

/// Names of the base trees that were unpacked here and of which no image is known to have been removed yet. What somebody
/// else put beside them is not among them.
pub async fn unpacked_bases(directories: &Directories) -> Result<Vec<String>, Error> {
    let basefs = directories.basefs.clone();
    blocking("list base trees", move || {
        let entries = match fs::read_dir(&basefs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::storage("list", &basefs)(error)),
        };
        let names = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
        let mut bases: Vec<_> =
            names.filter_map(|name| name.strip_prefix(RECORD).map(str::to_owned)).collect();
        bases.retain(|base| is_of_image(base));
        Ok(bases)
    })
    .await
}

/// Whether a name is that of the tree of an image: its number, and what it is called.
fn is_of_image(base: &str) -> bool {
    let number = base.split_once('-').map_or("", |(number, _)| number);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) && base == base_name(base)
}

/// Removes the base tree of an image that is gone, unless a desktop of this node lies over it. Whether it was removed.
pub async fn remove_unused_base(directories: &Directories, base: &str) -> Result<bool, Error> {
    let path = directories.base(base)?;
    if blocking("look for desktops over a base tree", move || is_lower(&path)).await? {
        return Ok(false);
    }
    remove_base(directories, base).await?;
    Ok(true)
}

/// Waits until nobody else works on the base tree. The lock ends with its process.
fn lock(path: &Path) -> Result<Flock<File>, Error> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    let file = options.open(path).map_err(Error::storage("open", path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| Error::storage("lock", path)(error))
}

pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(Error::storage("create", path))
}

/// Makes a directory of the storage that holds what desktops wrote, and shuts other users of the node out of it:
/// a set-user-id program that root of a desktop left there would make them root of the node.
pub(super) fn make_private(path: &Path) -> Result<(), Error> {
    let failed = Error::storage("create", path);
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        other => return other.map_err(failed),
    }
    let mode = fs::metadata(path).map_err(Error::storage("examine", path))?.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        // A storage that refuses is no reason to let desktops stand still.
        match fs::set_permissions(path, fs::Permissions::from_mode(mode & !0o007)) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "every user of the node could enter it; closed now")
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), "every user of the node can enter it; chmod o= it: {error}");
            }
        }
    }
    Ok(())
}

/// Removes a tree; one that is not there is fine. Links are removed, never followed.
pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::storage("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A directory that is unpacked into. Its lock tells a living one from one that a crash left.
struct Temporary {
    path: PathBuf,
    lock: Flock<File>,
}

const TEMPORARY: &str = "untar-";

impl Temporary {
    fn name(directory: &Path) -> PathBuf {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (pid, seconds, random) = (std::process::id(), now.as_secs(), now.subsec_nanos());
        directory.join(format!("{TEMPORARY}{pid}-{seconds}-{random:08x}"))
    }

    fn create(directory: &Path) -> Result<Self, Error> {
        loop {
            let path = Self::name(directory);
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                other => other.map_err(Error::storage("create", &path))?,
            }
            // Between the two steps somebody may take it for abandoned: then take another one.
            let Ok(file) = File::open(&path) else { continue };
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
            if fs::symlink_metadata(&path).is_ok() {
                return Ok(Self { path, lock });
            }
        }
    }

    /// Makes it the base tree.
    fn keep(self, base: &Path) -> Result<(), Error> {
        fs::rename(&self.path, base).map_err(Error::storage("rename", &self.path))?;
        let parent = base.parent().unwrap_or(Path::new("/"));
        let directory = File::open(parent).map_err(Error::storage("open", parent))?;
        directory.sync_all().map_err(Error::storage("write back", parent))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(%error, "what was unpacked so far stays behind");
        }
    }
}

/// Removes temporary directories whose process is gone.
fn remove_abandoned(directory: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(directory).map_err(Error::storage("list", directory))?;
    for entry in entries.filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            tracing::info!(path = %entry.path().display(), handle = lock.as_raw_fd(), "removing an interrupted unpacking");
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}
