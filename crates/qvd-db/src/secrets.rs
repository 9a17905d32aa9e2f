//! All secrets that are stored, whatever table they are in: counted, and sealed as a whole.

use qvd_model::{TenantId, VmId, config};
use tokio_postgres::Transaction;

use crate::Error;
use crate::vault::{PREFIX, Place, Vault};

const SETTINGS: &str = "SELECT tenant_id AS id, key, value FROM configs ORDER BY tenant_id, key FOR UPDATE";
const PEMS: &str = "SELECT 0 AS id, key, value FROM ssl_configs ORDER BY key FOR UPDATE";
const AGENTS: &str = "SELECT vm_id AS id, '' AS key, vma_secret AS value FROM vm_runtimes WHERE vma_secret IS NOT NULL \
     ORDER BY vm_id FOR UPDATE";
const FACTORS: &str = "SELECT administrator_id AS id, '' AS key, secret AS value FROM second_factors \
    ORDER BY administrator_id FOR UPDATE";
/// Keys of properties come with the number of the property before them, so that a new name breaks no seal.
macro_rules! properties {
    ($kind:literal) => {
        Shelf {
            read: concat!(
                "SELECT stored.",
                $kind,
                "_id AS id, stored.property_id || ' ' || l.key AS key, stored.value FROM ",
                $kind,
                "_properties AS stored JOIN qvd_object_properties_list AS q ON q.id = stored.property_id \
                JOIN properties_list AS l ON l.id = q.property_id ORDER BY 1, 2 FOR UPDATE OF stored"
            ),
            write: concat!(
                "UPDATE ",
                $kind,
                "_properties SET value = $3 WHERE ",
                $kind,
                "_id = $1 \
                AND property_id = split_part($2, ' ', 1)::integer"
            ),
            place: |object, key| Place::Property { kind: $kind, object, property: number(key) },
            holds: |key| key.split_once(' ').is_some_and(|(_, name)| config::sounds_secret(name)),
        }
    };
}

/// The number before a key.
fn number(key: &str) -> i32 {
    key.split_once(' ').and_then(|(number, _)| number.parse().ok()).unwrap_or_default()
}

const SEAL_SETTING: &str = "UPDATE configs SET value = $3 WHERE tenant_id = $1 AND key = $2";
const SEAL_PEM: &str = "UPDATE ssl_configs SET value = $3 WHERE key = $2 AND $1::integer IS NOT NULL";
const SEAL_AGENT: &str = "UPDATE vm_runtimes SET vma_secret = $3 WHERE vm_id = $1 AND $2::text IS NOT NULL";
const SEAL_FACTOR: &str =
    "UPDATE second_factors SET secret = $3 WHERE administrator_id = $1 AND $2::text IS NOT NULL";

/// A table with secrets: how they are read, how one is written, and what it is of.
struct Shelf {
    read: &'static str,
    write: &'static str,
    place: for<'a> fn(i32, &'a str) -> Place<'a>,
    /// Whether a row of this key holds one.
    holds: fn(&str) -> bool,
}

const SHELVES: &[Shelf] = &[
    Shelf {
        read: SETTINGS,
        write: SEAL_SETTING,
        place: |tenant, key| Place::Setting(TenantId(tenant), key),
        holds: config::is_secret,
    },
    Shelf { read: PEMS, write: SEAL_PEM, place: |_, key| Place::Pem(key), holds: config::is_secret },
    Shelf { read: AGENTS, write: SEAL_AGENT, place: |vm, _| Place::Agent(VmId(vm)), holds: |_| true },
    Shelf {
        read: FACTORS,
        write: SEAL_FACTOR,
        place: |administrator, _| Place::SecondFactor(administrator),
        holds: |_| true,
    },
    properties!("user"),
    properties!("vm"),
    properties!("host"),
    properties!("osf"),
    properties!("di"),
];

/// How the secrets of a database are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Sealed ones, with keys that are at hand.
    pub sealed: usize,
    /// Sealed ones whose key is not in the key file.
    pub locked: usize,
    /// Plain ones.
    pub plain: usize,
}

/// Which secrets are to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that are not sealed.
    Plain,
    /// All that are not sealed with the newest key.
    All,
}

/// Looks at all secrets and changes none.
pub(crate) async fn standing(tx: &Transaction<'_>, vault: &Vault) -> Result<Standing, Error> {
    let mut standing = Standing::default();
    for shelf in SHELVES {
        for (_, _, stored) in shelf.rows(tx).await? {
            match (stored.starts_with(PREFIX), vault.can_open(&stored)) {
                (false, _) => standing.plain += 1,
                (true, true) => standing.sealed += 1,
                (true, false) => standing.locked += 1,
            }
        }
    }
    Ok(standing)
}

/// Seals secrets in the caller's transaction; how many. Without a key file none are.
pub(crate) async fn seal(tx: &Transaction<'_>, vault: &Vault, which: Which) -> Result<usize, Error> {
    if vault.file().is_none() {
        return Ok(0);
    }
    let mut count = 0;
    for shelf in SHELVES {
        for (id, key, stored) in shelf.rows(tx).await? {
            let left = match which {
                Which::Plain => stored.starts_with(PREFIX),
                Which::All => vault.is_fresh(&stored)?,
            };
            if left {
                continue;
            }
            let place = (shelf.place)(id, &key);
            let sealed = vault.seal(place, &vault.open(place, &stored)?)?;
            tx.execute(shelf.write, &[&id, &key, &sealed]).await.map_err(Error::during("seal a secret"))?;
            count += 1;
        }
    }
    Ok(count)
}

impl Shelf {
    /// Number, key and stored text of each row with a secret.
    async fn rows(&self, tx: &Transaction<'_>) -> Result<Vec<(i32, String, String)>, Error> {
        const NAME: &str = "read the secrets";
        let rows = tx.query(self.read, &[]).await.map_err(Error::during(NAME))?;
        let rows = rows.iter().map(|row| {
            let key: String = crate::column(NAME, row, "key")?;
            Ok((crate::column(NAME, row, "id")?, key, crate::column(NAME, row, "value")?))
        });
        let mut rows = rows.collect::<Result<Vec<_>, Error>>()?;
        rows.retain(|(_, key, _)| (self.holds)(key));
        Ok(rows)
    }
}
