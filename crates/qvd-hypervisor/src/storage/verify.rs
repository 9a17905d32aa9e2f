//! Everything that a file tells about the image in it, before anybody relies on it.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};
use std::rc::Rc;

use super::image::{Compression, HEADERS, Image, Kind, Metered, decoder, inspect, open};
use super::unpack::Limits;
use crate::Error;
use crate::blocking::blocking;

/// An image that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The file.
    pub image: Image,
    /// Bytes that it has when it is unpacked; of a disk, its size.
    pub unpacked: u64,
    /// What is in an archive.
    pub root: Option<RootFileSystem>,
}

/// What the archive of a root file system holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootFileSystem {
    /// Files, directories, links.
    pub entries: u64,
    /// Whether there is an agent that answers routers.
    pub agent: bool,
    /// Its accounts.
    pub accounts: Vec<Account>,
}

/// An account of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
}

/// Where a root file system begins, by itself or beside hooks.
const ROOTS: [&str; 2] = ["sbin", "rootfs/sbin"];
/// What a container starts, wherever `sbin` leads.
const INITS: [&str; 4] = ["sbin/init", "usr/sbin/init", "bin/init", "usr/bin/init"];
/// A list of accounts is not larger.
const ACCOUNTS: u64 = 1 << 20;

/// Like [`inspect`], but reads also what is inside, to the end: an archive that was cut or damaged on its way, or
/// that no container could boot, and a disk that needs other files are refused before anybody relies on them.
///
/// # Errors
/// As [`inspect`], and [`Error::ImageDamaged`].
pub async fn verify(path: &Path) -> Result<Examined, Error> {
    let image = inspect(path).await?;
    blocking("verify an image", move || {
        let file = open(&image.path)?;
        match image.kind {
            Kind::Tar(compression) => {
                let (root, unpacked) = read(&image.path, file, compression)?;
                Ok(Examined { image, unpacked, root: Some(root) })
            }
            Kind::Qcow2 => Ok(Examined { unpacked: disk(&image.path, &file)?, image, root: None }),
            Kind::Raw => Ok(Examined { unpacked: image.size, image, root: None }),
        }
    })
    .await
}

fn read(path: &Path, file: File, compression: Compression) -> Result<(RootFileSystem, u64), Error> {
    let damaged = |error: io::Error| Error::ImageDamaged { image: path.to_owned(), found: error.to_string() };
    let limits = Limits::default();
    let invalid = |found| Error::ImageInvalid { image: path.to_owned(), found };
    let inside = decoder(compression, Box::new(file)).map_err(damaged)?;
    let allowance = Rc::new(Cell::new(HEADERS));
    let inside = Metered { inner: inside.take(limits.bytes), allowance: allowance.clone() };
    let mut archive = tar::Archive::new(inside);
    let mut root = RootFileSystem::default();
    let (mut rooted, mut init) = (false, false);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        allowance.set(u64::MAX);
        root.entries += 1;
        if root.entries > limits.entries {
            return Err(invalid(format!("it has more than {} entries", limits.entries)));
        }
        let path = entry.path().map_err(damaged)?;
        let inside = path.strip_prefix(".").unwrap_or(&path);
        if inside.components().any(|part| part == Component::ParentDir) {
            return Err(invalid(format!("its entry `{}` leads out of it", path.display())));
        }
        rooted |= ROOTS.iter().any(|root| inside.starts_with(root));
        let inside = inside.strip_prefix("rootfs").unwrap_or(inside).to_owned();
        drop(path);
        init |= INITS.iter().any(|init| inside == Path::new(init));
        root.agent |= inside.file_name().is_some_and(|name| name == "qvd-vma");
        if inside == Path::new("etc/passwd") {
            let mut text = Vec::new();
            entry.by_ref().take(ACCOUNTS).read_to_end(&mut text).map_err(damaged)?;
            root.accounts = accounts(&String::from_utf8_lossy(&text));
        }
        io::copy(&mut entry, &mut io::sink()).map_err(damaged)?;
        allowance.set(HEADERS);
    }
    // Checksums of the compression stand behind the last entry.
    let mut rest = archive.into_inner().inner;
    io::copy(&mut rest, &mut io::sink()).map_err(damaged)?;
    if rest.limit() == 0 {
        return Err(invalid(format!("it unpacks to more than {} bytes", limits.bytes)));
    }
    if !rooted {
        let roots = ROOTS.join(" nor ");
        return Err(invalid(format!("it is not the archive of a root file system: it has neither {roots}")));
    }
    if !init {
        return Err(invalid("it has no sbin/init, so that no container can boot it".to_owned()));
    }
    Ok((root, limits.bytes - rest.limit()))
}

fn accounts(text: &str) -> Vec<Account> {
    let account = |line: &str| {
        let mut fields = line.split(':');
        let (name, _, uid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Account { name: name.to_owned(), uid: uid.parse().ok()? })
    };
    text.lines().filter_map(account).collect()
}

/// The size of a disk in the format of QEMU, if it needs no other file: what it names would be opened on the node.
fn disk(path: &Path, file: &File) -> Result<u64, Error> {
    let mut head = [0; 80];
    file.read_exact_at(&mut head, 0).map_err(|error| Error::ImageDamaged {
        image: path.to_owned(),
        found: format!("its head is cut: {error}"),
    })?;
    let number = |at: usize| {
        let bytes = head.get(at..at + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        u64::from_be_bytes(bytes.unwrap_or_default())
    };
    let invalid = |found: &str| Error::ImageInvalid { image: path.to_owned(), found: found.to_owned() };
    let version = number(0) & 0xffff_ffff;
    if !(2..=3).contains(&version) {
        return Err(invalid("it is a qcow2 disk of an unknown version"));
    }
    if number(8) != 0 {
        return Err(invalid(
            "it is only the difference to another disk; write it as a whole (qemu-img convert)",
        ));
    }
    if version == 3 && number(72) & 4 != 0 {
        return Err(invalid("its data lies in another file; write it as a whole (qemu-img convert)"));
    }
    Ok(number(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examined(bytes: &[u8]) -> Result<Examined, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        std::fs::write(&path, bytes).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(verify(&path)).map_err(|error| error.to_string())
    }

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn an_archive_tells_what_is_in_it() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\nann:x:1000:1000::/home/ann:/bin/sh\n";
        let bytes = archive(&[
            ("rootfs/usr/sbin/init", ""),
            ("rootfs/sbin", ""),
            ("rootfs/etc/passwd", passwd),
            ("rootfs/usr/bin/qvd-vma", ""),
        ]);
        let found = examined(&bytes).unwrap();
        assert_eq!((found.image.kind.as_str(), found.unpacked), ("tar", bytes.len() as u64));
        let root = found.root.unwrap();
        let accounts = root.accounts.iter().map(|account| (account.name.as_str(), account.uid));
        assert_eq!((root.entries, root.agent), (4, true));
        assert_eq!(accounts.collect::<Vec<_>>(), [("root", 0), ("ann", 1000)]);
        assert!(examined(&archive(&[("sbin/x", "")])).unwrap_err().contains("no sbin/init"));
        assert!(examined(&archive(&[("bin/init", "")])).unwrap_err().contains("neither sbin"));
    }

    fn qcow2(version: u32, backing: u64, features: u64) -> Vec<u8> {
        let mut head = vec![0; 512];
        head[..4].copy_from_slice(b"QFI\xfb");
        head[4..8].copy_from_slice(&version.to_be_bytes());
        head[8..16].copy_from_slice(&backing.to_be_bytes());
        head[24..32].copy_from_slice(&(10_u64 << 30).to_be_bytes());
        head[72..80].copy_from_slice(&features.to_be_bytes());
        head
    }

    #[test]
    fn a_disk_must_not_need_other_files() {
        for version in [2, 3] {
            let found = examined(&qcow2(version, 0, 0)).unwrap();
            assert_eq!((found.image.kind, found.unpacked), (Kind::Qcow2, 10 << 30));
        }
        assert!(examined(&qcow2(3, 512, 0)).unwrap_err().contains("difference to another disk"));
        assert!(examined(&qcow2(3, 0, 4)).unwrap_err().contains("in another file"));
        assert!(examined(&qcow2(9, 0, 0)).unwrap_err().contains("unknown version"));
        assert!(examined(&qcow2(3, 0, 0)[..40]).unwrap_err().contains("cut"));
        let mut raw = vec![0; 4096];
        raw[450] = 0xee;
        raw[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(examined(&raw).unwrap().image.kind, Kind::Raw);
        raw[450] = 0;
        assert!(examined(&raw).is_err(), "a table without partitions");
    }
}
