//! Images: unpacking one, and cloning it for a new VM.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use qvd_hypervisor::storage::{
    Directories, HomeOwner, Limits, Progress, Unpacking, discard_overlay, mount_root, prepare_base,
    prepare_home, prepare_overlay, unmount_below,
};
use qvd_model::{DiId, VmId};
use testbed::{image, programs};
use tokio::sync::watch;

use crate::table::{Table, percentile};

/// How often an image is unpacked; the best counts.
const UNPACKINGS: usize = 3;
/// How often it is cloned.
const CLONES: i32 = 200;

/// Measures both.
pub fn measure(table: &mut Table) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let image = image::desktop(&programs::program("qvd-vma")?, directory.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(table, directory.path(), &image))
}

async fn run(table: &mut Table, root: &Path, image: &Path) -> Result<()> {
    let file = image.file_name().and_then(|name| name.to_str()).context("the image has no name")?.to_owned();
    let at = |name: &str| root.join(name);
    let directories = Directories {
        images: root.to_owned(),
        basefs: at("basefs"),
        overlayfs: at("overlayfs"),
        rootfs: at("rootfs"),
        homefs: at("homefs"),
    };
    let wanted = Unpacking { file, sha256: None, limits: Limits::default(), redirect: true };
    let mut best = Duration::MAX;
    let mut by_tar = Duration::MAX;
    for _ in 0..UNPACKINGS {
        let begun = Instant::now();
        by_hand(image, &at("by-tar"))?;
        by_tar = by_tar.min(begun.elapsed());
        fs::remove_dir_all(at("by-tar"))?;
        if directories.basefs.exists() {
            fs::remove_dir_all(&directories.basefs)?;
        }
        let begun = Instant::now();
        prepare_base(&directories, wanted.clone(), watch::channel(Progress::default()).0).await?;
        best = best.min(begun.elapsed());
    }
    let figure = format!("{:.2} s", best.as_secs_f64());
    let beside = format!("zstd | tar, hashed and synced: {:.2} s", by_tar.as_secs_f64());
    table.row("unpack the desktop image, checked and on disk", figure, beside, "");

    let tree = prepare_base(&directories, wanted, watch::channel(Progress::default()).0).await?;
    let (mut clones, mut bare) = (Vec::new(), Vec::new());
    for vm in (0..CLONES).map(VmId) {
        let begun = Instant::now();
        let overlay = prepare_overlay(&directories, DiId(1), vm, false).await?;
        mount_root(&tree.root, &overlay, &directories.root(vm)).await?;
        prepare_home(&directories, HomeOwner::Vm(vm)).await?;
        clones.push(begun.elapsed());
        let begun = Instant::now();
        clone_by_hand(&tree.root, &at("by-hand"))?;
        bare.push(begun.elapsed());
        umount2(&at("by-hand").join("root"), MntFlags::empty())?;
        fs::remove_dir_all(at("by-hand"))?;
    }
    for vm in (0..CLONES).map(VmId) {
        unmount_below(&directories.root(vm), Duration::from_secs(10)).await?;
        discard_overlay(&directories, vm, false, false).await?;
    }
    let figure = |times: &[Duration]| {
        format!("p50 {:.1} ms, p99 {:.1} ms", percentile(times, 0.5), percentile(times, 0.99))
    };
    let beside = format!("three mkdir and one mount: {}", figure(&bare));
    table.row("clone of the image for a new VM, with its home", figure(&clones), beside, "p99 ≤ 50 ms");
    Ok(())
}

/// What an administrator would type.
fn by_hand(image: &Path, destination: &Path) -> Result<()> {
    fs::create_dir(destination)?;
    let script =
        "set -e; sha256sum \"$1\" >/dev/null; zstd -qdc \"$1\" | tar -x -C \"$2\" -f -; sync -f \"$2\"";
    let status = Command::new("/bin/sh").args(["-c", script, "sh"]).arg(image).arg(destination).status()?;
    ensure!(status.success(), "zstd or tar: {status}");
    Ok(())
}

fn clone_by_hand(lower: &Path, place: &Path) -> Result<()> {
    for name in ["upper", "work", "root"] {
        fs::create_dir_all(place.join(name))?;
    }
    let at = |name: &str| place.join(name).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), at("upper"), at("work"));
    let flags = MsFlags::empty();
    mount(Some("overlay"), &place.join("root"), Some("overlay"), flags, Some(options.as_str()))?;
    Ok(())
}
