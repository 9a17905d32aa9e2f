//! Byte codecs of every QVD protocol, without I/O.

#![forbid(unsafe_code)]

pub mod http;
mod json;
pub mod nx;
pub mod rfb;
pub mod rpc;
