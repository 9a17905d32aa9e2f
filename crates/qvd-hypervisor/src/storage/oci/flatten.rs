//! Layers, read twice: for what is left of them, and to copy that.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use qvd_logic::layers::{Entry, Layers, Merged};
use tar::{Builder, EntryType, Header};

use super::super::image::{
    Compression, HEADERS, Hash, Hashed, Metered, compression, decoder, finish, hashed, head,
};
use super::super::unpack::{HARMLESS, Limits, PAX_XATTR, device, is_kept};
use super::archive::{Archive, Part};
use super::manifest::Layer;
use crate::Error;

/// Bytes of all names that may be held in memory.
const NAMES: u64 = 512 << 20;
/// Bytes that may be held about directories, links and devices.
const ATTRIBUTES: u64 = 512 << 20;
/// Fast, and as small as what came.
const LEVEL: i32 = 3;

/// What is written.
pub(super) struct Flattening<'a> {
    pub(super) archive: &'a Archive,
    pub(super) layers: &'a [Layer],
    pub(super) limits: Limits,
    pub(super) cancelled: &'a AtomicBool,
    pub(super) done: &'a dyn Fn(f32),
}

/// What is kept about all but files.
#[derive(Clone)]
struct About {
    header: Header,
    attributes: Vec<(String, Vec<u8>)>,
}

type Inside<'a> = Metered<io::Take<Hashed<Box<dyn Read + 'a>>>>;

impl Flattening<'_> {
    pub(super) fn write(&self, out: File) -> Result<(), Error> {
        let merged = self.merge()?;
        let written =
            |source| Error::Storage { operation: "flatten", path: self.archive.image().to_owned(), source };
        let packed = zstd::Encoder::new(BufWriter::with_capacity(1 << 20, out), LEVEL);
        let mut packed = packed.map_err(written)?;
        packed.include_checksum(true).map_err(written)?;
        let mut target = Builder::new(packed);
        self.copy(merged, &mut target)?;
        let packed = target.into_inner().map_err(written)?;
        let mut out = packed.finish().map_err(written)?;
        out.flush().map_err(written)?;
        out.get_ref().sync_all().map_err(written)
    }

    /// The first reading: checks every layer, and lays them over each other.
    fn merge(&self) -> Result<Merged<About>, Error> {
        let mut layers = Layers::default();
        let (mut count, mut held, mut number) = (0, 0, 0);
        for (at, layer) in self.layers.iter().enumerate() {
            layers.next_layer();
            let whole = self.read(layer, at, |path, entry| {
                count += 1;
                if count > self.limits.entries {
                    return Err(self
                        .archive
                        .invalid(format!("it has more than {} entries", self.limits.entries)));
                }
                let Some(entry) = self.entry(entry, &mut number, &mut held)? else { return Ok(()) };
                layers.add(path, entry).map_err(|problem| self.archive.invalid(problem.to_string()))?;
                if layers.name_bytes() > NAMES || held > ATTRIBUTES {
                    return Err(self.archive.invalid("its names and attributes are too many"));
                }
                Ok(())
            })?;
            whole.check(self.archive, layer)?;
        }
        Ok(layers.merged())
    }

    /// What an entry is; none for what images leave out.
    fn entry<R: Read>(
        &self,
        entry: &mut tar::Entry<'_, R>,
        number: &mut u64,
        held: &mut u64,
    ) -> Result<Option<Entry<About>>, Error> {
        let kind = entry.header().entry_type();
        let mut about = |entry: &mut tar::Entry<'_, R>| -> Result<About, Error> {
            let about = self.about(entry)?;
            *held += 512
                + about.attributes.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum::<u64>();
            Ok(about)
        };
        let target = |entry: &tar::Entry<'_, R>| {
            let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned).filter(|t| !t.is_empty());
            target.ok_or_else(|| self.archive.invalid("one of its links leads nowhere"))
        };
        Ok(Some(match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                *number += 1;
                Entry::File(*number)
            }
            EntryType::Directory => Entry::Directory(about(entry)?),
            EntryType::Symlink => Entry::Symlink { target: target(entry)?, about: about(entry)? },
            EntryType::Link => Entry::HardLink(target(entry)?),
            EntryType::Fifo => Entry::Node(about(entry)?),
            EntryType::Char if HARMLESS.contains(&device(entry)) => Entry::Node(about(entry)?),
            // As when an archive is unpacked: the devices of a desktop are its node's choice.
            EntryType::Char | EntryType::Block | EntryType::XGlobalHeader => return Ok(None),
            other => return Err(self.archive.invalid(format!("it has an entry of unknown type {other:?}"))),
        }))
    }

    fn about<R: Read>(&self, entry: &mut tar::Entry<'_, R>) -> Result<About, Error> {
        let mut attributes = Vec::new();
        if let Some(extensions) =
            entry.pax_extensions().map_err(|error| self.archive.damaged(error.to_string()))?
        {
            for extension in extensions.filter_map(Result::ok) {
                let name = extension.key_bytes().strip_prefix(PAX_XATTR).filter(|name| is_kept(name));
                if let (Some(_), Ok(key)) = (name, extension.key()) {
                    attributes.push((key.to_owned(), extension.value_bytes().to_vec()));
                }
            }
        }
        let damaged = |error: io::Error| self.archive.damaged(error.to_string());
        let given = entry.header();
        let mut header = Header::new_gnu();
        header.set_entry_type(given.entry_type());
        header.set_mode(given.mode().map_err(damaged)? & 0o7777);
        header.set_uid(given.uid().map_err(damaged)?);
        header.set_gid(given.gid().map_err(damaged)?);
        header.set_mtime(given.mtime().unwrap_or(0));
        header.set_size(0);
        if given.entry_type() == EntryType::Char {
            let (major, minor) = device(entry);
            header.set_device_major(major).and_then(|()| header.set_device_minor(minor)).map_err(damaged)?;
        }
        Ok(About { header, attributes })
    }

    /// The second reading: directories first, then files as they come, then what may lead somewhere.
    fn copy<W: Write>(&self, merged: Merged<About>, target: &mut Builder<W>) -> Result<(), Error> {
        let Merged { directories, mut files, others } = merged;
        for (path, about) in directories {
            // The root itself: `.` names it.
            let path = if path.is_empty() { b"." } else { path.as_slice() };
            self.append(target, about, path, io::empty())?;
        }
        let mut number = 0;
        for (at, layer) in self.layers.iter().enumerate() {
            if files.is_empty() {
                break;
            }
            self.read(layer, self.layers.len() + at, |_, entry| {
                let kind = entry.header().entry_type();
                if !matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse) {
                    return Ok(());
                }
                number += 1;
                let Some(names) = files.remove(&number) else { return Ok(()) };
                let Some((first, more)) = names.split_first() else { return Ok(()) };
                let mut about = self.about(entry)?;
                about.header.set_entry_type(EntryType::Regular);
                about.header.set_size(entry.size());
                self.append(target, about.clone(), first, &mut *entry)?;
                self.link(target, &about.header, first, more)
            })?;
        }
        if !files.is_empty() {
            return Err(self.archive.damaged("it changed while it was read"));
        }
        for other in others {
            let Some((first, more)) = other.names.split_first() else { continue };
            let header = other.about.header.clone();
            match &other.target {
                Some(to) => {
                    self.attributes(target, &other.about.attributes)?;
                    let appended = target.append_link(&mut other.about.header.clone(), path(first), path(to));
                    appended.map_err(|error| self.unwritten(first, error))?;
                }
                None => self.append(target, other.about, first, io::empty())?,
            }
            self.link(target, &header, first, more)?;
        }
        (self.done)(1.0);
        Ok(())
    }

    fn append<W: Write>(
        &self,
        target: &mut Builder<W>,
        mut about: About,
        name: &[u8],
        content: impl Read,
    ) -> Result<(), Error> {
        self.attributes(target, &about.attributes)?;
        let appended = target.append_data(&mut about.header, path(name), content);
        appended.map_err(|error| self.unwritten(name, error))
    }

    fn attributes<W: Write>(
        &self,
        target: &mut Builder<W>,
        attributes: &[(String, Vec<u8>)],
    ) -> Result<(), Error> {
        if attributes.is_empty() {
            return Ok(());
        }
        let attributes = attributes.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        target.append_pax_extensions(attributes).map_err(|error| self.unwritten(b"attributes", error))
    }

    /// Writes the other names of what was written as `first`.
    fn link<W: Write>(
        &self,
        target: &mut Builder<W>,
        header: &Header,
        first: &[u8],
        more: &[Vec<u8>],
    ) -> Result<(), Error> {
        for name in more {
            let mut header = header.clone();
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            let appended = target.append_link(&mut header, path(name), path(first));
            appended.map_err(|error| self.unwritten(name, error))?;
        }
        Ok(())
    }

    /// A layer that cannot be read any more, or an archive that cannot be written.
    fn unwritten(&self, name: &[u8], error: io::Error) -> Error {
        let name = String::from_utf8_lossy(name);
        if error.raw_os_error().is_some() {
            Error::Storage { operation: "flatten", path: self.archive.image().to_owned(), source: error }
        } else {
            self.archive.damaged(format!("its entry `{name}` cannot be copied: {error}"))
        }
    }

    /// Reads a layer to its end. `at` counts readings, of which there are two for each layer.
    fn read(
        &self,
        layer: &Layer,
        at: usize,
        mut each: impl FnMut(&[u8], &mut tar::Entry<'_, Inside<'_>>) -> Result<(), Error>,
    ) -> Result<Whole, Error> {
        let damaged = |error: io::Error| match error.raw_os_error() {
            Some(_) => {
                Error::Storage { operation: "read", path: self.archive.image().to_owned(), source: error }
            }
            None => self.archive.damaged(format!("{}: {error}", layer.part)),
        };
        let begins = head(self.archive.part(&layer.part)?).map_err(damaged)?;
        let found = compression(&begins);
        if layer.compression.is_some_and(|said| said != found) {
            return Err(self.archive.invalid(format!("{} is not compressed as its type says", layer.part)));
        }
        let packed = Packed { inner: self.archive.part(&layer.part)?, of: self, read: 0, size: 0, at };
        let size = packed.inner.size().max(1);
        let (packed, outer) = hashed(Packed { size, ..packed });
        let (inside, inner) = hashed(opened(found, packed).map_err(damaged)?);
        let allowance = Rc::new(Cell::new(HEADERS));
        let metered = Metered { inner: inside.take(self.limits.bytes), allowance: allowance.clone() };
        let mut archive = tar::Archive::new(metered);
        for entry in archive.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            allowance.set(u64::MAX);
            let name = entry.path_bytes().into_owned();
            each(&name, &mut entry)?;
            io::copy(&mut entry, &mut io::sink()).map_err(damaged)?;
            allowance.set(HEADERS);
        }
        // Digests are of everything, padding included.
        let mut rest = archive.into_inner().inner;
        io::copy(&mut rest, &mut io::sink()).map_err(damaged)?;
        if rest.limit() == 0 {
            return Err(self.archive.invalid(format!("it unpacks to more than {} bytes", self.limits.bytes)));
        }
        Ok(Whole { outer, inner })
    }
}

fn opened<'a>(compression: Compression, packed: Hashed<Packed<'a>>) -> io::Result<Box<dyn Read + 'a>> {
    decoder(compression, Box::new(packed))
}

fn path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// The hashes of a layer that was read to its end.
struct Whole {
    outer: Hash,
    inner: Hash,
}

impl Whole {
    fn check(self, archive: &Archive, layer: &Layer) -> Result<(), Error> {
        for (wanted, hash) in [(&layer.digest, &self.outer), (&layer.inside, &self.inner)] {
            let found = finish(hash);
            if wanted.as_ref().is_some_and(|wanted| *wanted != found) {
                return Err(archive.damaged(format!("{} is not what its digest says", layer.part)));
            }
        }
        Ok(())
    }
}

/// A layer as it lies there, with progress, and an end when nobody waits any more.
struct Packed<'a> {
    inner: Part<'a>,
    of: &'a Flattening<'a>,
    read: u64,
    size: u64,
    at: usize,
}

impl Read for Packed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.of.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        #[allow(clippy::cast_precision_loss, reason = "a share that is shown")]
        let (done, all) =
            (self.at as f32 + self.read as f32 / self.size as f32, 2.0 * self.of.layers.len() as f32);
        (self.of.done)((done / all).min(1.0));
        Ok(count)
    }
}
