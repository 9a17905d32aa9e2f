//! The environment of a session.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use qvd_wire::nx::is_plain;

use crate::accounts::Account;
use crate::parameters::Parameters;
use crate::settings::Settings;

/// Largest file of variables that is read.
const MAX_FILE: u64 = 64 * 1024;

/// Variables of a program that runs in the name of the account. The files of the image and then the user's
/// own `~/.qvd_environment` may add to them; what names the account cannot be replaced.
pub(crate) fn variables(
    settings: &Settings,
    account: &Account,
    parameters: &Parameters,
) -> Vec<(String, String)> {
    let mut variables = vec![
        ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games".to_owned()),
        ("LANG".to_owned(), settings.lang.clone()),
    ];
    let home = settings.inside(&account.home);
    for path in ["/etc/locale.conf", "/etc/default/locale", "/etc/environment"] {
        variables.extend(read(&settings.inside(Path::new(path)), 0));
    }
    variables.extend(zone(settings, parameters));
    variables.extend(read(&home.join(".qvd_environment"), account.uid));
    let account = [
        ("HOME", home.display().to_string()),
        ("USER", account.name.clone()),
        ("LOGNAME", account.name.clone()),
        ("SHELL", account.shell.clone()),
        ("MAIL", format!("/var/mail/{}", account.name)),
    ];
    variables.extend(account.map(|(name, value)| (name.to_owned(), value)));
    variables
}

/// The client's time zone, if the desktop knows it.
fn zone(settings: &Settings, parameters: &Parameters) -> Option<(String, String)> {
    let zone = parameters.value("qvd.client.timezone").filter(|zone| is_plain(zone))?;
    let known = settings.inside(&Path::new("/usr/share/zoneinfo").join(zone.trim_start_matches('/')));
    known.is_file().then(|| ("TZ".to_owned(), zone.to_owned()))
}

/// Variables of a file that belongs to root or to `owner`. The agent reads it as root, so a link that a user
/// puts there must not lead it to somebody else's file.
fn read(path: &Path, owner: u32) -> Vec<(String, String)> {
    let flags = if owner == 0 { 0 } else { nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK };
    let Ok(file) = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path) else {
        return Vec::new();
    };
    let owned = file.metadata().is_ok_and(|m| m.is_file() && [0, owner].contains(&m.uid()) && m.nlink() == 1);
    let mut text = String::new();
    if !owned || file.take(MAX_FILE).read_to_string(&mut text).is_err() {
        return Vec::new();
    }
    text.lines().filter_map(assignment).collect()
}

fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return None;
    }
    let value = value.trim();
    let quoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.split_once(*q).map(|(v, _)| v));
    let plain = || value.split(" #").next().unwrap_or_default().trim_end();
    Some((name.to_owned(), quoted.unwrap_or_else(plain).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_comments_are_not_part_of_values() {
        for (line, name, value) in [
            ("LANG=es_ES.UTF-8", "LANG", "es_ES.UTF-8"),
            ("LANG=\"es_ES.UTF-8\" # site", "LANG", "es_ES.UTF-8"),
            ("export EDITOR='vi -u x'", "EDITOR", "vi -u x"),
            ("A=b # c", "A", "b"),
        ] {
            assert_eq!(assignment(line), Some((name.to_owned(), value.to_owned())), "{line}");
        }
        assert!(assignment("# LANG=x").is_none() && assignment("1A=x").is_none());
    }

    #[test]
    fn a_users_file_must_be_the_users() {
        let directory = tempfile::tempdir().unwrap();
        let (own, foreign) = (directory.path().join("own"), directory.path().join("link"));
        std::fs::write(&own, "A=1\n").unwrap();
        std::os::unix::fs::symlink(&own, &foreign).unwrap();
        std::os::unix::fs::chown(&own, Some(4711), None).unwrap();
        assert_eq!(read(&own, 4711).len(), 1);
        assert!(read(&own, 4712).is_empty() && read(&foreign, 4711).is_empty());
    }
}
