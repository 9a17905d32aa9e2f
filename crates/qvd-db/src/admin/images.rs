//! Versions, tags, publication and import of disk images (`spec/api.md` 5.6).

use crate::{Error, Session, Sql};

const IMAGE: Sql = Sql::new(
    "read the image",
    "SELECT dis.osf_id, dis.path, dis.version, r.state::text AS state, r.auto_publish, r.expiration_time_soft, \
     r.expiration_time_hard FROM dis JOIN di_runtimes AS r ON r.di_id = dis.id WHERE dis.id = $1 FOR UPDATE OF r",
);
const VERSIONS: Sql = Sql::new(
    "read the versions of the day",
    "SELECT DISTINCT g.tag FROM di_tags AS g JOIN dis ON dis.id = g.di_id \
     WHERE dis.osf_id = $1 AND g.tag LIKE $2 || '-%'",
);
const TODAY: Sql =
    Sql::new("read the date", "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS today");
const FIXED: Sql = Sql::new(
    "see whether the tag is fixed to another image",
    "SELECT g.di_id FROM di_tags AS g JOIN dis ON dis.id = g.di_id \
     WHERE dis.osf_id = $1 AND g.tag = $2 AND g.fixed AND g.di_id <> $3 LIMIT 1",
);
const HAS: Sql = Sql::new("read the tag", "SELECT fixed FROM di_tags WHERE di_id = $1 AND tag = $2");
const ADD: Sql = Sql::new("add the tag", "INSERT INTO di_tags (di_id, tag, fixed) VALUES ($1, $2, $3)");
const REMOVE: Sql = Sql::new("remove the tag", "DELETE FROM di_tags WHERE di_id = $1 AND tag = $2");
const CONSOLIDATE: Sql = Sql::new(
    "take tags from other images",
    "DELETE FROM di_tags AS theirs USING di_tags AS ours, dis AS image, dis AS other, di_runtimes AS r \
     WHERE ours.di_id = $1 AND image.id = $1 AND theirs.tag = ours.tag AND theirs.di_id <> $1 \
     AND other.id = theirs.di_id AND other.osf_id = image.osf_id AND r.di_id = other.id \
     AND (ours.fixed OR r.state = 'published')",
);
const HOLDERS: Sql = Sql::new(
    "see whether an image of the OSF has the tag",
    "SELECT g.di_id FROM di_tags AS g JOIN dis ON dis.id = g.di_id \
     JOIN di_runtimes AS r ON r.di_id = dis.id AND r.state = 'published' \
     WHERE dis.osf_id = $1 AND g.tag = $2 AND g.di_id <> $3 LIMIT 1",
);
const STATE: Sql = Sql::new(
    "set the state of the image",
    "UPDATE di_runtimes SET state = $2::text::di_generation_state_enum, \
     state_ts = extract(epoch FROM now())::integer, percentage = $3, error_code = $4, status_message = $5 \
     WHERE di_id = $1",
);
const MOVE: Sql = Sql::new(
    "let the import go on",
    "UPDATE di_runtimes SET state = $2::text::di_generation_state_enum, state_ts = extract(epoch FROM now())::integer, \
     error_code = $3, status_message = $4 WHERE di_id = $1 \
     AND state IN ('uploading', 'upload_stalled', 'verifying') \
     AND (state::text, error_code, status_message) IS DISTINCT FROM ($2, $3, $4)",
);
const PROGRESS: Sql = Sql::new(
    "set the progress of the import",
    "UPDATE di_runtimes SET percentage = $2, elapsed_time = $3 WHERE di_id = $1",
);
const TOLD: Sql = Sql::new(
    "read how far the import is",
    "SELECT state::text AS state, coalesce(percentage, 0)::real AS percentage, error_code, status_message \
     FROM di_runtimes WHERE di_id = $1",
);
const FILE: Sql = Sql::new("set the file of the image", "UPDATE dis SET path = $2 WHERE id = $1");
const CONTENT: Sql = Sql::new(
    "set what the image holds",
    "UPDATE dis SET sha256 = $2, size = $3, format = $4, unpacked_size = $5, remarks = $6 WHERE id = $1",
);
const EXPIRE: Sql = Sql::new(
    "set the expiration of running VMs",
    "UPDATE vm_runtimes AS r SET \
     vm_expiration_soft = coalesce(now() AT TIME ZONE 'UTC' + make_interval(secs => $2), r.vm_expiration_soft), \
     vm_expiration_hard = coalesce(now() AT TIME ZONE 'UTC' + make_interval(secs => $3), r.vm_expiration_hard) \
     FROM vms, dis, di_tags AS g WHERE vms.id = r.vm_id AND dis.id = $1 AND vms.osf_id = dis.osf_id \
     AND g.di_id = dis.id AND g.tag = vms.di_tag AND r.vm_state = 'running'",
);
const HEIR: Sql = Sql::new(
    "find the image that takes a tag over",
    "SELECT max(dis.id) AS id FROM dis JOIN di_runtimes AS r ON r.di_id = dis.id AND r.state = 'published' \
     WHERE dis.osf_id = $1 AND dis.id <> $2",
);
const IMPORTING: Sql = Sql::new(
    "read the imports that are under way",
    "SELECT dis.id, dis.osf_id, dis.path, r.state::text AS state FROM dis JOIN di_runtimes AS r ON r.di_id = dis.id \
     WHERE r.state IN ('uploading', 'upload_stalled', 'verifying') ORDER BY dis.id",
);

pub(crate) const ALL: &[Sql] = &[
    IMAGE,
    VERSIONS,
    TODAY,
    FIXED,
    HAS,
    ADD,
    REMOVE,
    CONSOLIDATE,
    HOLDERS,
    STATE,
    MOVE,
    PROGRESS,
    TOLD,
    FILE,
    CONTENT,
    EXPIRE,
    HEIR,
    IMPORTING,
];

/// What an image is, and how far.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Its flavour.
    pub osf: i32,
    /// Its file.
    pub path: String,
    /// Its version.
    pub version: String,
    /// The state of its import and publication.
    pub state: String,
    /// Seconds until VMs are asked to leave after its publication.
    pub expiration_soft: Option<i32>,
    /// Seconds until VMs are restarted after its publication.
    pub expiration_hard: Option<i32>,
}

impl Image {
    /// Whether its file is still on its way.
    pub fn is_importing(&self) -> bool {
        ["uploading", "upload_stalled", "verifying"].contains(&self.state.as_str())
    }
}

/// Reads an image, locked until the end of the transaction.
pub async fn image(session: &impl Session, id: i32) -> Result<Option<Image>, Error> {
    let row = IMAGE.query_opt(session, &[&id]).await?;
    row.map(|row| {
        Ok(Image {
            osf: IMAGE.column(&row, "osf_id")?,
            path: IMAGE.column(&row, "path")?,
            version: IMAGE.column(&row, "version")?,
            state: IMAGE.column(&row, "state")?,
            expiration_soft: IMAGE.column(&row, "expiration_time_soft")?,
            expiration_hard: IMAGE.column(&row, "expiration_time_hard")?,
        })
    })
    .transpose()
}

/// The first version of today that the OSF has not: `2026-01-31-000`, `…-001`, …
pub async fn next_version(session: &impl Session, osf: i32) -> Result<String, Error> {
    let today: String = TODAY.column(&TODAY.query_one(session, &[]).await?, "today")?;
    let rows = VERSIONS.query(session, &[&osf, &today]).await?;
    let taken = rows.iter().map(|row| VERSIONS.column(row, "tag")).collect::<Result<Vec<String>, _>>()?;
    let mut versions = (0..).map(|n: u32| format!("{today}-{n:03}"));
    Ok(versions.find(|version| !taken.contains(version)).unwrap_or(today))
}

/// Whether the tag is fixed to another image of the OSF.
pub async fn is_fixed_elsewhere(session: &impl Session, osf: i32, tag: &str, di: i32) -> Result<bool, Error> {
    Ok(FIXED.query_opt(session, &[&osf, &tag, &di]).await?.is_some())
}

/// Whether the image has the tag; if so, whether it is fixed.
pub async fn tag(session: &impl Session, di: i32, tag: &str) -> Result<Option<bool>, Error> {
    let rows = HAS.query(session, &[&di, &tag]).await?;
    rows.first().map(|row| HAS.column(row, "fixed")).transpose()
}

/// Gives the image a tag.
pub async fn add_tag(session: &impl Session, di: i32, tag: &str, fixed: bool) -> Result<(), Error> {
    ADD.execute(session, &[&di, &tag, &fixed]).await.map(drop)
}

/// Takes a tag from the image.
pub async fn remove_tag(session: &impl Session, di: i32, tag: &str) -> Result<(), Error> {
    REMOVE.execute(session, &[&di, &tag]).await.map(drop)
}

/// Takes the tags of the image from the other published images of its OSF, fixed ones from all others.
pub async fn consolidate(session: &impl Session, di: i32) -> Result<(), Error> {
    CONSOLIDATE.execute(session, &[&di]).await.map(drop)
}

/// Whether another published image of the OSF has the tag.
pub async fn has_holder(session: &impl Session, osf: i32, tag: &str, except: i32) -> Result<bool, Error> {
    Ok(HOLDERS.query_opt(session, &[&osf, &tag, &except]).await?.is_some())
}

/// How an image got into a state.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome<'a> {
    /// How much of the import is done, 0 to 1.
    pub percentage: f32,
    /// The status of a failure.
    pub error: Option<i32>,
    /// What failed.
    pub message: Option<&'a str>,
}

/// Sets the state of an image.
pub async fn set_state(
    session: &impl Session,
    di: i32,
    state: &str,
    outcome: Outcome<'_>,
) -> Result<(), Error> {
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&di, &state, &outcome.percentage, &outcome.error, &outcome.message];
    STATE.execute(session, &parameters).await.map(drop)
}

/// Sets how an import that is under way goes on: `uploading`, `upload_stalled` or `verifying`, the second with why.
pub async fn set_import(
    session: &impl Session,
    di: i32,
    state: &str,
    error: Option<i32>,
    message: Option<&str>,
) -> Result<(), Error> {
    MOVE.execute(session, &[&di, &state, &error, &message]).await.map(drop)
}

/// Sets how much of an import is done, and how many seconds it has taken.
pub async fn set_progress(session: &impl Session, di: i32, done: f32, seconds: i32) -> Result<(), Error> {
    PROGRESS.execute(session, &[&di, &done, &seconds]).await.map(drop)
}

/// How far an import is.
#[derive(Debug)]
pub struct Progress {
    /// The state of the image.
    pub state: String,
    /// How much is done, 0 to 1.
    pub done: f32,
    /// The status of a failure.
    pub error: Option<i32>,
    /// What failed.
    pub message: Option<String>,
}

/// How far the import of an image is, if there is one.
pub async fn progress(session: &impl Session, di: i32) -> Result<Option<Progress>, Error> {
    let row = TOLD.query_opt(session, &[&di]).await?;
    row.map(|row| {
        Ok(Progress {
            state: TOLD.column(&row, "state")?,
            done: TOLD.column(&row, "percentage")?,
            error: TOLD.column(&row, "error_code")?,
            message: TOLD.column(&row, "status_message")?,
        })
    })
    .transpose()
}

/// Sets the file of an image.
pub async fn set_file(session: &impl Session, di: i32, file: &str) -> Result<(), Error> {
    FILE.execute(session, &[&di, &file]).await.map(drop)
}

/// What was found in the file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its checksum, lower-case hex.
    pub sha256: String,
    /// Bytes of the file.
    pub size: i64,
    /// What it is, such as `tar.gz`.
    pub format: &'static str,
    /// Bytes that it unpacks to.
    pub unpacked: i64,
    /// What administrators should know, if there is anything.
    pub remarks: Option<String>,
}

/// Sets what the file holds.
pub async fn set_content(session: &impl Session, di: i32, content: &Content) -> Result<(), Error> {
    let Content { sha256, size, format, unpacked, remarks } = content;
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&di, sha256, size, format, unpacked, remarks];
    CONTENT.execute(session, &parameters).await.map(drop)
}

/// Gives running VMs that would boot the image after a restart so many seconds.
pub async fn expire_vms(
    session: &impl Session,
    di: i32,
    soft: Option<i32>,
    hard: Option<i32>,
) -> Result<(), Error> {
    let (soft, hard) = (soft.map(f64::from), hard.map(f64::from));
    EXPIRE.execute(session, &[&di, &soft, &hard]).await.map(drop)
}

/// The newest other published image of the OSF.
pub async fn heir(session: &impl Session, osf: i32, di: i32) -> Result<Option<i32>, Error> {
    HEIR.column(&HEIR.query_one(session, &[&osf, &di]).await?, "id")
}

/// An image whose file is not in its place, as far as its row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Importing {
    /// Its number.
    pub id: i32,
    /// Its flavour.
    pub osf: i32,
    /// Its file.
    pub path: String,
    /// How far it is.
    pub state: String,
}

/// Images that somebody imports, or that somebody imported who is gone.
pub async fn importing(session: &impl Session) -> Result<Vec<Importing>, Error> {
    let rows = IMPORTING.query(session, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Importing {
                id: IMPORTING.column(row, "id")?,
                osf: IMPORTING.column(row, "osf_id")?,
                path: IMPORTING.column(row, "path")?,
                state: IMPORTING.column(row, "state")?,
            })
        })
        .collect()
}
