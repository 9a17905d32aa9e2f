//! Configuration in layers: tenant rows over global rows over files over built-in defaults.
//!
//! References `${other.key}` are expanded when a value is read, with the layers of that moment, so that a
//! base path set in the database moves everything below it (`spec/config-keys.md` 4 and 5).

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use qvd_model::TenantId;
use qvd_model::config::{InvalidValue, Scope, key, secret_reference, suggestion};
use tokio::sync::watch;
use tracing::warn;

use crate::properties::{self, Malformed};

/// How deep references may nest before they count as a cycle.
const MAX_DEPTH: usize = 16;

/// What went wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that must be there cannot be read.
    #[error("cannot read configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a file is not an entry.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A value does not fit its key.
    #[error("{origin}: {source}")]
    Invalid {
        /// File and line, or the database row.
        origin: String,
        /// Key and problem.
        source: InvalidValue,
    },
    /// A key without default is not set.
    #[error("{0} is not set; add it to the configuration")]
    Missing(String),
    /// A reference leads to a key that has no value.
    #[error("{key}: refers to `{reference}`, which is not set")]
    Dangling {
        /// The key that was read.
        key: String,
        /// The key it refers to.
        reference: String,
    },
    /// References form a circle.
    #[error("{0}: its references form a circle")]
    Circular(String),
}

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    value: String,
    origin: Arc<str>,
}

type Layer = BTreeMap<String, Setting>;

/// One row of table `configs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `-1` for global rows.
    pub tenant: TenantId,
    /// The key.
    pub key: String,
    /// The unexpanded value.
    pub value: String,
}

/// The live configuration of a daemon: a cheap handle that all its parts share.
#[derive(Clone)]
pub struct Config {
    files: Arc<[PathBuf]>,
    current: Arc<ArcSwap<Snapshot>>,
    /// Held while a new snapshot is made from the present one.
    changing: Arc<Mutex<()>>,
    revision: watch::Sender<u64>,
}

/// The configuration of one moment. Dereferences to the global [`Values`].
#[derive(Debug)]
pub struct Snapshot {
    global: Values,
    tenants: HashMap<TenantId, Values>,
}

/// The values that one reader sees: a stack of layers over the built-in defaults.
#[derive(Debug, Clone)]
pub struct Values {
    /// Highest precedence first.
    layers: Vec<Arc<Layer>>,
}

impl Config {
    /// Reads files in order, later ones win. The first must exist; the others are optional.
    pub fn load<P: AsRef<Path>>(files: &[P]) -> Result<Self, ConfigError> {
        let files: Vec<PathBuf> = files.iter().map(|path| path.as_ref().to_owned()).collect();
        Ok(Self::new(read_files(&files)?, files))
    }

    /// A configuration from text in file syntax; `name` stands for the file in messages.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        Ok(Self::new(file_layer(Path::new(name), text)?, Vec::new()))
    }

    fn new(layer: Layer, files: Vec<PathBuf>) -> Self {
        let global = Values { layers: vec![Arc::new(layer)] };
        let snapshot = Snapshot { global, tenants: HashMap::new() };
        Self {
            files: files.into(),
            current: Arc::new(ArcSwap::from_pointee(snapshot)),
            changing: Arc::default(),
            revision: watch::Sender::new(0),
        }
    }

    /// Reads the files again. One that cannot be read or parsed leaves everything as it was.
    pub fn reload_files(&self) -> Result<(), ConfigError> {
        let layer = Arc::new(read_files(&self.files)?);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.now();
        let renewed = |values: &Values| {
            let mut layers = values.layers.clone();
            layers.pop();
            layers.push(layer.clone());
            Values { layers }
        };
        let tenants = old.tenants.iter().map(|(tenant, values)| (*tenant, renewed(values))).collect();
        self.put(Snapshot { global: renewed(&old.global), tenants });
        Ok(())
    }

    fn put(&self, snapshot: Snapshot) {
        for problem in snapshot.problems() {
            warn!("{problem}");
        }
        self.current.store(Arc::new(snapshot));
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// The configuration of this moment. Take it anew for each piece of work; it does not change under you.
    pub fn now(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts the rows of QVD-DB in place of the earlier ones.
    ///
    /// A row that does not fit its key is reported and left out, so that the value below it stays in force;
    /// so is a row of a key that only files may set.
    pub fn set_rows(&self, rows: impl IntoIterator<Item = Row>) {
        let mut layers: HashMap<TenantId, Layer> = HashMap::new();
        for row in rows {
            let origin: Arc<str> = format!("configs row of tenant {}", row.tenant).into();
            if let Some(problem) = row_problem(&row) {
                warn!(key = row.key, tenant = row.tenant.0, "configuration row ignored: {problem}");
                continue;
            }
            let setting = Setting { value: row.value, origin };
            layers.entry(row.tenant).or_default().insert(row.key, setting);
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.now();
        let Some(file) = old.global.layers.last().cloned() else { return };
        let rows = Arc::new(layers.remove(&TenantId::GLOBAL).unwrap_or_default());
        let base = vec![rows, file];
        let tenants = layers
            .into_iter()
            .map(|(tenant, layer)| {
                let layers = std::iter::once(Arc::new(layer)).chain(base.iter().cloned()).collect();
                (tenant, Values { layers })
            })
            .collect();
        let snapshot = Snapshot { global: Values { layers: base }, tenants };
        for problem in snapshot.problems().into_iter().chain(snapshot.unheeded()) {
            warn!("{problem}");
        }
        self.current.store(Arc::new(snapshot));
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// Marks every later change of the configuration.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

impl Snapshot {
    /// What a tenant sees; only keys of tenant scope differ from the global view.
    pub fn for_tenant(&self, tenant: TenantId) -> Values {
        self.tenants.get(&tenant).unwrap_or(&self.global).clone()
    }
}

impl std::ops::Deref for Snapshot {
    type Target = Values;

    fn deref(&self) -> &Values {
        &self.global
    }
}

impl Values {
    /// The expanded value of a key that must have one.
    pub fn text(&self, name: &str) -> Result<String, ConfigError> {
        self.optional(name)?.ok_or_else(|| ConfigError::Missing(name.to_owned()))
    }

    /// The expanded value of a key, if it is set or has a default.
    pub fn optional(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let Some((raw, _)) = self.raw(name) else { return Ok(None) };
        let value = self.expand(name, raw, 0)?;
        if let Some(registered) = key(name) {
            let unset = value.is_empty() && registered.default.is_none_or(str::is_empty);
            if !unset {
                registered.check(&value).map_err(|source| self.invalid(name, source))?;
            }
        }
        Ok(Some(value))
    }

    /// Whether a switch is on: anything but empty and `0`.
    pub fn flag(&self, name: &str) -> Result<bool, ConfigError> {
        Ok(!matches!(self.optional(name)?.as_deref(), None | Some("" | "0")))
    }

    /// A whole number.
    pub fn int<T: FromStr>(&self, name: &str) -> Result<T, ConfigError>
    where
        T::Err: Display,
    {
        self.parsed(name)
    }

    /// A number that may have decimals.
    pub fn number(&self, name: &str) -> Result<f64, ConfigError> {
        self.parsed(name)
    }

    /// A span of time that is written in seconds.
    pub fn seconds(&self, name: &str) -> Result<Duration, ConfigError> {
        let seconds = self.number(name)?;
        Duration::try_from_secs_f64(seconds).map_err(|error| self.problem(name, error.to_string()))
    }

    /// A path.
    pub fn path(&self, name: &str) -> Result<PathBuf, ConfigError> {
        self.text(name).map(PathBuf::from)
    }

    /// An IPv4 address.
    pub fn address(&self, name: &str) -> Result<Ipv4Addr, ConfigError> {
        self.parsed(name)
    }

    /// The words of a comma-separated list.
    pub fn list(&self, name: &str) -> Result<Vec<String>, ConfigError> {
        let text = self.optional(name)?.unwrap_or_default();
        Ok(text.split(',').map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect())
    }

    /// Every key that has a value, sorted: set ones, registered ones, and custom ones.
    pub fn keys(&self) -> Vec<String> {
        let registered = qvd_model::config::KEYS.iter().filter(|k| k.default.is_some()).map(|k| k.name);
        let set = self.layers.iter().flat_map(|layer| layer.keys().map(String::as_str));
        let all: std::collections::BTreeSet<&str> = registered.chain(set).collect();
        all.into_iter().map(str::to_owned).collect()
    }

    /// The unexpanded value of a key and where it was set.
    pub fn raw(&self, name: &str) -> Option<(&str, &str)> {
        let set = self.layers.iter().find_map(|layer| layer.get(name));
        set.map(|s| (s.value.as_str(), &*s.origin)).or_else(|| key(name)?.default.map(|d| (d, "default")))
    }

    /// The unexpanded value that a key has without any row of the database.
    pub fn raw_in_file(&self, name: &str) -> Option<&str> {
        let set = self.layers.last().and_then(|layer| layer.get(name));
        set.map(|s| s.value.as_str()).or_else(|| key(name)?.default)
    }

    /// What is wrong with the values as they are: unfit ones, and unknown keys that look like a slip.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for name in self.keys() {
            if let Err(error) = self.optional(&name) {
                problems.push(error.to_string());
            }
            if key(&name).is_none()
                && let (Some(meant), Some((_, origin))) = (suggestion(&name), self.raw(&name))
            {
                problems.push(format!("{origin}: unknown key `{name}`; did you mean `{meant}`?"));
            }
        }
        problems
    }

    /// The settings somebody made that have no effect in this version.
    pub fn unheeded(&self) -> Vec<String> {
        let set = self.layers.iter().flat_map(|layer| layer.iter());
        let vain = set.filter(|(name, _)| key(name).is_some_and(|registered| !registered.heeded));
        vain.map(|(name, setting)| format!("{}: `{name}` has no effect in this version", setting.origin))
            .collect()
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Result<T, ConfigError>
    where
        T::Err: Display,
    {
        self.text(name)?.trim().parse().map_err(|error: T::Err| self.problem(name, error.to_string()))
    }

    fn problem(&self, name: &str, problem: String) -> ConfigError {
        self.invalid(name, InvalidValue { key: name.to_owned(), problem })
    }

    fn invalid(&self, name: &str, source: InvalidValue) -> ConfigError {
        let origin = self.raw(name).map_or_else(|| "default".to_owned(), |(_, origin)| origin.to_owned());
        ConfigError::Invalid { origin, source }
    }

    fn expand(&self, name: &str, raw: &str, depth: usize) -> Result<String, ConfigError> {
        if depth > MAX_DEPTH {
            return Err(ConfigError::Circular(name.to_owned()));
        }
        let mut out = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some((before, tail)) = rest.split_once("${") {
            out.push_str(before);
            let Some((reference, tail)) = tail.split_once('}') else {
                out.push_str("${");
                rest = tail;
                continue;
            };
            rest = tail;
            if reference == "{" {
                out.push_str("${"); // `${{}` is how a literal `${` is written
                continue;
            }
            let (value, _) = self.raw(reference).ok_or_else(|| ConfigError::Dangling {
                key: name.to_owned(),
                reference: reference.to_owned(),
            })?;
            out.push_str(&self.expand(name, value, depth + 1)?);
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// Why a row has no effect, if it has none.
fn row_problem(row: &Row) -> Option<String> {
    // Whoever may set rows sees their values, but not the secrets of the file.
    if let Some(secret) = secret_reference(&row.value) {
        return Some(format!("it would show `{secret}`, which is a secret"));
    }
    let registered = key(&row.key)?;
    match registered.scope {
        Scope::File => return Some("only the configuration file may set it".to_owned()),
        Scope::Global if row.tenant != TenantId::GLOBAL => {
            return Some("it is not a setting of tenants".to_owned());
        }
        _ => {}
    }
    let literal = !row.value.contains("${") && !row.value.is_empty();
    literal.then(|| registered.check(&row.value).err().map(|e| e.to_string()))?
}

/// Later files win. The first must exist; the others are optional.
fn read_files(files: &[PathBuf]) -> Result<Layer, ConfigError> {
    let mut layer = Layer::new();
    for (index, path) in files.iter().enumerate() {
        match std::fs::read(path) {
            Ok(bytes) => layer.append(&mut file_layer(path, &properties::decode(&bytes))?),
            Err(error) if index > 0 && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }
    Ok(layer)
}

fn file_layer(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    let mut layer = Layer::new();
    for entry in properties::parse(path, text)? {
        let origin: Arc<str> = format!("{}:{}", path.display(), entry.line).into();
        layer.insert(entry.key, Setting { value: entry.value, origin });
    }
    Ok(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse("node.conf", text).unwrap()
    }

    fn row(tenant: i32, key: &str, value: &str) -> Row {
        Row { tenant: TenantId(tenant), key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn the_database_wins_over_the_file_and_the_file_over_the_default() {
        let config = config("l7r.port = 9443\n");
        assert_eq!(config.now().int::<u16>("l7r.port").unwrap(), 9443);
        config.set_rows([row(-1, "l7r.port", "10443")]);
        assert_eq!(config.now().int::<u16>("l7r.port").unwrap(), 10443);
        config.set_rows([]);
        assert_eq!(config.now().int::<u16>("l7r.port").unwrap(), 9443);
        assert_eq!(config.now().text("vm.network.bridge").unwrap(), "qvdnet");
    }

    #[test]
    fn a_base_path_moved_in_the_database_moves_what_is_below() {
        let config = config("");
        config.set_rows([row(-1, "path.storage.root", "/srv")]);
        assert_eq!(config.now().text("path.storage.overlayfs").unwrap(), "/srv/overlayfs");
    }

    #[test]
    fn only_keys_of_tenants_differ_by_tenant() {
        let config = config("");
        config.set_rows([row(7, "l7r.auth.plugins", "ldap"), row(7, "l7r.port", "1")]);
        let now = config.now();
        assert_eq!(now.for_tenant(TenantId(7)).list("l7r.auth.plugins").unwrap(), ["ldap"]);
        assert_eq!(now.for_tenant(TenantId(8)).list("l7r.auth.plugins").unwrap(), [""; 0]);
        assert_eq!(now.for_tenant(TenantId(7)).int::<u16>("l7r.port").unwrap(), 8443);
    }

    #[test]
    fn unfit_and_forbidden_rows_leave_the_value_below() {
        let config = config("");
        config.set_rows([row(-1, "l7r.port", "many"), row(-1, "path.run", "/tmp")]);
        assert_eq!(config.now().int::<u16>("l7r.port").unwrap(), 8443);
        assert_eq!(config.now().text("path.run").unwrap(), "/var/run/qvd");
    }

    #[test]
    fn rows_do_not_show_secrets_of_the_file() {
        let config = config("database.password = s3cret\nown = ${database.password}\n");
        config.set_rows([row(7, "l7r.auth.plugins", "${database.password}"), row(-1, "a", "${nodename}")]);
        assert_eq!(config.now().for_tenant(TenantId(7)).text("l7r.auth.plugins").unwrap(), "");
        assert_eq!(config.now().raw("a").map(|(raw, _)| raw), Some("${nodename}"));
        assert_eq!(config.now().text("own").unwrap(), "s3cret");
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let config = config("# head\nl7r.port = 70000\n");
        let error = config.now().int::<u16>("l7r.port").unwrap_err().to_string();
        assert_eq!(error, "node.conf:2: l7r.port: `70000` is not a whole number from 1 to 65535");
    }

    #[test]
    fn references_are_checked() {
        let circle = config("a = ${b}\nb = ${a}\n");
        assert!(matches!(circle.now().text("a"), Err(ConfigError::Circular(_))));
        let dangling = config("a = ${nowhere}\n");
        assert!(matches!(dangling.now().text("a"), Err(ConfigError::Dangling { .. })));
        assert_eq!(config("a = x${{}y\n").now().text("a").unwrap(), "x${y");
    }

    #[test]
    fn slips_are_reported_with_what_was_meant() {
        let problems = config("l7r.prot = 1\nmy.own = 2\n").now().problems();
        assert_eq!(problems, ["node.conf:1: unknown key `l7r.prot`; did you mean `l7r.port`?"]);
    }

    #[test]
    fn settings_without_effect_are_reported() {
        let config = config("l7r.port = 1\nvm.serial.capture = 1\n");
        assert_eq!(
            config.now().unheeded(),
            ["node.conf:2: `vm.serial.capture` has no effect in this version"]
        );
        assert!(config.now().problems().is_empty());
    }

    #[test]
    fn files_are_read_again_below_the_rows_and_a_malformed_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.conf");
        std::fs::write(&path, "l7r.port = 1000\nnodename = a\n").unwrap();
        let config = Config::load(&[&path]).unwrap();
        config.set_rows([row(-1, "l7r.port", "2000"), row(7, "l7r.auth.plugins", "ldap")]);
        std::fs::write(&path, "l7r.port = 3000\nnodename = b\n").unwrap();
        config.reload_files().unwrap();
        let now = config.now();
        assert_eq!(
            (now.text("nodename").unwrap().as_str(), now.text("l7r.port").unwrap().as_str()),
            ("b", "2000")
        );
        assert_eq!(now.for_tenant(TenantId(7)).list("l7r.auth.plugins").unwrap(), ["ldap"]);
        std::fs::write(&path, "nodename\n").unwrap();
        assert!(config.reload_files().unwrap_err().to_string().contains("node.conf:1"));
        assert_eq!(config.now().text("nodename").unwrap(), "b");
    }

    #[test]
    fn changes_are_announced() {
        let config = config("");
        let mut changed = config.changed();
        assert!(!changed.has_changed().unwrap());
        config.set_rows([]);
        assert!(changed.has_changed().unwrap());
        changed.mark_unchanged();
    }
}
