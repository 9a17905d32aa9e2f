//! The archive that a container image comes in: files that are found by their names.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::super::image::{Compression, decoder};
use super::super::unpack::Limits;
use crate::Error;

/// Descriptions are small; nobody gets us to read more into memory.
const DESCRIPTION: u64 = 4 << 20;
/// Files of an archive; an image has two for each layer.
const FILES: usize = 10_000;

/// An uncompressed archive, and what lies where.
pub(super) struct Archive {
    file: File,
    image: PathBuf,
    files: HashMap<String, Place>,
}

enum Place {
    Bytes { at: u64, size: u64 },
    Link(String),
}

/// A part of a file; several can be read at once.
pub(super) struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(buffer.get_mut(..left).unwrap_or_default(), self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Whether an archive holds nothing but the parts of a container image.
pub(super) fn is_container_image(file: File, compression: Compression, image: &Path) -> Result<bool, Error> {
    let damaged = |error| damaged(image, error);
    let mut archive = tar::Archive::new(decoder(compression, Box::new(file)).map_err(damaged)?);
    let mut described = false;
    for (count, entry) in archive.entries().map_err(damaged)?.enumerate() {
        // What is damaged is none; whoever reads it as an archive of files says where.
        let Ok(entry) = entry else { return Ok(false) };
        let name = name(&entry.path_bytes());
        if count > FILES || !is_part(&name) {
            return Ok(false);
        }
        described |= name == "manifest.json" || name == "index.json";
    }
    Ok(described)
}

fn is_part(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    let layer = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match first {
        "" | "blobs" | "oci-layout" | "index.json" | "manifest.json" | "repositories" => true,
        _ => layer(first.strip_suffix(".json").or(first.strip_suffix(".tar")).unwrap_or(first)),
    }
}

/// A decompressed copy that has no name: it goes with whoever reads it.
pub(super) fn decompressed(
    file: File,
    compression: Compression,
    image: &Path,
    limits: Limits,
) -> Result<File, Error> {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let copy =
        image.with_file_name(format!(".{}.{}.plain.part", name.trim_start_matches('.'), std::process::id()));
    let mut options = File::options();
    let mut target = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&copy)
        .map_err(Error::storage("create", &copy))?;
    fs::remove_file(&copy).map_err(Error::storage("remove", &copy))?;
    let inside = decoder(compression, Box::new(file)).map_err(|error| damaged(image, error))?;
    let mut inside = inside.take(limits.bytes);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = inside.read(&mut buffer).map_err(|error| damaged(image, error))?;
        if count == 0 {
            break;
        }
        io::Write::write_all(&mut target, buffer.get(..count).unwrap_or_default())
            .map_err(Error::storage("write", &copy))?;
    }
    if inside.limit() == 0 {
        let found = format!("it unpacks to more than {} bytes", limits.bytes);
        return Err(Error::ImageInvalid { image: image.to_owned(), found });
    }
    Ok(target)
}

fn damaged(image: &Path, error: io::Error) -> Error {
    Error::ImageDamaged { image: image.to_owned(), found: error.to_string() }
}

fn name(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    path.split('/').filter(|name| !matches!(*name, "" | ".")).collect::<Vec<_>>().join("/")
}

impl Archive {
    /// Finds what lies where in an uncompressed archive.
    pub(super) fn index(file: File, image: &Path, limits: Limits) -> Result<Self, Error> {
        let damaged = |error| damaged(image, error);
        let mut files = HashMap::new();
        let length = file.metadata().map_err(Error::storage("examine", image))?.len();
        let mut seekable = &file;
        io::Seek::rewind(&mut seekable).map_err(Error::storage("read", image))?;
        let mut archive = tar::Archive::new(seekable);
        for entry in archive.entries_with_seek().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            let name = name(&entry.path_bytes());
            let place = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    let (at, size) = (entry.raw_file_position(), entry.size());
                    if at.saturating_add(size) > length {
                        return Err(damaged(io::Error::other(format!("it ends within {name}"))));
                    }
                    Place::Bytes { at, size }
                }
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    Place::Link(beside(&name, &String::from_utf8_lossy(&target)))
                }
                EntryType::Link => Place::Link(self::name(&entry.link_name_bytes().unwrap_or_default())),
                _ => continue,
            };
            files.insert(name, place);
            if files.len() > FILES || files.len() as u64 > limits.entries {
                let found = format!("it has more than {FILES} parts");
                return Err(Error::ImageInvalid { image: image.to_owned(), found });
            }
        }
        Ok(Self { file, image: image.to_owned(), files })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The part of a name.
    pub(super) fn part(&self, name: &str) -> Result<Part<'_>, Error> {
        let mut wanted = name.to_owned();
        for _ in 0..4 {
            match self.files.get(&wanted) {
                Some(Place::Bytes { at, size }) => {
                    return Ok(Part { file: &self.file, at: *at, end: at + size });
                }
                Some(Place::Link(target)) => wanted.clone_from(target),
                None => break,
            }
        }
        Err(self.damaged(format!("{name} is not in it")))
    }

    /// A description that is read as a whole.
    pub(super) fn description(&self, name: &str) -> Result<Vec<u8>, Error> {
        let part = self.part(name)?;
        if part.size() > DESCRIPTION {
            return Err(self.invalid(format!("{name} has more than {DESCRIPTION} bytes")));
        }
        let mut text = Vec::new();
        part.take(DESCRIPTION).read_to_end(&mut text).map_err(Error::storage("read", &self.image))?;
        Ok(text)
    }

    pub(super) fn invalid(&self, found: impl Into<String>) -> Error {
        Error::ImageInvalid { image: self.image.clone(), found: found.into() }
    }

    pub(super) fn damaged(&self, found: impl Into<String>) -> Error {
        Error::ImageDamaged { image: self.image.clone(), found: found.into() }
    }

    pub(super) fn image(&self) -> &Path {
        &self.image
    }
}

impl Part<'_> {
    pub(super) const fn size(&self) -> u64 {
        self.end - self.at
    }
}

/// Where a link beside a file leads, as older archives name layers that they share.
fn beside(name: &str, target: &str) -> String {
    let mut names: Vec<&str> = name.split('/').collect();
    names.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            part => names.push(part),
        }
    }
    names.join("/")
}
