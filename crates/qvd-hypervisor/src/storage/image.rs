//! What an image file is, judged by its content.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

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
    /// A disk in the format of QEMU, for KVM.
    Qcow2,
    /// A disk as it is, with a table of partitions, for KVM.
    Raw,
}

impl Kind {
    /// What people call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tar(Compression::None) => "tar",
            Self::Tar(Compression::Gzip) => "tar.gz",
            Self::Tar(Compression::Bzip2) => "tar.bz2",
            Self::Tar(Compression::Xz) => "tar.xz",
            Self::Tar(Compression::Zstd) => "tar.zst",
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
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
    if is_tar(&inner) {
        Ok(Kind::Tar(compression))
    } else if compression == Compression::None && is_partitioned(&inner) {
        Ok(Kind::Raw)
    } else {
        Err(invalid("it is neither a tar archive nor a disk"))
    }
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

/// A disk that can be booted has a table of partitions, also when that only stands for a newer one.
fn is_partitioned(block: &[u8]) -> bool {
    let types = [450, 466, 482, 498].map(|at| block.get(at).copied().unwrap_or_default());
    block.get(510..HEAD) == Some(&[0x55, 0xaa]) && types.iter().any(|kind| *kind != 0)
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
