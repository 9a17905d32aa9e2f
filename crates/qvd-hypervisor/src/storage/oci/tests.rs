use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::*;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One entry of a layer: type, path, link target, content.
type Piece = (EntryType, String, String, Vec<u8>);

fn file(path: &str, content: &str) -> Piece {
    (EntryType::Regular, path.to_owned(), String::new(), content.as_bytes().to_vec())
}

fn directory(path: &str) -> Piece {
    (EntryType::Directory, format!("{path}/"), String::new(), Vec::new())
}

fn link(kind: EntryType, path: &str, target: &str) -> Piece {
    (kind, path.to_owned(), target.to_owned(), Vec::new())
}

fn layer(pieces: &[Piece]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (kind, path, target, content) in pieces {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o4751);
        header.set_uid(70_000);
        header.set_gid(7);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        // By hand: the writer refuses paths that lead out, which is what is tested.
        let name = header.as_ustar_mut().unwrap();
        name.name[..path.len()].copy_from_slice(path.as_bytes());
        name.linkname[..target.len()].copy_from_slice(target.as_bytes());
        if *kind == EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(if path.ends_with("null") { 3 } else { 1 }).unwrap();
        }
        header.set_cksum();
        archive.append(&header, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

#[derive(Clone, Copy, PartialEq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn pack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => bytes.to_vec(),
            Self::Gzip => {
                let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packed.write_all(bytes).unwrap();
                packed.finish().unwrap()
            }
            Self::Zstd => zstd::encode_all(bytes, 1).unwrap(),
        }
    }

    fn media_type(self) -> String {
        let suffix = match self {
            Self::Plain => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
        };
        format!("application/vnd.oci.image.layer.v1.tar{suffix}")
    }
}

/// The parts of an archive in the layout of OCI; tests change what they like before it is written.
struct Image {
    blobs: Vec<(String, Vec<u8>)>,
    index: Value,
}

impl Image {
    fn of(layers: &[(Packing, Vec<u8>)]) -> Self {
        Self::for_machine(layers, architecture())
    }

    fn for_machine(layers: &[(Packing, Vec<u8>)], architecture: &str) -> Self {
        let mut blobs = Vec::new();
        let mut blob = |bytes: Vec<u8>| {
            let (digest, size) = (sha256(&bytes), bytes.len());
            blobs.push((format!("blobs/sha256/{digest}"), bytes));
            (format!("sha256:{digest}"), size)
        };
        let insides: Vec<_> = layers.iter().map(|(_, bytes)| format!("sha256:{}", sha256(bytes))).collect();
        let described: Vec<_> = layers
            .iter()
            .map(|(packing, bytes)| {
                let (digest, size) = blob(packing.pack(bytes));
                json!({"mediaType": packing.media_type(), "digest": digest, "size": size})
            })
            .collect();
        let config = json!({"os": "linux", "architecture": architecture, "rootfs": {"diff_ids": insides}});
        let (config, _) = blob(config.to_string().into_bytes());
        let manifest = json!({"schemaVersion": 2, "config": {"digest": config}, "layers": described});
        let (manifest, _) = blob(manifest.to_string().into_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let platform = json!({"os": "linux", "architecture": architecture});
        let index = json!({"manifests": [{"mediaType": kind, "digest": manifest, "platform": platform}]});
        Self { blobs, index }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut parts = self.blobs.clone();
        parts.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec()));
        parts.push(("index.json".to_owned(), self.index.to_string().into_bytes()));
        archive(&parts)
    }
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
}

fn archive(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (name, bytes) in parts {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        match name.split_once(" -> ") {
            Some((name, target)) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_size(0);
                archive.append_link(&mut header, name, target).unwrap();
            }
            None => {
                header.set_size(bytes.len() as u64);
                archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
            }
        }
    }
    archive.into_inner().unwrap()
}

struct Scene {
    directory: tempfile::TempDir,
    image: PathBuf,
}

impl Scene {
    fn with(bytes: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        fs::write(&image, bytes).unwrap();
        Self { directory, image }
    }

    fn flatten(&self) -> Result<PathBuf, Error> {
        let out = self.directory.path().join("out");
        let target = File::create(&out).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let none = Arc::new(AtomicBool::new(false));
        runtime.block_on(flatten(&self.image, target, Limits::default(), none, |_| ())).map(|()| out)
    }

    fn is_container_image(&self) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(is_container_image(&self.image)).unwrap()
    }
}

fn refused(bytes: &[u8]) -> String {
    let scene = Scene::with(bytes);
    assert!(scene.is_container_image());
    let text = scene.flatten().unwrap_err().to_string();
    // Nothing but the image and what was given to be written to is left.
    assert_eq!(fs::read_dir(scene.directory.path()).unwrap().count(), 2);
    text
}

/// What an archive has: paths without `./`, and type with content or target.
fn read(path: &Path) -> Vec<(String, EntryType, String, Header)> {
    let inside = zstd::Decoder::new(File::open(path).unwrap()).unwrap();
    let mut archive = tar::Archive::new(inside);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
        let mut text =
            entry.link_name().unwrap().map(|to| to.to_str().unwrap().to_owned()).unwrap_or_default();
        entry.read_to_string(&mut text).unwrap();
        found.push((path, entry.header().entry_type(), text, entry.header().clone()));
    }
    found
}

fn contents(found: &[(String, EntryType, String, Header)]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for (path, kind, text, _) in found {
        match kind {
            EntryType::Regular => drop(files.insert(path.clone(), text.clone())),
            EntryType::Link => {
                let content: String = files[text].clone();
                files.insert(path.clone(), content);
            }
            _ => {}
        }
    }
    files
}

#[test]
fn layers_of_every_packing_become_one_archive() {
    let below = layer(&[
        directory("sbin"),
        file("sbin/init", "old"),
        file("etc/passwd", "p"),
        file("data", "d"),
        link(EntryType::Link, "copy", "data"),
        link(EntryType::Symlink, "lib", "usr/lib"),
        (EntryType::Char, "dev/null".into(), String::new(), Vec::new()),
        (EntryType::Char, "dev/mem".into(), String::new(), Vec::new()),
        (EntryType::Fifo, "run/pipe".into(), String::new(), Vec::new()),
    ]);
    let middle = layer(&[file("sbin/init", "new"), file(".wh.data", ""), file("lib/x", "library")]);
    let top = layer(&[file("etc/.wh..wh..opq", ""), file("etc/hosts", "h")]);
    for outer in [Packing::Plain, Packing::Gzip] {
        let layers =
            [(Packing::Gzip, below.clone()), (Packing::Plain, middle.clone()), (Packing::Zstd, top.clone())];
        let scene = Scene::with(&outer.pack(&Image::of(&layers).bytes()));
        assert!(scene.is_container_image());
        let found = read(&scene.flatten().unwrap());
        let wanted = [("copy", "d"), ("etc/hosts", "h"), ("sbin/init", "new"), ("usr/lib/x", "library")];
        assert_eq!(contents(&found), wanted.map(|(path, text)| (path.to_owned(), text.to_owned())).into());
        let kinds: BTreeMap<_, _> = found.iter().map(|(path, kind, _, _)| (path.as_str(), *kind)).collect();
        assert_eq!(kinds["copy"], EntryType::Regular, "its first name is gone");
        assert_eq!(
            (kinds["lib"], kinds["run/pipe"], kinds["dev/null"]),
            (EntryType::Symlink, EntryType::Fifo, EntryType::Char)
        );
        assert!(!kinds.contains_key("dev/mem"), "a device of the node");
        let (_, _, _, header) = found.iter().find(|(path, ..)| path == "sbin/init").unwrap();
        assert_eq!(
            (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap()),
            (0o4751, 70_000, 7)
        );
        assert_eq!(header.mtime().unwrap(), 1_700_000_000);
        // Another reader, and what nodes do with it.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let image =
            runtime.block_on(super::super::verify::verify(&scene.directory.path().join("out"))).unwrap();
        assert_eq!(image.image.kind, Kind::Tar(Compression::Zstd));
        assert_eq!(fs::read_dir(scene.directory.path()).unwrap().count(), 2, "a copy is left");
    }
}

#[test]
fn what_docker_saves_is_read_with_its_shared_layers() {
    let (one, two) = (layer(&[file("sbin/init", "i"), file("a", "1")]), layer(&[file("a", "2")]));
    let [first, second, third] = ["1", "2", "3"].map(|digit| digit.repeat(64));
    let insides: Vec<_> = [&one, &two, &one].map(|bytes| format!("sha256:{}", sha256(bytes))).to_vec();
    let config = json!({"rootfs": {"diff_ids": insides}, "architecture": architecture(), "os": "linux"});
    let name = format!("{}.json", "4".repeat(64));
    let layers = [&first, &second, &third].map(|layer| format!("{layer}/layer.tar"));
    let manifest = json!([{"Config": name, "RepoTags": ["x:latest"], "Layers": layers}]);
    let parts = |manifest: &Value| {
        archive(&[
            (layers[0].clone(), one.clone()),
            (layers[1].clone(), two.clone()),
            (format!("{} -> ../{first}/layer.tar", layers[2]), Vec::new()),
            (name.clone(), config.to_string().into_bytes()),
            ("manifest.json".to_owned(), manifest.to_string().into_bytes()),
        ])
    };
    let scene = Scene::with(&parts(&manifest));
    assert!(scene.is_container_image());
    assert_eq!(contents(&read(&scene.flatten().unwrap()))["a"], "1");
    let mut several = manifest.clone();
    several.as_array_mut().unwrap().push(manifest[0].clone());
    assert!(refused(&parts(&several)).contains("several images, such as x:latest"));
    let mut swapped = manifest;
    swapped[0]["Layers"] = json!([layers[1], layers[0], layers[2]]);
    assert!(refused(&parts(&swapped)).contains("is not what its digest says"));
}

#[test]
fn an_archive_of_files_is_no_container_image() {
    for pieces in [vec![file("manifest.json", "[]"), file("sbin/init", "")], vec![file("blobs/x", "")]] {
        assert!(!Scene::with(&layer(&pieces)).is_container_image());
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let good = layer(&[file("sbin/init", "i")]);
    let image = || Image::of(&[(Packing::Gzip, good.clone())]);
    // A digest of every kind of part.
    for at in 0..3 {
        let mut image = image();
        let changed = if at == 0 { layer(&[file("sbin/init", "j")]) } else { b"{}".to_vec() };
        image.blobs[at].1 = if at == 0 { Packing::Gzip.pack(&changed) } else { changed };
        let text = refused(&image.bytes());
        assert!(text.contains("digest"), "{text}");
    }
    let mut missing = image();
    missing.blobs.remove(0);
    assert!(refused(&missing.bytes()).contains("is not in it"));
    let mut twice = image();
    let other = Image::of(&[(Packing::Plain, good.clone())]);
    twice.blobs.extend(other.blobs);
    twice.index["manifests"].as_array_mut().unwrap().push(other.index["manifests"][0].clone());
    assert!(refused(&twice.bytes()).contains("several images"));
    let foreign = Image::for_machine(&[(Packing::Gzip, good.clone())], "riscv64").bytes();
    assert!(refused(&foreign).contains("no image for linux/"));
    let mut anonymous = Image::for_machine(&[(Packing::Gzip, good.clone())], "riscv64");
    anonymous.index["manifests"][0].as_object_mut().unwrap().remove("platform");
    assert!(refused(&anonymous.bytes()).contains("for linux/riscv64"));
    let mut weak = image();
    weak.index["manifests"][0]["digest"] = json!("md5:0123");
    assert!(refused(&weak.bytes()).contains("no sha256"));

    let with = |pieces: &[Piece]| refused(&Image::of(&[(Packing::Plain, layer(pieces))]).bytes());
    assert!(with(&[file("../x", "")]).contains("`../x` leads out of the image"));
    assert!(with(&[file("a/../../x", "")]).contains("leads out"));
    assert!(with(&[link(EntryType::Link, "a", "../../etc/shadow")]).contains("leads out"));
    assert!(with(&[link(EntryType::Link, "a", "b")]).contains("not there"));
    assert!(with(&[file("a", ""), file("a/b", "")]).contains("no directory"));
    // Absolute paths and links out of the tree mean its root.
    let inside =
        [link(EntryType::Symlink, "out", "/../../etc"), file("/out/x", "inside"), file("sbin/init", "")];
    let scene = Scene::with(&Image::of(&[(Packing::Plain, layer(&inside))]).bytes());
    assert_eq!(contents(&read(&scene.flatten().unwrap()))["etc/x"], "inside");
}

/// Changes what the manifest says, with digests that fit.
fn described_as(kind: &str) -> Vec<u8> {
    let mut image = Image::of(&[(Packing::Gzip, layer(&[file("sbin/init", "i")]))]);
    let (_, manifest) = image.blobs.pop().unwrap();
    let text = String::from_utf8(manifest).unwrap().replace(&Packing::Gzip.media_type(), kind);
    let digest = sha256(text.as_bytes());
    image.blobs.push((format!("blobs/sha256/{digest}"), text.into_bytes()));
    image.index["manifests"][0]["digest"] = json!(format!("sha256:{digest}"));
    image.bytes()
}

#[test]
fn types_of_layers_have_to_be_known_and_true() {
    let docker = described_as("application/vnd.docker.image.rootfs.diff.tar.gzip");
    assert!(Scene::with(&docker).flatten().is_ok());
    assert!(refused(&described_as(&Packing::Zstd.media_type())).contains("not compressed as its type says"));
    for kind in ["application/vnd.oci.image.layer.v1.tar+encrypted", "text/plain", ""] {
        assert!(refused(&described_as(kind)).contains("unknown type"), "{kind}");
    }
}

/// A step of a layer, at a place where files and directories never meet.
#[derive(Debug, Clone)]
enum Step {
    File(usize),
    Link(usize, usize),
    Gone(usize),
    GoneDirectory(usize),
    Opaque(usize),
}

const DIRECTORIES: [&str; 3] = ["", "d", "d/e"];

fn place(number: usize) -> String {
    let directory = DIRECTORIES[number % 3];
    let name = format!("f{}", number / 3);
    if directory.is_empty() { name } else { format!("{directory}/{name}") }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..9_usize).prop_map(Step::File),
        2 => (0..9_usize, 0..9_usize).prop_map(|(a, b)| Step::Link(a, b)),
        2 => (0..9_usize).prop_map(Step::Gone),
        1 => (1..3_usize).prop_map(Step::GoneDirectory),
        1 => (0..3_usize).prop_map(Step::Opaque),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The same as laying layers over each other in a map of names and contents: first what a layer takes away, then
    /// what it adds.
    #[test]
    fn a_flat_archive_has_what_its_layers_have_one_over_the_other(
        layers in prop::collection::vec((prop::collection::vec(step(), 0..8), any::<bool>(), 0..3_u8), 1..5)
    ) {
        let mut reference: BTreeMap<String, String> = BTreeMap::new();
        let mut built = Vec::new();
        for (number, (steps, late, packing)) in layers.iter().enumerate() {
            let (mut marks, mut adds) = (Vec::new(), Vec::new());
            let within = |directory: &str, path: &str| directory.is_empty() || path.starts_with(&format!("{directory}/"));
            for step in steps {
                match step {
                    Step::Gone(at) => {
                        let path = place(*at);
                        reference.remove(&path);
                        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
                        marks.push(file(format!("{parent}/.wh.{name}").trim_start_matches('/'), ""));
                    }
                    Step::GoneDirectory(at) => {
                        reference.retain(|path, _| !within(DIRECTORIES[*at], path));
                        let (parent, name) = DIRECTORIES[*at].rsplit_once('/').unwrap_or(("", DIRECTORIES[*at]));
                        marks.push(file(format!("{parent}/.wh.{name}").trim_start_matches('/'), ""));
                    }
                    Step::Opaque(at) => {
                        reference.retain(|path, _| !within(DIRECTORIES[*at], path));
                        marks.push(file(format!("{}/.wh..wh..opq", DIRECTORIES[*at]).trim_start_matches('/'), ""));
                    }
                    Step::File(_) | Step::Link(..) => {}
                }
            }
            for (at, step) in steps.iter().enumerate() {
                match step {
                    Step::File(to) => {
                        let content = format!("{number}.{at}");
                        adds.push(file(&place(*to), &content));
                        reference.insert(place(*to), content);
                    }
                    Step::Link(to, from) => {
                        // What marks take away can only be linked to when the marks come first.
                        let Some(content) = reference.get(&place(*from)).cloned() else { continue };
                        adds.push(link(EntryType::Link, &place(*to), &place(*from)));
                        reference.insert(place(*to), content);
                    }
                    _ => {}
                }
            }
            let pieces = if *late { [adds, marks].concat() } else { [marks, adds].concat() };
            let packing = [Packing::Plain, Packing::Gzip, Packing::Zstd][usize::from(*packing)];
            built.push((packing, layer(&pieces)));
        }
        let scene = Scene::with(&Image::of(&built).bytes());
        prop_assert_eq!(contents(&read(&scene.flatten().unwrap())), reference);
    }
}
