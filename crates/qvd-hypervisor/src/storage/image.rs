//! What an image file is, judged by its content.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::unpack::Limits;
use crate::Error;
use crate::blocking::blocking;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip
    Gzip,
    /// bzip2
    Bzip2,
    /// xz
    Xz,
    /// Zstandard
    Zstd,
}

/// What an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tar archive of a root file system, for LXC.
    Tar(Compression),
    /// A disk, for KVM.
    Qcow2,
}

/// An image file that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The file.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Bytes of the file.
    pub size: u64,
    /// Hash of the file, lower-case hex.
    pub sha256: String,
}

/// Bytes at the start that decide what a file is: one tar header.
const HEAD: usize = 512;

/// Reads a whole image file once: its type by content, size and sha256. The name plays no part.
///
/// # Errors
/// [`Error::ImageMissing`] without the file, [`Error::ImageInvalid`] when it is none of [`Kind`].
pub async fn inspect(path: &Path) -> Result<Image, Error> {
    let path = path.to_owned();
    blocking("inspect an image", move || {
        let mut file = open(&path)?;
        let kind = kind(&mut file, &path)?;
        let (mut reader, hash) = hashed(file);
        let size = io::copy(&mut reader, &mut io::sink()).map_err(Error::storage("read", &path))?;
        Ok(Image { sha256: finish(&hash), path, kind, size })
    })
    .await
}

/// Judges a file by its first bytes only: what it claims to be.
///
/// # Errors
/// As [`inspect`].
pub async fn recognize(path: &Path) -> Result<Kind, Error> {
    let path = path.to_owned();
    blocking("recognize an image", move || {
        let mut file = open(&path)?;
        kind(&mut file, &path)
    })
    .await
}

/// Like [`inspect`], but reads also what is inside, to the end: an archive that was cut or damaged on its way, or
/// that is not the archive of a root file system, is refused before anybody relies on it.
///
/// # Errors
/// As [`inspect`], and [`Error::ImageDamaged`].
pub async fn verify(path: &Path) -> Result<Image, Error> {
    let image = inspect(path).await?;
    let Kind::Tar(compression) = image.kind else { return Ok(image) };
    let path = path.to_owned();
    blocking("verify an image", move || {
        let file = open(&path)?;
        let damaged =
            |error: io::Error| Error::ImageDamaged { image: path.clone(), found: error.to_string() };
        let limits = Limits::default();
        let invalid = |found| Err(Error::ImageInvalid { image: path.clone(), found });
        let inside = decoder(compression, Box::new(file)).map_err(damaged)?;
        let allowance = Rc::new(Cell::new(HEADERS));
        let inside = Metered { inner: inside.take(limits.bytes), allowance: allowance.clone() };
        let mut archive = tar::Archive::new(inside);
        let (mut rooted, mut count) = (false, 0);
        for entry in archive.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            allowance.set(u64::MAX);
            count += 1;
            if count > limits.entries {
                return invalid(format!("it has more than {} entries", limits.entries));
            }
            let path = entry.path().map_err(damaged)?;
            let inside = path.strip_prefix(".").unwrap_or(&path);
            rooted |= ROOTS.iter().any(|root| inside.starts_with(root));
            drop(path);
            io::copy(&mut entry, &mut io::sink()).map_err(damaged)?;
            allowance.set(HEADERS);
        }
        // Checksums of the compression stand behind the last entry.
        let mut rest = archive.into_inner().inner;
        io::copy(&mut rest, &mut io::sink()).map_err(damaged)?;
        if rest.limit() == 0 {
            return invalid(format!("it unpacks to more than {} bytes", limits.bytes));
        }
        if rooted {
            return Ok(());
        }
        invalid(format!(
            "it is not the archive of a root file system: it has neither {}",
            ROOTS.join(" nor ")
        ))
    })
    .await?;
    Ok(image)
}

/// Where a root file system begins, by itself or beside hooks.
const ROOTS: [&str; 2] = ["sbin", "rootfs/sbin"];

/// Opens an image that must be a plain file.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    // O_NONBLOCK: a FIFO of this name would be waited for.
    let opened = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::ImageMissing(path.to_owned()),
        _ => Error::Storage { operation: "open", path: path.to_owned(), source },
    })?;
    if file.metadata().map_err(Error::storage("examine", path))?.is_file() {
        Ok(file)
    } else {
        Err(Error::ImageInvalid { image: path.to_owned(), found: "it is not a plain file".to_owned() })
    }
}

/// Judges the type by content and leaves the file at its start.
pub(super) fn kind(file: &mut File, path: &Path) -> Result<Kind, Error> {
    let invalid = |found: &str| Error::ImageInvalid { image: path.to_owned(), found: found.to_owned() };
    let head = head(&mut *file).map_err(Error::storage("read", path))?;
    file.seek(SeekFrom::Start(0)).map_err(Error::storage("read", path))?;
    let compression = match head.as_slice() {
        [b'Q', b'F', b'I', 0xfb, ..] => return Ok(Kind::Qcow2),
        [] => return Err(invalid("it is empty")),
        head => compression(head),
    };
    let inner = {
        let mut reader = decoder(compression, Box::new(&mut *file)).map_err(Error::storage("read", path))?;
        self::head(&mut reader).map_err(|error| invalid(&format!("it cannot be decompressed: {error}")))?
    };
    file.seek(SeekFrom::Start(0)).map_err(Error::storage("read", path))?;
    if is_tar(&inner) { Ok(Kind::Tar(compression)) } else { Err(invalid("it is not a tar archive")) }
}

/// How something that begins like this is compressed.
pub(super) const fn compression(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [b'B', b'Z', b'h', ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

pub(super) fn head(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    reader.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// A tar header is recognized by its checksum: old archives have no magic word.
fn is_tar(block: &[u8]) -> bool {
    let Ok(bytes) = <&[u8; HEAD]>::try_from(block) else { return false };
    let header = tar::Header::from_byte_slice(bytes);
    let blanked = |i: usize| (148..156).contains(&i);
    let sum: u32 =
        bytes.iter().enumerate().map(|(i, byte)| if blanked(i) { 32 } else { u32::from(*byte) }).sum();
    header.cksum().is_ok_and(|stored| stored == sum)
}

/// Memory that decompressing may take, as a power of two: 512 MiB are enough for `xz -9` and `zstd --long=29`, and
/// no file makes a daemon take more.
const MEMORY_LOG: u32 = 29;

/// A reader of what is inside.
pub(super) fn decoder<'a>(
    compression: Compression,
    reader: Box<dyn Read + 'a>,
) -> io::Result<Box<dyn Read + 'a>> {
    let reader = BufReader::with_capacity(256 * 1024, reader);
    Ok(match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
        Compression::Xz => {
            let stream = xz2::stream::Stream::new_stream_decoder(1 << MEMORY_LOG, xz2::stream::CONCATENATED)
                .map_err(io::Error::other)?;
            Box::new(xz2::bufread::XzDecoder::new_stream(reader, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(reader)?;
            decoder.window_log_max(MEMORY_LOG)?;
            Box::new(decoder)
        }
    })
}

/// Bytes that names and attributes of one entry may take: they are held in memory.
pub(super) const HEADERS: u64 = 4 << 20;

/// Lets no more pass than is allowed for now.
pub(super) struct Metered<R> {
    pub(super) inner: R,
    pub(super) allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.allowance.get().checked_sub(count as u64) {
            Some(left) => self.allowance.set(left),
            None => return Err(io::Error::other("names and attributes of an entry are too long")),
        }
        Ok(count)
    }
}

/// A hash that goes on while somebody else owns the reader.
pub(super) type Hash = Arc<Mutex<Sha256>>;

/// Lets every byte that is read pass a hash.
pub(super) fn hashed<R: Read>(inner: R) -> (Hashed<R>, Hash) {
    let hash = Hash::default();
    (Hashed { inner, hash: hash.clone() }, hash)
}

/// The hash so far, as lower-case hex.
pub(super) fn finish(hash: &Hash) -> String {
    let digest = hash.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// See [`hashed`].
pub(super) struct Hashed<R> {
    inner: R,
    hash: Hash,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(bytes) = buffer.get(..count) {
            self.hash.lock().unwrap_or_else(PoisonError::into_inner).update(bytes);
        }
        Ok(count)
    }
}
