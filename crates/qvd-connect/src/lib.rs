//! The client library: log in, choose a desktop, run nxproxy.
