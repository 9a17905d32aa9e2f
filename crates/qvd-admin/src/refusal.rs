//! Why a request was not carried out, as the API says it (`spec/api.md` 6).

use std::time::Duration;

use qvd_db::Conflict;
use qvd_model::action::Status;
use serde_json::{Value, json};
use tracing::error;

/// A refusal: a status, what it is about, and more about it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A known case.
    #[error("{}", sentence(*status, object.as_deref(), info))]
    Known {
        /// Which.
        status: Status,
        /// The field, value or state that it is about.
        object: Option<String>,
        /// What else helps.
        info: String,
        /// When it is worth trying again.
        wait: Option<Duration>,
    },
    /// The database refused, or does not answer.
    #[error(transparent)]
    Database(#[from] qvd_db::Error),
    /// Somebody else took the value that was chosen here; another choice may do.
    #[error("lost a race: {0}")]
    Race(qvd_db::Error),
}

/// What was being done when the database refused; decides what a violated constraint means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Reading.
    Reading,
    /// Creating or changing.
    Writing,
    /// Deleting.
    Deleting,
}

impl Refusal {
    /// A case without more to say.
    pub(crate) fn new(status: Status) -> Self {
        Self::Known { status, object: None, info: String::new(), wait: None }
    }

    /// Too many failed logins: so long nobody is listened to.
    pub(crate) fn too_early(wait: Duration) -> Self {
        let wait = Duration::from_secs(wait.as_secs().max(1));
        let info = format!("wait {} seconds", wait.as_secs());
        Self::Known { status: Status::TooManyAttempts, object: None, info, wait: Some(wait) }
    }

    /// A case about something.
    pub(crate) fn about(status: Status, object: impl Into<String>) -> Self {
        Self::Known { status, object: Some(object.into()), info: String::new(), wait: None }
    }

    /// Adds what else helps.
    #[must_use]
    pub(crate) fn because(self, info: impl Into<String>) -> Self {
        match self {
            Self::Known { status, object, wait, .. } => {
                Self::Known { status, object, info: info.into(), wait }
            }
            other => other,
        }
    }

    /// Names the case that a database error means, by what was being done (`spec/api.md` 6.3). What the server
    /// said goes to the log, not to the client.
    #[must_use]
    pub(crate) fn while_doing(self, doing: Doing) -> Self {
        let (Self::Database(cause) | Self::Race(cause)) = self else { return self };
        if cause.is_away() {
            error!("database away: {cause}");
            return Self::new(Status::DatabaseAway);
        }
        let known = cause.violation().map(|(state, constraint)| {
            let of = |table: &str| constraint.is_some_and(|name| name.starts_with(table));
            let status = match (state.code(), doing) {
                ("23502", _) => Status::NoValue,
                ("23503", Doing::Writing) => Status::ForeignReference,
                ("23503", Doing::Deleting) => Status::HasDependents,
                ("23503", Doing::Reading) => Status::UnknownReference,
                ("23505", _) if constraint == Some("properties_list_key_tenant_id") => {
                    Status::PropertyDefined
                }
                ("23505", _) if of("acl_role_relations") => Status::AclAssigned,
                ("23505", _) if of("role_role_relations") || of("role_administrator_relations") => {
                    Status::RoleAssigned
                }
                ("23505", _) => Status::Duplicate,
                (code, Doing::Reading) if code.starts_with("22") => Status::WrongFilterValue,
                (code, Doing::Writing) if code.starts_with("22") => Status::WrongArgumentValue,
                (code, Doing::Deleting) if code.starts_with("22") => Status::WrongType,
                _ => Status::Internal,
            };
            (status, constraint.map(str::to_owned))
        });
        match known {
            Some((status, constraint)) if status != Status::Internal => {
                let object = constraint.as_deref().and_then(field_of);
                Self::Known { status, object: object.map(str::to_owned), info: String::new(), wait: None }
            }
            _ => {
                let reference = format!("{:08x}", rand::random::<u32>());
                error!(reference, "request failed: {cause}");
                Self::new(Status::Internal).because(format!("the server's log has more under {reference}"))
            }
        }
    }

    /// Its status.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Known { status, .. } => *status,
            Self::Database(error) if error.is_away() => Status::DatabaseAway,
            Self::Database(_) | Self::Race(_) => Status::Internal,
        }
    }

    /// After how many seconds it is worth trying again, if that is known.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Known { wait: Some(wait), .. } => Some(wait.as_secs()),
            _ if self.status() == Status::DatabaseAway => Some(1),
            _ => None,
        }
    }

    /// What it is about, and what else helps.
    pub(crate) fn particulars(&self) -> (Option<&str>, &str) {
        match self {
            Self::Known { object, info, .. } => (object.as_deref(), info),
            Self::Database(_) | Self::Race(_) => (None, ""),
        }
    }

    /// The members of the answer.
    pub(crate) fn members(&self) -> Value {
        let (message, info) = match self {
            Self::Known { status, object, info, .. } => {
                (sentence(*status, object.as_deref(), ""), info.as_str())
            }
            Self::Database(_) | Self::Race(_) => (self.status().message().to_owned(), ""),
        };
        json!({"status": self.status().code(), "message": message, "additional_info": info})
    }
}

impl Conflict for Refusal {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Known { .. } => false,
            Self::Database(error) => error.is_conflict(),
            Self::Race(_) => true,
        }
    }
}

fn sentence(status: Status, object: Option<&str>, info: &str) -> String {
    let mut text = status.message().to_owned();
    if let Some(object) = object {
        text.push_str(&format!(" ({object})"));
    }
    if !info.is_empty() {
        text.push_str(&format!(": {info}"));
    }
    text
}

/// What people call the columns of a unique constraint.
fn field_of(constraint: &str) -> Option<&'static str> {
    let fields = [
        ("_ip", "ip"),
        ("_address", "address"),
        ("_version", "version"),
        ("_login", "name"),
        ("_name", "name"),
    ];
    fields.iter().find(|(part, _)| constraint.contains(part)).map(|(_, field)| *field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_code_object_and_more() {
        let refusal = Refusal::about(Status::MissingArgument, "tenant_id").because("say which tenant");
        let members = refusal.members();
        assert_eq!(members["status"], 6240);
        assert_eq!(members["message"], "A mandatory argument is missing (tenant_id)");
        assert_eq!(members["additional_info"], "say which tenant");
    }
}
