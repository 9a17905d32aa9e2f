//! Base trees out of archives, well-meant and otherwise.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use crate::support::{Archive, Storage, header, listing, wanted};
use qvd_hypervisor::Error;
use qvd_hypervisor::storage::{
    Compression, Init, Kind, Layout, Limits, Progress, Unpacking, inspect, prepare_base, remove_base, verify,
};
use tar::EntryType;
use tokio::sync::watch;

fn invalid(result: &Result<impl std::fmt::Debug, Error>) -> bool {
    matches!(result, Err(Error::ImageInvalid { .. }))
}

/// Unpacks a whole image after `change`, and expects it to be refused with nothing left, inside or outside.
async fn is_refused(what: &str, change: impl FnOnce(&mut Archive)) -> String {
    let storage = Storage::new();
    let mut archive = Archive::image();
    change(&mut archive);
    storage.image("1-bad.tar", &archive.bytes());
    let before = listing(&storage.directories.images);
    let result = storage.unpack("1-bad.tar").await;
    assert!(invalid(&result), "{what}: {result:?}");
    assert_eq!(storage.bases(), Vec::<String>::new(), "{what}");
    assert_eq!(listing(&storage.directories.images), before, "{what}");
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn names_that_lead_out_are_refused() {
    is_refused("parent", |a| {
        a.file("../escaped", b"x");
    })
    .await;
    is_refused("parent inside", |a| {
        a.file("etc/../../escaped", b"x");
    })
    .await;
    is_refused("hard link", |a| {
        a.entry(EntryType::Link, "stolen", "../../images/1-bad.tar", b"");
    })
    .await;
    is_refused("hard link to nothing", |a| {
        a.entry(EntryType::Link, "a", "/etc/shadow", b"");
    })
    .await;
}

#[tokio::test]
async fn contradictions_are_refused() {
    is_refused("file as directory", |a| {
        a.file("a", b"").file("a/b", b"x");
    })
    .await;
    is_refused("link to itself", |a| {
        a.entry(EntryType::Symlink, "loop", "loop", b"").file("loop/x", b"x");
    })
    .await;
    is_refused("full directory as file", |a| {
        a.file("d/x", b"").file("d", b"x");
    })
    .await;
    is_refused("link without target", |a| {
        a.entry(EntryType::Symlink, "a", "", b"");
    })
    .await;
}

#[tokio::test]
async fn names_that_would_fill_the_memory_are_refused() {
    let long = vec![b'x'; 8 << 20];
    for kind in [EntryType::GNULongName, EntryType::XHeader] {
        let refused = is_refused("long names", |a| {
            a.entry(kind, "long", "", &long).file("a", b"x");
        });
        assert!(refused.await.contains("names and attributes"));
    }
}

#[tokio::test]
async fn links_lead_no_further_than_the_root() {
    let storage = Storage::new();
    let outside = storage.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let mut archive = Archive::image();
    archive
        .entry(EntryType::Symlink, "away", outside.to_str().unwrap(), b"")
        .entry(EntryType::Symlink, "up", "../../../../../../../..", b"")
        .file("up/x", b"x")
        .entry(EntryType::Symlink, "file", outside.join("written").to_str().unwrap(), b"")
        .file("file", b"x");
    storage.image("1-links.tar", &archive.bytes());
    let tree = storage.unpack("1-links.tar").await.unwrap();
    assert!(listing(&outside).is_empty());
    assert_eq!(fs::read(tree.root.join("x")).unwrap(), b"x");
    assert!(fs::symlink_metadata(tree.root.join("file")).unwrap().is_file());

    let mut archive = Archive::image();
    archive.entry(EntryType::Symlink, "away", outside.to_str().unwrap(), b"").file("away/written", b"x");
    storage.image("2-links.tar", &archive.bytes());
    assert!(invalid(&storage.unpack("2-links.tar").await));
    assert!(listing(&outside).is_empty());
}

#[tokio::test]
async fn only_harmless_devices_are_made() {
    let storage = Storage::new();
    let mut archive = Archive::image();
    for (kind, name, major, minor) in
        [(EntryType::Char, "null", 1, 3), (EntryType::Char, "mem", 1, 1), (EntryType::Block, "sda", 8, 0)]
    {
        let mut header = header(kind, name, "");
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_size(0);
        archive.header(&mut header);
    }
    storage.image("1-devices.tar", &archive.bytes());
    let tree = storage.unpack("1-devices.tar").await.unwrap();
    assert!(fs::metadata(tree.root.join("null")).unwrap().file_type().is_char_device());
    assert!(!tree.root.join("mem").exists() && !tree.root.join("sda").exists());
}

#[tokio::test]
async fn owners_modes_times_and_attributes_are_kept() {
    let storage = Storage::new();
    let mut archive = Archive::image();
    // The value that `setcap cap_net_raw+ep` writes.
    let capability: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    archive
        .builder()
        .append_pax_extensions([
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"kept"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .unwrap();
    let mut entry = header(EntryType::Regular, "tool", "");
    entry.set_mode(0o4755);
    entry.set_uid(4711);
    entry.set_gid(815);
    entry.set_size(0);
    archive.header(&mut entry);
    let sparse = vec![0; 1 << 20];
    archive.file("sparse", &sparse).entry(EntryType::Link, "again", "tool", b"");
    storage.image("1-attributes.tar", &archive.bytes());
    let tree = storage.unpack("1-attributes.tar").await.unwrap();
    let tool = tree.root.join("tool");
    let found = fs::metadata(&tool).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (4711, 815, 0o4755));
    assert_eq!((found.mtime(), found.nlink()), (1_700_000_000, 2));
    assert_eq!(xattr::get(&tool, "security.capability").unwrap().as_deref(), Some(capability));
    assert_eq!(xattr::get(&tool, "user.note").unwrap().as_deref(), Some(&b"kept"[..]));
    assert_eq!(xattr::get(&tool, "trusted.overlay.opaque").unwrap(), None);
    let sparse = fs::metadata(tree.root.join("sparse")).unwrap();
    assert_eq!((sparse.len(), sparse.blocks()), (1 << 20, 0));
}

#[tokio::test]
async fn the_type_is_judged_by_content() {
    let storage = Storage::new();
    let plain = Archive::image().bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).unwrap();
    let mut xz = xz2::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let contents = [
        (Compression::None, plain.clone()),
        (Compression::Gzip, gzip.finish().unwrap()),
        (Compression::Bzip2, bzip2.finish().unwrap()),
        (Compression::Xz, xz.finish().unwrap()),
        (Compression::Zstd, zstd::encode_all(plain.as_slice(), 1).unwrap()),
    ];
    for (number, (compression, content)) in contents.iter().enumerate() {
        let name = format!("{number}-named-wrongly.tar.gz");
        let path = storage.image(&name, content);
        let image = inspect(&path).await.unwrap();
        assert_eq!((image.kind, image.size), (Kind::Tar(*compression), content.len() as u64));
        let registered = Unpacking { sha256: Some(image.sha256), ..wanted(&name) };
        assert_eq!(storage.unpack_as(registered).await.unwrap().layout, Layout::Basic);
    }
    for (name, content) in [("empty", &b""[..]), ("text", b"no archive"), ("cut", b"\x1f\x8b\x08")] {
        let path = storage.image(name, content);
        assert!(invalid(&inspect(&path).await), "{name}");
        assert!(invalid(&storage.unpack(name).await), "{name}");
    }
    let missing = storage.directories.images.join("missing");
    assert!(matches!(inspect(&missing).await, Err(Error::ImageMissing(_))));
    let disk = storage.image("disk", b"QFI\xfb\0\0\0\x03");
    assert_eq!(inspect(&disk).await.unwrap().kind, Kind::Qcow2);
}

#[tokio::test]
async fn changed_content_is_noticed() {
    let storage = Storage::new();
    let path = storage.image("1-a.tar", &Archive::image().bytes());
    let sha256 = inspect(&path).await.unwrap().sha256;
    let registered = || Unpacking { sha256: Some(sha256.clone()), ..wanted("1-a.tar") };
    storage.unpack_as(registered()).await.unwrap();

    // Only touched: still the same image.
    storage.image("1-a.tar", &Archive::image().bytes());
    storage.unpack_as(registered()).await.unwrap();

    let mut other = Archive::image();
    other.file("new", b"");
    storage.image("1-a.tar", &other.bytes());
    assert!(matches!(storage.unpack("1-a.tar").await, Err(Error::ImageChanged { .. })));

    remove_base(&storage.directories, "1-a.tar").await.unwrap();
    remove_base(&storage.directories, "1-a.tar").await.unwrap();
    assert!(matches!(storage.unpack_as(registered()).await, Err(Error::ImageChanged { .. })));
    assert_eq!(storage.bases(), Vec::<String>::new());
    storage.unpack("1-a.tar").await.unwrap();
    assert_eq!(storage.bases(), ["1-a", "record.1-a"]);
}

#[tokio::test]
async fn bounds_hold() {
    let storage = Storage::new();
    let mut archive = Archive::image();
    archive.file("big", &vec![7; 1 << 20]);
    storage.image("1-big.tar", &archive.bytes());
    let few = Limits { entries: 1, ..Limits::default() };
    let small = Limits { bytes: 64 << 10, ..Limits::default() };
    for limits in [few, small] {
        assert!(invalid(&storage.unpack_as(Unpacking { limits, ..wanted("1-big.tar") }).await));
        assert_eq!(storage.bases(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn nothing_in_an_archive_takes_much_memory() {
    let storage = Storage::new();
    let mut archive = Archive::image();
    archive.entry(EntryType::GNULongName, "././@LongLink", "", &vec![b'a'; 5 << 20]).file("short", b"");
    let path = storage.image("1-names.tar", &archive.bytes());
    let refused = verify(&path).await.unwrap_err().to_string();
    assert!(refused.contains("too long"), "{refused}");
    assert!(invalid(&storage.unpack("1-names.tar").await));

    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(30).unwrap();
    std::io::copy(&mut Archive::image().bytes().as_slice(), &mut encoder).unwrap();
    let path = storage.image("2-window.tar.zst", &encoder.finish().unwrap());
    assert!(invalid(&verify(&path).await));

    let fifo = storage.directories.images.join("3-fifo.tar");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(invalid(&verify(&fifo).await));
}

#[tokio::test]
async fn a_damaged_archive_leaves_nothing() {
    let storage = Storage::new();
    let mut archive = Archive::image();
    archive.file("big", &vec![7; 1 << 20]);
    let whole = zstd::encode_all(archive.bytes().as_slice(), 1).unwrap();
    storage.image("1-cut.tar.zst", &whole[..whole.len() / 2]);
    let result = storage.unpack("1-cut.tar.zst").await;
    assert!(invalid(&result), "{result:?}");
    assert_eq!(storage.bases(), Vec::<String>::new());
}

#[tokio::test]
async fn an_interrupted_unpacking_leaves_no_base_and_is_cleared() {
    let storage = Storage::new();
    let mut archive = Archive::image();
    for number in 0..2000 {
        archive.file(&format!("file{number}"), &[7; 64 << 10]);
    }
    storage.image("1-long.tar", &archive.bytes());
    let progress = watch::Sender::new(Progress::default());
    let mut seen = progress.subscribe();
    {
        let work = prepare_base(&storage.directories, wanted("1-long.tar"), progress);
        tokio::select! {
            result = work => panic!("finished too early: {result:?}"),
            moved = seen.wait_for(|progress| progress.done > 0) => drop(moved.unwrap()),
        }
    }
    // The thread drops the sender when it has cleaned up.
    while seen.changed().await.is_ok() {}
    assert_eq!(storage.bases(), Vec::<String>::new());

    // What a crash leaves has no lock, and goes with the next unpacking.
    fs::create_dir(storage.directories.basefs.join("untar-1-2-3")).unwrap();
    storage.unpack("1-long.tar").await.unwrap();
    assert_eq!(storage.bases(), ["1-long", "record.1-long"]);
}

#[tokio::test]
async fn one_unpacking_serves_all_who_wait() {
    let storage = Storage::new();
    let mut archive = Archive::image();
    archive.file("big", &vec![7; 4 << 20]);
    storage.image("1-a.tar", &archive.bytes());
    let (a, b, c) =
        tokio::join!(storage.unpack("1-a.tar"), storage.unpack("1-a.tar"), storage.unpack("1-a.tar"));
    assert_eq!(a.unwrap(), b.unwrap());
    c.unwrap();
    assert_eq!(storage.bases(), ["1-a", "record.1-a"]);
}

#[tokio::test]
async fn images_are_classified() {
    let storage = Storage::new();
    let mut archive = Archive::new();
    archive
        .entry(EntryType::Directory, "rootfs/usr/lib/systemd", "", b"")
        .entry(EntryType::Symlink, "rootfs/sbin", "usr/sbin", b"")
        .file("rootfs/usr/lib/systemd/systemd", b"")
        .entry(EntryType::Symlink, "rootfs/usr/sbin/init", "/lib/systemd/systemd", b"")
        .entry(EntryType::Symlink, "rootfs/lib", "usr/lib", b"")
        .file("lxc/config-extra", b"")
        .entry(EntryType::Symlink, "lxc/fstab", "/etc/fstab", b"")
        .file("hooks/prestart", b"");
    storage.image("1-extended.tar", &archive.bytes());
    let tree = storage.unpack("1-extended.tar").await.unwrap();
    assert_eq!((tree.layout, tree.init), (Layout::Extended, Init::Systemd));
    assert_eq!(tree.root, tree.base.join("rootfs"));
    assert!(tree.extra().is_some() && tree.fstab().is_none());
    assert!(tree.hook("prestart").is_some() && tree.hook("poststop").is_none());
    assert!(tree.hook("../lxc/config-extra").is_none());

    let mut archive = Archive::new();
    archive.entry(EntryType::Symlink, "redirect", tree.base.to_str().unwrap(), b"");
    storage.image("2-redirect.tar", &archive.bytes());
    assert!(invalid(&storage.unpack("2-redirect.tar").await));
    assert_eq!(storage.bases(), ["1-extended", "record.1-extended"]);
    let allowed = Unpacking { redirect: true, ..wanted("2-redirect.tar") };
    assert_eq!(storage.unpack_as(allowed).await.unwrap().base, tree.base);

    let mut archive = Archive::new();
    archive.file("readme", b"");
    storage.image("3-none.tar", &archive.bytes());
    assert!(invalid(&storage.unpack("3-none.tar").await));
    // A base that is there already is judged, too.
    symlink("/", storage.directories.basefs.join("4-manual")).unwrap();
    assert_eq!(storage.unpack("4-manual").await.unwrap().layout, Layout::Basic);
}

#[tokio::test]
async fn other_users_of_the_node_are_shut_out() {
    let storage = Storage::new();
    storage.image("1-a.tar", &Archive::image().bytes());
    let basefs = &storage.directories.basefs;
    let mode = || fs::metadata(basefs).unwrap().mode() & 0o777;
    storage.unpack("1-a.tar").await.unwrap();
    assert_eq!(mode(), 0o700);
    // Made by somebody else, as by an earlier version.
    fs::set_permissions(basefs, fs::Permissions::from_mode(0o755)).unwrap();
    storage.unpack("1-a.tar").await.unwrap();
    assert_eq!(mode(), 0o750);
}
