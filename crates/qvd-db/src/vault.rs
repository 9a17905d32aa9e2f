//! Secrets at rest: sealed before they are stored, opened when they are read.
//!
//! A sealed text reads `$qs1$KEY$TEXT`: AES-256-GCM-SIV with a random nonce, which stands before the ciphertext and its
//! tag, in unpadded base64. `KEY` names the key by the first eight hexadecimal digits of its SHA-256. What the secret is
//! of, its [`Place`], is authenticated with it: a sealed text that is moved to another row opens no more. Other ways of
//! sealing will get another word than `qs1`.
//!
//! Keys are lines of a file that only its owner may read, the newest first: new secrets are sealed with that one, older
//! ones are opened with whichever they name. Texts without the prefix are those of databases that were not sealed yet.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use qvd_model::{TenantId, VmId};
use zeroize::Zeroizing;

use crate::Error;

/// How every sealed text begins. Plain secrets must not.
pub const PREFIX: &str = "$qs1$";

/// Bytes of a key.
const KEY: usize = 32;
/// No key file is larger.
const MAX_FILE: u64 = 64 << 10;

const HEAD: &str = "# Keys that seal the secrets in QVD-DB, the newest first. Whoever has them and a dump has the secrets.\n\
    # Every machine of the installation needs the same file; keep a copy where the backups of the database are not.\n";

/// What a secret is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// A setting of a tenant, or of all.
    Setting(TenantId, &'a str),
    /// TLS material.
    Pem(&'a str),
    /// The agent inside a VM.
    Agent(VmId),
    /// The second factor of an administrator.
    SecondFactor(i32),
    /// A custom property of an object of a kind.
    Property {
        /// The kind.
        kind: &'a str,
        /// The object.
        object: i32,
        /// Which of the properties that objects of the kind may have.
        property: i32,
    },
}

impl fmt::Display for Place<'_> {
    // Sealed texts depend on these words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting(tenant, key) => write!(f, "setting {key} of tenant {tenant}"),
            Self::Pem(key) => write!(f, "TLS material {key}"),
            Self::Agent(vm) => write!(f, "agent of VM {vm}"),
            Self::SecondFactor(administrator) => write!(f, "second factor of administrator {administrator}"),
            Self::Property { kind, object, property } => write!(f, "property {property} of {kind} {object}"),
        }
    }
}

/// Seals and opens. Clones share what they know of the file; the default has none, leaves secrets plain, and opens
/// plain ones only.
#[derive(Clone, Default)]
pub struct Vault(Option<Arc<Inner>>);

struct Inner {
    file: PathBuf,
    /// As they were read last.
    keys: Mutex<Arc<Keys>>,
}

/// Keys by their names, the newest first.
type Keys = Vec<(String, RandomizedNonceKey)>;

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vault").field(&self.file()).finish()
    }
}

impl Vault {
    /// The vault of a key file, which is read when it is needed.
    pub fn at(file: impl Into<PathBuf>) -> Self {
        Self(Some(Arc::new(Inner { file: file.into(), keys: Mutex::default() })))
    }

    /// Its key file, if it has one.
    pub fn file(&self) -> Option<&Path> {
        self.0.as_ref().map(|inner| inner.file.as_path())
    }

    /// Whether the key file can be used, if there is to be one.
    pub fn check(&self) -> Result<(), Error> {
        self.0.as_ref().map_or(Ok(()), |inner| inner.read().map(drop))
    }

    /// The text to store for a secret.
    pub fn seal(&self, place: Place<'_>, plain: &str) -> Result<String, Error> {
        if plain.starts_with(PREFIX) {
            return Err(sealed(place, format!("a plain secret must not begin with {PREFIX}")));
        }
        let Some(inner) = &self.0 else { return Ok(plain.to_owned()) };
        // Somebody may have added a key.
        let keys = inner.read()?;
        let failed = || sealed(place, "it cannot be encrypted".to_owned());
        let (name, key) = keys.first().ok_or_else(failed)?;
        let mut text = plain.as_bytes().to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(place.to_string()), &mut text);
        let nonce = nonce.map_err(|_| failed())?;
        let whole = [nonce.as_ref().as_slice(), &text].concat();
        Ok(format!("{PREFIX}{name}${}", STANDARD_NO_PAD.encode(whole)))
    }

    /// The secret of a stored text.
    pub fn open(&self, place: Place<'_>, stored: &str) -> Result<String, Error> {
        let Some(rest) = stored.strip_prefix(PREFIX) else { return Ok(stored.to_owned()) };
        let damaged = || sealed(place, "it was changed, or belongs elsewhere".to_owned());
        let (name, text) = rest.split_once('$').ok_or_else(damaged)?;
        let inner = self.0.as_ref().ok_or_else(|| {
            sealed(place, "there is no key file; set database.secrets.file to a copy of that of the machine which sealed it".to_owned())
        })?;
        let keys = inner.with_key(name)?;
        let known = keys.iter().find(|(known, _)| known == name);
        let (_, key) = known.ok_or_else(|| {
            let file = inner.file.display();
            sealed(
                place,
                format!(
                    "{file} has no key {name}; put the line of that key into the file, or the secret in anew"
                ),
            )
        })?;
        let mut whole = STANDARD_NO_PAD.decode(text).map_err(|_| damaged())?;
        let (nonce, text) = whole.split_at_mut_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let opened = key.open_in_place(nonce, Aad::from(place.to_string()), text).map_err(|_| damaged())?;
        String::from_utf8(opened.to_vec()).map_err(|_| damaged())
    }

    /// Whether a stored text is sealed as a new one would be: with the newest key, if there is one.
    pub fn is_fresh(&self, stored: &str) -> Result<bool, Error> {
        let Some(inner) = &self.0 else { return Ok(true) };
        let keys = inner.read()?;
        let name = stored.strip_prefix(PREFIX).and_then(|rest| rest.split_once('$')).map(|(name, _)| name);
        Ok(keys.first().map(|(newest, _)| newest.as_str()) == name)
    }

    /// Whether this vault has the key of a stored text; of a plain one too.
    pub fn can_open(&self, stored: &str) -> bool {
        let Some(rest) = stored.strip_prefix(PREFIX) else { return true };
        let (Some(inner), Some((name, _))) = (&self.0, rest.split_once('$')) else { return false };
        inner.with_key(name).is_ok_and(|keys| keys.iter().any(|(known, _)| known == name))
    }

    /// Makes the key file with one key, for an owner by user and group; `false` if it is there already.
    pub fn create(&self, owner: Option<(u32, u32)>) -> Result<bool, Error> {
        let Some(inner) = &self.0 else { return Ok(false) };
        if inner.file.exists() {
            return inner.read().map(|_| false);
        }
        inner.write(&format!("{HEAD}{}\n", fresh().as_str()), owner).map(|()| true)
    }

    /// The keys in one line, for the file of another machine.
    pub fn line(&self) -> Result<Zeroizing<String>, Error> {
        let Some(inner) = &self.0 else { return Ok(Zeroizing::default()) };
        let (text, _) = inner.text()?;
        Ok(Zeroizing::new(keys_of(&text).collect::<Vec<_>>().join(", ")))
    }

    /// Makes the key file from such a line, for an owner by user and group; `false` if it is there already.
    pub fn create_from(&self, line: &str, owner: Option<(u32, u32)>) -> Result<bool, Error> {
        let Some(inner) = self.0.as_ref().filter(|inner| !inner.file.exists()) else { return Ok(false) };
        let text = Zeroizing::new(format!("{HEAD}{}\n", line.replace(", ", "\n")));
        // First, so that nothing of a wrong line stays.
        inner.keys_in(&text)?;
        inner.write(&text, owner).map(|()| true)
    }

    /// Adds a key, with which everything will be sealed from now on; its name.
    pub fn add_key(&self) -> Result<String, Error> {
        let Some(inner) = &self.0 else {
            return Err(Error::Settings("database.secrets.file names no key file".to_owned()));
        };
        let (text, owner) = inner.text()?;
        let added = fresh();
        let keys = Zeroizing::new(keys_of(&text).collect::<Vec<_>>().join("\n"));
        inner.write(&format!("{HEAD}{}\n{}\n", added.as_str(), keys.as_str()), Some(owner))?;
        Ok(added.split(' ').next().unwrap_or_default().to_owned())
    }
}

impl Inner {
    /// The keys, read again if that one is not known yet.
    fn with_key(&self, name: &str) -> Result<Arc<Keys>, Error> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if keys.iter().any(|(known, _)| known == name) { Ok(keys) } else { self.read() }
    }

    fn read(&self) -> Result<Arc<Keys>, Error> {
        let (text, _) = self.text()?;
        let keys = Arc::new(self.keys_in(&text)?);
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys.clone();
        Ok(keys)
    }

    /// The keys in the text of a file; there is one at least.
    fn keys_in(&self, text: &str) -> Result<Keys, Error> {
        let lines = text.lines().enumerate().filter(|(_, line)| is_key(line));
        let keys = lines
            .map(|(at, line)| {
                let key = line.split_once(' ').and_then(|(name, key)| Some((name, parse(name, key)?)));
                let (name, key) = key.ok_or_else(|| {
                    self.unusable(format!(
                        "line {} is not the name of a key and the key; put back the line as it was made",
                        at + 1
                    ))
                })?;
                Ok((name.to_owned(), key))
            })
            .collect::<Result<Keys, Error>>()?;
        if keys.is_empty() {
            return Err(self.unusable("it holds no key".to_owned()));
        }
        Ok(keys)
    }

    /// The text of the file, and its owner.
    fn text(&self) -> Result<(Zeroizing<String>, (u32, u32)), Error> {
        let file = File::open(&self.file).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => self.unusable(
                "it does not exist; copy it from another machine of the installation or from where you keep it, or \
                 let `qvd-deploy-db` make one for a new database"
                    .to_owned(),
            ),
            _ => self.unusable(e.to_string()),
        })?;
        let about = file.metadata().map_err(|e| self.unusable(e.to_string()))?;
        if about.mode() & 0o077 != 0 {
            let mode = about.mode() & 0o777;
            return Err(self.unusable(format!("others may read or change it (mode {mode:o}); chmod 600 it")));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE).read_to_string(&mut text).map_err(|e| self.unusable(e.to_string()))?;
        Ok((text, (about.uid(), about.gid())))
    }

    /// Writes the file so that it is complete or unchanged, and never readable by others in between.
    fn write(&self, text: &str, owner: Option<(u32, u32)>) -> Result<(), Error> {
        let beside = self.file.with_extension("new");
        let written = || -> std::io::Result<()> {
            if let Some(parent) = self.file.parent() {
                std::fs::create_dir_all(parent)?;
            }
            // What a failed attempt left may belong to somebody.
            let _ = std::fs::remove_file(&beside);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())?;
            if let Some((user, group)) = owner {
                fchown(&file, Some(user), Some(group))?;
            }
            file.sync_all()?;
            std::fs::rename(&beside, &self.file)
        };
        written().map_err(|e| self.unusable(format!("it cannot be written: {e}")))
    }

    fn unusable(&self, problem: String) -> Error {
        Error::KeyFile { file: self.file.clone(), problem }
    }
}

fn sealed(place: Place<'_>, problem: String) -> Error {
    Error::Sealed { place: place.to_string(), problem }
}

fn is_key(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

fn keys_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| is_key(line))
}

/// The line of a new key.
fn fresh() -> Zeroizing<String> {
    let key = Zeroizing::new(rand::random::<[u8; KEY]>());
    let text = Zeroizing::new(STANDARD_NO_PAD.encode(key.as_slice()));
    Zeroizing::new(format!("{} {}", name_of(key.as_slice()), text.as_str()))
}

fn name_of(key: &[u8]) -> String {
    let sum = digest(&SHA256, key);
    sum.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn parse(name: &str, text: &str) -> Option<RandomizedNonceKey> {
    let key = Zeroizing::new(STANDARD_NO_PAD.decode(text.trim()).ok()?);
    // The name tells a line that was mistyped.
    if key.len() != KEY || name_of(&key) != name {
        return None;
    }
    RandomizedNonceKey::new(&AES_256_GCM_SIV, &key).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: Place<'_> = Place::Setting(TenantId(1), "auth.ldap.bindpass");

    fn vault(directory: &tempfile::TempDir) -> Vault {
        let vault = Vault::at(directory.path().join("keys"));
        assert!(vault.create(None).unwrap());
        vault
    }

    #[test]
    fn a_secret_opens_where_it_was_sealed_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(&directory);
        let stored = vault.seal(HERE, "hunter2").unwrap();
        assert!(stored.starts_with(PREFIX) && !stored.contains("hunter2"));
        assert_ne!(stored, vault.seal(HERE, "hunter2").unwrap());
        assert_eq!(vault.open(HERE, &stored).unwrap(), "hunter2");
        for elsewhere in
            [Place::Setting(TenantId(2), "auth.ldap.bindpass"), Place::Pem("x"), Place::Agent(VmId(1))]
        {
            let error = vault.open(elsewhere, &stored).unwrap_err().to_string();
            assert!(error.contains("belongs elsewhere") && error.contains(&elsewhere.to_string()), "{error}");
        }
        assert_eq!(vault.open(HERE, "plain").unwrap(), "plain", "of a database that was not sealed");
        assert!(vault.seal(HERE, &stored).is_err(), "sealed twice");
    }

    #[test]
    fn without_the_key_the_error_says_which_and_where() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let stored = vault(&one).seal(HERE, "s").unwrap();
        let error = Vault::default().open(HERE, &stored).unwrap_err().to_string();
        assert!(error.contains("database.secrets.file"), "{error}");
        let error = vault(&other).open(HERE, &stored).unwrap_err().to_string();
        let name = stored.split('$').nth(2).unwrap();
        assert!(error.contains(&format!("keys has no key {name}")), "{error}");
        let missing = Vault::at(one.path().join("nothing"));
        let error = missing.check().unwrap_err().to_string();
        assert!(error.contains("/nothing") && error.contains("does not exist"), "{error}");
        assert!(missing.seal(HERE, "s").is_err(), "stored plain instead");
        assert_eq!(Vault::default().seal(HERE, "s").unwrap(), "s");
        assert!(!Vault::default().can_open(&stored) && !missing.can_open(&stored));
    }

    #[test]
    fn a_file_that_is_not_ours_alone_or_is_damaged_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let vault = vault(&directory);
        let file = vault.file().unwrap().to_owned();
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(!vault.create(None).unwrap(), "made again");
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        assert!(vault.check().unwrap_err().to_string().contains("mode 640"));
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let line = text.lines().last().unwrap();
        for (wrong, words) in [
            (line.chars().rev().collect(), "line 1"),
            (format!("# none\n{}", &line[..20]), "line 2"),
            (String::new(), "no key"),
        ] {
            std::fs::write(&file, &wrong).unwrap();
            let error = vault.check().unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains(&line[12..]), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_still_opens_also_in_other_processes() {
        let directory = tempfile::tempdir().unwrap();
        let one = vault(&directory);
        let other = Vault::at(one.file().unwrap());
        let old = one.seal(HERE, "s").unwrap();
        assert!(one.is_fresh(&old).unwrap() && !one.is_fresh("plain").unwrap());
        let name = one.add_key().unwrap();
        let new = one.seal(HERE, "s").unwrap();
        assert_eq!(new.split('$').nth(2), Some(name.as_str()));
        for vault in [&one, &other] {
            assert_eq!([&old, &new].map(|stored| vault.open(HERE, stored).unwrap()), ["s", "s"]);
        }
        assert!(!one.is_fresh(&old).unwrap() && one.is_fresh(&new).unwrap());
        assert!(other.seal(HERE, "s").unwrap().contains(&name));
        // All keys travel in one line.
        let third = Vault::at(directory.path().join("copy"));
        assert!(third.create_from(&one.line().unwrap(), None).unwrap());
        assert_eq!([&old, &new].map(|stored| third.open(HERE, stored).unwrap()), ["s", "s"]);
        assert!(!third.create_from("x", None).unwrap(), "replaced");
        let bad = directory.path().join("bad");
        assert!(Vault::at(&bad).create_from("x", None).is_err() && !bad.exists());
    }

    proptest! {
        #[test]
        fn any_text_comes_back_and_no_change_goes_unseen(secret in ".{0,80}", at in 0_usize..200, by in 1_u8..=255) {
            let directory = tempfile::tempdir().unwrap();
            let vault = vault(&directory);
            prop_assume!(!secret.starts_with(PREFIX));
            let stored = vault.seal(HERE, &secret).unwrap();
            prop_assert_eq!(vault.open(HERE, &stored).unwrap(), secret.clone());
            let mut bytes = stored.clone().into_bytes();
            let at = PREFIX.len() + at % (bytes.len() - PREFIX.len());
            bytes[at] ^= by & 0x7f | 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                prop_assert!(changed == stored || vault.open(HERE, &changed).is_err());
            }
        }

        #[test]
        fn no_stored_text_makes_it_fail_badly(stored in "(\\$qs1\\$)?[a-f0-9]{0,8}\\$?.{0,60}") {
            let _ = Vault::default().open(HERE, &stored);
        }
    }
}
