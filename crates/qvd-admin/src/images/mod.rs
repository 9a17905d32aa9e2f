//! Disk images: how their files get into the images directory, their tags, and their publication
//! (`spec/api.md` 1.6 and 5.6).
//!
//! A file is copied or received under a name that nothing else uses, looked at as a whole, and then renamed: the
//! images directory never holds half an image under its final name. The row tells how far it is: while it is one of
//! `uploading`, `upload_stalled` and `verifying`, either a process holds the lock of the file, or [`sweep`] goes on with
//! the import or gives it up.

pub(crate) mod delivery;
pub(crate) mod download;
pub(crate) mod files;
pub(crate) mod import;
pub(crate) mod incoming;
mod part;
mod prepare;
pub(crate) mod publish;
pub(crate) mod staging;
pub(crate) mod sweep;
pub(crate) mod tags;
pub(crate) mod upload;
