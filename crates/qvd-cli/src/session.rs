//! The session that is kept between two runs, in a file of its owner only.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Who we are to the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The API it belongs to.
    pub place: String,
    /// The administrator it was opened for, as typed.
    pub login: String,
    /// The tenant it was opened for, as typed.
    pub tenant: Option<String>,
    /// The session itself; none on the Unix socket.
    pub sid: Option<String>,
    /// The tenant of the administrator; 0 for super-administrators.
    pub tenant_id: i32,
    /// What the administrator may do.
    pub acls: Vec<String>,
}

impl Session {
    /// The kept session, if the file is there and nobody else can have written or read it.
    pub fn load(file: &Path) -> Option<Self> {
        let meta = fs::symlink_metadata(file).ok()?;
        let private = meta.is_file() && meta.mode() & 0o077 == 0;
        if !private || meta.uid() != nix::unistd::geteuid().as_raw() {
            return None;
        }
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    /// Keeps the session.
    pub fn save(&self, file: &Path) -> std::io::Result<()> {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        // A new file each time: the old one could have other permissions or be open elsewhere.
        let new = file.with_extension(format!("new{}", std::process::id()));
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written = out.write_all(&serde_json::to_vec(self)?).and_then(|()| fs::rename(&new, file));
        if written.is_err() {
            // The error of the write is the one to report.
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// Forgets the kept session.
    pub fn forget(file: &Path) {
        // Nothing to forget is as good.
        let _ = fs::remove_file(file);
    }

    /// Whether the administrator stands above tenants.
    pub const fn is_super(&self) -> bool {
        self.tenant_id == 0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_session_is_kept_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sub/qa.session");
        let session = Session {
            place: "https://a/".into(),
            login: "superadmin".into(),
            tenant: Some("*".into()),
            sid: Some("x".into()),
            tenant_id: 0,
            acls: vec!["vm.create.".into()],
        };
        session.save(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Session::load(&file), Some(session));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Session::load(&file), None);
        Session::forget(&file);
        assert!(!file.exists());
    }
}
