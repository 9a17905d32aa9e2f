//! What a container image says about itself: which layers it has, and their digests.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::super::image::Compression;
use super::archive::Archive;
use crate::Error;

/// A layer, lowest first.
pub(super) struct Layer {
    /// Its part of the archive.
    pub(super) part: String,
    /// The sha256 of that part, if it is known.
    pub(super) digest: Option<String>,
    /// The sha256 of what is inside.
    pub(super) inside: Option<String>,
    /// How it says that it is compressed.
    pub(super) compression: Option<Compression>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::HashMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// An image as `docker save` lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

/// Layers of an image; Linux file systems lay no more over each other, either.
const LAYERS: usize = 500;
/// Indexes of indexes.
const DEPTH: usize = 3;
const REF: &str = "org.opencontainers.image.ref.name";
const REFERENCE: &str = "vnd.docker.reference.type";

/// The layers of the image for this machine that the archive holds.
pub(super) fn layers(archive: &Archive) -> Result<Vec<Layer>, Error> {
    let layers = if archive.has("index.json") { indexed(archive)? } else { saved(archive)? };
    match layers.len() {
        0 => Err(archive.invalid("the image has no layers")),
        count if count > LAYERS => Err(archive.invalid(format!("the image has more than {LAYERS} layers"))),
        _ => Ok(layers),
    }
}

fn indexed(archive: &Archive) -> Result<Vec<Layer>, Error> {
    let top: Index = parsed(archive, "index.json", &archive.description("index.json")?)?;
    let mut open = vec![(top, 0)];
    let mut found: Vec<(String, Manifest)> = Vec::new();
    while let Some((index, depth)) = open.pop() {
        for descriptor in index.manifests {
            let attested = descriptor.annotations.contains_key(REFERENCE);
            if attested || descriptor.platform.as_ref().is_some_and(|p| !p.is_ours()) {
                continue;
            }
            let name = part(archive, &descriptor.digest)?;
            let text = checked(archive, &name, &descriptor.digest)?;
            if is_index(&descriptor, &text) {
                if depth == DEPTH {
                    return Err(archive.invalid("its indexes are nested too deep"));
                }
                open.push((parsed(archive, &name, &text)?, depth + 1));
            } else if found.iter().all(|(digest, _)| *digest != descriptor.digest) {
                found.push((descriptor.digest.clone(), parsed(archive, &name, &text)?));
            }
            if found.len() > 1 {
                let name = descriptor.annotations.get(REF).unwrap_or(&descriptor.digest);
                return Err(
                    archive.invalid(format!("it holds several images, such as {name}; save just one"))
                );
            }
        }
    }
    let Some((_, manifest)) = found.pop() else {
        return Err(archive.invalid(format!("it holds no image for linux/{}", architecture())));
    };
    let name = part(archive, &manifest.config.digest)?;
    let config: Config = parsed(archive, &name, &checked(archive, &name, &manifest.config.digest)?)?;
    let insides = config.insides(archive, manifest.layers.len())?;
    let layer = |(descriptor, inside): (Descriptor, String)| {
        Ok(Layer {
            part: part(archive, &descriptor.digest)?,
            digest: Some(hex(archive, &descriptor.digest)?),
            inside: Some(inside),
            compression: Some(compression(archive, &descriptor.media_type)?),
        })
    };
    manifest.layers.into_iter().zip(insides).map(layer).collect()
}

fn saved(archive: &Archive) -> Result<Vec<Layer>, Error> {
    let name = "manifest.json";
    let mut images: Vec<Saved> = parsed(archive, name, &archive.description(name)?)?;
    let image = match (images.pop(), images.is_empty()) {
        (Some(image), true) => image,
        (None, _) => return Err(archive.invalid("it holds no image")),
        (Some(image), false) => {
            let name = image.repo_tags.and_then(|mut tags| tags.pop()).unwrap_or(image.config);
            return Err(archive.invalid(format!("it holds several images, such as {name}; save just one")));
        }
    };
    let config: Config = parsed(archive, &image.config, &archive.description(&image.config)?)?;
    let insides = config.insides(archive, image.layers.len())?;
    let layer = |(part, inside)| Layer { part, digest: None, inside: Some(inside), compression: None };
    Ok(image.layers.into_iter().zip(insides).map(layer).collect())
}

impl Config {
    /// The digests of what is inside the layers.
    fn insides(self, archive: &Archive, layers: usize) -> Result<Vec<String>, Error> {
        let platform = Platform { architecture: self.architecture, os: self.os };
        if !platform.architecture.is_empty() && !platform.is_ours() {
            let (os, architecture) = (platform.os, platform.architecture);
            return Err(
                archive.invalid(format!("it is for {os}/{architecture}, not linux/{}", self::architecture()))
            );
        }
        if self.rootfs.diff_ids.len() != layers {
            let known = self.rootfs.diff_ids.len();
            return Err(
                archive.invalid(format!("it has {layers} layers, and its configuration knows {known}"))
            );
        }
        self.rootfs.diff_ids.iter().map(|digest| hex(archive, digest)).collect()
    }
}

impl Platform {
    fn is_ours(&self) -> bool {
        self.os == "linux" && self.architecture == architecture()
    }
}

/// The name that container images have for the architecture of this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn is_index(descriptor: &Descriptor, text: &[u8]) -> bool {
    match descriptor.media_type.as_str() {
        "" => serde_json::from_slice::<Index>(text).is_ok(),
        kind => kind.ends_with(".index.v1+json") || kind.ends_with(".manifest.list.v2+json"),
    }
}

fn compression(archive: &Archive, media_type: &str) -> Result<Compression, Error> {
    let layer = media_type.contains(".image.layer.") || media_type.contains(".image.rootfs.");
    let packed = media_type.rsplit(['+', '.']).next().unwrap_or_default();
    match packed {
        "gzip" if layer => Ok(Compression::Gzip),
        "zstd" if layer => Ok(Compression::Zstd),
        "tar" if layer => Ok(Compression::None),
        _ => Err(archive.invalid(format!("it has a layer of the unknown type `{media_type}`"))),
    }
}

/// The part of the archive that a digest names.
fn part(archive: &Archive, digest: &str) -> Result<String, Error> {
    Ok(format!("blobs/sha256/{}", hex(archive, digest)?))
}

fn hex(archive: &Archive, digest: &str) -> Result<String, Error> {
    let hex = digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64);
    hex.filter(|hex| hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
        .map(str::to_owned)
        .ok_or_else(|| archive.invalid(format!("`{digest}` is no sha256 digest")))
}

fn checked(archive: &Archive, name: &str, digest: &str) -> Result<Vec<u8>, Error> {
    let text = archive.description(name)?;
    let found: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    if found == hex(archive, digest)? {
        Ok(text)
    } else {
        Err(archive.damaged(format!("{name} has another digest")))
    }
}

fn parsed<T: DeserializeOwned>(archive: &Archive, name: &str, text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| archive.invalid(format!("{name} cannot be read: {error}")))
}
