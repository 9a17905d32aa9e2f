//! Password hashes and authentication plug-ins.
