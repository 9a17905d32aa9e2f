//! Disk images: how their files get into the images directory, their tags, and their publication
//! (`spec/api.md` 1.6 and 5.6).
//!
//! A file is copied or received under a name that nothing else uses, looked at as a whole, and then renamed: the
//! images directory never holds half an image under its final name. The row tells how far it is.

pub(crate) mod download;
pub(crate) mod files;
pub(crate) mod import;
pub(crate) mod incoming;
mod prepare;
pub(crate) mod publish;
pub(crate) mod staging;
pub(crate) mod tags;
pub(crate) mod upload;
