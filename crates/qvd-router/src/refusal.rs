//! Answers that say no: a status, a code for programs, and a sentence.

use qvd_model::{Failure, FailureCode};
use qvd_wire::http::{FAILURE, Reply, Status};

/// A final answer about a failure.
pub(crate) fn refuse(status: Status, failure: &Failure) -> Reply {
    let text = format!("{failure} ({})\r\n", failure.code);
    Reply::text(status, text).field(FAILURE, failure.code.as_str())
}

/// The answer of every failure between the checks and the desktop (`spec/protocol.md` 4.7).
pub(crate) fn not_available(failure: &Failure) -> Reply {
    let reason = failure.to_string();
    let text = format!(
        "The requested virtual machine is not available: {} ({}), retry later.",
        reason.trim_end_matches('.'),
        failure.code
    );
    Reply::text(Status::Unavailable, text).field(FAILURE, failure.code.as_str())
}

/// The one answer of a login that is not accepted, whatever the reason.
pub(crate) fn login_rejected() -> Reply {
    Reply::text(Status::Unauthorized, "Login rejected\r\n")
        .field(FAILURE, FailureCode::LoginRejected.as_str())
}

/// The answer of a login that would have to wait behind too many others.
pub(crate) fn too_many_logins() -> Reply {
    let failure = Failure::new(FailureCode::HostUnavailable, "Too many users log in at the same time");
    refuse(Status::Unavailable, &failure).field("Retry-After", "2")
}

/// The failure that stands for a database error; its text goes to the log only.
pub(crate) fn of_database(error: &qvd_db::Error) -> Failure {
    if error.is_away() {
        tracing::warn!("{error}");
        Failure::new(FailureCode::DatabaseAway, "The database of this installation does not answer")
    } else {
        tracing::error!("{error}");
        Failure::new(FailureCode::Internal, "The router cannot work with its database")
    }
}

/// The failure that stands for a wrong configuration value.
pub(crate) fn of_config(error: &qvd_runtime::config::ConfigError) -> Failure {
    tracing::error!("{error}");
    Failure::new(FailureCode::Configuration, "The configuration of the router is wrong")
}

/// 503 for what the database does not give, 500 for what we do wrong.
pub(crate) fn internal(failure: &Failure) -> Reply {
    let status = match failure.code {
        FailureCode::DatabaseAway => Status::Unavailable,
        _ => Status::Internal,
    };
    refuse(status, failure)
}
