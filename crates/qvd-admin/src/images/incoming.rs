//! A file that is being received, where it can be gone on with: one for each name of an OSF.
//!
//! The bytes lie in `.upload-KEY.part` of the images directory, whose name follows from OSF and file name. Whoever
//! receives holds its lock, so that two can never write to one file, in one API or in several on one storage. Beside it,
//! `.upload-KEY.json` tells whose upload it is; without that file a part cannot be gone on with.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use futures_util::{Stream, StreamExt};
use qvd_model::action::Status;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tracing::{debug, warn};

use super::part::{is_at, put};
use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::session::internal;

/// A sender that is silent for this long has gone; its upload can be gone on with.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
/// Hexadecimal digits of a key, and of an id: the key, and something that cannot be guessed.
const KEY: usize = 24;
const ID: usize = KEY + 32;
/// How the names of the files begin.
pub(super) const PREFIX: &str = ".upload-";

/// What an upload will be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Announced {
    /// Its address.
    pub(crate) id: String,
    /// Who sends it; none is root of this machine.
    pub(crate) administrator: Option<i32>,
    /// The arguments of the creation.
    pub(crate) arguments: Map<String, Value>,
    /// Bytes of the file.
    pub(crate) length: u64,
    /// Its sha256, where the sender said so.
    pub(crate) sha256: Option<String>,
    /// The image that is there already and waits for the file.
    #[serde(default)]
    pub(crate) image: Option<i32>,
}

/// Where the upload of a name for an OSF is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    part: PathBuf,
    about: PathBuf,
    key: String,
}

/// A part that nobody else can write to.
#[derive(Debug)]
pub(crate) struct Held {
    place: Place,
    file: File,
}

impl Place {
    /// Of a name, for an OSF.
    pub(crate) fn of(images: &Path, osf: i32, name: &str) -> Self {
        let digest = Sha256::digest(format!("{osf}/{name}"));
        let mut key: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        key.truncate(KEY);
        Self::at(images, key)
    }

    /// Of an id; none if it is not one.
    pub(crate) fn with_id(images: &Path, id: &str) -> Option<Self> {
        let plain = id.len() == ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some(Self::at(images, id.get(..KEY).filter(|_| plain)?.to_owned()))
    }

    /// Of an image that waits for its file.
    pub(crate) fn of_image(images: &Path, id: i32) -> Self {
        Self::at(images, format!("image-{id}"))
    }

    fn at(images: &Path, key: String) -> Self {
        let file = |kind: &str| images.join(format!("{PREFIX}{key}.{kind}"));
        Self { part: file("part"), about: file("json"), key }
    }

    /// A new id for an upload here.
    pub(crate) fn fresh_id(&self) -> String {
        format!("{}{:016x}{:016x}", self.key, rand::random::<u64>(), rand::random::<u64>())
    }

    /// The upload of an id, if it is still this one.
    pub(crate) fn announced(&self) -> Option<Announced> {
        let text = fs::read(&self.about).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// How much is there.
    pub(crate) fn received(&self) -> u64 {
        fs::metadata(&self.part).map_or(0, |meta| meta.len())
    }

    /// Where its bytes are.
    pub(super) fn part(&self) -> &Path {
        &self.part
    }

    /// Removes it with its description, whoever is at it.
    pub(super) fn remove(&self) {
        for file in [&self.about, &self.part] {
            if let Err(error) = remove(file) {
                warn!(file = %file.display(), "incomplete image not removed: {error}");
            }
        }
    }

    /// How long ago something was added.
    pub(super) fn silence(&self) -> Duration {
        let changed = fs::metadata(&self.part).and_then(|meta| meta.modified());
        changed.ok().and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default()
    }

    /// Takes the part for as long as the result lives; none while somebody else has it.
    pub(crate) fn hold(&self) -> io::Result<Option<Held>> {
        loop {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).custom_flags(NOFOLLOW);
            let file = options.open(&self.part)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Whoever had it may have put it into its place, or removed it, meanwhile.
            if is_at(&file, &self.part)? {
                return Ok(Some(Held { place: self.clone(), file }));
            }
        }
    }
}

const NOFOLLOW: i32 = nix::fcntl::OFlag::O_NOFOLLOW.bits();

impl Held {
    /// Where its bytes are.
    pub(crate) fn part(&self) -> &Path {
        &self.place.part
    }

    /// How much is there.
    pub(crate) fn received(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Forgets what is there, and tells whose upload begins, if it can be gone on with.
    pub(crate) fn begin(&self, announced: Option<&Announced>) -> io::Result<()> {
        // In this order: bytes never lie beside the description of others.
        remove(&self.place.about)?;
        self.file.set_len(0)?;
        let Some(announced) = announced else { return Ok(()) };
        let text = serde_json::to_vec(announced)?;
        let new = self.place.about.with_extension("new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, &self.place.about)
    }

    /// Adds what arrives; whatever arrived before an error stays. At most `limit` bytes are there afterwards. `told`
    /// hears how many are.
    pub(crate) async fn append<E: std::fmt::Display>(
        &self,
        bytes: impl Stream<Item = Result<Bytes, E>>,
        limit: u64,
        told: impl Fn(u64),
    ) -> Result<u64, Refusal> {
        let mut target = tokio::fs::File::from_std(self.file.try_clone().map_err(internal)?);
        let mut size =
            tokio::io::AsyncSeekExt::seek(&mut target, io::SeekFrom::End(0)).await.map_err(internal)?;
        let mut bytes = std::pin::pin!(bytes);
        let outcome = loop {
            let chunk = match tokio::time::timeout(SILENCE, bytes.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(None) => break Ok(()),
                Ok(Some(Err(error))) => {
                    break Err(Refusal::new(Status::NoFilePart).because(error.to_string()));
                }
                Err(_) => {
                    break Err(Refusal::new(Status::NoFilePart)
                        .because(format!("nothing arrived for {} seconds", SILENCE.as_secs())));
                }
            };
            if size + chunk.len() as u64 > limit {
                break Err(Refusal::new(Status::TooLarge).because(format!("at most {limit} bytes")));
            }
            if let Err(error) = target.write_all(&chunk).await {
                break Err(not_written(&error));
            }
            size += chunk.len() as u64;
            told(size);
        };
        // What was taken is told to the sender, so it has to be there after a crash of the machine, too.
        let kept = match target.flush().await {
            Ok(()) => target.sync_all().await,
            error => error,
        };
        outcome.and(kept.map_err(|error| not_written(&error)))?;
        self.received().map_err(internal)
    }

    /// Puts the part where it belongs, for good.
    pub(crate) fn place(&self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        // First: after the renaming the next one may begin here.
        remove(&self.place.about)?;
        put(&self.place.part, target)
    }

    /// Whether nobody can go on with it.
    pub(super) fn is_nameless(&self) -> bool {
        self.place.announced().is_none()
    }

    /// Removes it with its description.
    pub(crate) fn discard(self) {
        self.place.remove();
    }
}

impl Announced {
    /// Whether it is this one's.
    pub(crate) fn is_of(&self, caller: &Caller) -> bool {
        self.administrator == caller.id
    }

    /// Whether it is the same file, for the same image, from the same sender.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        *self == Self { id: self.id.clone(), ..other.clone() }
    }
}

/// What a failed write means.
pub(super) fn not_written(error: &io::Error) -> Refusal {
    let status = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Status::NoSpace,
        _ => Status::UploadNotMoved,
    };
    Refusal::new(status).because(error.to_string())
}

/// Removes uploads that nobody went on with for so long, and what cannot be gone on with.
pub(super) fn sweep(images: &Path, keep: Duration) -> io::Result<()> {
    for entry in fs::read_dir(images)? {
        let name = entry?.file_name();
        let Some((key, kind)) =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split_once('.'))
        else {
            continue;
        };
        if !matches!(kind, "part" | "json" | "new") {
            continue;
        }
        let place = Place::at(images, key.to_owned());
        // One that somebody receives is looked at another time.
        let Some(held) = place.hold()? else { continue };
        let changed = held.file.metadata()?.modified()?;
        let age = SystemTime::now().duration_since(changed).unwrap_or_default();
        if place.announced().is_none() || age > keep {
            debug!(part = %place.part.display(), "an upload is given up");
            held.discard();
        }
        remove(&place.about.with_extension("new"))?;
    }
    Ok(())
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(place: &Place) -> Announced {
        Announced {
            id: place.fresh_id(),
            administrator: Some(2),
            arguments: Map::new(),
            length: 7,
            sha256: None,
            image: None,
        }
    }

    #[test]
    fn ids_lead_to_their_part_and_nowhere_else() {
        let images = Path::new("/images");
        let place = Place::of(images, 10_000, "a.tar");
        let found = Place::with_id(images, &place.fresh_id()).unwrap();
        assert_eq!(found.part, place.part);
        assert_ne!(Place::of(images, 10_001, "a.tar").part, place.part);
        for bad in ["", "..", &"../".repeat(19), &"0".repeat(55), &"g".repeat(56), &"é".repeat(28)] {
            assert!(Place::with_id(images, bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_part_has_one_owner_until_it_is_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::of(dir.path(), 1, "x.tar");
        let held = place.hold().unwrap().unwrap();
        assert!(place.hold().unwrap().is_none(), "a second one");
        held.begin(Some(&announced(&place))).unwrap();
        (&held.file).write_all(b"content").unwrap();
        held.place(&dir.path().join("1-x.tar")).unwrap();
        assert!(place.announced().is_none());
        // Whoever comes now gets a new part, not the finished file.
        let next = place.hold().unwrap().unwrap();
        assert_eq!(next.received().unwrap(), 0);
        next.discard();
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["1-x.tar"]);
    }

    #[test]
    fn only_what_can_be_gone_on_with_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let [kept, nameless, busy] = ["kept", "nameless", "busy"].map(|name| Place::of(dir.path(), 1, name));
        let begin = |place: &Place, with: Option<&Announced>| {
            let held = place.hold().unwrap().unwrap();
            held.begin(with).unwrap();
            held
        };
        drop(begin(&kept, Some(&announced(&kept))));
        drop(begin(&nameless, None));
        let held = begin(&busy, None);
        sweep(dir.path(), Duration::from_secs(60)).unwrap();
        assert_eq!([&kept, &nameless, &busy].map(|p| p.part.exists()), [true, false, true]);
        drop(held);
        std::thread::sleep(Duration::from_millis(20));
        sweep(dir.path(), Duration::ZERO).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
