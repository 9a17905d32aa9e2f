//! Mounting roots, and getting rid of whatever is mounted below one.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::base::{make_directory, make_private};
use super::overlay::Overlay;
use crate::Error;
use crate::blocking::blocking;

/// Mounts an overlay over `lower` at `root`. A root that is mounted already is unmounted first: it may be of
/// an earlier life over another image.
pub async fn mount_root(lower: &Path, overlay: &Overlay, root: &Path) -> Result<(), Error> {
    unmount_below(root, Duration::from_secs(10)).await?;
    let (lower, overlay, root) = (lower.to_owned(), overlay.clone(), root.to_owned());
    blocking("mount a root", move || {
        if let Some(roots) = root.parent() {
            make_private(roots)?;
        }
        make_directory(&root)?;
        let mut options = b"lowerdir=".to_vec();
        options.extend(escaped(&lower));
        options.extend(b",upperdir=");
        options.extend(escaped(&overlay.upper));
        options.extend(b",workdir=");
        options.extend(escaped(&overlay.work));
        let plain = OsString::from_vec(options.clone());
        options.extend(b",volatile");
        let volatile = OsString::from_vec(options);
        let attempt = |options: &OsString| {
            let kind = Some("overlay");
            mount(kind, &root, kind, MsFlags::empty(), Some(options.as_os_str()))
        };
        // What does not outlive a stop need not be written back; kernels before 5.10 do not know how.
        let mounted = if overlay.persistent {
            attempt(&plain)
        } else {
            attempt(&volatile)
                .or_else(|error| if error == Errno::EINVAL { attempt(&plain) } else { Err(error) })
        };
        mounted.map_err(Error::storage("mount", &root))
    })
    .await
}

/// A path in overlayfs options, where `,` and `:` separate.
fn escaped(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b',' | b':' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    text
}

/// Unmounts everything at or below `root`, deepest first, and removes the mount point itself.
///
/// # Errors
/// [`Error::Busy`] when something is still in use after `limit`; nothing is detached lazily, so success means
/// that nobody writes there any more.
pub async fn unmount_below(root: &Path, limit: Duration) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        let place = root.to_owned();
        let busy = tokio::time::timeout(limit, blocking("unmount", move || unmount_once(&place)))
            .await
            .map_err(|_| Error::Timeout { what: format!("unmounting {}", root.display()), limit })??;
        let Some(path) = busy else { break };
        let waited = started.elapsed();
        if waited >= limit {
            return Err(Error::Busy { path, waited });
        }
        // The kernel tells nobody when a mount falls idle.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    match std::fs::remove_dir(root) {
        Err(error) if error.raw_os_error() != Some(Errno::ENOENT as i32) => {
            Err(Error::storage("remove", root)(error))
        }
        _ => Ok(()),
    }
}

/// One round; tells which mount was in use, if one was.
fn unmount_once(root: &Path) -> Result<Option<PathBuf>, Error> {
    for point in mounted_below(root)?.into_iter().rev() {
        match umount2(&point, MntFlags::UMOUNT_NOFOLLOW) {
            // EINVAL: somebody was faster.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(Errno::EBUSY) => return Ok(Some(point)),
            Err(error) => return Err(Error::storage("unmount", &point)(error)),
        }
    }
    Ok(None)
}

/// Mount points at or below `root`, in the order they were mounted.
pub fn mounted_below(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let table = Path::new("/proc/self/mountinfo");
    let text = std::fs::read(table).map_err(Error::storage("read", table))?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescaped(field))))
        .filter(|point| point.starts_with(root))
        .collect())
}

/// Whether a mounted root lies over `lower`, or something below it.
pub(super) fn is_lower(lower: &Path) -> Result<bool, Error> {
    let table = Path::new("/proc/self/mountinfo");
    let text = std::fs::read(table).map_err(Error::storage("read", table))?;
    // Newer kernels show it without our escapes.
    let options = [escaped(lower), lower.as_os_str().as_bytes().to_vec()];
    let options = options.map(|path| [b"lowerdir=".as_slice(), &path].concat());
    Ok(text.split(|byte| *byte == b'\n').map(unescaped).any(|line| {
        options.iter().any(|option| {
            line.windows(option.len()).enumerate().any(|(at, found)| {
                let behind = line.get(at + option.len());
                found == option && matches!(behind, None | Some(b',' | b'/' | b':'))
            })
        })
    }))
}

/// A field of `mountinfo`, where blanks are written in octal.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let code = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_fields_are_read_back() {
        assert_eq!(unescaped(br"/a\040b\134c\011"), b"/a b\\c\t");
        assert_eq!(unescaped(br"/a\04"), br"/a\04");
    }

    #[test]
    fn separators_of_overlay_options_are_escaped() {
        assert_eq!(escaped(Path::new("/a,b:c\\d")), br"/a\,b\:c\\d");
    }
}
