//! Why a step of a desktop's life did not do what it should.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qvd_model::{Failure, FailureCode};

/// What went wrong, with the object it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that would lead out of its directory.
    #[error("{what} `{name}` cannot be a file name")]
    Name {
        /// What the name is for.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The image's file is not there.
    #[error("image {0} does not exist")]
    ImageMissing(PathBuf),
    /// The image's file cannot be a root file system.
    #[error("image {image}: {found}")]
    ImageInvalid {
        /// The file.
        image: PathBuf,
        /// What was found.
        found: String,
    },
    /// The image's file ends too early, or is damaged inside.
    #[error("image {image} is damaged or incomplete: {found}")]
    ImageDamaged {
        /// The file.
        image: PathBuf,
        /// What was found.
        found: String,
    },
    /// The content differs from what was registered or unpacked.
    #[error("image {image} has sha256 {found}, expected {expected}")]
    ImageChanged {
        /// The file.
        image: PathBuf,
        /// What was registered or unpacked.
        expected: String,
        /// What is there now.
        found: String,
    },
    /// A directory or file of the storage.
    #[error("cannot {operation} {path}: {source}")]
    Storage {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Still in use when it should not be.
    #[error("{path} is still in use after {waited:?}")]
    Busy {
        /// What is in use.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// A value that the container's definition cannot hold.
    #[error("{what} of VM {vm}: `{value}` cannot stand in a container definition")]
    Definition {
        /// The VM.
        vm: i32,
        /// Which value.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// A program of the hypervisor could not be run.
    #[error("cannot run {program}: {source}")]
    Program {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The container ended, or never began.
    #[error("container {container} ended while starting ({status}): {output}")]
    Exited {
        /// Its name.
        container: String,
        /// How its process ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// Something took longer than it may.
    #[error("{what} took longer than {limit:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The limit.
        limit: Duration,
    },
    /// The kernel's view of processes or control groups could not be read or changed.
    #[error("cannot {operation} {object}: {source}")]
    Process {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// A closure for `map_err` on a file operation.
    pub(crate) fn storage<E: Into<io::Error>>(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Storage { operation, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// A closure for `map_err` on an operation on processes.
    pub(crate) fn process<E: Into<io::Error>>(
        operation: &'static str,
        object: impl ToString,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Process { operation, object: object.to_string(), source: source.into() }
    }

    /// The code that users see.
    pub fn code(&self) -> FailureCode {
        match self {
            Self::ImageMissing(_) => FailureCode::ImageMissing,
            Self::ImageInvalid { .. } | Self::ImageDamaged { .. } => FailureCode::ImageInvalid,
            Self::ImageChanged { .. } => FailureCode::ImageChanged,
            Self::Busy { .. } => FailureCode::StorageBusy,
            Self::Storage { .. } => FailureCode::StorageFailed,
            Self::Name { .. } | Self::Definition { .. } => FailureCode::Configuration,
            Self::Program { .. } | Self::Exited { .. } => FailureCode::HypervisorExited,
            Self::Timeout { .. } => FailureCode::Timeout,
            Self::Process { .. } => FailureCode::Internal,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
