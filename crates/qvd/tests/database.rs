//! `qvd-deploy-db` and `qvd db`, the real programs on a real server: deployed, backed up, restored, taken over.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed test says where it failed"
)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use qvd_runtime::postgres::TemporaryCluster;
use tempfile::TempDir;

const RELATIONS: &str = include_str!("../../qvd-db/src/schema/0001_relations.sql");
const VIEWS_AND_TRIGGERS: &str = include_str!("../../qvd-db/src/schema/0002_views_and_triggers.sql");

/// A server of its own, and a directory with configuration files and links.
struct Machine {
    cluster: TemporaryCluster,
    directory: TempDir,
}

/// What a program said, and its exit code.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Machine {
    fn new() -> Self {
        let machine =
            Self { cluster: TemporaryCluster::start().unwrap(), directory: TempDir::new().unwrap() };
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_qvd"), machine.path("qvd-deploy-db.pl")).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new, empty database; its configuration file.
    fn database(&self, name: &str) -> PathBuf {
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        let file = self.path(&format!("{name}.conf"));
        let host = self.cluster.socket_directory();
        let text = format!(
            "nodename = n\ndatabase.host = {}\ndatabase.name = {name}\ndatabase.user = postgres\n",
            host.display()
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new("/usr/bin/psql");
        psql.args(["-XqtA", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql]);
        let said = Said::from(psql.arg("-h").arg(self.cluster.socket_directory()).output().unwrap());
        assert_eq!(said.code, Some(0), "{sql}: {said:?}");
        said.out.trim().to_owned()
    }

    /// Runs `qvd-deploy-db`.
    fn deploy(&self, config: &Path, words: &[&str]) -> Said {
        let mut command = Command::new(self.path("qvd-deploy-db.pl"));
        command.args(words).arg("-c").arg(config).arg("--backup-dir").arg(self.path("backups"));
        command.stdin(Stdio::null()).output().unwrap().into()
    }

    /// Runs `qvd-deploy-db seal`.
    fn seal(&self, config: &Path, words: &[&str]) -> Said {
        let mut command = Command::new(self.path("qvd-deploy-db.pl"));
        command.arg("seal").args(words).arg("-c").arg(config).stdin(Stdio::null()).output().unwrap().into()
    }

    /// Runs `qvd db`.
    fn db(&self, config: &Path, words: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qvd"));
        command.arg("db").args(words).arg("-c").arg(config).stdin(Stdio::null()).output().unwrap().into()
    }
}

/// What `pg_dump` writes, without what differs from run to run.
fn plain(machine: &Machine, database: &str) -> String {
    let mut dump = Command::new("/usr/bin/pg_dump");
    dump.args(["-U", "postgres", "-d", database]).arg("-h").arg(machine.cluster.socket_directory());
    let text = String::from_utf8(dump.output().unwrap().stdout).unwrap();
    text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_database_is_deployed_dumped_and_restored_whole() {
    let machine = Machine::new();
    let one = machine.database("one");
    assert!(machine.deploy(&one, &["status"]).out.contains("no QVD-DB"));
    let said = machine.deploy(&one, &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("password of administrators superadmin and admin: "), "{said:?}");
    assert!(machine.deploy(&one, &["status"]).out.contains("up to date"));
    machine
        .sql("one", "INSERT INTO users (login, tenant_id, description) VALUES ('it''s', 1, E'two\\nlines')");

    let file = machine.path("one.dump");
    let name = file.to_str().unwrap();
    assert_eq!(machine.db(&one, &["dump", name]).code, Some(0));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let again = machine.db(&one, &["dump", name]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("--force replaces it"), "{again:?}");

    let two = machine.database("two");
    let said = machine.db(&two, &["restore", name]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(plain(&machine, "two"), plain(&machine, "one"));
    let settings = "SELECT setconfig FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase \
        WHERE datname = 'two'";
    assert!(
        machine.sql("postgres", settings).contains("serializable"),
        "the setting of the database comes back"
    );

    machine.sql("two", "DELETE FROM users; CREATE TABLE later (x integer)");
    let refused = machine.db(&two, &["restore", name]);
    assert!(refused.err.contains("not empty") && refused.code == Some(1), "{refused:?}");
    // A dump that ends in the middle changes nothing.
    let whole = std::fs::read(&file).unwrap();
    let half = machine.path("half.dump");
    std::fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    let broken = machine.db(&two, &["restore", "--force", half.to_str().unwrap()]);
    assert_eq!(broken.code, Some(1), "{broken:?}");
    assert_eq!(machine.sql("two", "SELECT count(*) FROM later"), "0");
    assert_eq!(machine.db(&two, &["restore", "--force", name]).code, Some(0));
    assert_eq!(plain(&machine, "two"), plain(&machine, "one"));

    // The tools of PostgreSQL alone do as well.
    let three = machine.database("three");
    let file = machine.path("plain.sql");
    let socket = machine.cluster.socket_directory();
    let mut dump = Command::new("/usr/bin/pg_dump");
    dump.args(["-U", "postgres", "-d", "one"]).arg("-h").arg(&socket).arg("-f").arg(&file);
    assert!(dump.status().unwrap().success());
    let mut restore = Command::new("/usr/bin/psql");
    restore
        .args(["-Xq", "-v", "ON_ERROR_STOP=1", "-1", "-U", "postgres", "-d", "three"])
        .arg("-h")
        .arg(socket);
    assert!(restore.arg("-f").arg(&file).stdout(Stdio::null()).status().unwrap().success());
    assert_eq!(plain(&machine, "three"), plain(&machine, "one"));
    assert!(machine.deploy(&three, &["status"]).out.contains("up to date"));
}

#[test]
fn a_plain_dump_of_an_older_farm_is_taken_over_after_a_rehearsal_and_a_backup() {
    let machine = Machine::new();
    let config = machine.database("old");
    machine.sql("old", RELATIONS);
    machine.sql("old", VIEWS_AND_TRIGGERS);
    machine.sql("old", "INSERT INTO versions VALUES ('schema', '4.3.0')");
    machine.sql(
        "old",
        "INSERT INTO tenants (id, name) VALUES (-1, '-'), (0, '*'), (1, 'default'); \
         INSERT INTO users (id, login, tenant_id, password) VALUES (10000, 'anna', 1, 'secret')",
    );

    let refused = machine.deploy(&config, &[]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let status = machine.deploy(&config, &["status"]);
    assert!(status.out.contains("schema 4.3.0 of an older QVD"), "{status:?}");
    let rehearsed = machine.deploy(&config, &["migrate", "--dry-run"]);
    assert_eq!(rehearsed.code, Some(0), "{rehearsed:?}");
    assert!(rehearsed.out.contains("users: 1 rows") && rehearsed.out.contains("nothing was changed"));
    assert_eq!(machine.sql("old", "SELECT to_regclass('migrations') IS NULL"), "t");

    // The old spelling asks for the same.
    let said = machine.deploy(&config, &["--force", "--update-from=4.1"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(machine.sql("old", "SELECT login || password FROM users"), "annasecret");
    assert!(machine.deploy(&config, &["migrate"]).out.contains("up to date"));
    let backup = said.out.lines().find_map(|line| line.strip_prefix("backup: ")).unwrap().to_owned();

    // The way back: the backup is the old database.
    let back = machine.database("back");
    let restored = machine.db(&back, &["restore", &backup]);
    assert!(restored.out.contains("schema is 4.3.0 of an older QVD"), "{restored:?}");
    assert_eq!(machine.sql("back", "SELECT login FROM users"), "anna");
}

#[test]
fn force_makes_a_backup_first_and_options_have_their_codes() {
    let machine = Machine::new();
    let config = machine.database("one");
    assert_eq!(machine.deploy(&config, &[]).code, Some(0));
    machine.sql("one", "INSERT INTO users (login, tenant_id) VALUES ('u', 1)");
    // Without a place for the backup nothing is dropped.
    std::fs::write(machine.path("backups"), "in the way").unwrap();
    let refused = machine.deploy(&config, &["--force"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(machine.sql("one", "SELECT count(*) FROM users"), "1");
    std::fs::remove_file(machine.path("backups")).unwrap();
    let said = machine.deploy(&config, &["--force"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(machine.sql("one", "SELECT count(*) FROM users"), "0");
    assert!(said.out.contains("backup: "), "{said:?}");

    assert_eq!(machine.deploy(&config, &["--no-such-option"]).code, Some(1));
    assert_eq!(machine.deploy(&config, &["--force", "--update-from=3.6"]).code, Some(1));
    assert_eq!(machine.deploy(Path::new("/nowhere.conf"), &["status"]).code, Some(1));
    let unknown = machine.path("empty.conf");
    std::fs::write(&unknown, "database.host = /nowhere\ndatabase.name = x\ndatabase.user = y\n").unwrap();
    let away = machine.deploy(&unknown, &["status"]);
    assert_eq!(away.code, Some(3), "{away:?}");
}

#[test]
fn secrets_are_sealed_by_a_key_that_is_in_no_dump() {
    let machine = Machine::new();
    let config = machine.database("vault");
    let plain = "INSERT INTO configs (tenant_id, key, value) VALUES (1, 'auth.ldap.bindpass', 'hunter2'); \
        INSERT INTO ssl_configs (key, value) VALUES ('l7r.ssl.key', '-----BEGIN PRIVATE KEY-----hunter2')";
    let said = machine.deploy(&config, &[]);
    assert!(said.out.contains("secrets are stored plain"), "{said:?}");
    machine.sql("vault", plain);
    let dump = machine.path("plain.dump");
    assert!(machine.db(&config, &["dump", dump.to_str().unwrap()]).out.contains("2 secrets in it are plain"));
    assert!(plain_dump_has(&machine, "vault", "hunter2"));

    // A key file is named: the first command that needs it makes it.
    let keys = machine.path("secrets.key");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}database.secrets.file = {}\n", keys.display())).unwrap();
    let said = machine.seal(&config, &[]);
    assert!(said.out.contains("key file: ") && said.out.contains("vault: 2 secrets sealed"), "{said:?}");
    assert_eq!(keys.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!plain_dump_has(&machine, "vault", "hunter2"));
    let status = machine.deploy(&config, &["status"]);
    assert!(status.out.contains("2 sealed, 0 without their key, 0 plain"), "{status:?}");
    assert!(machine.seal(&config, &[]).out.contains(": 0 secrets sealed"));

    // Another key: first everywhere, then in use.
    let before = machine.sql("vault", "SELECT value FROM configs WHERE key = 'auth.ldap.bindpass'");
    let said = machine.seal(&config, &["--new-key"]);
    assert!(said.out.contains(" added; copy the file"), "{said:?}");
    assert_eq!(machine.sql("vault", "SELECT value FROM configs WHERE key = 'auth.ldap.bindpass'"), before);
    assert!(machine.seal(&config, &[]).out.contains("2 secrets sealed"));
    let after = machine.sql("vault", "SELECT value FROM configs WHERE key = 'auth.ldap.bindpass'");
    assert_ne!(after.split('$').nth(2), before.split('$').nth(2));

    // Restored where the key is not.
    let sealed = machine.path("sealed.dump");
    assert_eq!(machine.db(&config, &["dump", sealed.to_str().unwrap()]).out, "");
    let elsewhere = machine.database("elsewhere");
    let said = machine.db(&elsewhere, &["restore", sealed.to_str().unwrap()]);
    assert!(said.out.contains("2 secrets are sealed with keys that are not here (no key file)"), "{said:?}");
    let text = std::fs::read_to_string(&elsewhere).unwrap();
    std::fs::write(&elsewhere, format!("{text}database.secrets.file = {}\n", machine.path("lost").display()))
        .unwrap();
    let refused = machine.seal(&elsewhere, &["--new-key"]);
    assert!(
        refused.code == Some(1) && refused.err.contains("lost: it does not exist; copy it"),
        "{refused:?}"
    );
    std::fs::copy(&keys, machine.path("lost")).unwrap();
    assert!(machine.deploy(&elsewhere, &["status"]).out.contains("2 sealed, 0 without their key"));
    // A daemon without the file says which, and what to do.
    std::fs::remove_file(machine.path("lost")).unwrap();
    let mut api = Command::new(env!("CARGO_BIN_EXE_qvd"));
    let said: Said = api.args(["daemon", "api", "-f"]).arg(&elsewhere).output().unwrap().into();
    assert!(said.code != Some(0) && said.err.contains("lost: it does not exist"), "{said:?}");
}

/// Whether a dump of a database as text has some words.
fn plain_dump_has(machine: &Machine, database: &str, words: &str) -> bool {
    plain(machine, database).contains(words)
}

#[test]
fn an_older_database_is_sealed_when_it_is_taken_over() {
    let machine = Machine::new();
    let config = machine.database("old");
    let keys = machine.path("secrets.key");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}database.secrets.file = {}\n", keys.display())).unwrap();
    machine.sql("old", RELATIONS);
    machine.sql("old", VIEWS_AND_TRIGGERS);
    machine.sql(
        "old",
        "INSERT INTO versions VALUES ('schema', '4.2.0'); \
         INSERT INTO tenants (id, name) VALUES (-1, '-'), (0, '*'), (1, 'default'); \
         INSERT INTO configs (tenant_id, key, value) VALUES (-1, 'l7r.auth.plugin.default.salt', 'pepper'), \
         (-1, 'l7r.port', '8443'); \
         INSERT INTO ssl_configs (key, value) VALUES ('l7r.ssl.key', E'-----BEGIN\\npepper'), ('l7r.ssl.cert', 'c')",
    );
    assert!(!keys.exists());
    assert_eq!(machine.deploy(&config, &["migrate", "--dry-run"]).code, Some(0));
    assert!(!keys.exists(), "a rehearsal makes nothing");
    let said = machine.deploy(&config, &["migrate", "--no-backup"]);
    assert!(said.code == Some(0) && said.out.contains("key file: "), "{said:?}");
    assert!(!plain_dump_has(&machine, "old", "pepper"));
    let rest = "SELECT (SELECT value FROM ssl_configs WHERE key = 'l7r.ssl.cert') || value FROM configs WHERE key = 'l7r.port'";
    assert_eq!(machine.sql("old", rest), "c8443");
}

/// What `pg_dump` wrote of an older farm becomes ours by one command, after a rehearsal that leaves nothing behind.
#[test]
fn a_dump_of_an_older_farm_is_read_and_taken_over() {
    let machine = Machine::new();
    machine.database("old");
    machine.sql("old", RELATIONS);
    machine.sql("old", VIEWS_AND_TRIGGERS);
    machine.sql(
        "old",
        "INSERT INTO versions VALUES ('schema', '4.2.0'); \
         INSERT INTO tenants (id, name) VALUES (-1, '-'), (0, '*'), (1, 'default'); \
         INSERT INTO users (id, login, tenant_id, password) VALUES (10000, 'anna', 1, 'secret')",
    );
    let dumped = |format: &str| {
        let file = machine.path(&format!("old.{format}"));
        let mut dump = Command::new("/usr/bin/pg_dump");
        dump.args(["-U", "postgres", "-d", "old", "-F", format, "-f"]).arg(&file);
        assert!(dump.arg("-h").arg(machine.cluster.socket_directory()).status().unwrap().success());
        file
    };
    for format in ["p", "c"] {
        let file = dumped(format);
        let name = file.to_str().unwrap();
        let new = format!("new_{format}");
        let config = machine.database(&new);
        let rehearsed = machine.deploy(&config, &["migrate", "--file", name, "--dry-run"]);
        assert_eq!(rehearsed.code, Some(0), "{rehearsed:?}");
        assert!(
            rehearsed.out.contains("schema 4.2.0 would be taken over")
                && rehearsed.out.contains("users: 1 rows")
        );
        assert_eq!(machine.sql(&new, "SELECT to_regclass('users') IS NULL"), "t", "{format}");
        let said = machine.deploy(&config, &["migrate", "--file", name]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(machine.sql(&new, "SELECT id || login || password FROM users"), "10000annasecret");
        let again = machine.deploy(&config, &["migrate", "--file", name]);
        assert!(again.code == Some(1) && again.err.contains("not empty"), "{again:?}");
    }
    // One that is cut off is not read.
    let whole = std::fs::read(machine.path("old.p")).unwrap();
    std::fs::write(machine.path("half"), &whole[..whole.len() / 2]).unwrap();
    let config = machine.database("half");
    let refused = machine.deploy(&config, &["migrate", "--file", machine.path("half").to_str().unwrap()]);
    assert!(refused.code == Some(1) && refused.err.contains("that is complete"), "{refused:?}");
    assert_eq!(machine.sql("half", "SELECT to_regclass('users') IS NULL"), "t");
}
